package taskpod

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"biplane.dev/biplane/api/gen/flyteidl2/core"
	"biplane.dev/biplane/api/gen/flyteidl2/task"
	"biplane.dev/biplane/dataplane/api/v1alpha1"
	"biplane.dev/biplane/dataplane/config"
)

var builder = &Builder{Executor: config.Executor{
	Process: config.Process{Endpoint: "executor.union.svc.cluster.local:8443"}, DefaultCPU: "1", DefaultMemory: "1Gi",
	Env:                       map[string]string{"PROXY": "http://p", "OVER": "administrator"},
	InterruptibleNodeSelector: map[string]string{"spot": "true"},
	InterruptibleTolerations:  []config.Toleration{{Key: "spot", Operator: "Exists", Effect: "NoSchedule"}},
}}

// attempt is an ordinary one, changed.
func attempt(change func(*Attempt)) Attempt {
	a := Attempt{
		Action: &v1alpha1.TaskAction{
			ObjectMeta: metav1.ObjectMeta{Name: "r1-a0", Namespace: "p-d", UID: "uid"},
			Spec: v1alpha1.TaskActionSpec{
				Organization: "acme", Project: "p", Domain: "d", Run: "r1", Action: "a0", InputURI: "s3://b/in/inputs.pb", RunOutputBase: "s3://b/p/d/r1",
				TaskProject: "tp", TaskDomain: "td", TaskName: "env.main[0]", TaskVersion: "v1",
			},
		},
		Run: &task.RunSpec{RunStartTime: timestamppb.New(time.Date(2026, 5, 4, 3, 2, 1, 500, time.UTC))},
		Spec: &task.TaskSpec{TaskTemplate: &core.TaskTemplate{
			Id: &core.Identifier{Name: "env.main[0]"}, Type: "python", Metadata: &core.TaskMetadata{},
			Target: &core.TaskTemplate_Container{Container: &core.Container{Image: "i:1", Args: []string{"a0"}}},
		}},
		Number: 1,
	}
	if change != nil {
		change(&a)
	}
	return a
}

func container(a *Attempt) *core.Container { return a.Spec.TaskTemplate.GetContainer() }

func build(t *testing.T, change func(*Attempt)) *corev1.Pod {
	t.Helper()
	pod, err := builder.Build(attempt(change))
	if err != nil {
		t.Fatal(err)
	}
	return pod
}

func TestBuild(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		change func(*Attempt)
		want   string // YAML that is in the pod
	}{
		{"it has names, labels and an owner", nil, `
metadata:
  name: r1-a0-0
  namespace: p-d
  labels: {organization: acme, project: p, domain: d, flyte.org/run: r1, flyte.org/action: a0, flyte.org/attempt: "1", flyte.org/managed: "true", execution-id: r1, flyte.org/task-name: env.main-0}
  annotations: {primary_container_name: r1-a0-0, cluster-autoscaler.kubernetes.io/safe-to-evict: "false"}
  ownerReferences: [{apiVersion: biplane.dev/v1alpha1, kind: TaskAction, name: r1-a0, uid: uid, controller: true}]
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 10
  enableServiceLinks: false
  containers: [{name: r1-a0-0, image: "i:1", args: [a0], terminationMessagePolicy: FallbackToLogsOnError}]`},
		{"it has another name for each attempt", func(a *Attempt) { a.Number = 12 }, "metadata: {name: r1-a0-11, labels: {flyte.org/attempt: \"12\"}}"},
		{"it gives labels and annotations of the run and the task, and keeps ours", func(a *Attempt) {
			a.Run.Labels = &task.Labels{Values: map[string]string{"team": "run", "project": "other"}}
			a.Run.Annotations = &task.Annotations{Values: map[string]string{"note": "run", "cluster-autoscaler.kubernetes.io/safe-to-evict": "true"}}
			a.Spec.TaskTemplate.Metadata.Metadata = &core.K8SObjectMetadata{Labels: map[string]string{"team": "task", "kind": "task"}}
		}, `
metadata:
  labels: {team: run, kind: task, project: p}
  annotations: {note: run, cluster-autoscaler.kubernetes.io/safe-to-evict: "true"}`},
		{"it may take what it has by default, and no more", nil, `
spec: {containers: [{resources: {requests: {cpu: "1", memory: 1Gi}, limits: {cpu: "1", memory: 1Gi}}}]}`},
		{"it may take as much as it requests, and requests as much as it may take", func(a *Attempt) {
			container(a).Resources = &core.Resources{
				Requests: []*core.Resources_ResourceEntry{{Name: core.Resources_CPU, Value: "500m"}, {Name: core.Resources_GPU, Value: "2"}},
				Limits:   []*core.Resources_ResourceEntry{{Name: core.Resources_MEMORY, Value: "2Gi"}, {Name: core.Resources_EPHEMERAL_STORAGE, Value: "5Gi"}},
			}
		}, `
spec: {containers: [{resources: {
  requests: {cpu: 500m, nvidia.com/gpu: "2", memory: 2Gi, ephemeral-storage: 5Gi},
  limits: {cpu: 500m, nvidia.com/gpu: "2", memory: 2Gi, ephemeral-storage: 5Gi}}}]}`},
		{"it goes to a node with its accelerator", func(a *Attempt) {
			container(a).Resources = &core.Resources{Requests: []*core.Resources_ResourceEntry{{Name: core.Resources_GPU, Value: "1"}}}
			a.Spec.TaskTemplate.ExtendedResources = &core.ExtendedResources{GpuAccelerator: &core.GPUAccelerator{
				Device: "mi300", DeviceClass: core.GPUAccelerator_AMD_GPU, PartitionSizeValue: &core.GPUAccelerator_PartitionSize{PartitionSize: "half"}}}
		}, `
spec:
  containers: [{resources: {limits: {amd.com/gpu: "1"}}}]
  tolerations:
  - {key: k8s.amazonaws.com/accelerator, operator: Equal, value: mi300, effect: NoSchedule}
  - {key: k8s.amazonaws.com/gpu-partition-size, operator: Equal, value: half, effect: NoSchedule}
  affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [
    {key: k8s.amazonaws.com/accelerator, operator: In, values: [mi300]}, {key: k8s.amazonaws.com/gpu-partition-size, operator: In, values: [half]}]}]}}}`},
		{"it shares memory", func(a *Attempt) {
			a.Spec.TaskTemplate.ExtendedResources = &core.ExtendedResources{SharedMemory: &core.SharedMemory{SizeLimit: "1Gi"}}
		}, `
spec:
  containers: [{volumeMounts: [{name: flyte-shm, mountPath: /dev/shm}]}]
  volumes: [{name: flyte-shm, emptyDir: {medium: Memory, sizeLimit: 1Gi}}]`},
		{"it goes where nodes may be taken away", func(a *Attempt) { a.Interruptible = true }, `
spec: {nodeSelector: {spot: "true"}, tolerations: [{key: spot, operator: Exists, effect: NoSchedule}]}`},
		{"it runs as the run says before the task", func(a *Attempt) {
			a.Spec.TaskTemplate.SecurityContext = &core.SecurityContext{RunAs: &core.Identity{K8SServiceAccount: "task"}}
			a.Run.SecurityContext = &core.SecurityContext{RunAs: &core.Identity{K8SServiceAccount: "run"}}
		}, "spec: {serviceAccountName: run}"},
		{"it can reach us and prove who it is", nil, `
spec:
  containers: [{volumeMounts: [
    {name: biplane-token, mountPath: /var/run/secrets/biplane.dev/serviceaccount, readOnly: true},
    {name: biplane-client, mountPath: /etc/biplane/client, readOnly: true}]}]
  volumes:
  - {name: biplane-token, projected: {sources: [{serviceAccountToken: {audience: biplane.dev, expirationSeconds: 3600, path: token}}]}}
  - {name: biplane-client, configMap: {name: biplane-client}}`},
		{"it is the author's own pod, and its primary container is ours", k8sPod(`
containers:
- {name: main, image: "m:1", command: [x], args: ["{{.outputPrefix}}"], env: [{name: SECRET, valueFrom: {secretKeyRef: {name: s, key: k}}}]}
- {name: side, image: "s:1", args: ["{{.outputPrefix}}"]}
terminationGracePeriodSeconds: 600`), `
metadata: {annotations: {primary_container_name: main}}
spec:
  terminationGracePeriodSeconds: 600
  restartPolicy: Never
  containers:
  - {name: main, args: ["s3://b/p/d/r1/a0/1"], env: [{name: SECRET, valueFrom: {secretKeyRef: {name: s, key: k}}}], resources: {limits: {memory: 1Gi}}}
  - {name: side, args: ["{{.outputPrefix}}"]}`},
		{"it stands upon a pod template", func(a *Attempt) {
			container(a).Env = []*core.KeyValuePair{{Key: "A", Value: "task"}}
			template(`
metadata: {labels: {from: template, team: template}, annotations: {note: template}}
spec:
  serviceAccountName: template
  nodeSelector: {pool: gpu}
  volumes: [{name: data, emptyDir: {}}]
  containers:
  - {name: default, image: ignored, env: [{name: A, value: default}, {name: B, value: default}], volumeMounts: [{name: data, mountPath: /data}]}
  - {name: primary, env: [{name: B, value: primary}], securityContext: {runAsUser: 7}}
  - {name: helper, image: "h:1"}`)(a)
		}, `
metadata: {labels: {from: template, team: template, project: p}, annotations: {note: template}}
spec:
  serviceAccountName: template
  nodeSelector: {pool: gpu}
  containers:
  - {name: r1-a0-0, image: "i:1", securityContext: {runAsUser: 7}}
  - {name: helper, image: "h:1"}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			pod := build(t, test.change)
			text, err := yaml.Marshal(pod)
			if err != nil {
				t.Fatal(err)
			}
			var got, want any
			if err := errors.Join(yaml.Unmarshal(text, &got), yaml.Unmarshal([]byte(test.want), &want)); err != nil {
				t.Fatal(err)
			}
			for _, difference := range missing("", got, want) {
				t.Error(difference)
			}
			if t.Failed() {
				t.Logf("of the pod\n%s", text)
			}
		})
	}
}

func k8sPod(spec string) func(*Attempt) {
	return func(a *Attempt) {
		var fields map[string]any
		if err := yaml.Unmarshal([]byte(spec), &fields); err != nil {
			panic(err)
		}
		s, err := structpb.NewStruct(fields)
		if err != nil {
			panic(err)
		}
		a.Spec.TaskTemplate.Target = &core.TaskTemplate_K8SPod{K8SPod: &core.K8SPod{PodSpec: s, PrimaryContainerName: "main"}}
	}
}

func template(text string) func(*Attempt) {
	return func(a *Attempt) {
		a.Template = &corev1.PodTemplate{}
		if err := yaml.Unmarshal([]byte(text), &a.Template.Template); err != nil {
			panic(err)
		}
	}
}

// missing says what of want is not in got.
func missing(path string, got, want any) []string {
	switch want := want.(type) {
	case map[string]any:
		fields, _ := got.(map[string]any)
		var all []string
		for _, name := range slices.Sorted(maps.Keys(want)) {
			all = append(all, missing(path+"."+name, fields[name], want[name])...)
		}
		return all
	case []any:
		items, _ := got.([]any)
		if len(items) < len(want) {
			return []string{"got too few items in " + path}
		}
		var all []string
		for i := range want {
			all = append(all, missing(path+"[]", items[i], want[i])...)
		}
		return all
	}
	if got != want {
		return []string{"got at " + path + " " + text(got) + ", want " + text(want)}
	}
	return nil
}

func text(value any) string {
	out, _ := yaml.Marshal(value)
	return strings.TrimSpace(string(out))
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	pod := build(t, func(a *Attempt) {
		container(a).Env = []*core.KeyValuePair{{Key: "A", Value: "task"}, {Key: "BOTH", Value: "task"}, {Key: "RUN_NAME", Value: "task"}, {Key: "OVER", Value: "task"}, {Key: "_U_EP_OVERRIDE", Value: "task"}}
		a.Run.Envs = &task.Envs{Values: []*core.KeyValuePair{{Key: "BOTH", Value: "run"}, {Key: "_F_SYS_PATH", Value: "src"}, {Key: "ACTION_NAME", Value: "run"}, {Key: "OVER", Value: "run"}}}
		a.Number = 3
	})
	got := map[string]string{}
	for _, variable := range pod.Spec.Containers[0].Env {
		if _, ok := got[variable.Name]; ok {
			t.Errorf("got %s twice", variable.Name)
		}
		got[variable.Name] = variable.Value
	}
	for name, want := range map[string]string{
		"A": "task", "BOTH": "run", "_F_SYS_PATH": "src", "OVER": "administrator", "PROXY": "http://p",
		"RUN_NAME": "r1", "ACTION_NAME": "a0", "_U_ORG_NAME": "acme", "_U_RUN_BASE": "s3://b/p/d/r1", "FLYTE_ATTEMPT_NUMBER": "2",
		"FLYTE_INTERNAL_EXECUTION_ID": "r1", "FLYTE_INTERNAL_EXECUTION_PROJECT": "p", "FLYTE_INTERNAL_EXECUTION_DOMAIN": "d",
		"FLYTE_INTERNAL_TASK_PROJECT": "tp", "FLYTE_INTERNAL_TASK_DOMAIN": "td", "FLYTE_INTERNAL_TASK_NAME": "env.main[0]", "FLYTE_INTERNAL_TASK_VERSION": "v1",
		"_U_USE_ACTIONS": "1", "_U_EP_OVERRIDE": "executor.union.svc.cluster.local:8443", "FLYTECTL_CONFIG": "/etc/biplane/client/config.yaml",
	} {
		if got[name] != want {
			t.Errorf("got %s=%q, want %q", name, got[name], want)
		}
	}
	if _, ok := got["_U_INSECURE"]; ok {
		t.Errorf("got _U_INSECURE, want TLS")
	}
}

func TestSubstitute(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, in, want string }{
		{"it gives the file of the inputs", "{{.input}}", "s3://b/in/inputs.pb"},
		{"it gives the folder of the inputs", "{{.inputPrefix}}", "s3://b/in"},
		{"it gives the attempt's folder", "{{.outputPrefix}}", "s3://b/p/d/r1/a0/2"},
		{"it gives a place for files", "{{.rawOutputDataPrefix}}", "s3://raw/x/p/d/r1/a0/2"},
		{"it gives the place of checkpoints", "{{.checkpointOutputPrefix}}", "s3://b/p/d/r1/a0/2/_flytecheckpoints"},
		{"it gives the checkpoint of the attempt before", "{{.prevCheckpointPrefix}}", "s3://b/p/d/r1/a0/1/_flytecheckpoints"},
		{"it gives names", "{{.runName}}/{{.actionName}}/{{.namespace}}", "r1/a0/p-d"},
		{"it gives the time at which the run was started", "{{.runStartTime}}", "2026-05-04T03:02:01.0000005Z"},
		{"it gives a key of the attempt's own", "{{.perRetryUniqueKey}}", "r1-a0-1"},
		{"it gives the file of the template", "{{.taskTemplatePath}}", "s3://b/p/d/r1/a0/2/task.pb"},
		{"it knows other spellings", "{{ .RUNNAME }}{{$runName}}{{. runname }}{{  $RunName  }}", "r1r1r1r1"},
		{"it gives an input", "--n={{.inputs.n}} --s={{.Inputs.s}}", "--n=7 --s=text"},
		{"it leaves what it does not know", "{{.other}} {{ range }} {{runName}}", "{{.other}} {{ range }} {{runName}}"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			pod := build(t, func(a *Attempt) {
				a.Number, a.Previous = 2, "s3://b/p/d/r1/a0/1"
				a.Run.RawDataStorage = &task.RawDataStorage{RawDataPrefix: "s3://raw/x/"}
				a.Inputs = &task.Inputs{Literals: []*task.NamedLiteral{
					{Name: "n", Value: primitive(&core.Primitive{Value: &core.Primitive_Integer{Integer: 7}})},
					{Name: "s", Value: primitive(&core.Primitive{Value: &core.Primitive_StringValue{StringValue: "text"}})},
				}}
				container(a).Command, container(a).Args = []string{test.in}, []string{"--x", test.in}
			})
			got := pod.Spec.Containers[0]
			if got.Command[0] != test.want || got.Args[1] != test.want {
				t.Errorf("got %q and %q, want %q", got.Command, got.Args, test.want)
			}
		})
	}
	t.Run("it runs a container that could have files of inputs, and needs none", func(t *testing.T) {
		t.Parallel()
		pod := build(t, func(a *Attempt) {
			container(a).DataConfig = &core.DataLoadingConfig{Enabled: true}
			container(a).Command, container(a).Args = []string{"echo", "{{.inputs.x}}"}, nil
			a.Spec.TaskTemplate.Interface = &core.TypedInterface{Inputs: variables("x")}
			a.Inputs = &task.Inputs{Literals: []*task.NamedLiteral{{Name: "x", Value: primitive(&core.Primitive{Value: &core.Primitive_StringValue{StringValue: "here"}})}}}
		})
		if got := pod.Spec.Containers[0].Command; !slices.Equal(got, []string{"echo", "here"}) {
			t.Errorf("got %q, want the input in the command", got)
		}
	})
	t.Run("it gives no checkpoint to the first attempt", func(t *testing.T) {
		t.Parallel()
		pod := build(t, func(a *Attempt) { container(a).Args = []string{"{{.prevCheckpointPrefix}}"} })
		if got := pod.Spec.Containers[0].Args[0]; got != `""` {
			t.Errorf("got %q, want two quotes", got)
		}
	})
}

func primitive(p *core.Primitive) *core.Literal {
	return &core.Literal{Value: &core.Literal_Scalar{Scalar: &core.Scalar{Value: &core.Scalar_Primitive{Primitive: p}}}}
}

func variables(name string) *core.VariableMap {
	return &core.VariableMap{Variables: []*core.VariableEntry{{Key: name, Value: &core.Variable{}}}}
}

func TestInvalid(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, code, says string
		change           func(*Attempt)
	}{
		{"it refuses a kind of task that is no pod", "UnsupportedTaskType", `"spark"`, func(a *Attempt) { a.Spec.TaskTemplate.Type = "spark" }},
		{"it refuses a task without a target", "UnsupportedTaskType", "env.main[0]", func(a *Attempt) { a.Spec.TaskTemplate.Target = nil }},
		{"it refuses an input as a file", "UnsupportedTaskType", "{{.inputs.x}}", func(a *Attempt) {
			container(a).DataConfig = &core.DataLoadingConfig{Enabled: true}
			a.Spec.TaskTemplate.Interface = &core.TypedInterface{Inputs: variables("x")}
		}},
		{"it refuses an output as a file", "UnsupportedTaskType", `"y"`, func(a *Attempt) {
			container(a).DataConfig = &core.DataLoadingConfig{Enabled: true}
			a.Spec.TaskTemplate.Interface = &core.TypedInterface{Outputs: variables("y")}
		}},
		{"it refuses secrets", "SecretNotFound", `"k"`, func(a *Attempt) {
			a.Spec.TaskTemplate.SecurityContext = &core.SecurityContext{Secrets: []*core.Secret{{Key: "k"}}}
		}},
		{"it refuses a task without image", "InvalidImageName", "no image", func(a *Attempt) { container(a).Image = "" }},
		{"it refuses what is no quantity", "BadTaskSpecification", `"much"`, func(a *Attempt) {
			container(a).Resources = &core.Resources{Requests: []*core.Resources_ResourceEntry{{Name: core.Resources_CPU, Value: "much"}}}
		}},
		{"it refuses less than nothing", "BadTaskSpecification", `"-1"`, func(a *Attempt) {
			container(a).Resources = &core.Resources{Limits: []*core.Resources_ResourceEntry{{Name: core.Resources_MEMORY, Value: "-1"}}}
		}},
		{"it refuses a pod without its primary container", "PrimaryContainerNotFound", `"main"`, k8sPod("containers: [{name: other, image: x}]")},
		{"it refuses a pod that is none", "BadTaskSpecification", "cannot be read", k8sPod("containers: 7")},
		{"it refuses an input that is not there", "BadTaskSpecification", `"n"`, func(a *Attempt) { container(a).Args = []string{"{{.inputs.n}}"} }},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := builder.Build(attempt(test.change))
			var got *Invalid
			if !errors.As(err, &got) || got.Code != test.code || !strings.Contains(got.Message, test.says) {
				t.Errorf("got %v, want %s with %s", err, test.code, test.says)
			}
		})
	}
}

func TestTemplateLayers(t *testing.T) {
	t.Parallel()
	pod := build(t, func(a *Attempt) {
		container(a).Env = []*core.KeyValuePair{{Key: "A", Value: "task"}}
		template(`{spec: {containers: [{name: default, env: [{name: A, value: default}, {name: B, value: default}, {name: C, value: default}]}, {name: primary, env: [{name: B, value: primary}]}]}}`)(a)
	})
	got := map[string]string{}
	for _, variable := range pod.Spec.Containers[0].Env {
		got[variable.Name] = variable.Value
	}
	for name, want := range map[string]string{"A": "task", "B": "primary", "C": "default"} {
		if got[name] != want {
			t.Errorf("got %s=%q, want %q", name, got[name], want)
		}
	}
}

func TestLongName(t *testing.T) {
	t.Parallel()
	pod := build(t, func(a *Attempt) {
		a.Action.Name = strings.Repeat("r", 30) + "-" + strings.Repeat("a", 30)
		a.Number = 100
	})
	if name := pod.Spec.Containers[0].Name; len(name) > 63 || pod.Annotations["primary_container_name"] != name {
		t.Errorf("got the container %q of %d characters, want at most 63", name, len(name))
	}
}
