package controlplane_test

import (
	"context"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	dataplanev1 "biplane.dev/biplane/api/gen/biplane/dataplane/v1"
	tunnelv1 "biplane.dev/biplane/api/gen/biplane/tunnel/v1"
	"biplane.dev/biplane/api/gen/flyteidl2/common"
	"biplane.dev/biplane/api/gen/flyteidl2/core"
	"biplane.dev/biplane/api/gen/flyteidl2/dataproxy"
	"biplane.dev/biplane/api/gen/flyteidl2/project"
	"biplane.dev/biplane/api/gen/flyteidl2/task"
	"biplane.dev/biplane/api/gen/flyteidl2/workflow"
	"biplane.dev/biplane/api/gen/flyteidl2/workflow/workflowconnect"
	"biplane.dev/biplane/controlplane/internal/store"
	"biplane.dev/biplane/controlplane/internal/store/storetest"
	"biplane.dev/biplane/internal/sdkhash"
)

const (
	running   = common.ActionPhase_ACTION_PHASE_RUNNING
	succeeded = common.ActionPhase_ACTION_PHASE_SUCCEEDED
	failed    = common.ActionPhase_ACTION_PHASE_FAILED
	aborted   = common.ActionPhase_ACTION_PHASE_ABORTED
	queued    = common.ActionPhase_ACTION_PHASE_QUEUED
)

func newRuns(w *world, options ...connect.ClientOption) workflowconnect.RunServiceClient {
	return workflowconnect.NewRunServiceClient(w.client, w.url, options...)
}

func named(name string) *workflow.CreateRunRequest_RunId {
	return &workflow.CreateRunRequest_RunId{RunId: &common.RunIdentifier{Project: "flytesnacks", Domain: "development", Name: name}}
}

func withSpec(s *task.TaskSpec) *workflow.CreateRunRequest_TaskSpec {
	return &workflow.CreateRunRequest_TaskSpec{TaskSpec: s}
}

func TestCreateRun(t *testing.T) { onBoth(t, testCreateRun) }

func testCreateRun(t *testing.T, db database) {
	w := newWorld(t, db, "")
	t.Run("names the command for a project before it says that there is no cluster", func(t *testing.T) {
		request := &workflow.CreateRunRequest{Task: withSpec(spec("hello.main")),
			Id: &workflow.CreateRunRequest_ProjectId{ProjectId: &common.ProjectIdentifier{Name: "nope", Domain: "development"}}}
		_, err := w.runs().CreateRun(t.Context(), request)
		refused(t, err, connect.CodeNotFound, "flyte create project --id nope --name nope")
		request.GetProjectId().Name = "flytesnacks"
		_, err = w.runs().CreateRun(t.Context(), request)
		refused(t, err, connect.CodeFailedPrecondition, "biplane cluster add NAME")
	})
	plane := w.join("east")

	t.Run("names the run whole, and hands over all that the executor needs", func(t *testing.T) {
		run := w.create(&workflow.CreateRunRequest{RunSpec: &task.RunSpec{Labels: &task.Labels{Values: map[string]string{"team": "ml"}}}})
		id := run.Action.Id
		if id.GetRun().GetOrg() != "default" || id.GetRun().GetProject() != "flytesnacks" || len(id.GetRun().GetName()) != 20 || id.GetName() != "a0" {
			t.Errorf("got %v, want the whole name", id)
		}
		if got, want := run.Labels["team"], "ml"; got != want {
			t.Errorf("got label %q, want %q", got, want)
		}
		handed := wait(t, plane.enqueued)
		if got, want := handed.Action.RunOutputBase, "s3://meta/flytesnacks/development/"+id.Run.Name; got != want {
			t.Errorf("got base %q, want %q", got, want)
		}
		if got, want := handed.Action.InputUri, "s3://meta/uploads/x/inputs.pb"; got != want {
			t.Errorf("got inputs %q, want %q", got, want)
		}
		template := handed.Action.GetTask().GetSpec().GetTaskTemplate().GetId()
		if template.GetOrg() != "default" || template.GetProject() != "flytesnacks" || template.GetDomain() != "development" {
			t.Errorf("got a template of %v, want it to say whose it is", template)
		}
		if !handed.RunSpec.GetRunStartTime().IsValid() || handed.RunSpec.GetTaskSpecSource() != task.TaskSpecSource_TASK_SPEC_SOURCE_EPHEMERAL {
			t.Errorf("got %v, want a start time and a source", handed.RunSpec)
		}
		if got := handed.Action.GetTask().GetCacheKey(); got != nil {
			t.Errorf("got cache key %v of a task that is not cached, want none", got)
		}
	})
	t.Run("makes the cache key that a parent would make", func(t *testing.T) {
		cached := spec("hello.cached")
		cached.TaskTemplate.Metadata.Discoverable = true
		cached.TaskTemplate.Metadata.DiscoveryVersion = "7"
		w.create(&workflow.CreateRunRequest{Task: withSpec(cached)})
		got := wait(t, plane.enqueued).Action.GetTask().GetCacheKey().GetValue()
		if want := sdkhash.CacheKey("hello.cached", "hash", cached.TaskTemplate.Interface, "7"); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
	t.Run("has inline inputs written by the data plane", func(t *testing.T) {
		inputs := &task.Inputs{Literals: []*task.NamedLiteral{{Name: "x", Value: &core.Literal{}}}}
		w.create(&workflow.CreateRunRequest{InputWrapper: &workflow.CreateRunRequest_Inputs{Inputs: inputs}})
		if got := wait(t, plane.uploads).Inputs; !proto.Equal(got, inputs) {
			t.Errorf("got %v, want %v", got, inputs)
		}
		wait(t, plane.enqueued)
	})
	t.Run("makes one run of a call that is repeated", func(t *testing.T) {
		request := &workflow.CreateRunRequest{Id: &workflow.CreateRunRequest_ProjectId{ProjectId: flytesnacks}, Task: withSpec(spec("hello.main")),
			InputWrapper: &workflow.CreateRunRequest_OffloadedInputData{OffloadedInputData: &common.OffloadedInputData{Uri: "s3://meta/x", InputsHash: "h"}}}
		made := map[string]string{}
		for _, id := range []string{"6f2c1b0e-6f0a-4d5e-9b43-0c1f2d3e4a5b", "6f2c1b0e-6f0a-4d5e-9b43-0c1f2d3e4a5b", "11111111-6f0a-4d5e-9b43-0c1f2d3e4a5b"} {
			ctx, call := connect.NewClientContext(t.Context())
			call.RequestHeader().Set("X-Request-Id", id)
			got, err := w.runs().CreateRun(ctx, request)
			if err != nil {
				t.Fatal(err)
			}
			name := got.Run.Action.Id.Run.Name
			if before := made[id]; before != "" && before != name {
				t.Errorf("got %s, want %s again", name, before)
			}
			made[id] = name
		}
		wait(t, plane.enqueued)
		wait(t, plane.enqueued)
		if len(made) != 2 || len(plane.enqueued) != 0 {
			t.Errorf("got %v, and %d hand-overs more, want two runs", made, len(plane.enqueued))
		}
	})
	t.Run("makes one run of a call that is repeated under a name, and refuses the name to others", func(t *testing.T) {
		create := func(call, queue string) error {
			ctx, client := connect.NewClientContext(t.Context())
			client.RequestHeader().Set("X-Request-Id", call)
			_, err := w.runs().CreateRun(ctx, &workflow.CreateRunRequest{Id: named("repeated"), Task: withSpec(spec("hello.main")), RunSpec: &task.RunSpec{Queue: queue},
				InputWrapper: &workflow.CreateRunRequest_OffloadedInputData{OffloadedInputData: &common.OffloadedInputData{Uri: "s3://meta/x", InputsHash: "h"}}})
			return err
		}
		const first = "flytesnacks-development-r1-a0-x7q2" // as a task makes it
		for range 2 {
			if err := create(first, ""); err != nil {
				t.Fatal(err)
			}
		}
		wait(t, plane.enqueued)
		refused(t, create("flytesnacks-development-r1-a0-x7q3", ""), connect.CodeAlreadyExists, `"repeated"`)
		refused(t, create(first, "another"), connect.CodeAlreadyExists, `"repeated"`)
		if len(plane.enqueued) != 0 {
			t.Errorf("got %d hand-overs more, want none", len(plane.enqueued))
		}
	})
	t.Run("takes a name once", func(t *testing.T) {
		w.create(&workflow.CreateRunRequest{Id: named("mine")})
		wait(t, plane.enqueued)
		_, err := w.runs().CreateRun(t.Context(), &workflow.CreateRunRequest{Id: named("mine"), Task: withSpec(spec("hello.main")),
			InputWrapper: &workflow.CreateRunRequest_OffloadedInputData{OffloadedInputData: &common.OffloadedInputData{Uri: "s3://meta/x", InputsHash: "h"}}})
		refused(t, err, connect.CodeAlreadyExists, `"mine"`)
	})
	t.Run("takes the file of the inputs for the folder", func(t *testing.T) {
		w.create(&workflow.CreateRunRequest{InputWrapper: &workflow.CreateRunRequest_OffloadedInputData{
			OffloadedInputData: &common.OffloadedInputData{Uri: "s3://meta/y/inputs.pb", InputsHash: "h"}}})
		if got, want := wait(t, plane.enqueued).Action.InputUri, "s3://meta/y/inputs.pb"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})

	large := spec("hello.large")
	large.TaskTemplate.GetContainer().Args = []string{strings.Repeat("x", 5<<20)}
	nameless := spec("")
	inputs := &workflow.CreateRunRequest_OffloadedInputData{OffloadedInputData: &common.OffloadedInputData{Uri: "s3://meta/x", InputsHash: "h"}}
	in := func(id, domain, org string) *workflow.CreateRunRequest_ProjectId {
		return &workflow.CreateRunRequest_ProjectId{ProjectId: &common.ProjectIdentifier{Organization: org, Name: id, Domain: domain}}
	}
	for name, c := range map[string]struct {
		request *workflow.CreateRunRequest
		code    connect.Code
		says    string
	}{
		"refuses a definition of 5 MB":           {&workflow.CreateRunRequest{Task: withSpec(large)}, connect.CodeInvalidArgument, "may have 1048576"},
		"refuses a long name":                    {&workflow.CreateRunRequest{Id: named(strings.Repeat("a", 31))}, connect.CodeInvalidArgument, "at most 30"},
		"refuses a name that begins with a 1":    {&workflow.CreateRunRequest{Id: named("1a")}, connect.CodeInvalidArgument, "begin with a lower-case letter"},
		"refuses a name with capitals":           {&workflow.CreateRunRequest{Id: named("Mine")}, connect.CodeInvalidArgument, "lower-case"},
		"names the command for a project":        {&workflow.CreateRunRequest{Id: in("nope", "development", "")}, connect.CodeNotFound, "flyte create project --id nope --name nope"},
		"names the domains":                      {&workflow.CreateRunRequest{Id: in("flytesnacks", "dev", "")}, connect.CodeInvalidArgument, "development, staging, production"},
		"refuses another organization":           {&workflow.CreateRunRequest{Id: in("flytesnacks", "development", "other")}, connect.CodeNotFound, `"other"`},
		"wants a name of the task":               {&workflow.CreateRunRequest{Task: withSpec(nameless)}, connect.CodeInvalidArgument, "task's name is empty"},
		"does not know a task":                   {&workflow.CreateRunRequest{Task: &workflow.CreateRunRequest_TaskId{TaskId: &task.TaskIdentifier{Project: "flytesnacks", Domain: "development", Name: "hello.none", Version: "v1"}}}, connect.CodeNotFound, "flyte deploy"},
		"refuses a label that no pod could have": {&workflow.CreateRunRequest{RunSpec: &task.RunSpec{Labels: &task.Labels{Values: map[string]string{"a b": "c"}}}}, connect.CodeInvalidArgument, `"a b"`},
		"refuses a concurrency of one":           {&workflow.CreateRunRequest{RunSpec: &task.RunSpec{MaxActionConcurrency: 1}}, connect.CodeInvalidArgument, "at least 2"},
		"refuses inputs that are not in S3":      {&workflow.CreateRunRequest{InputWrapper: &workflow.CreateRunRequest_OffloadedInputData{OffloadedInputData: &common.OffloadedInputData{Uri: "file:///etc/passwd"}}}, connect.CodeInvalidArgument, "s3://BUCKET/KEY"},
		"refuses to recover what is not there":   {&workflow.CreateRunRequest{RunSpec: &task.RunSpec{Relation: &common.Relation{RelationType: common.RelationType_RELATION_TYPE_RECOVER, RelatedTo: &common.RunIdentifier{Name: "gone"}}}}, connect.CodeNotFound, `"gone"`},
		"has no triggers yet":                    {&workflow.CreateRunRequest{Task: &workflow.CreateRunRequest_TriggerName{TriggerName: &common.TriggerName{}}}, connect.CodeUnimplemented, "triggers"},
		"wants to know what is to be run":        {&workflow.CreateRunRequest{RunSpec: &task.RunSpec{}}, connect.CodeInvalidArgument, "neither a task_id nor a task_spec"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.request.Id == nil {
				c.request.Id = &workflow.CreateRunRequest_ProjectId{ProjectId: flytesnacks}
			}
			if c.request.Task == nil && !strings.HasPrefix(name, "wants to know") {
				c.request.Task = withSpec(spec("hello.main"))
			}
			if c.request.InputWrapper == nil {
				c.request.InputWrapper = inputs
			}
			_, err := w.runs().CreateRun(t.Context(), c.request)
			refused(t, err, c.code, c.says)
		})
	}
	t.Run("has handed over none of what it refused", func(t *testing.T) {
		if got := len(plane.enqueued); got != 0 {
			t.Errorf("got %d hand-overs, want none", got)
		}
	})
}

func TestWatch(t *testing.T) { onBoth(t, testWatch) }

func testWatch(t *testing.T, db database) {
	w := newWorld(t, db, "")
	plane := w.join("east")

	for name, options := range map[string][]connect.ClientOption{"Connect": nil, "gRPC": {connect.WithGRPC()}, "gRPC-Web": {connect.WithGRPCWeb()}} {
		t.Run("shows an action as it is, each change, and its end, by "+name, func(t *testing.T) {
			t.Parallel()
			id := w.create(&workflow.CreateRunRequest{}).Action.Id
			stream, err := newRuns(w, options...).WatchActionDetails(t.Context(), &workflow.WatchActionDetailsRequest{ActionId: id})
			if err != nil {
				t.Fatal(err)
			}
			defer stream.Close()
			var phases []common.ActionPhase
			for stream.Receive() {
				details := stream.Msg().Details
				phases = append(phases, details.GetStatus().GetPhase())
				if details.GetTask() == nil {
					t.Error("got no spec, want the task's")
				}
				switch details.GetStatus().GetPhase() {
				case queued:
					plane.report(state(id.Run, 1, running))
				case running:
					plane.report(state(id.Run, 2, succeeded))
				}
			}
			if err := stream.Err(); err != nil {
				t.Fatal(err)
			}
			if len(phases) != 3 || phases[2] != succeeded {
				t.Errorf("got %v, want QUEUED, RUNNING, SUCCEEDED", phases)
			}
			// Watching again what has ended gives the end at once.
			again, err := w.runs().WatchActionDetails(t.Context(), &workflow.WatchActionDetailsRequest{ActionId: id})
			if err != nil {
				t.Fatal(err)
			}
			defer again.Close()
			if !again.Receive() || again.Msg().Details.GetStatus().GetPhase() != succeeded || again.Receive() || again.Err() != nil {
				t.Errorf("got %v, %v, want the end alone", again.Msg(), again.Err())
			}
		})
	}
	t.Run("shows a run", func(t *testing.T) {
		t.Parallel()
		id := w.create(&workflow.CreateRunRequest{RunSpec: &task.RunSpec{Queue: "q"}}).Action.Id
		stream, err := w.runs().WatchRunDetails(t.Context(), &workflow.WatchRunDetailsRequest{RunId: id.Run})
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Close()
		var last *workflow.RunDetails
		for stream.Receive() {
			if last = stream.Msg().Details; last.GetAction().GetStatus().GetPhase() == queued {
				plane.report(state(id.Run, 1, succeeded))
			}
		}
		if stream.Err() != nil || last.GetAction().GetStatus().GetPhase() != succeeded || last.GetRunSpec().GetQueue() != "q" {
			t.Errorf("got %v, %v, want the run, ended", last, stream.Err())
		}
	})
	t.Run("shows the actions of a run, with counts, until all have ended", func(t *testing.T) {
		t.Parallel()
		id := w.create(&workflow.CreateRunRequest{}).Action.Id
		stream, err := w.runs().WatchActions(t.Context(), &workflow.WatchActionsRequest{RunId: id.Run})
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Close()
		child := func(version uint64, phase common.ActionPhase) *tunnelv1.ActionState {
			s := state(id.Run, version, phase)
			s.Id = &common.ActionIdentifier{Run: id.Run, Name: "child"}
			s.Parent = "a0"
			return s
		}
		counts := map[int32]int32{}
		told := false
		for stream.Receive() {
			for _, a := range stream.Msg().EnrichedActions {
				if !a.MeetsFilter {
					t.Errorf("got %v not meeting no filter", a)
				}
				if a.Action.Id.Name == "a0" {
					counts = a.ChildrenPhaseCounts
				}
			}
			if !told {
				told = true
				plane.report(state(id.Run, 1, running), child(1, running), child(2, succeeded), state(id.Run, 2, succeeded))
			}
		}
		if stream.Err() != nil || counts[int32(succeeded)] != 1 {
			t.Errorf("got counts %v, %v, want one child that succeeded", counts, stream.Err())
		}
	})
	t.Run("shows runs, those that are made too", func(t *testing.T) {
		t.Parallel()
		first := w.create(&workflow.CreateRunRequest{}).Action.Id.Run.Name
		stream, err := w.runs().WatchRuns(t.Context(), &workflow.WatchRunsRequest{Target: &workflow.WatchRunsRequest_ProjectId{ProjectId: flytesnacks}})
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Close()
		until := func(name string) {
			for stream.Receive() {
				for _, run := range stream.Msg().Runs {
					if run.Action.Id.Run.Name == name {
						return
					}
				}
			}
			t.Fatalf("got %v, want the run %s", stream.Err(), name)
		}
		until(first)
		until(w.create(&workflow.CreateRunRequest{}).Action.Id.Run.Name)
	})
	t.Run("sums runs up by task, says when it has said all, and goes on", func(t *testing.T) {
		t.Parallel()
		w.create(&workflow.CreateRunRequest{Task: withSpec(spec("groups.main"))})
		stream, err := w.runs().WatchGroups(t.Context(), &workflow.WatchGroupsRequest{
			ScopeBy: &workflow.WatchGroupsRequest_ProjectId{ProjectId: flytesnacks}, StartDate: timestampOf(time.Now().Add(-time.Hour))})
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Close()
		var total int64
		for stream.Receive() && !stream.Msg().Sentinel {
			for _, group := range stream.Msg().TaskGroups {
				if group.TaskName == "groups.main" {
					total = group.TotalRuns
				}
			}
		}
		if stream.Err() != nil || total != 1 {
			t.Errorf("got %d runs, %v, want 1", total, stream.Err())
		}
	})
	t.Run("shows a child with its task, which its data plane sends behind its state", func(t *testing.T) {
		t.Parallel()
		id := w.create(&workflow.CreateRunRequest{}).Action.Id
		definition := spec("hello.child." + id.Run.Name)
		digest, _, err := store.Digest(definition)
		if err != nil {
			t.Fatal(err)
		}
		child := state(id.Run, 1, succeeded) // as from a cache: nothing comes behind it
		child.Id, child.Parent, child.TaskSpecDigest = &common.ActionIdentifier{Run: id.Run, Name: "child"}, "a0", digest
		plane.report(child)
		sent := make(chan error, 1)
		go func() {
			_, err := plane.as("executor").RecordTaskSpecs(t.Context(), &tunnelv1.RecordTaskSpecsRequest{Specs: []*task.TaskSpec{definition}})
			sent <- err
		}()
		stream, err := w.runs().WatchActionDetails(t.Context(), &workflow.WatchActionDetailsRequest{ActionId: child.Id})
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Close()
		if err := wait(t, sent); err != nil {
			t.Fatal(err)
		}
		if !stream.Receive() || stream.Msg().Details.GetTask().GetTaskTemplate().GetId().GetName() != definition.TaskTemplate.Id.Name || stream.Receive() {
			t.Errorf("got %v, %v, want the end with the task, and nothing else", stream.Msg(), stream.Err())
		}
	})
	t.Run("shows a condition until it has its value", func(t *testing.T) {
		t.Parallel()
		id := w.create(&workflow.CreateRunRequest{}).Action.Id
		condition := func(version uint64, phase common.ActionPhase) *tunnelv1.ActionState {
			s := &tunnelv1.ActionState{Id: &common.ActionIdentifier{Run: id.Run, Name: "approval"}, Version: version, Parent: "a0", Name: "approve",
				Type: workflow.ActionType_ACTION_TYPE_CONDITION, Phase: phase, CreatedAt: timestampOf(time.Now()), Condition: &workflow.ConditionAction{Name: "approve"}}
			return s
		}
		paused := condition(1, common.ActionPhase_ACTION_PHASE_PAUSED)
		plane.report(paused)
		stream, err := w.runs().WatchActionDetails(t.Context(), &workflow.WatchActionDetailsRequest{ActionId: paused.Id})
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Close()
		if !stream.Receive() || stream.Msg().Details.GetCondition() == nil {
			t.Fatalf("got %v, %v, want the condition", stream.Msg(), stream.Err())
		}
		plane.report(condition(2, succeeded))
		if !stream.Receive() || stream.Msg().Details.GetStatus().GetPhase() != succeeded || stream.Receive() || stream.Err() != nil {
			t.Errorf("got %v, %v, want its end, and that of the stream", stream.Msg(), stream.Err())
		}
	})
	t.Run("knows no action that is not there", func(t *testing.T) {
		t.Parallel()
		stream, err := w.runs().WatchActionDetails(t.Context(), &workflow.WatchActionDetailsRequest{ActionId: &common.ActionIdentifier{
			Run: &common.RunIdentifier{Project: "flytesnacks", Domain: "development", Name: "gone"}, Name: "a0"}})
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Close()
		stream.Receive()
		refused(t, stream.Err(), connect.CodeNotFound, `"a0"`)
	})
}

func TestTexts(t *testing.T) { onBoth(t, testTexts) }

func testTexts(t *testing.T, db database) {
	w := newWorld(t, db, "")
	plane := w.join("east")
	id := w.create(&workflow.CreateRunRequest{}).Action.Id
	plane.report(state(id.Run, 1, failed))
	get := func() *workflow.ActionDetails {
		t.Helper()
		got, err := w.runs().GetActionDetails(t.Context(), &workflow.GetActionDetailsRequest{ActionId: id})
		if err != nil {
			t.Fatal(err)
		}
		return got.Details
	}

	t.Run("says that there is no message", func(t *testing.T) {
		if got := get().GetErrorInfo(); !strings.HasPrefix(got.GetMessage(), "ValueError: the data plane has no message") || got.GetKind() != workflow.ErrorInfo_KIND_USER {
			t.Errorf("got %v, want the code, and that there is no message", got)
		}
	})
	t.Run("reads the message through from the data plane", func(t *testing.T) {
		plane.mu.Lock()
		plane.texts["a0"] = &dataplanev1.GetActionTextsResponse{ErrorMessage: "x must be positive", Attempts: []*dataplanev1.AttemptTexts{{
			Attempt: 1, ErrorMessage: "of the attempt", ClusterEvents: []*workflow.ClusterEvent{{Message: "pulled"}},
		}}}
		plane.mu.Unlock()
		got := get()
		if got, want := got.GetErrorInfo().GetMessage(), "x must be positive"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if got, want := got.Attempts[0].GetErrorInfo().GetMessage(), "of the attempt"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if got := got.Attempts[0].ClusterEvents; len(got) != 1 {
			t.Errorf("got %d events, want 1", len(got))
		}
		run, err := w.runs().GetRunDetails(t.Context(), &workflow.GetRunDetailsRequest{RunId: id.Run})
		if err != nil {
			t.Fatal(err)
		}
		if got, want := run.Details.Action.GetErrorInfo().GetMessage(), "x must be positive"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		stream, err := w.runs().WatchClusterEvents(t.Context(), &workflow.WatchClusterEventsRequest{Id: id, Attempt: 1})
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Close()
		if !stream.Receive() || len(stream.Msg().ClusterEvents) != 1 || stream.Receive() || stream.Err() != nil {
			t.Errorf("got %v, %v, want one event and the end", stream.Msg(), stream.Err())
		}
	})
	t.Run("says what an action waits for that has no pod yet", func(t *testing.T) {
		id := w.create(&workflow.CreateRunRequest{}).Action.Id
		plane.mu.Lock()
		plane.texts["a0"] = &dataplanev1.GetActionTextsResponse{Attempts: []*dataplanev1.AttemptTexts{{
			Attempt: 1, ClusterEvents: []*workflow.ClusterEvent{{Message: "exceeded quota"}},
		}}}
		plane.mu.Unlock()
		run, err := w.runs().GetRunDetails(t.Context(), &workflow.GetRunDetailsRequest{RunId: id.Run})
		if err != nil {
			t.Fatal(err)
		}
		got := run.Details.Action
		if len(got.Attempts) != 1 || len(got.Attempts[0].ClusterEvents) != 1 || got.Attempts[0].Phase != got.Status.Phase {
			t.Errorf("got %v, want an attempt that says what it waits for", got.Attempts)
		}
	})
	t.Run("says that the data plane cannot be reached", func(t *testing.T) {
		plane.leave()
		if got := get().GetErrorInfo().GetMessage(); got != "ValueError: kept in the data plane, which cannot be reached now" {
			t.Errorf("got %q", got)
		}
	})
}

// TestAtRest looks for all that a customer's clients and data plane say in the
// database's file and in the log, which tells everything there is to tell.
func TestAtRest(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqlite, "")
	plane := w.join("east")
	text := func(value string) *core.Literal {
		return &core.Literal{Value: &core.Literal_Scalar{Scalar: &core.Scalar{Value: &core.Scalar_Primitive{Primitive: &core.Primitive{Value: &core.Primitive_StringValue{StringValue: value}}}}}}
	}
	inputs := &task.Inputs{Literals: []*task.NamedLiteral{{Name: "x", Value: text("<secret input>")}}}
	id := w.create(&workflow.CreateRunRequest{InputWrapper: &workflow.CreateRunRequest_Inputs{Inputs: inputs}}).Action.Id
	if _, err := w.data().UploadInputs(t.Context(), &dataproxy.UploadInputsRequest{Id: &dataproxy.UploadInputsRequest_ProjectId{ProjectId: flytesnacks}, Inputs: inputs}); err != nil {
		t.Fatal(err)
	}
	approval := &common.ActionIdentifier{Run: id.Run, Name: "approval"}
	end := state(id.Run, 1, failed)
	end.ErrorCode = "<secret code>, which is a sentence"
	end.Attempts[0].ErrorInfo.Message = "<secret error>"
	end.Attempts[0].ClusterEvents = []*workflow.ClusterEvent{{Message: "<secret event>"}}
	plane.report(&tunnelv1.ActionState{
		Id: approval, Version: 1, Parent: "a0", Type: workflow.ActionType_ACTION_TYPE_CONDITION, Name: "approve",
		Phase: common.ActionPhase_ACTION_PHASE_PAUSED, CreatedAt: timestampOf(time.Now()),
		Condition: &workflow.ConditionAction{Name: "approve", Type: &core.LiteralType{Type: &core.LiteralType_Simple{Simple: core.SimpleType_STRING}}},
	})
	if _, err := w.runs().SignalEvent(t.Context(), &workflow.SignalEventRequest{
		ActionId: approval, Payload: &workflow.EventPayload{Value: &workflow.EventPayload_StringValue{StringValue: "<secret value>"}}}); err != nil {
		t.Fatal(err)
	}
	plane.report(end)
	plane.mu.Lock()
	plane.texts["a0"] = &dataplanev1.GetActionTextsResponse{ErrorMessage: "<secret error>", Attempts: []*dataplanev1.AttemptTexts{{
		Attempt: 1, ErrorMessage: "<secret error>", ClusterEvents: []*workflow.ClusterEvent{{Message: "<secret event>"}}}}}
	plane.mu.Unlock()
	details, err := w.runs().GetActionDetails(t.Context(), &workflow.GetActionDetailsRequest{ActionId: id})
	if err != nil || details.Details.GetErrorInfo().GetMessage() != "<secret error>" {
		t.Fatalf("got %v, %v, want the message read through", details, err)
	}
	stream, err := w.data().TailLogs(t.Context(), &dataproxy.TailLogsRequest{ActionId: id, Attempt: 1}) // of three lines
	if err != nil {
		t.Fatal(err)
	}
	for stream.Receive() {
	}
	stream.Close()

	kept := map[string]string{"the log": w.logged()}
	err = filepath.WalkDir(filepath.Dir(w.file), func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			content, readErr := os.ReadFile(path)
			kept[path], err = string(content), readErr
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for where, content := range kept {
		found = found || strings.Contains(content, "hello.main") // the task's name, which is kept
		for _, text := range []string{"<secret", "line 1\n"} {
			if strings.Contains(content, text) {
				t.Errorf("got %q in %s, want it nowhere", text, where)
			}
		}
	}
	if !found {
		t.Error("got the task's name nowhere, want it in the database")
	}
}

func TestAbort(t *testing.T) { onBoth(t, testAbort) }

func testAbort(t *testing.T, db database) {
	w := newWorld(t, db, "")
	plane := w.join("east")
	id := w.create(&workflow.CreateRunRequest{}).Action.Id
	wait(t, plane.enqueued)
	for range 2 { // the second time changes nothing
		if _, err := w.runs().AbortRun(t.Context(), &workflow.AbortRunRequest{RunId: id.Run, Reason: proto.String("enough")}); err != nil {
			t.Fatal(err)
		}
	}
	got, err := w.runs().GetActionDetails(t.Context(), &workflow.GetActionDetailsRequest{ActionId: id})
	if err != nil {
		t.Fatal(err)
	}
	if got.Details.Status.Phase != aborted || got.Details.GetAbortInfo().GetReason() != "enough" {
		t.Errorf("got %v, want it aborted, and why", got.Details)
	}
	if got := wait(t, plane.aborted); got.GetReason() != "enough" || got.GetActionId().GetName() != "a0" {
		t.Errorf("got %v handed over, want the abort of the root", got)
	}
	_, err = w.runs().AbortRun(t.Context(), &workflow.AbortRunRequest{RunId: &common.RunIdentifier{Project: "flytesnacks", Domain: "development", Name: "gone"}})
	refused(t, err, connect.CodeNotFound, `"gone"`)
	_, err = w.runs().AbortAction(t.Context(), &workflow.AbortActionRequest{ActionId: &common.ActionIdentifier{Run: id.Run, Name: "none"}})
	refused(t, err, connect.CodeNotFound, `"none"`)
}

func TestSignal(t *testing.T) { onBoth(t, testSignal) }

func testSignal(t *testing.T, db database) {
	w := newWorld(t, db, "")
	plane := w.join("east")
	id := w.create(&workflow.CreateRunRequest{}).Action.Id
	condition := &common.ActionIdentifier{Run: id.Run, Name: "approval"}
	plane.report(state(id.Run, 1, running), &tunnelv1.ActionState{
		Id: condition, Version: 1, Parent: "a0", Type: workflow.ActionType_ACTION_TYPE_CONDITION, Name: "approve",
		Phase: common.ActionPhase_ACTION_PHASE_PAUSED, CreatedAt: timestampOf(time.Now()),
		Condition: &workflow.ConditionAction{Name: "approve", Type: &core.LiteralType{Type: &core.LiteralType_Simple{Simple: core.SimpleType_BOOLEAN}}},
	})
	yes := &workflow.EventPayload{Value: &workflow.EventPayload_BoolValue{BoolValue: true}}

	t.Run("passes the value on", func(t *testing.T) {
		if _, err := w.runs().SignalEvent(t.Context(), &workflow.SignalEventRequest{ActionId: condition, ParentActionName: "a0", Payload: yes}); err != nil {
			t.Fatal(err)
		}
		got := wait(t, plane.signals)
		if !got.GetValue().GetScalar().GetPrimitive().GetBoolean() || got.GetParentActionName() != "a0" {
			t.Errorf("got %v, want true", got)
		}
	})
	t.Run("refuses a value of another type", func(t *testing.T) {
		_, err := w.runs().SignalEvent(t.Context(), &workflow.SignalEventRequest{ActionId: condition, Payload: &workflow.EventPayload{Value: &workflow.EventPayload_StringValue{StringValue: "yes"}}})
		refused(t, err, connect.CodeInvalidArgument, "BOOLEAN")
	})
	t.Run("refuses another parent", func(t *testing.T) {
		_, err := w.runs().SignalEvent(t.Context(), &workflow.SignalEventRequest{ActionId: condition, ParentActionName: "a1", Payload: yes})
		refused(t, err, connect.CodeInvalidArgument, "a1")
	})
	t.Run("refuses what is no condition", func(t *testing.T) {
		_, err := w.runs().SignalEvent(t.Context(), &workflow.SignalEventRequest{ActionId: id, Payload: yes})
		refused(t, err, connect.CodeFailedPrecondition, "not a condition")
	})
	t.Run("says in a list of which type it is", func(t *testing.T) {
		got, err := w.runs().ListActions(t.Context(), &workflow.ListActionsRequest{RunId: id.Run, Request: &common.ListRequest{
			Filters: []*common.Filter{{Field: "action_type", Values: []string{"3"}}, {Field: "parent_name", Values: []string{"a0"}}}}})
		if err != nil || len(got.GetActions()) != 1 || got.Actions[0].GetMetadata().GetCondition().GetType().GetSimple() != core.SimpleType_BOOLEAN {
			t.Errorf("got %v, %v, want the condition, of type BOOLEAN", got, err)
		}
	})
	t.Run("lists the runs that wait for one", func(t *testing.T) {
		got, err := w.runs().ListRuns(t.Context(), &workflow.ListRunsRequest{ScopeBy: &workflow.ListRunsRequest_ProjectId{ProjectId: flytesnacks}, PausedActionsOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Runs) != 1 {
			t.Errorf("got %d runs, want 1", len(got.Runs))
		}
	})
	t.Run("refuses one that has ended, and one that cannot be reached", func(t *testing.T) {
		plane.leave()
		_, err := w.runs().SignalEvent(t.Context(), &workflow.SignalEventRequest{ActionId: condition, Payload: yes})
		refused(t, err, connect.CodeUnavailable, `"east" cannot be reached now`)
		if _, err := w.runs().AbortRun(t.Context(), &workflow.AbortRunRequest{RunId: id.Run}); err != nil {
			t.Fatal(err)
		}
		_, err = w.runs().SignalEvent(t.Context(), &workflow.SignalEventRequest{ActionId: condition, Payload: yes})
		refused(t, err, connect.CodeFailedPrecondition, "ABORTED")
	})
}

func TestListRuns(t *testing.T) { onBoth(t, testListRuns) }

func testListRuns(t *testing.T, db database) {
	w := newWorld(t, db, "")
	plane := w.join("east")
	var ids []*common.RunIdentifier
	for range 3 {
		ids = append(ids, w.create(&workflow.CreateRunRequest{RunSpec: &task.RunSpec{Labels: &task.Labels{Values: map[string]string{"team": "ml"}}}}).Action.Id.Run)
	}
	plane.report(state(ids[1], 1, failed))
	list := func(request *common.ListRequest) ([]string, string, error) {
		got, err := w.runs().ListRuns(t.Context(), &workflow.ListRunsRequest{Request: request, ScopeBy: &workflow.ListRunsRequest_ProjectId{ProjectId: flytesnacks}})
		var names []string
		for _, run := range got.GetRuns() {
			names = append(names, run.Action.Id.Run.Name)
			if run.Labels["team"] != "ml" {
				t.Errorf("got labels %v, want those of the run", run.Labels)
			}
		}
		return names, got.GetToken(), err
	}
	t.Run("pages, in the order asked for", func(t *testing.T) {
		newest := []*common.Sort{{Key: "created_at", Direction: common.Sort_DESCENDING}}
		first, token, err := list(&common.ListRequest{Limit: 2, SortByFields: newest})
		if err != nil || len(first) != 2 || first[0] != ids[2].Name || token == "" {
			t.Fatalf("got %v, %q, %v, want the two newest", first, token, err)
		}
		second, token, err := list(&common.ListRequest{Limit: 2, SortByFields: newest, Token: token})
		if err != nil || len(second) != 1 || second[0] != ids[0].Name || token != "" {
			t.Errorf("got %v, %q, %v, want the oldest and no more", second, token, err)
		}
	})
	t.Run("filters by phase as the SDK writes it", func(t *testing.T) {
		got, _, err := list(&common.ListRequest{Filters: []*common.Filter{{Function: common.Filter_VALUE_IN, Field: "phase", Values: []string{"6"}}}})
		if err != nil || len(got) != 1 || got[0] != ids[1].Name {
			t.Errorf("got %v, %v, want the one that failed", got, err)
		}
	})
	t.Run("filters by a label", func(t *testing.T) {
		got, _, err := list(&common.ListRequest{Filters: []*common.Filter{{Function: common.Filter_EQUAL, Field: "labels.team", Values: []string{"ops"}}}})
		if err != nil || len(got) != 0 {
			t.Errorf("got %v, %v, want none", got, err)
		}
	})
	t.Run("says what is wrong with a filter", func(t *testing.T) {
		_, _, err := list(&common.ListRequest{Filters: []*common.Filter{{Function: common.Filter_EQUAL, Field: "nonsense", Values: []string{"1"}}}})
		refused(t, err, connect.CodeInvalidArgument, "nonsense")
	})
	t.Run("takes every filter that the SDK can write", func(t *testing.T) {
		for name, c := range map[string]struct {
			filter *common.Filter
			want   int
		}{
			"a label that is there":        {&common.Filter{Function: common.Filter_EXISTS, Field: "labels.team"}, 3},
			"a label that is not":          {&common.Filter{Function: common.Filter_EXISTS, Field: "labels.none"}, 0},
			"who made it":                  {&common.Filter{Function: common.Filter_EQUAL, Field: "created_by", Values: []string{"ada"}}, 0},
			"a task":                       {&common.Filter{Function: common.Filter_EQUAL, Field: "task_name", Values: []string{"hello.main"}}, 3},
			"a version":                    {&common.Filter{Function: common.Filter_EQUAL, Field: "task_version", Values: []string{"v2"}}, 0},
			"since a time, as Python says": {&common.Filter{Function: common.Filter_GREATER_THAN_OR_EQUAL, Field: "created_at", Values: []string{"2026-01-31T15:04:05.123456+00:00"}}, 3},
			"changed before a time":        {&common.Filter{Function: common.Filter_LESS_THAN, Field: "updated_at", Values: []string{"2026-01-31T15:04:05+00:00"}}, 0},
			"a phase, taken for letters":   {&common.Filter{Function: common.Filter_VALUE_IN, Field: "phase", Values: []string{"1", "0"}}, 0},
		} {
			got, _, err := list(&common.ListRequest{Filters: []*common.Filter{c.filter}})
			if err != nil || len(got) != c.want {
				t.Errorf("got %v, %v by %s, want %d", got, err, name, c.want)
			}
		}
	})
	t.Run("takes a page of any size, and no token of another list", func(t *testing.T) {
		got, _, err := list(&common.ListRequest{Limit: 1 << 31})
		if err != nil || len(got) != 3 {
			t.Errorf("got %v, %v, want all three", got, err)
		}
		_, token, err := list(&common.ListRequest{Limit: 1})
		if err != nil || token == "" {
			t.Fatalf("got %q, %v, want a token", token, err)
		}
		for _, request := range []*common.ListRequest{
			{Token: "nonsense"}, {Token: token, SortByFields: []*common.Sort{{Key: "name"}}}, {Token: token[1:]},
		} {
			_, _, err := list(request)
			refused(t, err, connect.CodeInvalidArgument, "page token")
		}
		_, err = w.runs().ListActions(t.Context(), &workflow.ListActionsRequest{RunId: ids[0], Request: &common.ListRequest{Token: token}})
		refused(t, err, connect.CodeInvalidArgument, "page token")
		_, _, err = list(&common.ListRequest{RawFilters: []string{"phase = 6"}})
		refused(t, err, connect.CodeInvalidArgument, "raw_filters")
		_, _, err = list(&common.ListRequest{SortByFields: []*common.Sort{{Key: "colour"}}})
		refused(t, err, connect.CodeInvalidArgument, "created_at")
	})
	t.Run("lists the runs of a task, of a version, of an organization", func(t *testing.T) {
		for name, c := range map[string]struct {
			request *workflow.ListRunsRequest
			want    int
		}{
			"a task":          {&workflow.ListRunsRequest{ScopeBy: &workflow.ListRunsRequest_TaskName{TaskName: &task.TaskName{Project: "flytesnacks", Domain: "development", Name: "hello.main"}}}, 3},
			"another task":    {&workflow.ListRunsRequest{ScopeBy: &workflow.ListRunsRequest_TaskName{TaskName: &task.TaskName{Project: "flytesnacks", Domain: "development", Name: "hello.other"}}}, 0},
			"a version":       {&workflow.ListRunsRequest{ScopeBy: &workflow.ListRunsRequest_TaskId{TaskId: &task.TaskIdentifier{Project: "flytesnacks", Domain: "development", Name: "hello.main", Version: "v1"}}}, 3},
			"an organization": {&workflow.ListRunsRequest{ScopeBy: &workflow.ListRunsRequest_Org{Org: "default"}}, 3},
			"the only one":    {&workflow.ListRunsRequest{}, 3},
		} {
			got, err := w.runs().ListRuns(t.Context(), c.request)
			if err != nil || len(got.GetRuns()) != c.want {
				t.Errorf("got %d runs of %s, %v, want %d", len(got.GetRuns()), name, err, c.want)
			}
		}
	})
	t.Run("lists the actions of a run", func(t *testing.T) {
		got, err := w.runs().ListActions(t.Context(), &workflow.ListActionsRequest{RunId: ids[0]})
		if err != nil || len(got.Actions) != 1 || got.Actions[0].Id.Name != "a0" {
			t.Errorf("got %v, %v, want the root", got, err)
		}
		_, err = w.runs().ListActions(t.Context(), &workflow.ListActionsRequest{RunId: &common.RunIdentifier{Project: "flytesnacks", Domain: "development", Name: "gone"}})
		refused(t, err, connect.CodeNotFound, `"gone"`)
	})
	t.Run("has nothing end before it began, though a data plane counts in seconds", func(t *testing.T) {
		ended := state(ids[2], 1, succeeded)
		ended.EndedAt = timestampOf(time.Now().Add(-time.Minute).Truncate(time.Second))
		plane.report(ended)
		got, err := w.runs().GetRunDetails(t.Context(), &workflow.GetRunDetailsRequest{RunId: ids[2]})
		if err != nil {
			t.Fatal(err)
		}
		if s := got.Details.Action.Status; s.EndTime.AsTime().Before(s.StartTime.AsTime()) || s.GetDurationMs() != 0 {
			t.Errorf("got %v, want no time between", s)
		}
	})
	t.Run("says where data is", func(t *testing.T) {
		plane.report(state(ids[0], 1, succeeded))
		got, err := w.runs().GetActionDataURIs(t.Context(), &workflow.GetActionDataURIsRequest{ActionId: &common.ActionIdentifier{Run: ids[0], Name: "a0"}})
		if err != nil || got.InputsUri != "s3://meta/uploads/x/inputs.pb" || !strings.HasSuffix(got.OutputsUri, "/a0/1/outputs.pb") {
			t.Errorf("got %v, %v, want both files", got, err)
		}
	})
}

func TestRestart(t *testing.T) { onBoth(t, testRestart) }

func testRestart(t *testing.T, db database) {
	w := newWorld(t, db, "")
	plane := w.join("east")
	plane.leave()
	id := w.create(&workflow.CreateRunRequest{}).Action.Id // nobody is there to take it
	if got := w.stop(); got != 0 {
		t.Fatalf("got exit status %d, want 0", got)
	}

	again := startWorld(t, w.file)
	stream, err := again.runs().WatchActionDetails(t.Context(), &workflow.WatchActionDetailsRequest{ActionId: id})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	if !stream.Receive() || stream.Msg().Details.GetStatus().GetPhase() != queued {
		t.Fatalf("got %v, %v, want the run as it was", stream.Msg(), stream.Err())
	}
	plane.dial(again)
	if got := wait(t, plane.enqueued).Action.ActionId; !proto.Equal(got, id) {
		t.Errorf("got %v handed over, want %v", got, id)
	}
	plane.report(state(id.Run, 1, succeeded))
	if !stream.Receive() || stream.Msg().Details.GetStatus().GetPhase() != succeeded {
		t.Errorf("got %v, %v, want the end", stream.Msg(), stream.Err())
	}
}

// TestTwoServers has every kind of watch on one server see what the other one
// records.
func TestTwoServers(t *testing.T) {
	t.Parallel()
	one := postgres(t)
	same := func(*testing.T) string { return one }
	first := newWorld(t, same, "")
	second := newWorld(t, same, "")
	plane := first.join("east")
	id := second.create(&workflow.CreateRunRequest{}).Action.Id
	if got := wait(t, plane.enqueued).Action.ActionId; !proto.Equal(got, id) {
		t.Errorf("got %v handed over, want %v", got, id)
	}
	// What each shows of the root's phase, as it comes.
	watches := map[string]chan common.ActionPhase{}
	ctx, cancel := context.WithCancel(t.Context())
	var reading sync.WaitGroup
	t.Cleanup(func() { cancel(); reading.Wait() })
	shown := func(name string) func(common.ActionPhase) {
		phases := make(chan common.ActionPhase, 1000)
		watches[name] = phases
		return func(phase common.ActionPhase) { phases <- phase }
	}
	details, err := second.runs().WatchActionDetails(ctx, &workflow.WatchActionDetailsRequest{ActionId: id})
	follow(t, &reading, details, err, shown("the action"), func(m *workflow.WatchActionDetailsResponse) []common.ActionPhase {
		return []common.ActionPhase{m.GetDetails().GetStatus().GetPhase()}
	})
	run, err := second.runs().WatchRunDetails(ctx, &workflow.WatchRunDetailsRequest{RunId: id.Run})
	follow(t, &reading, run, err, shown("the run"), func(m *workflow.WatchRunDetailsResponse) []common.ActionPhase {
		return []common.ActionPhase{m.GetDetails().GetAction().GetStatus().GetPhase()}
	})
	actions, err := second.runs().WatchActions(ctx, &workflow.WatchActionsRequest{RunId: id.Run})
	follow(t, &reading, actions, err, shown("the actions"), func(m *workflow.WatchActionsResponse) (phases []common.ActionPhase) {
		for _, a := range m.GetEnrichedActions() {
			phases = append(phases, a.GetAction().GetStatus().GetPhase())
		}
		return phases
	})
	runs, err := second.runs().WatchRuns(ctx, &workflow.WatchRunsRequest{Target: &workflow.WatchRunsRequest_Org{Org: "default"}})
	follow(t, &reading, runs, err, shown("the runs"), func(m *workflow.WatchRunsResponse) (phases []common.ActionPhase) {
		for _, r := range m.GetRuns() {
			phases = append(phases, r.GetAction().GetStatus().GetPhase())
		}
		return phases
	})
	groups, err := second.runs().WatchGroups(ctx, &workflow.WatchGroupsRequest{
		ScopeBy: &workflow.WatchGroupsRequest_ProjectId{ProjectId: flytesnacks}, StartDate: timestampOf(time.Now().Add(-time.Hour))})
	follow(t, &reading, groups, err, shown("the groups"), func(m *workflow.WatchGroupsResponse) (phases []common.ActionPhase) {
		for _, g := range m.GetTaskGroups() {
			for _, count := range g.GetPhaseCounts() {
				phases = append(phases, count.GetPhase())
			}
		}
		return phases
	})
	for name, phases := range watches {
		if got := wait(t, phases); got != queued {
			t.Errorf("got %v from the watch of %s at first, want %v", got, name, queued)
		}
	}
	plane.report(state(id.Run, 1, succeeded))
	for name, phases := range watches {
		if got := wait(t, phases); got != succeeded {
			t.Errorf("got %v from the watch of %s, want %v", got, name, succeeded)
		}
	}
}

// follow reads a stream until it ends.
func follow[M any](t *testing.T, reading *sync.WaitGroup, stream *connect.ServerStreamForClient[M], err error, show func(common.ActionPhase), read func(*M) []common.ActionPhase) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	reading.Go(func() {
		defer stream.Close()
		for stream.Receive() {
			for _, phase := range read(stream.Msg()) {
				show(phase)
			}
		}
	})
}

// TestDatabaseAway has the database vanish for a while: nothing is lost by it, and
// what cannot be answered meanwhile is to be asked again.
func TestDatabaseAway(t *testing.T) {
	t.Parallel()
	name := storetest.Name(postgresServer.NewDatabase(t))
	wire := newWire(t, postgresServer.Socket())
	w := newWorld(t, func(*testing.T) string {
		return "database: {url: 'postgres://biplane@" + wire.address() + "/" + name + "?sslmode=disable'}\n"
	}, "")
	plane := w.join("east")
	id := w.create(&workflow.CreateRunRequest{}).Action.Id
	stream, err := w.runs().WatchActionDetails(t.Context(), &workflow.WatchActionDetailsRequest{ActionId: id})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	if !stream.Receive() {
		t.Fatal(stream.Err())
	}
	wire.cut()
	_, err = w.runs().GetRunDetails(t.Context(), &workflow.GetRunDetailsRequest{RunId: id.Run})
	refused(t, err, connect.CodeUnavailable, "database cannot be reached")
	_, err = w.projects().CreateProject(t.Context(), &project.CreateProjectRequest{Project: &project.Project{Id: "meanwhile"}})
	refused(t, err, connect.CodeUnavailable, "database cannot be reached")
	for range 3 {
		if got := w.ready(); got != http.StatusServiceUnavailable {
			t.Errorf("got %d from /readyz, want %d", got, http.StatusServiceUnavailable)
		}
	}
	wire.restore()
	if _, err := w.runs().GetRunDetails(t.Context(), &workflow.GetRunDetailsRequest{RunId: id.Run}); err != nil {
		t.Errorf("got %v, want the run again", err)
	}
	plane.report(state(id.Run, 1, succeeded))
	if !stream.Receive() || stream.Msg().Details.GetStatus().GetPhase() != succeeded {
		t.Errorf("got %v, %v, want the end on the stream that was there before", stream.Msg(), stream.Err())
	}
	if got := w.ready(); got != http.StatusOK {
		t.Errorf("got %d from /readyz, want %d", got, http.StatusOK)
	}
	if got := strings.Count(w.logged(), `"not ready"`); got != 1 {
		t.Errorf("got %d lines about it in the log, want 1, however often it is asked", got)
	}
}

func TestRetention(t *testing.T) { onBoth(t, testRetention) }

func testRetention(t *testing.T, db database) {
	w := newWorld(t, db, "retention: {runs: 1h}\n")
	plane := w.join("east")
	old, recent := w.create(&workflow.CreateRunRequest{}).Action.Id, w.create(&workflow.CreateRunRequest{}).Action.Id
	long := state(old.Run, 1, succeeded)
	long.EndedAt = timestampOf(time.Now().Add(-2 * time.Hour))
	plane.report(long, state(recent.Run, 1, succeeded))
	if got := w.stop(); got != 0 {
		t.Fatalf("got exit status %d, want 0", got)
	}
	again := startWorld(t, w.file) // which prunes at its start
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		_, err := again.runs().GetRunDetails(t.Context(), &workflow.GetRunDetailsRequest{RunId: old.Run})
		if connect.CodeOf(err) == connect.CodeNotFound {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("got %v, want the run that ended two hours ago to go", err)
		}
	}
	if _, err := again.runs().GetRunDetails(t.Context(), &workflow.GetRunDetailsRequest{RunId: recent.Run}); err != nil {
		t.Errorf("got %v, want the run that ended now", err)
	}
}
