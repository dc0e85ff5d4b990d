// Package dataproxy is Flyte's DataProxyService, for clients that do not reach the
// data plane's own: an upload's URL is signed here, everything else is passed on
// to the data plane's proxy, and what it answers passes through memory and rests
// nowhere.
//
// Start with Service.
package dataproxy

import (
	"context"
	"errors"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"biplane.dev/biplane/api/gen/flyteidl2/common"
	"biplane.dev/biplane/api/gen/flyteidl2/dataproxy"
	"biplane.dev/biplane/api/gen/flyteidl2/dataproxy/dataproxyconnect"
	"biplane.dev/biplane/controlplane/internal/clusters"
	"biplane.dev/biplane/controlplane/internal/planes"
	"biplane.dev/biplane/controlplane/internal/projects"
	"biplane.dev/biplane/controlplane/internal/refusal"
	"biplane.dev/biplane/controlplane/internal/scope"
	"biplane.dev/biplane/controlplane/internal/store"
	"biplane.dev/biplane/controlplane/internal/uploads"
)

// maxObject is what S3 takes in one put.
const maxObject = 5 << 30

// Service implements DataProxyService.
type Service struct {
	store  *store.Store
	scopes *scope.Scopes
	planes *planes.Planes
	signer *uploads.Signer
}

var _ dataproxyconnect.DataProxyServiceHandler = (*Service)(nil)

// New returns the service.
func New(s *store.Store, scopes *scope.Scopes, p *planes.Planes, signer *uploads.Signer) *Service {
	return &Service{store: s, scopes: scopes, planes: p, signer: signer}
}

// CreateUploadLocation signs the writing of one object, for a while.
func (s *Service) CreateUploadLocation(ctx context.Context, r *dataproxy.CreateUploadLocationRequest) (*dataproxy.CreateUploadLocationResponse, error) {
	organization, err := s.workspace(ctx, r.GetOrg(), r.GetProject(), r.GetDomain())
	if err != nil {
		return nil, err
	}
	location, err := uploads.Locate(r.GetProject(), r.GetDomain(), r.GetFilenameRoot(), r.GetFilename(), r.GetContentMd5())
	if err != nil {
		return nil, err
	}
	if size := r.GetContentLength(); size < 0 || size > maxObject {
		return nil, refusal.Invalid("content_length is %d, and S3 takes %d in one put; upload %q in parts, from a task", size, int64(maxObject), r.GetFilename())
	}
	cluster, err := clusters.Choose(ctx, s.store, organization, r.GetProject(), "")
	if err != nil {
		return nil, err
	}
	plane := cluster.Report.GetDataPlane()
	bucket := plane.GetMetadataBucket()
	if location.FastRegistration {
		bucket = plane.GetFastRegistrationBucket()
	}
	var expires time.Duration
	if r.GetExpiresIn() != nil {
		if expires = r.GetExpiresIn().AsDuration(); expires < time.Second {
			return nil, refusal.Invalid("expires_in is %v; give at least 1s, or leave it out", expires)
		}
	}
	signed, err := s.signer.Sign(ctx, cluster.Name, plane, uploads.Put{Bucket: bucket, Key: location.Key, MD5: r.GetContentMd5(), Expires: expires})
	if err != nil {
		return nil, err
	}
	return &dataproxy.CreateUploadLocationResponse{
		SignedUrl: signed.URL,
		// What a pod reads: a bundle is copied there before the first one does.
		NativeUrl: "s3://" + plane.GetMetadataBucket() + "/" + location.Key,
		ExpiresAt: timestamppb.New(signed.ExpiresAt),
		Headers:   signed.Headers,
	}, nil
}

// UploadInputs is the proxy's.
func (s *Service) UploadInputs(ctx context.Context, r *dataproxy.UploadInputsRequest) (*dataproxy.UploadInputsResponse, error) {
	r = proto.CloneOf(r)
	var organization, cluster string
	switch id := r.GetId().(type) {
	case *dataproxy.UploadInputsRequest_RunId:
		org, err := s.workspace(ctx, id.RunId.GetOrg(), id.RunId.GetProject(), id.RunId.GetDomain())
		if err != nil {
			return nil, err
		}
		organization, id.RunId.Org = org, org
		run, _, err := s.store.GetRun(ctx, store.RunKeyOf(id.RunId))
		var missing *store.NotFoundError
		if err != nil && !errors.As(err, &missing) {
			return nil, err
		}
		cluster = run.Cluster // empty for a run that is to be made with these inputs
	case *dataproxy.UploadInputsRequest_ProjectId:
		org, err := s.workspace(ctx, id.ProjectId.GetOrganization(), id.ProjectId.GetName(), id.ProjectId.GetDomain())
		if err != nil {
			return nil, err
		}
		organization, id.ProjectId.Organization = org, org
	default:
		return nil, refusal.Invalid("the request names neither a run_id nor a project_id")
	}
	if cluster == "" {
		project := r.GetRunId().GetProject() + r.GetProjectId().GetName() // one of them is empty
		chosen, err := clusters.Choose(ctx, s.store, organization, project, "")
		if err != nil {
			return nil, err
		}
		cluster = chosen.Name
	}
	return s.planes.Proxy(organization, cluster).UploadInputs(ctx, r)
}

// GetActionData is the proxy's.
func (s *Service) GetActionData(ctx context.Context, r *dataproxy.GetActionDataRequest) (*dataproxy.GetActionDataResponse, error) {
	r = proto.CloneOf(r)
	proxy, err := s.of(ctx, r.GetActionId())
	if err != nil {
		return nil, err
	}
	return proxy.GetActionData(ctx, r)
}

// CreateDownloadLink is the proxy's.
func (s *Service) CreateDownloadLink(ctx context.Context, r *dataproxy.CreateDownloadLinkRequest) (*dataproxy.CreateDownloadLinkResponse, error) {
	r = proto.CloneOf(r)
	switch source := r.GetSource().(type) {
	case *dataproxy.CreateDownloadLinkRequest_ActionAttemptId:
		proxy, err := s.of(ctx, source.ActionAttemptId.GetActionId())
		if err != nil {
			return nil, err
		}
		return proxy.CreateDownloadLink(ctx, r)
	case *dataproxy.CreateDownloadLinkRequest_TaskId:
		id := source.TaskId
		organization, err := s.workspace(ctx, id.GetOrg(), id.GetProject(), id.GetDomain())
		if err != nil {
			return nil, err
		}
		id.Org = organization
		cluster, err := clusters.Choose(ctx, s.store, organization, id.GetProject(), "")
		if err != nil {
			return nil, err
		}
		return s.planes.Proxy(organization, cluster.Name).CreateDownloadLink(ctx, r)
	case *dataproxy.CreateDownloadLinkRequest_AppId:
		return nil, refusal.New(connect.CodeUnimplemented, "apps come with a later version")
	}
	return nil, refusal.Invalid("the request names neither an action_attempt_id nor a task_id")
}

// TailLogs is the proxy's: lines pass as they come.
func (s *Service) TailLogs(ctx context.Context, r *dataproxy.TailLogsRequest, stream *connect.ServerStream[dataproxy.TailLogsResponse]) error {
	r = proto.CloneOf(r)
	proxy, err := s.of(ctx, r.GetActionId())
	if err != nil {
		return err
	}
	lines, err := proxy.TailLogs(ctx, r)
	if err != nil {
		return err
	}
	defer lines.Close()
	for lines.Receive() {
		if err := stream.Send(lines.Msg()); err != nil {
			return err
		}
	}
	return lines.Err()
}

// of is the proxy of the data plane where an action runs. The action's
// organisation is written into the request.
func (s *Service) of(ctx context.Context, id *common.ActionIdentifier) (dataproxyconnect.DataProxyServiceClient, error) {
	run := id.GetRun()
	organization, err := s.scopes.Workspace(ctx, run.GetOrg(), run.GetProject(), run.GetDomain())
	if err != nil {
		return nil, err
	}
	run.Org = organization
	found, err := s.store.GetAction(ctx, store.ActionKeyOf(id))
	if err != nil {
		return nil, err
	}
	return s.planes.Proxy(organization, found.Run.Cluster), nil
}

// workspace is that of a project which exists.
func (s *Service) workspace(ctx context.Context, organization, project, domain string) (string, error) {
	organization, err := s.scopes.Workspace(ctx, organization, project, domain)
	if err != nil {
		return "", err
	}
	_, err = s.store.GetProject(ctx, organization, project)
	var missing *store.NotFoundError
	if errors.As(err, &missing) {
		return "", projects.Unknown(project)
	}
	return organization, err
}
