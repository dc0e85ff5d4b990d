package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"connectrpc.com/connect"

	tunnelv1 "biplane.dev/biplane/api/gen/biplane/tunnel/v1"
	"biplane.dev/biplane/api/gen/flyteidl2/common"
	"biplane.dev/biplane/api/gen/flyteidl2/dataproxy"
	"biplane.dev/biplane/api/gen/flyteidl2/task"
	"biplane.dev/biplane/dataplane/internal/inputs"
)

const (
	// maxInputs is what one run's inputs may be together. The SDK has its tasks
	// refuse more than 10 MiB unless their author said otherwise (max_inline_io_bytes),
	// and has everything larger written as a file.
	maxInputs = 32 << 20
	// maxRequest has room for a task's definition beside them.
	maxRequest = maxInputs + 4<<20
	// putAttempts and putTimeout of each bound one upload.
	putAttempts = 3
	putTimeout  = time.Minute
)

// CreateUploadLocation is not here: flyteadmin signs uploads, which is the control
// plane's account, and it says so to clients by SelectCluster.
func (s *service) CreateUploadLocation(context.Context, *dataproxy.CreateUploadLocationRequest) (*dataproxy.CreateUploadLocationResponse, error) {
	return nil, refuse(connect.CodeUnimplemented, "uploads are signed by the control plane; send this to its endpoint")
}

// UploadInputs makes the inputs of a run complete and writes them into the bucket,
// through a URL that the control plane signs for this one key: our own role only
// reads. The key is a digest of the contents, so writing it twice is writing it
// once.
func (s *service) UploadInputs(ctx context.Context, request *dataproxy.UploadInputsRequest) (*dataproxy.UploadInputsResponse, error) {
	organization, project, domain := request.GetProjectId().GetOrganization(), request.GetProjectId().GetName(), request.GetProjectId().GetDomain()
	if run := request.GetRunId(); run != nil {
		organization, project, domain = run.GetOrg(), run.GetProject(), run.GetDomain()
	}
	workspace, err := s.admit(ctx, organization, project, domain)
	if err != nil {
		return nil, err
	}
	spec, err := s.taskSpec(ctx, request)
	if err != nil {
		return nil, err
	}
	filled, err := inputs.Fill(request.GetInputs(), spec)
	if refused := (*inputs.Error)(nil); errors.As(err, &refused) {
		return nil, refuse(connect.CodeInvalidArgument, "%w", refused)
	}
	if err != nil {
		return nil, err
	}
	file, digest, err := inputs.Marshal(filled)
	if err != nil {
		return nil, err
	}
	if len(file) > maxInputs {
		return nil, refuse(connect.CodeInvalidArgument, "the inputs have %d bytes together, and may have %d; pass what is large as a File, a Dir or a DataFrame", len(file), maxInputs)
	}
	folder := path.Join("uploads", workspace.Spec.Organization, project, domain, "offloaded-inputs", digest)
	if err := s.upload(ctx, project, domain, folder+"/inputs.pb", file); err != nil {
		return nil, err
	}
	return &dataproxy.UploadInputsResponse{OffloadedInputData: &common.OffloadedInputData{
		Uri: s.bucket.URI(folder), InputsHash: inputs.Hash(filled, spec),
	}}, nil
}

// taskSpec is the definition that the inputs are for.
func (s *service) taskSpec(ctx context.Context, request *dataproxy.UploadInputsRequest) (*task.TaskSpec, error) {
	switch of := request.GetTask().(type) {
	case *dataproxy.UploadInputsRequest_TaskSpec:
		return of.TaskSpec, nil
	case *dataproxy.UploadInputsRequest_TaskId:
		answer, err := s.tasks.GetTaskDetails(ctx, &task.GetTaskDetailsRequest{TaskId: of.TaskId})
		if err != nil {
			return nil, upstream(err, "the definition of the task %s cannot be had from the control plane now", short(of.TaskId.GetName()))
		}
		return answer.GetDetails().GetSpec(), nil
	case *dataproxy.UploadInputsRequest_TriggerName:
		return nil, refuse(connect.CodeUnimplemented, "there are no triggers yet; name a task")
	}
	return nil, refuse(connect.CodeInvalidArgument, "neither task_id nor task_spec is set; say which task the inputs are for")
}

// upload puts a file under a key of the workspace.
func (s *service) upload(ctx context.Context, project, domain, key string, file []byte) error {
	signed, err := s.link.SignUpload(ctx, &tunnelv1.SignUploadRequest{Project: project, Domain: domain, Key: key})
	if err != nil {
		return upstream(err, "the control plane does not sign the upload of the inputs now")
	}
	if err := s.checkDestination(signed.GetUrl(), key); err != nil {
		return because(err, connect.CodeInternal, "the control plane signed another upload than the one of the inputs; its log has more")
	}
	for attempt := 1; ; attempt++ {
		again, err := s.put(ctx, signed, file)
		if err == nil {
			s.metrics.uploaded.Add(float64(len(file)))
			return nil
		}
		if !again || attempt == putAttempts || ctx.Err() != nil {
			return because(err, connect.CodeUnavailable, "the inputs cannot be written into the bucket now; try again in a moment")
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(attempt) * 300 * time.Millisecond):
		}
	}
}

// put says, if it failed, whether it may succeed the next time.
func (s *service) put(ctx context.Context, signed *tunnelv1.SignUploadResponse, file []byte) (again bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, putTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPut, signed.GetUrl(), bytes.NewReader(file))
	if err != nil {
		return false, err
	}
	for name, value := range signed.GetHeaders() {
		request.Header.Set(name, value)
	}
	response, err := s.uploader.Do(request)
	if err != nil {
		var failed *url.Error // its text has the URL, which is a credential
		if errors.As(err, &failed) {
			err = failed.Err
		}
		return true, fmt.Errorf("putting the inputs: %w", err)
	}
	defer response.Body.Close()
	answer, _ := io.ReadAll(io.LimitReader(response.Body, 1<<10))
	switch response.StatusCode {
	case http.StatusOK, http.StatusCreated, http.StatusNoContent:
		return false, nil
	}
	again = response.StatusCode >= 500 || response.StatusCode == http.StatusTooManyRequests || response.StatusCode == http.StatusRequestTimeout
	return again, fmt.Errorf("putting the inputs: %s: %s", response.Status, answer)
}

// checkDestination refuses a URL that is not of the key in the customer's own
// bucket: inputs go nowhere else, whoever signs.
func (s *service) checkDestination(signed, key string) error {
	u, err := url.Parse(signed)
	if err != nil {
		return errors.New("the signed URL cannot be read") // err has its text
	}
	name := s.storage.MetadataBucket
	if s.storage.Endpoint == "" && s.storage.ClientEndpoint == "" {
		aws := strings.HasSuffix(u.Host, ".amazonaws.com") || strings.HasSuffix(u.Host, ".amazonaws.com.cn")
		ownHost := strings.HasPrefix(u.Host, name+".s3.") && u.Path == "/"+key
		ownPath := strings.HasPrefix(u.Host, "s3.") && u.Path == "/"+name+"/"+key
		if u.Scheme == "https" && aws && (ownHost || ownPath) {
			return nil
		}
		return fmt.Errorf("the URL is signed for %s%s, want the key %s of the bucket %s at AWS", u.Host, u.Path, key, name)
	}
	for _, endpoint := range []string{s.storage.ClientEndpoint, s.storage.Endpoint} {
		if at, err := url.Parse(endpoint); err == nil && endpoint != "" && u.Scheme == at.Scheme && u.Host == at.Host &&
			u.Path == path.Join("/", at.Path, name, key) {
			return nil
		}
	}
	return fmt.Errorf("the URL is signed for %s%s, want the key %s of the bucket %s at %s", u.Host, u.Path, key, name, s.storage.ClientEndpoint)
}
