package proxy

import (
	"context"
	"path"
	"slices"
	"strconv"
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"biplane.dev/biplane/api/gen/flyteidl2/common"
	"biplane.dev/biplane/api/gen/flyteidl2/core"
	"biplane.dev/biplane/api/gen/flyteidl2/dataproxy"
	"biplane.dev/biplane/api/gen/flyteidl2/task"
	"biplane.dev/biplane/api/gen/flyteidl2/workflow"
	"biplane.dev/biplane/dataplane/api/v1alpha1"
)

// CreateDownloadLink signs the reading of one object, by the proxy's own role,
// for a quarter of an hour at most.
func (s *service) CreateDownloadLink(ctx context.Context, request *dataproxy.CreateDownloadLinkRequest) (*dataproxy.CreateDownloadLinkResponse, error) {
	key, what, err := s.artifact(ctx, request)
	if err != nil {
		return nil, err
	}
	// A URL of nothing would be answered by S3, in XML.
	found, err := s.bucket.Exists(ctx, key)
	if err != nil {
		return nil, unreadable(err, what)
	}
	if !found {
		return nil, refuse(connect.CodeNotFound, "%s is not in the bucket: it was not written, or is no longer kept", what)
	}
	url, until, err := s.bucket.Sign(ctx, key, request.GetExpiresIn().AsDuration(), s.now())
	if err != nil {
		return nil, because(err, connect.CodeUnavailable, "the download cannot be signed now; try again in a moment")
	}
	return &dataproxy.CreateDownloadLinkResponse{PreSignedUrls: &dataproxy.PreSignedURLs{
		SignedUrl: []string{url}, ExpiresAt: timestamppb.New(until),
	}}, nil
}

// artifact is the key of what is asked for, and its name in a sentence.
func (s *service) artifact(ctx context.Context, request *dataproxy.CreateDownloadLinkRequest) (key, what string, err error) {
	switch of := request.GetSource().(type) {
	case *dataproxy.CreateDownloadLinkRequest_ActionAttemptId:
		id, attempt := of.ActionAttemptId.GetActionId(), of.ActionAttemptId.GetAttempt()
		workspace, err := s.admitAction(ctx, id)
		if err != nil {
			return "", "", err
		}
		switch request.GetArtifactType() {
		case dataproxy.ArtifactType_ARTIFACT_TYPE_REPORT:
			return s.report(ctx, workspace, id, attempt)
		case dataproxy.ArtifactType_ARTIFACT_TYPE_CODE_BUNDLE:
			answer, err := s.runs.GetActionDetails(ctx, &workflow.GetActionDetailsRequest{ActionId: id})
			if err != nil {
				return "", "", upstream(err, "the control plane cannot say now what the action %s runs", id.GetName())
			}
			return s.codeBundle(workspace, answer.GetDetails().GetTask().GetTaskTemplate())
		}
	case *dataproxy.CreateDownloadLinkRequest_TaskId:
		workspace, err := s.admit(ctx, of.TaskId.GetOrg(), of.TaskId.GetProject(), of.TaskId.GetDomain())
		if err != nil {
			return "", "", err
		}
		if request.GetArtifactType() == dataproxy.ArtifactType_ARTIFACT_TYPE_CODE_BUNDLE {
			answer, err := s.tasks.GetTaskDetails(ctx, &task.GetTaskDetailsRequest{TaskId: of.TaskId})
			if err != nil {
				return "", "", upstream(err, "the definition of the task %s cannot be had from the control plane now", short(of.TaskId.GetName()))
			}
			return s.codeBundle(workspace, answer.GetDetails().GetSpec().GetTaskTemplate())
		}
	case *dataproxy.CreateDownloadLinkRequest_AppId:
		return "", "", refuse(connect.CodeUnimplemented, "there are no apps yet; name an action or a task")
	default:
		return "", "", refuse(connect.CodeInvalidArgument, "neither action_attempt_id nor task_id is set; say whose artifact is wanted")
	}
	return "", "", refuse(connect.CodeInvalidArgument, "the artifact %s cannot be had of that; ask for the REPORT of an action, or the CODE_BUNDLE of an action or a task", request.GetArtifactType())
}

func (s *service) report(ctx context.Context, workspace *v1alpha1.Workspace, id *common.ActionIdentifier, attempt uint32) (key, what string, err error) {
	folder, err := s.attemptFolder(ctx, workspace, id, attempt)
	if err != nil {
		return "", "", err
	}
	return path.Join(folder, "report.html"), "the report of the action " + id.GetName(), nil
}

// attemptFolder is the key of what an attempt wrote. Where its action is gone, it
// is beside the folder of the attempt that the control plane knows of, or in the
// place where runs are kept unless somebody said otherwise.
func (s *service) attemptFolder(ctx context.Context, workspace *v1alpha1.Workspace, id *common.ActionIdentifier, attempt uint32) (string, error) {
	if attempt == 0 {
		return "", refuse(connect.CodeInvalidArgument, "the attempt is 0; the first one is 1")
	}
	number := strconv.FormatUint(uint64(attempt), 10)
	action, err := s.action(ctx, id)
	if err != nil {
		return "", err
	}
	if action != nil {
		return s.keyOf(workspace, strings.TrimSuffix(action.Spec.RunOutputBase, "/")+"/"+path.Join(id.GetName(), number))
	}
	answer, err := s.runs.GetActionDataURIs(ctx, &workflow.GetActionDataURIsRequest{ActionId: id})
	if err != nil {
		return "", upstream(err, "the control plane cannot say now where the data of the action %s is", id.GetName())
	}
	run := path.Join(workspace.Spec.Project, workspace.Spec.Domain, id.GetRun().GetName())
	if uri := answer.GetOutputsUri(); uri != "" {
		if base, _, found := strings.Cut(uri, "/"+run+"/"); found {
			return s.keyOf(workspace, base+"/"+path.Join(run, id.GetName(), number))
		}
	}
	return path.Join(run, id.GetName(), number), nil
}

// codeBundle is the archive that a task's container is told to unpack.
func (s *service) codeBundle(workspace *v1alpha1.Workspace, template *core.TaskTemplate) (key, what string, err error) {
	what = "the code of the task " + short(template.GetId().GetName())
	uri := template.GetMetadata().GetCodeBundleUri()
	if args := template.GetContainer().GetArgs(); uri == "" {
		for _, flag := range []string{"--tgz", "--pkl"} {
			if at := slices.Index(args, flag); at >= 0 && at+1 < len(args) {
				uri = args[at+1]
			}
		}
	}
	if uri == "" {
		return "", "", refuse(connect.CodeNotFound, "%s is in its image, and not in a bundle", what)
	}
	key, err = s.keyOf(workspace, uri)
	return key, what, err
}
