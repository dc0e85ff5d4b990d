package runs

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"maps"
	"math/big"
	"path"
	"slices"
	"strings"

	"connectrpc.com/connect"
	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	"k8s.io/apimachinery/pkg/util/validation"

	"biplane.dev/biplane/api/gen/flyteidl2/actions"
	"biplane.dev/biplane/api/gen/flyteidl2/common"
	"biplane.dev/biplane/api/gen/flyteidl2/dataproxy"
	"biplane.dev/biplane/api/gen/flyteidl2/task"
	"biplane.dev/biplane/api/gen/flyteidl2/workflow"
	"biplane.dev/biplane/controlplane/internal/clusters"
	"biplane.dev/biplane/controlplane/internal/identity"
	"biplane.dev/biplane/controlplane/internal/names"
	"biplane.dev/biplane/controlplane/internal/projects"
	"biplane.dev/biplane/controlplane/internal/refusal"
	"biplane.dev/biplane/controlplane/internal/store"
	"biplane.dev/biplane/controlplane/internal/tasks"
	"biplane.dev/biplane/internal/sdkhash"
)

const (
	maxURI    = 2048
	maxLabels = 64
	// maxRunSpec bounds what is kept of a run besides its task: variables, mostly.
	maxRunSpec = 256 << 10
	inputsFile = "inputs.pb"
)

// CreateRun records a run and hands it over. Once it has answered, the run will
// be started, however often this server or the data plane is started anew.
func (s *Service) CreateRun(ctx context.Context, r *workflow.CreateRunRequest) (*workflow.CreateRunResponse, error) {
	call := digest(ctx, r)
	key, err := s.newKey(ctx, r, call)
	if err != nil {
		return nil, err
	}
	// Before anything is uploaded for a project that is not there.
	if _, err := s.store.GetProject(ctx, key.Organization, key.Project); err != nil {
		return nil, createFailed(key, err)
	}
	run := store.NewRun{Key: key, Source: r.GetSource(), CreatedBy: identity.Principal(ctx), Call: hex.EncodeToString(call)}
	if run.TaskID, run.Task, err = s.rootTask(ctx, key, r); err != nil {
		return nil, err
	}
	if run.Spec, err = s.runSpec(ctx, key, r); err != nil {
		return nil, err
	}
	cluster, err := s.cluster(ctx, key, run.Spec)
	if err != nil {
		return nil, err
	}
	run.Cluster = cluster.Name
	if run.BaseURI, err = base(cluster, key, run.Spec); err != nil {
		return nil, err
	}
	inputs, err := s.inputs(ctx, run, r)
	if err != nil {
		return nil, err
	}
	run.InputsURI = inputs.GetUri()
	run.Handover = handover(run, inputs.GetInputsHash())
	made, err := s.store.CreateRun(ctx, run)
	if err != nil {
		return nil, createFailed(key, err)
	}
	s.log.Info("run created", "run", key.String(), "organization", key.Organization, "cluster", run.Cluster, "task", run.TaskID.Name)
	return &workflow.CreateRunResponse{Run: runMessage(made)}, nil
}

// newKey is the name that the client wants, or one that is made.
func (s *Service) newKey(ctx context.Context, r *workflow.CreateRunRequest, call []byte) (store.RunKey, error) {
	var key store.RunKey
	switch id := r.GetId().(type) {
	case *workflow.CreateRunRequest_RunId:
		key = store.RunKeyOf(id.RunId)
		if err := names.Run(key.Name); err != nil {
			return store.RunKey{}, err
		}
	case *workflow.CreateRunRequest_ProjectId:
		key = store.RunKey{Organization: id.ProjectId.GetOrganization(), Project: id.ProjectId.GetName(), Domain: id.ProjectId.GetDomain(), Name: newName(call)}
	default:
		return store.RunKey{}, refusal.Invalid("the request names neither a run_id nor a project_id; give the project and domain of the run")
	}
	organization, err := s.scopes.Workspace(ctx, key.Organization, key.Project, key.Domain)
	key.Organization = organization
	return key, err
}

// digest tells a call from every other, and is empty where it cannot. A client that
// repeats one, since its answer was lost, sends the id of the first again: a run is
// not made twice, and its name is not said to be taken by itself.
func digest(ctx context.Context, r *workflow.CreateRunRequest) []byte {
	call, ok := connect.CallInfoForHandlerContext(ctx)
	if !ok {
		return nil
	}
	id := call.RequestHeader().Get("X-Request-Id")
	// Ids that tasks make have four random characters: enough beside a name, too few
	// to be one.
	if _, err := uuid.Parse(id); id == "" || err != nil && r.GetRunId() == nil {
		return nil
	}
	content, err := proto.MarshalOptions{Deterministic: true}.Marshal(r)
	if err != nil {
		return nil
	}
	first := sha256.Sum256([]byte(id))
	sum := sha256.Sum256(append(first[:], content...))
	return sum[:]
}

// newName is r and 19 letters and digits, of the call, or of chance where that
// cannot be told.
func newName(call []byte) string {
	if call == nil {
		call = make([]byte, sha256.Size)
		rand.Read(call)
	}
	// 98 bits of 256: what the remainder favours is nothing.
	number := new(big.Int).SetBytes(call)
	number.Mod(number, new(big.Int).Exp(big.NewInt(36), big.NewInt(19), nil))
	text := number.Text(36)
	return "r" + strings.Repeat("0", 19-len(text)) + text
}

// rootTask is what the root runs: a deployed task, or one that came with the
// request.
func (s *Service) rootTask(ctx context.Context, run store.RunKey, r *workflow.CreateRunRequest) (store.TaskKey, *task.TaskSpec, error) {
	switch from := r.GetTask().(type) {
	case *workflow.CreateRunRequest_TaskId:
		key := store.TaskKeyOf(from.TaskId)
		organization, err := s.scopes.Organization(ctx, key.Organization)
		if err != nil {
			return store.TaskKey{}, nil, err
		}
		key.Organization = organization
		found, spec, err := tasks.Get(ctx, s.store, key)
		return found.Key, spec, err
	case *workflow.CreateRunRequest_TaskSpec:
		id := from.TaskSpec.GetTaskTemplate().GetId()
		key := store.TaskKey{Organization: run.Organization, Project: id.GetProject(), Domain: id.GetDomain(), Name: id.GetName(), Version: id.GetVersion()}
		// `flyte run` leaves the workspace out; a rerun names that of the task it reruns.
		if key.Project == "" || key.Domain == "" {
			key.Project, key.Domain = run.Project, run.Domain
		}
		if err := names.TaskName(key.Name); err != nil {
			return store.TaskKey{}, nil, err
		}
		if err := names.Short("the version of task "+key.Name, key.Version, 63); err != nil {
			return store.TaskKey{}, nil, err
		}
		if err := names.Project(key.Project); err != nil {
			return store.TaskKey{}, nil, err
		}
		if err := names.Domain(key.Domain, store.Domains()); err != nil {
			return store.TaskKey{}, nil, err
		}
		spec, err := tasks.Complete(from.TaskSpec, key)
		return key, spec, err
	case *workflow.CreateRunRequest_TriggerName:
		return store.TaskKey{}, nil, refusal.New(connect.CodeUnimplemented, "triggers come with a later version; run the task itself")
	}
	return store.TaskKey{}, nil, refusal.Invalid("the request has neither a task_id nor a task_spec; say what is to be run")
}

// runSpec is the client's, checked, with what is the server's to say.
func (s *Service) runSpec(ctx context.Context, key store.RunKey, r *workflow.CreateRunRequest) (*task.RunSpec, error) {
	spec := &task.RunSpec{}
	if r.GetRunSpec() != nil {
		spec = proto.CloneOf(r.GetRunSpec())
	}
	if size := proto.Size(spec); size > maxRunSpec {
		return nil, refusal.Invalid("the run_spec has %d bytes, and may have %d; pass large values as inputs", size, maxRunSpec)
	}
	if err := checkLabels(spec.GetLabels().GetValues()); err != nil {
		return nil, err
	}
	if err := names.Short("the queue", spec.GetQueue(), 63); err != nil {
		return nil, err
	}
	if spec.GetMaxActionConcurrency() == 1 {
		return nil, refusal.Invalid("max_action_concurrency is 1, with which no task could call another; give at least 2, or 0 for no limit")
	}
	if spec.GetNotificationSettings() != nil {
		return nil, refusal.New(connect.CodeUnimplemented, "notifications come with a later version; start the run without them")
	}
	for what, uri := range map[string]string{
		"run_base_dir": spec.GetRunBaseDir(), "raw_data_prefix": spec.GetRawDataStorage().GetRawDataPrefix(),
	} {
		if uri != "" {
			if err := checkURI(what, uri); err != nil {
				return nil, err
			}
		}
	}
	if err := s.relation(ctx, key, spec); err != nil {
		return nil, err
	}
	if spec.TaskSpecSource == task.TaskSpecSource_TASK_SPEC_SOURCE_UNSPECIFIED {
		spec.TaskSpecSource = task.TaskSpecSource_TASK_SPEC_SOURCE_EPHEMERAL
		if r.GetTaskId() != nil {
			spec.TaskSpecSource = task.TaskSpecSource_TASK_SPEC_SOURCE_DEPLOYED
		}
	}
	// Every attempt of every action sees one and the same time.
	spec.RunStartTime = r.GetRunStartTime()
	if !spec.RunStartTime.IsValid() {
		spec.RunStartTime = timestamppb.New(s.now())
	}
	return spec, nil
}

// relation completes the name of the run that this one came from.
func (s *Service) relation(ctx context.Context, key store.RunKey, spec *task.RunSpec) error {
	of := spec.GetRelation().GetRelatedTo()
	if of == nil {
		return nil
	}
	of = proto.CloneOf(of)
	if of.Project == "" && of.Domain == "" {
		of.Project, of.Domain = key.Project, key.Domain
	}
	related, err := s.runKey(ctx, of)
	if err != nil {
		return err
	}
	spec.Relation.RelatedTo = related.Proto()
	recovers := spec.Relation.GetRelationType() == common.RelationType_RELATION_TYPE_RECOVER
	if recovers && (related.Project != key.Project || related.Domain != key.Domain) {
		return refusal.Invalid("the run %s cannot be recovered in %s/%s; recover it where it ran", related, key.Project, key.Domain)
	}
	return nil
}

// cluster is where the run goes. One that recovers another goes where that one ran,
// since its results are there, and so it must still be known.
func (s *Service) cluster(ctx context.Context, key store.RunKey, spec *task.RunSpec) (store.Cluster, error) {
	queue := spec.GetQueue()
	if spec.GetRelation().GetRelationType() != common.RelationType_RELATION_TYPE_RECOVER || spec.GetRelation().GetRelatedTo() == nil {
		return clusters.Choose(ctx, s.store, key.Organization, key.Project, queue)
	}
	related := store.RunKeyOf(spec.GetRelation().GetRelatedTo())
	recovered, _, err := s.store.GetRun(ctx, related)
	if err != nil {
		return store.Cluster{}, unknownRun(related, err)
	}
	if queue != "" && queue != recovered.Cluster {
		var missing *store.NotFoundError
		_, err := s.store.GetCluster(ctx, key.Organization, queue)
		if err == nil {
			return store.Cluster{}, refusal.Invalid("the run %s ran on the cluster %q, and its results are not on %q, which the queue names; recover it without a queue", related, recovered.Cluster, queue)
		}
		if !errors.As(err, &missing) {
			return store.Cluster{}, err
		}
	}
	return clusters.Choose(ctx, s.store, key.Organization, key.Project, recovered.Cluster)
}

// base is the folder below which every action of the run writes.
func base(cluster store.Cluster, key store.RunKey, spec *task.RunSpec) (string, error) {
	root := strings.TrimRight(spec.GetRunBaseDir(), "/")
	if root == "" {
		bucket := cluster.Report.GetDataPlane().GetMetadataBucket()
		if bucket == "" {
			return "", refusal.New(connect.CodeUnavailable, "the cluster %q has not said yet into which bucket runs write; wait until 'biplane cluster show %s' says ready", cluster.Name, cluster.Name)
		}
		root = "s3://" + bucket
	}
	return root + "/" + path.Join(key.Project, key.Domain, key.Name), nil
}

// inputs are those that the client has uploaded. What comes inline is written by
// the data plane's proxy and never kept here; so are no inputs at all, since
// every root reads a file of them.
func (s *Service) inputs(ctx context.Context, run store.NewRun, r *workflow.CreateRunRequest) (*common.OffloadedInputData, error) {
	data := r.GetOffloadedInputData()
	if data == nil {
		upload := &dataproxy.UploadInputsRequest{
			Id:     &dataproxy.UploadInputsRequest_RunId{RunId: run.Key.Proto()},
			Task:   &dataproxy.UploadInputsRequest_TaskSpec{TaskSpec: run.Task},
			Inputs: r.GetInputs(),
		}
		if upload.Inputs == nil {
			upload.Inputs = &task.Inputs{}
		}
		answer, err := s.planes.Proxy(run.Key.Organization, run.Cluster).UploadInputs(ctx, upload)
		if err != nil {
			return nil, err
		}
		data = answer.GetOffloadedInputData()
	}
	if err := checkURI("the uri of offloaded_input_data", data.GetUri()); err != nil {
		return nil, err
	}
	if err := names.Short("the inputs_hash", data.GetInputsHash(), 256); err != nil {
		return nil, err
	}
	uri := strings.TrimRight(data.GetUri(), "/")
	if path.Base(uri) != inputsFile {
		uri += "/" + inputsFile
	}
	return &common.OffloadedInputData{Uri: uri, InputsHash: data.GetInputsHash()}, nil
}

// handover is the call that the executor gets.
func handover(run store.NewRun, inputsHash string) *actions.EnqueueRequest {
	root := &workflow.TaskAction{Id: run.TaskID.Proto(), Spec: run.Task, Queue: run.Spec.GetQueue()}
	template := run.Task.GetTaskTemplate()
	if template.GetMetadata().GetDiscoverable() && inputsHash != "" {
		root.CacheKey = wrapperspb.String(sdkhash.CacheKey(
			template.GetId().GetName(), inputsHash, template.GetInterface(), template.GetMetadata().GetDiscoveryVersion()))
	}
	return &actions.EnqueueRequest{
		Action: &actions.Action{
			ActionId:      store.ActionKey{Run: run.Key, Name: store.RootAction}.Proto(),
			InputUri:      run.InputsURI,
			RunOutputBase: run.BaseURI,
			Spec:          &actions.Action_Task{Task: root},
		},
		RunSpec: run.Spec,
	}
}

// createFailed says why a run was not made.
func createFailed(key store.RunKey, err error) error {
	var (
		exists  *store.ExistsError
		missing *store.NotFoundError
	)
	switch {
	case errors.As(err, &exists):
		return refusal.New(connect.CodeAlreadyExists, "there is a run %q in %s/%s already; choose another name, or leave it out", key.Name, key.Project, key.Domain)
	case errors.As(err, &missing) && missing.Kind == "project":
		return projects.Unknown(key.Project)
	}
	return err
}

// checkLabels refuses what no pod of the run could have.
func checkLabels(labels map[string]string) error {
	if len(labels) > maxLabels {
		return refusal.Invalid("the run has %d labels; give at most %d", len(labels), maxLabels)
	}
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		if len(validation.IsQualifiedName(name)) > 0 || len(validation.IsValidLabelValue(labels[name])) > 0 {
			return refusal.Invalid("the label %.80q=%.80q is none that Kubernetes takes; use letters, digits and - _ . of at most 63 characters", name, labels[name])
		}
	}
	return nil
}

func checkURI(what, uri string) error {
	bucket, below := strings.CutPrefix(uri, "s3://")
	if !below || bucket == "" || strings.HasPrefix(bucket, "/") || slices.Contains(strings.Split(bucket, "/"), "..") {
		return refusal.Invalid("%s is %.80q, which is not s3://BUCKET/KEY", what, uri)
	}
	return names.Short(what, uri, maxURI)
}
