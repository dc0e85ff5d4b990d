package proxy

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"biplane.dev/biplane/api/gen/flyteidl2/common"
	"biplane.dev/biplane/api/gen/flyteidl2/core"
	"biplane.dev/biplane/api/gen/flyteidl2/dataproxy"
	"biplane.dev/biplane/api/gen/flyteidl2/task"
	"biplane.dev/biplane/api/gen/flyteidl2/workflow"
	"biplane.dev/biplane/dataplane/api/v1alpha1"
)

func marshal(t *testing.T, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestGetActionData(t *testing.T) {
	t.Parallel()
	p := start(t)
	proxy := p.proxy(p.operator())
	in := &task.Inputs{Literals: []*task.NamedLiteral{named("who", text("world"))}}
	out := &task.Outputs{Literals: []*task.NamedLiteral{named("o0", text("hello world"))}}

	t.Run("it reads what went in and what came out", func(t *testing.T) {
		t.Parallel()
		base := "s3://" + p.storage.MetadataBucket + "/" + p.runKey("whole") + "/a0"
		p.taskAction(t, "whole", "a0", v1alpha1.TaskActionStatus{Phase: v1alpha1.Succeeded, OutputURI: base + "/1"})
		p.put(t, p.runKey("whole")+"/a0/inputs.pb", marshal(t, in))
		p.put(t, p.runKey("whole")+"/a0/1/outputs.pb", marshal(t, out))
		answer, err := proxy.GetActionData(t.Context(), &dataproxy.GetActionDataRequest{ActionId: p.action("whole", "a0")})
		want := &dataproxy.GetActionDataResponse{Inputs: in, Outputs: out, InputsUri: base + "/inputs.pb", OutputsUri: base + "/1"}
		if err != nil || !proto.Equal(answer, want) {
			t.Errorf("got %v, %v, want %v", answer, err, want)
		}
	})

	t.Run("it has no outputs yet of what runs", func(t *testing.T) {
		t.Parallel()
		p.taskAction(t, "running", "a0", v1alpha1.TaskActionStatus{Phase: v1alpha1.Running})
		p.put(t, p.runKey("running")+"/a0/inputs.pb", marshal(t, in))
		answer, err := proxy.GetActionData(t.Context(), &dataproxy.GetActionDataRequest{ActionId: p.action("running", "a0")})
		if err != nil || !proto.Equal(answer.GetInputs(), in) || len(answer.GetOutputs().GetLiterals()) != 0 {
			t.Errorf("got %v, %v, want inputs alone", answer, err)
		}
	})

	t.Run("it says that the inputs are gone", func(t *testing.T) {
		t.Parallel()
		p.taskAction(t, "cleaned", "a0", v1alpha1.TaskActionStatus{Phase: v1alpha1.Succeeded})
		_, err := proxy.GetActionData(t.Context(), &dataproxy.GetActionDataRequest{ActionId: p.action("cleaned", "a0")})
		refused(t, err, connect.CodeNotFound, "the inputs of the action a0 of the run cleaned are no longer in the bucket")
	})

	t.Run("it refuses what an action names and its workspace has not", func(t *testing.T) {
		t.Parallel()
		for run, uri := range map[string]string{
			"other-workspace": "s3://" + p.storage.MetadataBucket + "/secret/production/r1/a0/1/outputs.pb",
			"other-bucket":    "s3://" + sandbox.Sandbox.Buckets.FastRegistration + "/" + p.runKey("r1") + "/a0/inputs.pb",
			"traversal":       "s3://" + p.storage.MetadataBucket + "/" + p.runKey("r1") + "/../../../secret/inputs.pb",
			"other-upload":    "s3://" + p.storage.MetadataBucket + "/uploads/" + organization + "/secret/production/offloaded-inputs/x/inputs.pb",
			"no-s3":           "file:///etc/passwd.pb",
			"cache":           "s3://" + p.storage.MetadataBucket + "/_biplane/cache/" + organization + "/x.pb",
		} {
			a := p.taskAction(t, run, "a0", v1alpha1.TaskActionStatus{})
			a.Spec.InputURI = uri
			if err := sandbox.Client.Update(t.Context(), a); err != nil {
				t.Fatal(err)
			}
			_, err := proxy.GetActionData(t.Context(), &dataproxy.GetActionDataRequest{ActionId: p.action(run, "a0")})
			refused(t, err, connect.CodePermissionDenied, "nothing else may be read")
		}
	})

	t.Run("it reads outputs of another project where they came from the cache", func(t *testing.T) {
		t.Parallel()
		key := "other" + p.runKey("r1") + "/a0/1"
		p.put(t, key+"/outputs.pb", marshal(t, out))
		for run, status := range map[string]string{"hit": "HIT", "miss": "MISS"} {
			p.put(t, p.runKey(run)+"/a0/inputs.pb", marshal(t, in))
			p.taskAction(t, run, "a0", v1alpha1.TaskActionStatus{Phase: v1alpha1.Succeeded, CacheStatus: status, OutputURI: "s3://" + p.storage.MetadataBucket + "/" + key})
			answer, err := proxy.GetActionData(t.Context(), &dataproxy.GetActionDataRequest{ActionId: p.action(run, "a0")})
			if run == "miss" {
				refused(t, err, connect.CodePermissionDenied, "nothing else may be read")
			} else if err != nil || !proto.Equal(answer.GetOutputs(), out) {
				t.Errorf("got %v, %v, want %v", answer, err, out)
			}
		}
	})

	t.Run("it tells a run a-b with the action c from a run a with the action b-c", func(t *testing.T) {
		t.Parallel()
		p.taskAction(t, "a", "b-c", v1alpha1.TaskActionStatus{})
		if action, err := (&service{cluster: withWatch(t)}).action(t.Context(), p.action("a-b", "c")); action != nil || err != nil {
			t.Errorf("got %v, %v, want none", action, err)
		}
	})
}

// Not parallel to TestGetActionData in one plane: the control plane knows one answer.
func TestGetActionDataOfAnActionThatIsGone(t *testing.T) {
	t.Parallel()
	p := start(t)
	proxy := p.proxy(p.operator())
	_, err := proxy.GetActionData(t.Context(), &dataproxy.GetActionDataRequest{ActionId: p.action("absent", "a0")})
	refused(t, err, connect.CodeNotFound, "there is no such action")

	in := &task.Inputs{Literals: []*task.NamedLiteral{named("who", text("world"))}}
	folder := "uploads/" + organization + "/" + p.workspace.Spec.Project + "/" + domain + "/offloaded-inputs/x"
	p.put(t, folder+"/inputs.pb", marshal(t, in))
	p.control.mu.Lock()
	p.control.uris = &workflow.GetActionDataURIsResponse{InputsUri: "s3://" + p.storage.MetadataBucket + "/" + folder}
	p.control.mu.Unlock()
	answer, err := proxy.GetActionData(t.Context(), &dataproxy.GetActionDataRequest{ActionId: p.action("absent", "a0")})
	if err != nil || !proto.Equal(answer.GetInputs(), in) {
		t.Errorf("got %v, %v, want what the control plane names", answer, err)
	}
}

func TestCreateDownloadLink(t *testing.T) {
	t.Parallel()
	p := start(t)
	proxy := p.proxy(p.operator())
	p.taskAction(t, "r1", "a0", v1alpha1.TaskActionStatus{Phase: v1alpha1.Succeeded})
	p.put(t, p.runKey("r1")+"/a0/2/report.html", []byte("<p>a report</p>"))
	bundle := "uploads/" + p.workspace.Spec.Project + "/" + domain + "/ABC/fast1.tar.gz"
	p.put(t, bundle, []byte("code"))
	spec := func(uri string) *task.TaskSpec {
		return &task.TaskSpec{TaskTemplate: &core.TaskTemplate{Id: &core.Identifier{Name: "hello.main"}, Target: &core.TaskTemplate_Container{
			Container: &core.Container{Args: []string{"a0", "--tgz", uri, "--dest", "."}}}}}
	}
	p.control.specs = map[string]*task.TaskSpec{
		"hello.main":  spec("s3://" + p.storage.MetadataBucket + "/" + bundle),
		"hello.other": spec("s3://" + p.storage.MetadataBucket + "/uploads/secret/production/ABC/fast1.tar.gz"),
		"hello.baked": {TaskTemplate: &core.TaskTemplate{Id: &core.Identifier{Name: "hello.baked"}}},
	}
	report := func(attempt uint32) *dataproxy.CreateDownloadLinkRequest {
		return &dataproxy.CreateDownloadLinkRequest{ArtifactType: dataproxy.ArtifactType_ARTIFACT_TYPE_REPORT,
			Source: &dataproxy.CreateDownloadLinkRequest_ActionAttemptId{ActionAttemptId: &common.ActionAttemptIdentifier{ActionId: p.action("r1", "a0"), Attempt: attempt}}}
	}
	code := func(name string) *dataproxy.CreateDownloadLinkRequest {
		return &dataproxy.CreateDownloadLinkRequest{ArtifactType: dataproxy.ArtifactType_ARTIFACT_TYPE_CODE_BUNDLE,
			Source: &dataproxy.CreateDownloadLinkRequest_TaskId{TaskId: &task.TaskIdentifier{Project: p.workspace.Spec.Project, Domain: domain, Name: name}}}
	}

	for name, test := range map[string]struct {
		request *dataproxy.CreateDownloadLinkRequest
		want    string
	}{
		"it signs the reading of a report":      {report(2), "<p>a report</p>"},
		"it signs the reading of a code bundle": {code("hello.main"), "code"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.request.ExpiresIn = durationpb.New(24 * time.Hour)
			before := time.Now()
			answer, err := proxy.CreateDownloadLink(t.Context(), test.request)
			if err != nil {
				t.Fatal(err)
			}
			if until := answer.GetPreSignedUrls().GetExpiresAt().AsTime(); until.After(time.Now().Add(15*time.Minute)) || until.Before(before.Add(14*time.Minute)) {
				t.Errorf("got a URL until %s, want it for 15 minutes, whatever was asked for", until)
			}
			response, err := http.Get(answer.GetPreSignedUrls().GetSignedUrl()[0])
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			if err != nil || string(body) != test.want {
				t.Errorf("got %s %s, %v, want %s", response.Status, body, err, test.want)
			}
		})
	}

	for _, test := range []struct {
		name    string
		request *dataproxy.CreateDownloadLinkRequest
		code    connect.Code
		want    string
	}{
		{"says that there is no report", report(1), connect.CodeNotFound, "the report of the action a0 is not in the bucket"},
		{"refuses attempt 0", report(0), connect.CodeInvalidArgument, "the first one is 1"},
		{"says that the code is in the image", code("hello.baked"), connect.CodeNotFound, "is in its image"},
		{"refuses code of another workspace", code("hello.other"), connect.CodePermissionDenied, "nothing else may be read"},
		{"refuses apps as later work", &dataproxy.CreateDownloadLinkRequest{Source: &dataproxy.CreateDownloadLinkRequest_AppId{}}, connect.CodeUnimplemented, "no apps yet"},
		{"refuses a request without source", &dataproxy.CreateDownloadLinkRequest{}, connect.CodeInvalidArgument, "say whose artifact"},
	} {
		t.Run("it "+test.name, func(t *testing.T) {
			t.Parallel()
			_, err := proxy.CreateDownloadLink(t.Context(), test.request)
			refused(t, err, test.code, test.want)
		})
	}
	t.Run("it leaves uploads to the control plane", func(t *testing.T) {
		t.Parallel()
		_, err := proxy.CreateUploadLocation(t.Context(), &dataproxy.CreateUploadLocationRequest{})
		refused(t, err, connect.CodeUnimplemented, "signed by the control plane")
	})
}

func TestKeyOf(t *testing.T) {
	t.Parallel()
	p := &plane{}
	p.storage.MetadataBucket = "meta"
	s := &service{bucket: offline(p.storage)}
	w := &v1alpha1.Workspace{Spec: v1alpha1.WorkspaceSpec{Organization: "acme", Project: "mine", Domain: domain}}
	namesake := &v1alpha1.Workspace{Spec: v1alpha1.WorkspaceSpec{Organization: "mine", Project: "mine", Domain: domain}}
	for uri, ok := range map[string]bool{
		"s3://meta/uploads/mine/development/ABC/file":                                  true,
		"s3://meta/uploads/mine/mine/development/offloaded-inputs/d/inputs.pb":         true,
		"s3://meta/uploads/mine/development/production/offloaded-inputs/d/inputs.pb":   false, // of a project called development
		"s3://meta/uploads/mine/development/staging/offloaded-inputs/d/inputs.pb":      false,
		"s3://meta/uploads/mine/development/offloaded-inputs/production/d/e/inputs.pb": true,
	} {
		if key, err := s.keyOf(namesake, uri); (err == nil) != ok {
			t.Errorf("got %q, %v for %s of a project called as its organisation, want it taken: %v", key, err, uri, ok)
		}
	}
	for uri, ok := range map[string]bool{
		"s3://meta/mine/development/r1/a0/1/outputs.pb":              true,
		"s3://meta/base/of/runs/mine/development/r1/a0/1/outputs.pb": true,
		"s3://meta/uploads/mine/development/ABC/file":                true,
		"s3://meta/uploads/acme/mine/development/offloaded-inputs/x": true,
		"s3://meta/uploads/acme/mine/development/x":                  false,
		"s3://meta/mine/production/r1/a0":                            false,
		"s3://meta/other/development/r1/a0":                          false,
		"s3://meta/mine/development":                                 false,
		"s3://meta/uploads/other/development/mine/development/x":     false,
		"s3://meta/uploads/acme/other/development/x":                 false,
		"s3://meta/uploads/mine/development":                         false,
		"s3://meta//mine/development/r1/a0":                          false,
		"s3://meta/mine/development/r1/../../other":                  false,
		"s3://meta/mine/development/./r1":                            false,
		"s3://other/mine/development/r1/a0":                          false,
		"s3://meta":                                                  false,
		"https://meta/mine/development/r1/a0":                        false,
		"":                                                           false,
	} {
		key, err := s.keyOf(w, uri)
		if (err == nil) != ok {
			t.Errorf("got %q, %v for %s, want it taken: %v", key, err, uri, ok)
		}
		if err != nil && !strings.Contains(err.Error(), "may be read") {
			t.Errorf("got %v for %s, want a sentence", err, uri)
		}
	}
}
