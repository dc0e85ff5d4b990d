package pods

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/httpstream"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	watchtools "k8s.io/client-go/tools/watch"
	"k8s.io/client-go/transport/spdy"
	utilexec "k8s.io/client-go/util/exec"
	"sigs.k8s.io/yaml"
)

// run is a case being tried.
type run struct {
	node         *Node
	ctx          context.Context
	namespace    string
	observations []Observation
	hidden       []string // pairs for a strings.Replacer

	// vague is set where a pod goes on being restarted, and a busy machine may see
	// the first restart or the third.
	vague bool
}

// failure ends a case; it becomes its last observation.
type failure struct{ text string }

func (r *run) fail(format string, args ...any) { panic(failure{fmt.Sprintf(format, args...)}) }

func (r *run) must(err error, doing string) {
	if err != nil {
		r.fail("%s: %v", doing, err)
	}
}

func (r *run) pause(d time.Duration) {
	select {
	case <-time.After(d):
	case <-r.ctx.Done():
		r.fail("it took too long")
	}
}

// hide makes a value that differs from run to run a word that does not.
func (r *run) hide(value, word string) {
	if value != "" {
		r.hidden = append(r.hidden, value, word)
	}
}

// portOfCase is how the cases name ports, each another.
var portOfCase = regexp.MustCompile(`\b18[01][0-9]{2}\b`)

// port is what a port of a case is in this run. In the table it is the case's.
func (r *run) port(named int) int {
	port := r.node.ports.free(named)
	if port != named {
		r.hide(strconv.Itoa(port), strconv.Itoa(named))
	}
	return port
}

// note is an observation. Lines become one.
func (r *run) note(key, format string, args ...any) {
	value := strings.NewReplacer(r.hidden...).Replace(fmt.Sprintf(format, args...))
	value = strings.ReplaceAll(strings.TrimRight(value, "\n"), "\n", " ⏎ ")
	name := key
	for n := 2; slices.ContainsFunc(r.observations, func(o Observation) bool { return o.Key == name }); n++ {
		name = fmt.Sprintf("%s (%d)", key, n)
	}
	r.observations = append(r.observations, Observation{name, value})
}

// pod makes a pod of a spec in YAML.
func (r *run) pod(name, spec string) { r.labelled(name, spec, "") }

// labelled makes one with metadata in YAML too.
func (r *run) labelled(name, spec, metadata string) {
	var pod struct {
		metav1.TypeMeta   `json:",inline"`
		metav1.ObjectMeta `json:"metadata"`
		Spec              map[string]any `json:"spec"`
	}
	r.must(yaml.UnmarshalStrict([]byte(metadata), &pod.ObjectMeta), "reading the metadata of "+name)
	spec = strings.ReplaceAll(spec, "\t", "") // Go's indentation, which YAML does not know
	r.must(yaml.Unmarshal([]byte(spec), &pod.Spec), "reading the spec of "+name)
	pod.Kind, pod.Name = "Pod", name
	if pod.Spec["restartPolicy"] == nil {
		pod.Spec["restartPolicy"] = "Never"
	}
	text, err := yaml.Marshal(pod)
	r.must(err, "writing the pod "+name)
	r.apply(string(text))
}

// finish waits for the pod's end and writes it down, with all logs.
func (r *run) finish(name string) *corev1.Pod {
	pod := r.until(name, "ended", ended)
	r.status(pod)
	r.allLogs(pod)
	return pod
}

// ended is when nothing of it runs: a phase may come before the last container's end.
func ended(p *corev1.Pod) bool {
	for _, c := range p.Status.ContainerStatuses {
		if c.State.Running != nil {
			return false
		}
	}
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

func running(p *corev1.Pod) bool {
	if len(p.Status.ContainerStatuses) == 0 {
		return false
	}
	for _, c := range p.Status.ContainerStatuses {
		if c.State.Running == nil {
			return false
		}
	}
	return p.Status.Phase == corev1.PodRunning
}

func ready(p *corev1.Pod) bool { return condition(p, corev1.PodReady) == corev1.ConditionTrue }

func condition(p *corev1.Pod, kind corev1.PodConditionType) corev1.ConditionStatus {
	for _, c := range p.Status.Conditions {
		if c.Type == kind {
			return c.Status
		}
	}
	return ""
}

func container(p *corev1.Pod, name string) corev1.ContainerStatus {
	for _, all := range [][]corev1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses} {
		for _, c := range all {
			if c.Name == name {
				return c
			}
		}
	}
	return corev1.ContainerStatus{}
}

func waiting(name, reason string) func(*corev1.Pod) bool {
	return func(p *corev1.Pod) bool {
		w := container(p, name).State.Waiting
		return w != nil && w.Reason == reason
	}
}

func restarted(name string, times int32) func(*corev1.Pod) bool {
	return func(p *corev1.Pod) bool { return container(p, name).RestartCount >= times }
}

func all(conditions ...func(*corev1.Pod) bool) func(*corev1.Pod) bool {
	return func(p *corev1.Pod) bool {
		for _, c := range conditions {
			if !c(p) {
				return false
			}
		}
		return true
	}
}

// until waits for a pod to be as told; what says how, for when it never is.
func (r *run) until(name, what string, is func(*corev1.Pod) bool) *corev1.Pod {
	var last *corev1.Pod
	_, err := watchtools.UntilWithSync(r.ctx, r.watching(name), &corev1.Pod{}, nil, func(e watch.Event) (bool, error) {
		pod, ok := e.Object.(*corev1.Pod)
		if !ok {
			return false, nil
		}
		last = pod
		return e.Type != watch.Deleted && is(pod), nil
	})
	if err != nil {
		if last == nil {
			r.fail("%s was not seen in time", name)
		}
		r.hidePod(last)
		r.status(last)
		r.fail("%s was not %s in time; its events were %s", name, what, strings.Join(r.afterwards(name), ", "))
	}
	r.hidePod(last)
	return last
}

func (r *run) watching(name string) cache.ListerWatcher {
	pods := r.node.client.CoreV1().Pods(r.namespace)
	only := fields.OneTermEqualSelector("metadata.name", name).String()
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = only
			return pods.List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = only
			return pods.Watch(ctx, o)
		},
	}
}

// hidePod hides what is another in each run.
func (r *run) hidePod(p *corev1.Pod) {
	r.hide(string(p.UID), "UID")
	r.hide(p.Status.PodIP, "POD-IP")
	r.hide(p.Status.HostIP, "HOST-IP")
}

// status writes down what kubectl describe shows.
func (r *run) status(p *corev1.Pod) {
	r.note("phase", "%s", p.Status.Phase)
	if p.Status.Reason != "" {
		r.note("reason", "%s", p.Status.Reason)
	}
	if p.Status.Message != "" {
		r.note("message", "%s", p.Status.Message)
	}
	var conditions []string
	for _, kind := range []corev1.PodConditionType{corev1.PodScheduled, corev1.PodInitialized, corev1.ContainersReady, corev1.PodReady, corev1.DisruptionTarget} {
		for _, c := range p.Status.Conditions {
			if c.Type == kind {
				text := string(c.Type) + "=" + string(c.Status)
				if c.Reason != "" {
					text += "(" + c.Reason + ")"
				}
				conditions = append(conditions, text)
			}
		}
	}
	r.note("conditions", "%s", strings.Join(conditions, " "))
	for _, c := range append(append([]corev1.ContainerStatus{}, p.Status.InitContainerStatuses...), p.Status.ContainerStatuses...) {
		restarts := fmt.Sprint(c.RestartCount)
		if r.vague && c.RestartCount > 0 {
			restarts = "some"
		}
		r.note(c.Name, "%s, restarts %s, ready %v, started %v", r.state(c.State), restarts, c.Ready, c.Started != nil && *c.Started)
		if c.LastTerminationState.Terminated != nil {
			r.note(c.Name+" before", "%s", r.state(c.LastTerminationState))
		}
	}
}

// ofTheRuntime are reasons whose messages are the runtime's own words.
var ofTheRuntime = map[string]bool{"StartError": true, "ContainerCannotRun": true, "ErrImagePull": true, "ImagePullBackOff": true, "CreateContainerError": true, "RunContainerError": true}

var backOff = regexp.MustCompile(`back-off \S+`)

func (r *run) state(s corev1.ContainerState) string {
	reason, message, text := "", "", ""
	switch {
	case s.Waiting != nil:
		reason, message = s.Waiting.Reason, s.Waiting.Message
		text = "waiting " + reason
	case s.Running != nil:
		return "running"
	case s.Terminated != nil:
		t := s.Terminated
		reason, message = t.Reason, t.Message
		text = fmt.Sprintf("terminated %s, exit code %d", reason, t.ExitCode)
		if t.Signal != 0 {
			text += fmt.Sprintf(", signal %d", t.Signal)
		}
	default:
		return "none"
	}
	switch {
	case message == "":
	case ofTheRuntime[reason]:
		text += ", with a message"
	case r.vague && reason == "CrashLoopBackOff":
		text += fmt.Sprintf(", message %q", backOff.ReplaceAllString(message, "back-off TIME"))
	default:
		text += fmt.Sprintf(", message %q", message)
	}
	return text
}

// allLogs writes down the logs of every container that has any.
func (r *run) allLogs(p *corev1.Pod) {
	for _, c := range append(append([]corev1.Container{}, p.Spec.InitContainers...), p.Spec.Containers...) {
		text, err := r.log(p.Name, corev1.PodLogOptions{Container: c.Name})
		if err == nil {
			r.noteLines(c.Name+" log", text)
		}
	}
}

func (r *run) log(pod string, o corev1.PodLogOptions) (string, error) {
	stream, err := r.node.client.CoreV1().Pods(r.namespace).GetLogs(pod, &o).Stream(r.ctx)
	if err != nil {
		return "", err
	}
	defer stream.Close()
	text, err := io.ReadAll(stream)
	return string(text), err
}

// logged waits until the log of a container holds text.
func (r *run) logged(pod, name, text string) {
	for {
		log, err := r.log(pod, corev1.PodLogOptions{Container: name})
		if err == nil && strings.Contains(log, text) {
			return
		}
		if r.ctx.Err() != nil {
			r.note(name+" log", "%s", log)
			r.fail("%q was not logged in time", text)
		}
		r.pause(100 * time.Millisecond)
	}
}

// noteLog writes a log down, or why there is none.
func (r *run) noteLog(key, pod string, o corev1.PodLogOptions) {
	text, err := r.log(pod, o)
	if err != nil {
		r.note(key, "refused: %v", err)
		return
	}
	if text == "" {
		r.note(key, "")
	}
	r.noteLines(key, text)
}

// noteLines makes an observation of each line, so that one that differs is seen.
func (r *run) noteLines(key, text string) {
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if strings.ContainsRune(line, '\r') {
			line = strconv.Quote(line)
		}
		r.note(key, "%s", line)
	}
}

// events writes down the reasons of a pod's events once there is one that says
// last, each once, without how often and without those of but.
func (r *run) events(pod, last string, but ...string) {
	r.event(pod, last)
	r.note("events", "%s", strings.Join(r.reasons(r.ctx, pod, but), ", "))
}

func (r *run) reasons(ctx context.Context, pod string, but []string) []string {
	seen := map[string]bool{}
	list, err := r.node.client.CoreV1().Events(r.namespace).List(ctx, metav1.ListOptions{})
	r.must(err, "listing events")
	for _, e := range list.Items {
		if e.InvolvedObject.Name == pod && e.InvolvedObject.Kind == "Pod" {
			seen[e.Type+" "+e.Reason] = true
		}
	}
	for _, b := range but {
		delete(seen, b)
	}
	return sorted(seen)
}

// afterwards are the reasons of a pod's events when the time of the case is over.
func (r *run) afterwards(pod string) []string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.ctx), 10*time.Second)
	defer cancel()
	return r.reasons(ctx, pod, nil)
}

// event waits for an event with that reason, and writes down what it says.
func (r *run) event(pod, reason string) string {
	for {
		list, err := r.node.client.CoreV1().Events(r.namespace).List(r.ctx, metav1.ListOptions{})
		if err == nil {
			for _, e := range list.Items {
				if e.InvolvedObject.Name == pod && e.Reason == reason {
					return e.Message
				}
			}
		}
		if r.ctx.Err() != nil {
			r.fail("there was no event %s in time; there were %s", reason, strings.Join(r.afterwards(pod), ", "))
		}
		r.pause(200 * time.Millisecond)
	}
}

// remove deletes a pod and waits until it is gone. It returns the last that was
// seen of it, and how long it took.
func (r *run) remove(name string, grace *int64) (*corev1.Pod, time.Duration) {
	pods := r.node.client.CoreV1().Pods(r.namespace)
	watching, err := pods.Watch(r.ctx, metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", name).String()})
	r.must(err, "watching the pod")
	defer watching.Stop()
	began := time.Now()
	r.must(pods.Delete(r.ctx, name, metav1.DeleteOptions{GracePeriodSeconds: grace}), "deleting the pod")
	var last *corev1.Pod
	for e := range watching.ResultChan() {
		pod, ok := e.Object.(*corev1.Pod)
		if !ok {
			continue
		}
		last = pod
		if e.Type == watch.Deleted {
			return last, time.Since(began)
		}
	}
	r.fail("the pod was not gone in time")
	return nil, 0
}

// atLeast says whether something took a time that it had to wait for. That it
// took no longer is not said: the machine may be busy.
func atLeast(took, wanted time.Duration) string {
	if took < wanted {
		return fmt.Sprintf("less than %v", wanted)
	}
	return fmt.Sprintf("at least %v", wanted)
}

func (r *run) patch(kind, name, patch string) {
	form := types.MergePatchType
	if strings.HasPrefix(patch, "[") {
		form = types.JSONPatchType
	}
	_, err := r.node.objects.Resource(kinds[kind]).Namespace(r.namespace).Patch(r.ctx, name, form, []byte(patch), metav1.PatchOptions{})
	r.must(err, "changing "+kind+" "+name)
}

// answer is what came of an exec or attach.
type answer struct {
	out, err string
	code     int
	failed   error // anything but an exit code
}

// stream runs an exec or attach to its end.
func (r *run) stream(pod, what string, options runtime.Object, in io.Reader, tty bool, size remotecommand.TerminalSizeQueue) answer {
	request := r.node.client.CoreV1().RESTClient().Post().Resource("pods").Namespace(r.namespace).Name(pod).
		SubResource(what).VersionedParams(options, scheme.ParameterCodec)
	var executor remotecommand.Executor
	old, err := remotecommand.NewSPDYExecutor(r.node.config, http.MethodPost, request.URL())
	r.must(err, "making an executor")
	current, err := remotecommand.NewWebSocketExecutor(r.node.config, http.MethodGet, request.URL().String())
	r.must(err, "making an executor")
	executor, err = remotecommand.NewFallbackExecutor(current, old, httpstream.IsUpgradeFailure)
	r.must(err, "making an executor")
	var out, errs bytes.Buffer
	streams := remotecommand.StreamOptions{Stdin: in, Stdout: &out, Tty: tty, TerminalSizeQueue: size}
	if !tty {
		streams.Stderr = &errs
	}
	err = executor.StreamWithContext(r.ctx, streams)
	a := answer{out: out.String(), err: errs.String()}
	if coded := (utilexec.CodeExitError{}); errors.As(err, &coded) {
		a.code = coded.Code
	} else {
		a.failed = err
	}
	return a
}

func (r *run) exec(pod, name string, in io.Reader, command ...string) answer {
	return r.stream(pod, "exec", &corev1.PodExecOptions{Container: name, Command: command, Stdin: in != nil, Stdout: true, Stderr: true}, in, false, nil)
}

// noteExec runs a script of the probe in a container and writes down what came.
func (r *run) noteExec(key, pod, name, script string) {
	a := r.exec(pod, name, nil, "/bin/probe", script)
	r.noteAnswer(key, a)
}

func (r *run) noteAnswer(key string, a answer) {
	if a.failed != nil {
		r.note(key, "failed")
		return
	}
	r.note(key, "exit code %d, out %q, err %q", a.code, a.out, a.err)
}

// forward opens a port of a pod here, as kubectl port-forward does, and asks it.
func (r *run) forward(pod string, port int, path string) string {
	request := r.node.client.CoreV1().RESTClient().Post().Resource("pods").Namespace(r.namespace).Name(pod).SubResource("portforward")
	transport, upgrader, err := spdy.RoundTripperFor(r.node.config)
	r.must(err, "making a transport")
	dialer := spdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, request.URL())
	stop, isReady := make(chan struct{}), make(chan struct{})
	forwarder, err := portforward.New(dialer, []string{fmt.Sprintf("0:%d", r.port(port))}, stop, isReady, io.Discard, io.Discard)
	r.must(err, "making a forwarder")
	ended := make(chan error, 1)
	go func() { ended <- forwarder.ForwardPorts() }()
	defer func() { close(stop); <-ended }()
	select {
	case <-isReady:
	case err := <-ended:
		ended <- err
		return "no tunnel"
	}
	ports, err := forwarder.GetPorts()
	r.must(err, "asking for the port")
	u := url.URL{Scheme: "http", Host: fmt.Sprintf("127.0.0.1:%d", ports[0].Local), Path: path}
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get(u.String())
	if err != nil {
		return "no answer"
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	return response.Status + " " + strings.TrimSpace(string(body))
}
