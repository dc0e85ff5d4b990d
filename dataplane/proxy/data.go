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
	"biplane.dev/biplane/api/gen/flyteidl2/core"
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
	in, err := s.open(ctx, workspace, inputsURI, "inputs.pb", nil)
	if err != nil {
		return nil, err
	}
	defer in.close()
	if inputsURI != "" && in.object == nil {
		return nil, refuse(connect.CodeNotFound, "the inputs of the action %s of the run %s are no longer in the bucket", id.GetName(), id.GetRun().GetName())
	}
	out, err := s.open(ctx, workspace, outputsURI, "outputs.pb", func() (bool, error) { return s.cached(ctx, id) })
	if err != nil {
		return nil, err
	}
	defer out.close()
	if err := takePayload(ctx, in.size()+out.size()); err != nil {
		return nil, err
	}
	answer := &dataproxy.GetActionDataResponse{
		Inputs: &task.Inputs{}, Outputs: &task.Outputs{}, InputsUri: inputsURI, OutputsUri: outputsURI,
	}
	if err := in.decode(answer.Inputs); err != nil {
		return nil, err
	}
	return answer, out.decode(answer.Outputs)
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

// cached says whether an action has its outputs from the cache, which is one for
// all projects of an organisation: so they may be of another. The executor alone
// says so, unlike where a trace's outputs are.
func (s *service) cached(ctx context.Context, id *common.ActionIdentifier) (bool, error) {
	action, err := s.action(ctx, id)
	if err != nil {
		return false, err
	}
	if action != nil {
		return action.Spec.Type == v1alpha1.TypeTask && action.Status.CacheStatus == "HIT", nil
	}
	answer, err := s.runs.GetActionDetails(ctx, &workflow.GetActionDetailsRequest{ActionId: id})
	if err != nil {
		return false, upstream(err, "the control plane cannot say now where the data of the action %s is", id.GetName())
	}
	details := answer.GetDetails()
	return details.GetMetadata().GetActionType() == workflow.ActionType_ACTION_TYPE_TASK &&
		details.GetStatus().GetCacheStatus() == core.CatalogCacheStatus_CACHE_HIT, nil
}

// file is a message in the bucket that is about to be read. One that is not there
// has no object, and leaves what it is decoded into empty.
type file struct {
	uri    string
	object *bucket.Object
}

// open opens what a URI names, of the file or of its folder. Where it is not of
// the workspace, unless says whether it may be read all the same.
func (s *service) open(ctx context.Context, workspace *v1alpha1.Workspace, uri, name string, unless func() (bool, error)) (*file, error) {
	f := &file{uri: uri}
	if uri == "" {
		return f, nil
	}
	if !strings.HasSuffix(uri, ".pb") {
		f.uri = strings.TrimSuffix(uri, "/") + "/" + name
	}
	key, err := s.keyOf(workspace, f.uri)
	if err != nil && unless != nil {
		if may, failed := unless(); failed != nil {
			return nil, failed
		} else if may {
			key, err = s.bucket.Key(f.uri)
		}
	}
	if err != nil {
		return nil, err
	}
	f.object, err = s.bucket.Open(ctx, key, 0)
	switch {
	case errors.Is(err, bucket.ErrNone):
		return f, nil
	case err != nil:
		return nil, unreadable(err, name)
	case f.object.Size > maxInputs:
		f.close()
		return nil, refuse(connect.CodeFailedPrecondition, "%s has %d bytes, and at most %d are sent at once; read it in the bucket", f.uri, f.object.Size, maxInputs)
	}
	return f, nil
}

func (f *file) close() {
	if f.object != nil {
		f.object.Close()
	}
}

func (f *file) size() int64 {
	if f.object == nil {
		return 0
	}
	return f.object.Size
}

func (f *file) decode(into proto.Message) error {
	if f.object == nil {
		return nil
	}
	content, err := f.object.All(maxInputs)
	if err != nil {
		return unreadable(err, path.Base(f.uri))
	}
	if err := proto.Unmarshal(content, into); err != nil {
		return because(err, connect.CodeFailedPrecondition, "%s cannot be decoded; whoever wrote it wrote something else", f.uri)
	}
	return nil
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
		// Of inputs the organisation is a part, and of files that clients upload it is
		// not: what a project called as the organisation has might look like the other.
		rest := parts[1:]
		if len(rest) > 4 && rest[0] == workspace.Spec.Organization && rest[3] == "offloaded-inputs" {
			rest = rest[1:]
		}
		if len(rest) > 2 && slices.Equal(rest[:2], own) {
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
