package proxy

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"biplane.dev/biplane/api/gen/flyteidl2/common"
	"biplane.dev/biplane/api/gen/flyteidl2/dataproxy"
	"biplane.dev/biplane/api/gen/flyteidl2/logs/dataplane"
	"biplane.dev/biplane/dataplane/api/v1alpha1"
	"biplane.dev/biplane/dataplane/internal/record"
)

// pod runs a shell script, as the pod of an action's first attempt.
func (p *plane) pod(t *testing.T, name, script string, change ...func(*corev1.Pod)) *corev1.Pod {
	t.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: p.workspace.Name, Name: name},
		Spec: corev1.PodSpec{
			ServiceAccountName: "tasks", RestartPolicy: corev1.RestartPolicyNever, TerminationGracePeriodSeconds: new(int64),
			Containers: []corev1.Container{{Name: "main", Image: "host", Command: []string{"/bin/sh", "-c", script}}},
		},
	}
	for _, c := range change {
		c(pod)
	}
	if err := sandbox.Client.Create(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	return pod
}

// attempt is the first one, in a pod.
func attempt(pod *corev1.Pod) v1alpha1.TaskActionStatus {
	return v1alpha1.TaskActionStatus{Phase: v1alpha1.Running, Attempts: []v1alpha1.Attempt{{
		Number: 1, Phase: v1alpha1.Running, Pod: pod.Name, PodUID: string(pod.UID), Container: "main",
	}}}
}

// ended waits until a pod has.
func (p *plane) ended(t *testing.T, name string) {
	t.Helper()
	p.eventually(t, "the pod to end", func() bool {
		pod := &corev1.Pod{}
		err := sandbox.Client.Get(t.Context(), client.ObjectKey{Namespace: p.workspace.Name, Name: name}, pod)
		return err == nil && (pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed)
	})
}

func (p *plane) eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); {
		if time.Now().After(deadline) {
			t.Fatalf("got no end of waiting for %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// keep writes the log of a pod, with more at its end, where the executor keeps it,
// and removes the pod.
func (p *plane) keep(t *testing.T, a *v1alpha1.TaskAction, more string, containers ...string) {
	t.Helper()
	clientset, err := kubernetes.NewForConfig(sandbox.Config)
	if err != nil {
		t.Fatal(err)
	}
	pod := a.Status.Attempts[0].Pod
	for _, c := range containers {
		body, err := clientset.CoreV1().Pods(p.workspace.Name).GetLogs(pod, &corev1.PodLogOptions{Container: c, Timestamps: true}).Stream(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		log, err := io.ReadAll(body)
		body.Close()
		if err != nil {
			t.Fatal(err)
		}
		p.put(t, "persisted-logs/"+p.runKey(a.Spec.Run)+"/"+a.Spec.Action+"/1/"+pod+"/"+c+".log", append(log, more...))
	}
	a.Status.Phase = v1alpha1.Succeeded
	a.Status.Attempts[0].Phase, a.Status.Attempts[0].LogsKept = v1alpha1.Succeeded, true
	p.update(t, a)
	if err := clientset.CoreV1().Pods(p.workspace.Name).Delete(t.Context(), pod, metav1.DeleteOptions{GracePeriodSeconds: new(int64)}); err != nil {
		t.Fatal(err)
	}
	p.eventually(t, "the pod to go", func() bool {
		return apierrors.IsNotFound(sandbox.Client.Get(t.Context(), client.ObjectKey{Namespace: p.workspace.Name, Name: pod}, &corev1.Pod{}))
	})
}

// tailing is a stream that is read.
type tailing struct {
	stream *connect.ServerStreamForClient[dataproxy.TailLogsResponse]
	lines  []*dataplane.LogLine
	of     []*dataplane.ContainerIdentifier // of each line
}

func (p *plane) tail(t *testing.T, id *common.ActionIdentifier, change ...func(*dataproxy.TailLogsRequest)) *tailing {
	t.Helper()
	request := &dataproxy.TailLogsRequest{ActionId: id, Attempt: 1}
	for _, c := range change {
		c(request)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	stream, err := p.proxy(p.operator()).TailLogs(ctx, request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stream.Close() })
	return &tailing{stream: stream}
}

// more reads one message that has lines.
func (s *tailing) more() bool {
	for more := true; more; more = len(s.stream.Msg().GetLogs()) == 0 {
		if !s.stream.Receive() {
			return false
		}
	}
	for _, l := range s.stream.Msg().GetLogs() {
		for _, line := range l.GetLines() {
			s.lines, s.of = append(s.lines, line), append(s.of, l.GetContainer())
		}
	}
	return true
}

// text reads to the end.
func (s *tailing) text() (string, error) {
	for s.more() {
	}
	var b strings.Builder
	for _, l := range s.lines {
		b.WriteString(l.GetMessage())
	}
	return b.String(), s.stream.Err()
}

func numbers(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "%d\n", i+1)
	}
	return b.String()
}

func TestTailLogs(t *testing.T) {
	t.Parallel()
	p := start(t)

	t.Run("it sends a thousand lines in order, and ends", func(t *testing.T) {
		t.Parallel()
		pod := p.pod(t, "thousand", "i=0; while [ $i -lt 1000 ]; do i=$((i+1)); echo $i; done")
		p.taskAction(t, "thousand", "a0", attempt(pod))
		s := p.tail(t, p.action("thousand", "a0"))
		if got, err := s.text(); err != nil || got != numbers(1000) {
			t.Fatalf("got %d lines, %v, want 1000", strings.Count(got, "\n"), err)
		}
		first := s.lines[0]
		if first.GetOriginator() != dataplane.LogLineOriginator_USER || time.Since(first.GetTimestamp().AsTime()) > time.Hour {
			t.Errorf("got %v, want a line of the user's, of now", first)
		}
		if of := s.of[0]; of.GetClusterName() != "here" || of.GetKubernetesNamespace() != p.workspace.Name || of.GetKubernetesPodName() != "thousand" || of.GetKubernetesContainerName() != "main" {
			t.Errorf("got %v, want the container", of)
		}
	})

	t.Run("it sends a line in which there are other bytes than text", func(t *testing.T) {
		t.Parallel()
		pod := p.pod(t, "bytes", `printf 'before\nbad \377\376 bytes, \342\230\203\nafter\n'`)
		p.taskAction(t, "bytes", "a0", attempt(pod))
		got, err := p.tail(t, p.action("bytes", "a0")).text()
		if want := "before\nbad \uFFFD bytes, ☃\nafter\n"; err != nil || got != want {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	})

	t.Run("it sends lines while they are written", func(t *testing.T) {
		t.Parallel()
		pod := p.pod(t, "live", "echo first; sleep 600")
		p.taskAction(t, "live", "a0", attempt(pod))
		s := p.tail(t, p.action("live", "a0"))
		if !s.more() || s.lines[0].GetMessage() != "first\n" {
			t.Errorf("got %v, %v, want the first line while its container runs", s.lines, s.stream.Err())
		}
	})

	t.Run("it waits for the attempt, its pod and its container", func(t *testing.T) {
		t.Parallel()
		a := p.taskAction(t, "patient", "a0", v1alpha1.TaskActionStatus{Phase: v1alpha1.Queued})
		s := p.tail(t, p.action("patient", "a0"))
		done := make(chan struct{})
		var got string
		var err error
		go func() {
			defer close(done)
			got, err = s.text()
		}()
		a.Status = attempt(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "patient"}})
		p.update(t, a)
		p.pod(t, "patient", "echo started")
		<-done
		if err != nil || got != "started\n" {
			t.Errorf("got %q, %v, want the line", got, err)
		}
	})

	t.Run("it goes on with what was kept, with no line lost and none twice", func(t *testing.T) {
		t.Parallel()
		pod := p.pod(t, "moving", "seq 1 1000; sleep 600")
		a := p.taskAction(t, "moving", "a0", attempt(pod))
		s := p.tail(t, p.action("moving", "a0"))
		for len(s.lines) < 1000 {
			if !s.more() {
				t.Fatal(s.stream.Err())
			}
		}
		// What the container wrote at its end was kept and not read in the pod.
		var rest bytes.Buffer
		for n := range 500 {
			fmt.Fprintf(&rest, "%s %d\n", time.Now().UTC().Format(time.RFC3339Nano), 1001+n)
		}
		p.keep(t, a, rest.String(), "main")
		if got, err := s.text(); err != nil || got != numbers(1500) {
			t.Errorf("got %d lines, %v, want 1500", strings.Count(got, "\n"), err)
		}
	})

	t.Run("it reads what was kept when action and pod are gone", func(t *testing.T) {
		t.Parallel()
		pod := p.pod(t, "gone", "seq 1 5; printf end", func(pod *corev1.Pod) {
			pod.Spec.InitContainers = []corev1.Container{{Name: "init", Image: "host", Command: []string{"/bin/echo", "before"}}}
		})
		a := p.taskAction(t, "gone", "a0", attempt(pod))
		p.ended(t, "gone")
		p.keep(t, a, "", "main", "init")
		if err := record.Write(t.Context(), account(t, "executor"), p.storage.MetadataBucket, p.runKey("gone")+"/a0", record.Record{Status: a.Status}); err != nil {
			t.Fatal(err)
		}
		if err := sandbox.Client.Delete(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		if got, err := p.tail(t, p.action("gone", "a0")).text(); err != nil || got != "1\n2\n3\n4\n5\nend\n" {
			t.Errorf("got %q, %v, want the log of the primary container", got, err)
		}
		all := p.tail(t, p.action("gone", "a0"), func(r *dataproxy.TailLogsRequest) {
			r.PodSelector = &dataproxy.TailLogsRequest_AllPods{AllPods: true}
		})
		if got, err := all.text(); err != nil || len(all.lines) != 7 || !strings.Contains(got, "before\n") {
			t.Errorf("got %q, %v, want the log of both containers", got, err)
		}
	})

	t.Run("it tells the user's container from the others", func(t *testing.T) {
		t.Parallel()
		pod := p.pod(t, "several", "echo user", func(pod *corev1.Pod) {
			pod.Spec.InitContainers = []corev1.Container{{Name: "init", Image: "host", Command: []string{"/bin/echo", "before"}}}
		})
		p.taskAction(t, "several", "a0", attempt(pod))
		s := p.tail(t, p.action("several", "a0"), func(r *dataproxy.TailLogsRequest) {
			r.PodSelector = &dataproxy.TailLogsRequest_PodName{PodName: "several"}
		})
		if _, err := s.text(); err != nil || len(s.lines) != 2 {
			t.Fatalf("got %v, %v, want two lines", s.lines, err)
		}
		for i, line := range s.lines {
			want := dataplane.LogLineOriginator_SYSTEM
			if s.of[i].GetKubernetesContainerName() == "main" {
				want = dataplane.LogLineOriginator_USER
			}
			if line.GetOriginator() != want {
				t.Errorf("got %v from %v, want %v", line, s.of[i], want)
			}
		}
		other := p.tail(t, p.action("several", "a0"), func(r *dataproxy.TailLogsRequest) {
			r.PodSelector = &dataproxy.TailLogsRequest_PodName{PodName: "thousand"}
		})
		_, err := other.text()
		refused(t, err, connect.CodeNotFound, `has no pod "thousand"; its pod is several`)
	})

	t.Run("it is empty where nothing ran", func(t *testing.T) {
		t.Parallel()
		p.taskAction(t, "cached", "a0", v1alpha1.TaskActionStatus{Phase: v1alpha1.Succeeded, Attempts: []v1alpha1.Attempt{{Number: 1, Phase: v1alpha1.Succeeded}}})
		if got, err := p.tail(t, p.action("cached", "a0")).text(); err != nil || got != "" {
			t.Errorf("got %q, %v, want nothing", got, err)
		}
	})

	t.Run("it knows no attempt that there was not", func(t *testing.T) {
		t.Parallel()
		p.taskAction(t, "once", "a0", v1alpha1.TaskActionStatus{Phase: v1alpha1.Succeeded, Attempts: []v1alpha1.Attempt{{Number: 1, Phase: v1alpha1.Succeeded}}})
		s := p.tail(t, p.action("once", "a0"), func(r *dataproxy.TailLogsRequest) { r.Attempt = 2 })
		_, err := s.text()
		refused(t, err, connect.CodeNotFound, "ended after 1 attempts, and had no attempt 2")
	})

	for _, test := range []struct {
		name   string
		change func(*dataproxy.TailLogsRequest)
		code   connect.Code
		want   string
	}{
		{"knows no action that there is not", func(*dataproxy.TailLogsRequest) {}, connect.CodeNotFound, "there is no such action"},
		{"refuses an action that leaves its folder", func(r *dataproxy.TailLogsRequest) { r.ActionId.Name = "../../x" }, connect.CodeInvalidArgument, "cannot be a name"},
		{"refuses a run that leaves its folder", func(r *dataproxy.TailLogsRequest) { r.ActionId.Run.Name = ".." }, connect.CodeInvalidArgument, "cannot be a name"},
		{"refuses attempt 0", func(r *dataproxy.TailLogsRequest) { r.Attempt = 0 }, connect.CodeInvalidArgument, "the first one is 1"},
	} {
		t.Run("it "+test.name, func(t *testing.T) {
			t.Parallel()
			_, err := p.tail(t, p.action("absent", "a0"), test.change).text()
			refused(t, err, test.code, test.want)
		})
	}
}

func TestTailLogsOfASlowReader(t *testing.T) {
	t.Parallel()
	p := start(t)
	kept := func(run string, log []byte) *dataproxy.TailLogsRequest {
		p.put(t, "persisted-logs/"+p.runKey(run)+"/a0/1/pod/main.log", log)
		p.taskAction(t, run, "a0", v1alpha1.TaskActionStatus{Phase: v1alpha1.Succeeded, Attempts: []v1alpha1.Attempt{
			{Number: 1, Phase: v1alpha1.Succeeded, Pod: "pod", Container: "main", LogsKept: true},
		}})
		return &dataproxy.TailLogsRequest{ActionId: p.action(run, "a0"), Attempt: 1}
	}
	line := []byte(time.Now().UTC().Format(time.RFC3339Nano) + " " + strings.Repeat("x", 1000) + "\n")
	// One connection for both, with room for a little of what is not read.
	proxy := p.proxy(p.operator())
	slow, err := proxy.TailLogs(t.Context(), kept("slow", bytes.Repeat(line, 20_000)))
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	quick, err := proxy.TailLogs(t.Context(), kept("quick", bytes.Repeat(line, 1000)))
	if err != nil {
		t.Fatal(err)
	}
	defer quick.Close()
	s := &tailing{stream: quick}
	if _, err := s.text(); err != nil || len(s.lines) != 1000 {
		t.Errorf("got %d lines, %v, want 1000 while nobody reads the other log", len(s.lines), err)
	}
	s = &tailing{stream: slow}
	if _, err := s.text(); err != nil || len(s.lines) != 20_000 {
		t.Errorf("got %d lines, %v, want 20000 in the end", len(s.lines), err)
	}
}

func TestTailLogsAtTheEndOfTheProcess(t *testing.T) {
	t.Parallel()
	p := start(t)
	p.taskAction(t, "endless", "a0", attempt(p.pod(t, "endless", "echo first; sleep 600")))
	var streams []*tailing
	for _, client := range []*http.Client{p.operator(), p.relayed(t, true), p.relayed(t, false)} {
		stream, err := p.proxy(client).TailLogs(t.Context(), &dataproxy.TailLogsRequest{ActionId: p.action("endless", "a0"), Attempt: 1})
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Close()
		s := &tailing{stream: stream}
		if !s.more() {
			t.Fatal(stream.Err())
		}
		streams = append(streams, s)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.stop()
	}()
	for _, s := range streams {
		_, err := s.text()
		// The SDK takes CANCELED for its own wish, and would not come back.
		refused(t, err, connect.CodeUnavailable, "being shut down")
	}
	<-done
}

func TestTailLogsKeepsAQuietStreamAlive(t *testing.T) {
	t.Parallel()
	sent := make(chan *dataproxy.TailLogsResponse)
	quiet := &tail{send: func(message *dataproxy.TailLogsResponse) error { sent <- message; return nil }}
	stop := quiet.keepAlive(time.Millisecond)
	for range 3 {
		if message := <-sent; len(message.GetLogs()) > 0 {
			t.Errorf("got %v, want a message without lines", message)
		}
	}
	go func() {
		for range sent {
		}
	}()
	stop()
	close(sent) // a send after this panics
}
