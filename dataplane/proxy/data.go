package proxy

import (
	"context"
	"errors"
	"path"
	"slices"
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"biplane.dev/biplane/api/gen/flyteidl2/common"
	"biplane.dev/biplane/api/gen/flyteidl2/dataproxy"
	"biplane.dev/biplane/api/gen/flyteidl2/task"
	"biplane.dev/biplane/api/gen/flyteidl2/workflow"
	"biplane.dev/biplane/dataplane/api/v1alpha1"
	"biplane.dev/biplane/dataplane/proxy/internal/bucket"
)

// GetActionData reads what went into an action and what came out of it. Outputs
// that are not there, or not yet, are empty; inputs that are gone are NOT_FOUND,
// for the SDK to say that the run cannot be started again with them.
func (s *service) GetActionData(ctx context.Context, request *dataproxy.GetActionDataRequest) (*dataproxy.GetActionDataResponse, error) {
	id := request.GetActionId()
	workspace, err := s.admitAction(ctx, id)
	if err != nil {
		return nil, err
	}
	inputsURI, outputsURI, err := s.dataURIs(ctx, id)
	if err != nil {
		return nil, err
	}
	answer := &dataproxy.GetActionDataResponse{
		Inputs: &task.Inputs{}, Outputs: &task.Outputs{}, InputsUri: inputsURI, OutputsUri: outputsURI,
	}
	found, err := s.readMessage(ctx, workspace, inputsURI, "inputs.pb", answer.Inputs)
	if err != nil {
		return nil, err
	}
	if !found && inputsURI != "" {
		return nil, refuse(connect.CodeNotFound, "the inputs of the action %s of the run %s are no longer in the bucket", id.GetName(), id.GetRun().GetName())
	}
	if _, err := s.readMessage(ctx, workspace, outputsURI, "outputs.pb", answer.Outputs); err != nil {
		return nil, err
	}
	return answer, nil
}

// dataURIs are where an action's inputs and outputs are; empty where it has none.
func (s *service) dataURIs(ctx context.Context, id *common.ActionIdentifier) (inputs, outputs string, err error) {
	action, err := s.action(ctx, id)
	if err != nil {
		return "", "", err
	}
	if action != nil {
		return action.Spec.InputURI, action.Status.OutputURI, nil
	}
	answer, err := s.runs.GetActionDataURIs(ctx, &workflow.GetActionDataURIsRequest{ActionId: id})
	if err != nil {
		return "", "", upstream(err, "the control plane cannot say now where the data of the action %s is", id.GetName())
	}
	return answer.GetInputsUri(), answer.GetOutputsUri(), nil
}

// action returns the object of an action, nil where it has been removed or never
// was.
func (s *service) action(ctx context.Context, id *common.ActionIdentifier) (*v1alpha1.TaskAction, error) {
	run := id.GetRun()
	action := &v1alpha1.TaskAction{}
	err := s.cluster.Get(ctx, client.ObjectKey{
		Namespace: v1alpha1.NamespaceOf(run.GetProject(), run.GetDomain()), Name: v1alpha1.ActionName(run.GetName(), id.GetName()),
	}, action)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, because(err, connect.CodeUnavailable, "the cluster does not answer now; try again in a moment")
	}
	// A run a-b with an action c has the same name as a run a with an action b-c.
	if action.Spec.Run != run.GetName() || action.Spec.Action != id.GetName() {
		return nil, nil
	}
	return action, nil
}

// readMessage reads a message from a URI, of the file or of its folder.
func (s *service) readMessage(ctx context.Context, workspace *v1alpha1.Workspace, uri, file string, into proto.Message) (found bool, err error) {
	if uri == "" {
		return false, nil
	}
	if !strings.HasSuffix(uri, ".pb") {
		uri = strings.TrimSuffix(uri, "/") + "/" + file
	}
	key, err := s.keyOf(workspace, uri)
	if err != nil {
		return false, err
	}
	content, err := s.bucket.Get(ctx, key, maxInputs)
	switch {
	case errors.Is(err, bucket.ErrNone):
		return false, nil
	case errors.Is(err, bucket.ErrTooLarge):
		return false, refuse(connect.CodeFailedPrecondition, "%s is larger than the %d bytes that are sent at once; read it in the bucket", uri, maxInputs)
	case err != nil:
		return false, unreadable(err, path.Base(uri))
	}
	if err := proto.Unmarshal(content, into); err != nil {
		return false, because(err, connect.CodeFailedPrecondition, "%s cannot be decoded; whoever wrote it wrote something else", uri)
	}
	return true, nil
}

// keyOf is the key of a URI that somebody else made, a task for instance. It must
// be in the metadata bucket, and of the workspace whose action is asked for: below
// a run of it ([…/]PROJECT/DOMAIN/RUN/…), or among its uploads.
func (s *service) keyOf(workspace *v1alpha1.Workspace, uri string) (string, error) {
	key, err := s.bucket.Key(uri)
	if err != nil {
		return "", refuse(connect.CodePermissionDenied, "%w, and nothing else may be read here", err)
	}
	own := []string{workspace.Spec.Project, workspace.Spec.Domain}
	parts := strings.Split(key, "/")
	if parts[0] == "uploads" {
		rest := parts[1:]
		if slices.Equal(rest[:min(2, len(rest))], own) && len(rest) > 2 ||
			len(rest) > 3 && rest[0] == workspace.Spec.Organization && slices.Equal(rest[1:3], own) {
			return key, nil
		}
	} else {
		for at := range len(parts) - len(own) - 1 {
			if slices.Equal(parts[at:at+len(own)], own) {
				return key, nil
			}
		}
	}
	return "", refuse(connect.CodePermissionDenied, "the URI %q is not of the project %q and its domain %q, and nothing else may be read for an action of theirs", short(uri), own[0], own[1])
}
