package proxy

import (
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"google.golang.org/protobuf/proto"

	"biplane.dev/biplane/api/gen/flyteidl2/common"
	"biplane.dev/biplane/api/gen/flyteidl2/core"
	"biplane.dev/biplane/api/gen/flyteidl2/dataproxy"
	"biplane.dev/biplane/api/gen/flyteidl2/task"
	"biplane.dev/biplane/internal/sdkhash"
)

func text(s string) *core.Literal {
	return &core.Literal{Value: &core.Literal_Scalar{Scalar: &core.Scalar{Value: &core.Scalar_Primitive{
		Primitive: &core.Primitive{Value: &core.Primitive_StringValue{StringValue: s}}}}}}
}

func named(name string, value *core.Literal) *task.NamedLiteral {
	return &task.NamedLiteral{Name: name, Value: value}
}

// greet is a task with the inputs who, and how, which has a default.
func greet() *task.TaskSpec {
	return &task.TaskSpec{
		TaskTemplate: &core.TaskTemplate{
			Id: &core.Identifier{Name: "hello.greet"},
			Interface: &core.TypedInterface{Inputs: &core.VariableMap{Variables: []*core.VariableEntry{
				{Key: "who", Value: &core.Variable{}}, {Key: "how", Value: &core.Variable{}}}}},
		},
		DefaultInputs: []*task.NamedParameter{
			{Name: "who", Parameter: &core.Parameter{Behavior: &core.Parameter_Required{Required: true}}},
			{Name: "how", Parameter: &core.Parameter{Behavior: &core.Parameter_Default{Default: text("hello")}}},
		},
	}
}

func (p *plane) upload(spec *task.TaskSpec, literals ...*task.NamedLiteral) *dataproxy.UploadInputsRequest {
	return &dataproxy.UploadInputsRequest{
		Id:     &dataproxy.UploadInputsRequest_ProjectId{ProjectId: &common.ProjectIdentifier{Name: p.workspace.Spec.Project, Domain: domain}},
		Task:   &dataproxy.UploadInputsRequest_TaskSpec{TaskSpec: spec},
		Inputs: &task.Inputs{Literals: literals},
	}
}

func TestUploadInputs(t *testing.T) {
	t.Parallel()
	p := start(t)
	proxy := p.proxy(p.operator())
	filled := []*task.NamedLiteral{named("who", text("world")), named("how", text("hello"))}

	t.Run("it writes the inputs with their defaults, though its own role may write nothing", func(t *testing.T) {
		t.Parallel()
		answer, err := proxy.UploadInputs(t.Context(), p.upload(greet(), named("who", text("world"))))
		if err != nil {
			t.Fatal(err)
		}
		data := answer.GetOffloadedInputData()
		prefix := "s3://" + p.storage.MetadataBucket + "/uploads/" + organization + "/" + p.workspace.Spec.Project + "/development/offloaded-inputs/"
		if !strings.HasPrefix(data.GetUri(), prefix) {
			t.Errorf("got the URI %s, want it below %s", data.GetUri(), prefix)
		}
		if want := sdkhash.Inputs(filled, nil); data.GetInputsHash() != want {
			t.Errorf("got the hash %s, want %s", data.GetInputsHash(), want)
		}
		key := strings.TrimPrefix(data.GetUri(), "s3://"+p.storage.MetadataBucket+"/") + "/inputs.pb"
		got := &task.Inputs{}
		if err := proto.Unmarshal(p.get(t, key), got); err != nil || !proto.Equal(got, &task.Inputs{Literals: filled}) {
			t.Errorf("got %v, %v in the bucket, want %v", got, err, filled)
		}
		_, err = account(t, "proxy-system").PutObject(t.Context(), &s3.PutObjectInput{
			Bucket: &p.storage.MetadataBucket, Key: &key, Body: strings.NewReader("by itself"),
		})
		if err == nil || !strings.Contains(err.Error(), "AccessDenied") {
			t.Errorf("got %v from a put by the proxy's own role, want AccessDenied", err)
		}
	})

	t.Run("it takes the definition from the control plane", func(t *testing.T) {
		t.Parallel()
		p.control.mu.Lock()
		p.control.specs = map[string]*task.TaskSpec{"hello.greet": greet()}
		p.control.mu.Unlock()
		request := p.upload(nil, named("who", text("world")))
		request.Task = &dataproxy.UploadInputsRequest_TaskId{TaskId: &task.TaskIdentifier{Name: "hello.greet", Version: "v1"}}
		request.Id = &dataproxy.UploadInputsRequest_RunId{RunId: p.action("r1", "a0").GetRun()}
		answer, err := proxy.UploadInputs(t.Context(), request)
		if want := sdkhash.Inputs(filled, nil); err != nil || answer.GetOffloadedInputData().GetInputsHash() != want {
			t.Errorf("got %v, %v, want the hash %s", answer, err, want)
		}
		request.Task = &dataproxy.UploadInputsRequest_TaskId{TaskId: &task.TaskIdentifier{Name: "hello.absent"}}
		_, err = proxy.UploadInputs(t.Context(), request)
		refused(t, err, connect.CodeNotFound, "there is no such task")
	})

	t.Run("it writes empty inputs too", func(t *testing.T) {
		t.Parallel()
		answer, err := proxy.UploadInputs(t.Context(), p.upload(&task.TaskSpec{TaskTemplate: &core.TaskTemplate{}}))
		if err != nil {
			t.Fatal(err)
		}
		key := strings.TrimPrefix(answer.GetOffloadedInputData().GetUri(), "s3://"+p.storage.MetadataBucket+"/") + "/inputs.pb"
		if got := p.get(t, key); len(got) != 0 {
			t.Errorf("got %d bytes, want none", len(got))
		}
	})

	t.Run("it takes inputs of more than 10 MiB", func(t *testing.T) {
		t.Parallel()
		large := strings.Repeat("0123456789abcdef", 12<<16)
		answer, err := proxy.UploadInputs(t.Context(), p.upload(greet(), named("who", text(large))))
		if err != nil {
			t.Fatal(err)
		}
		key := strings.TrimPrefix(answer.GetOffloadedInputData().GetUri(), "s3://"+p.storage.MetadataBucket+"/") + "/inputs.pb"
		if got := len(p.get(t, key)); got < len(large) {
			t.Errorf("got %d bytes, want more than %d", got, len(large))
		}
	})

	for _, test := range []struct {
		name    string
		request func() *dataproxy.UploadInputsRequest
		code    connect.Code
		want    string
	}{
		{"refuses an input that the task has not", func() *dataproxy.UploadInputsRequest {
			return p.upload(greet(), named("whom", text("x")))
		}, connect.CodeInvalidArgument, `the task hello.greet has no input "whom"; its inputs are who, how`},
		{"refuses inputs over the limit", func() *dataproxy.UploadInputsRequest {
			return p.upload(greet(), named("who", text(strings.Repeat("x", maxInputs))))
		}, connect.CodeInvalidArgument, "pass what is large as a File"},
		{"refuses a request that names no task", func() *dataproxy.UploadInputsRequest {
			r := p.upload(nil)
			r.Task = nil
			return r
		}, connect.CodeInvalidArgument, "say which task the inputs are for"},
		{"refuses triggers as later work", func() *dataproxy.UploadInputsRequest {
			r := p.upload(nil)
			r.Task = &dataproxy.UploadInputsRequest_TriggerName{TriggerName: &common.TriggerName{}}
			return r
		}, connect.CodeUnimplemented, "no triggers yet"},
		{"refuses another organisation", func() *dataproxy.UploadInputsRequest {
			r := p.upload(greet(), named("who", text("x")))
			r.GetProjectId().Organization = "other"
			return r
		}, connect.CodePermissionDenied, `the organization "other" has nothing in this data plane`},
		{"says how an unknown project is made", func() *dataproxy.UploadInputsRequest {
			r := p.upload(greet(), named("who", text("x")))
			r.GetProjectId().Name = "absent"
			return r
		}, connect.CodeNotFound, "flyte create project --id absent"},
		{"refuses a project that leaves its folder", func() *dataproxy.UploadInputsRequest {
			r := p.upload(greet(), named("who", text("x")))
			r.GetProjectId().Name = "../other"
			return r
		}, connect.CodeInvalidArgument, "cannot be a name"},
		{"refuses a request that names no project", func() *dataproxy.UploadInputsRequest {
			r := p.upload(greet())
			r.Id = nil
			return r
		}, connect.CodeInvalidArgument, "the project is missing"},
	} {
		t.Run("it "+test.name, func(t *testing.T) {
			t.Parallel()
			_, err := proxy.UploadInputs(t.Context(), test.request())
			refused(t, err, test.code, test.want)
		})
	}
}

func TestUploadGoesNowhereElse(t *testing.T) {
	t.Parallel()
	p := start(t)
	p.control.elsewhere.Store(true)
	_, err := p.proxy(p.operator()).UploadInputs(t.Context(), p.upload(greet(), named("who", text("x"))))
	refused(t, err, connect.CodeInternal, "signed another upload")
	key := "elsewhere"
	if _, err := account(t, "admin").HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: &p.storage.MetadataBucket, Key: &key}); err == nil {
		t.Error("got an object where the inputs do not belong, want none")
	}
}

func TestCheckDestination(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, endpoint, url string
		ok                  bool
	}{
		{"takes AWS's host of the bucket", "", "https://meta.s3.us-east-2.amazonaws.com/uploads/k?X-Amz-Signature=1", true},
		{"takes AWS's path of the bucket", "", "https://s3.us-east-2.amazonaws.com/meta/uploads/k", true},
		{"takes the endpoint of another store", "https://s3.example:9000", "https://s3.example:9000/meta/uploads/k?X-Amz-Signature=1", true},
		{"refuses another bucket", "", "https://other.s3.us-east-2.amazonaws.com/uploads/k", false},
		{"refuses another key", "", "https://meta.s3.us-east-2.amazonaws.com/uploads/other", false},
		{"refuses another host", "", "https://meta.s3.us-east-2.amazonaws.com.example/uploads/k", false},
		{"refuses plain text at AWS", "", "http://meta.s3.us-east-2.amazonaws.com/uploads/k", false},
		{"refuses AWS where the store is another", "https://s3.example:9000", "https://meta.s3.us-east-2.amazonaws.com/uploads/k", false},
		{"refuses another port", "https://s3.example:9000", "https://s3.example:9001/meta/uploads/k", false},
		{"refuses a path that is another once it is decoded", "https://s3.example:9000", "https://s3.example:9000/meta/uploads%2F..%2Fk", false},
	} {
		t.Run("it "+test.name, func(t *testing.T) {
			t.Parallel()
			s := &service{}
			s.storage.MetadataBucket, s.storage.ClientEndpoint = "meta", test.endpoint
			if err := s.checkDestination(test.url, "uploads/k"); (err == nil) != test.ok {
				t.Errorf("got %v, want it taken: %v", err, test.ok)
			}
		})
	}
}
