package pods

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/remotecommand"
)

func metaTime(t time.Time) metav1.Time { return metav1.NewTime(t) }

func sessions() []Case {
	sleeper := `containers: [{name: c, env: [{name: OWN, value: mine}], workingDir: /data, args: ["trap TERM 0; echo up; wait"]}, {name: d, args: ["trap TERM 0; wait"]}]`
	return []Case{
		{Name: "gives the exit code and streams of a command that is executed in it", Pod: sleeper, Do: func(r *run) {
			r.until("p", "running", running)
			r.noteExec("exit 0", "p", "c", "echo out; err error")
			r.noteExec("exit 5", "p", "c", "echo out; exit 5")
			r.noteExec("a signal", "p", "c", "crash")
		}},
		{Name: "executes a command in its environment, folder, and as its user", Pod: `
			securityContext: {runAsUser: 1000}
			containers: [{name: c, env: [{name: OWN, value: mine}], workingDir: /data, args: ["trap TERM 0; write /tmp/mine x; wait"]}]`, Do: func(r *run) {
			r.until("p", "running", running)
			r.noteExec("inside", "p", "c", "env OWN FROM_IMAGE; cwd; id; hostname; cat /tmp/mine")
		}},
		{Name: "gives standard input to a command", Pod: sleeper, Do: func(r *run) {
			r.until("p", "running", running)
			r.noteAnswer("lines", r.exec("p", "c", strings.NewReader("a\nb\nc\n"), "/bin/probe", "lines all; exit 3"))
		}},
		{Name: "gives a terminal to a command that wants one", Pod: sleeper, Do: func(r *run) {
			r.until("p", "running", running)
			size := &oneSize{&remotecommand.TerminalSize{Width: 100, Height: 40}}
			options := &corev1.PodExecOptions{Container: "c", Command: []string{"/bin/probe", "wait-tty; tty; err error; exit 2"}, Stdout: true, TTY: true}
			r.noteAnswer("terminal", r.stream("p", "exec", options, nil, true, size))
		}},
		{Name: "cannot execute what it has not", Pod: sleeper, Do: func(r *run) {
			r.until("p", "running", running)
			a := r.exec("p", "c", nil, "/bin/absent")
			r.note("absent", "fails: %v, exit code %d", a.failed != nil || a.code != 0, a.code)
		}},
		{Name: "executes nothing once it has ended", Pod: `containers: [{name: c, args: [""]}]`, Do: func(r *run) {
			r.until("p", "ended", ended)
			a := r.exec("p", "c", nil, "/bin/probe", "echo")
			r.note("error", "%v", a.failed)
		}},
		{Name: "executes nothing in a container that it has not", Pod: sleeper, Do: func(r *run) {
			r.until("p", "running", running)
			a := r.exec("p", "x", nil, "/bin/probe", "echo")
			r.note("error", "%v", a.failed)
		}},
		{Name: "moves a megabyte through a command", Pod: sleeper, Do: func(r *run) {
			r.until("p", "running", running)
			a := r.exec("p", "c", nil, "/bin/probe", "flood 1024 1018")
			r.note("moved", "%d bytes, failed: %v", len(a.out), a.failed != nil)
		}},
		{Name: "reads what is attached to its standard input", Do: func(r *run) {
			r.pod("q", `{containers: [{name: c, stdin: true, stdinOnce: true, args: ["echo up; lines all; exit 4"]}]}`)
			r.logged("q", "c", "up")
			a := r.stream("q", "attach", &corev1.PodAttachOptions{Container: "c", Stdin: true, Stdout: true, Stderr: true}, strings.NewReader("a\nb\n"), false, nil)
			r.note("attached", "%s", strings.TrimPrefix(a.out, "up\n"))
			r.finish("q")
		}},
		{Name: "has an empty standard input where it asks for none", Pod: `containers: [{name: c, args: ["lines all"]}]`},
		{Name: "has a terminal where it asks for one", Pod: `containers: [{name: c, tty: true, stdin: true, stdinOnce: true, args: ["tty; err error"]}]`},
		{Name: "answers at a port that is forwarded", Do: func(r *run) {
			r.pod("q", `{containers: [{name: c, args: ["serve 18020"], readinessProbe: {tcpSocket: {port: 18020}, periodSeconds: 1}}]}`)
			r.until("q", "ready", ready)
			r.note("open", "%s", r.forward("q", 18020, "/"))
			r.note("closed", "%s", r.forward("q", 18021, "/"))
		}},
		{Name: "answers through the API server's proxy", Do: func(r *run) {
			r.pod("q", `{containers: [{name: c, args: ["serve 18022"], readinessProbe: {tcpSocket: {port: 18022}, periodSeconds: 1}}]}`)
			r.until("q", "ready", ready)
			body, err := r.node.client.CoreV1().Pods(r.namespace).ProxyGet("http", "q", strconv.Itoa(r.port(18022)), "/", nil).DoRaw(r.ctx)
			r.note("answer", "%s", body)
			r.note("refused", "%v", err != nil)
		}},
	}
}

type oneSize struct{ size *remotecommand.TerminalSize }

// Next gives the size once and then says that there will be no other.
func (o *oneSize) Next() *remotecommand.TerminalSize {
	size := o.size
	o.size = nil
	return size
}

func resources() []Case {
	return []Case{
		{Name: "is OOMKilled when it takes more memory than its limit", Pod: `containers: [{name: c, args: ["alloc 400"], resources: {limits: {memory: 100Mi}}}]`},
		{Name: "may take the memory of its limit", Pod: `containers: [{name: c, args: ["alloc 64; sleep 1s"], resources: {limits: {memory: 128Mi}}}]`},
		{Name: "is restarted when it was OOMKilled", Do: func(r *run) {
			r.pod("q", `{restartPolicy: OnFailure, containers: [{name: c, args: ["alloc 400"], resources: {limits: {memory: 100Mi}}}]}`)
			r.vague = true
			r.status(r.until("q", "backing off", all(restarted("c", 1), waiting("c", "CrashLoopBackOff"))))
		}},
		{Name: "has a class of service", Do: func(r *run) {
			r.pod("best", `{containers: [{name: c, args: [""]}]}`)
			r.pod("burst", `{containers: [{name: c, args: [""], resources: {requests: {cpu: 1m}}}]}`)
			r.pod("sure", `{containers: [{name: c, args: [""], resources: {limits: {cpu: 100m, memory: 64Mi}}}]}`)
			for _, name := range []string{"best", "burst", "sure"} {
				r.note(name, "%s", r.until(name, "ended", ended).Status.QOSClass)
			}
		}},
		{Name: "is not scheduled when it asks for more than there is", Do: func(r *run) {
			r.pod("q", `{containers: [{name: c, args: [""], resources: {requests: {cpu: "10000"}}}]}`)
			p := r.until("q", "refused", func(p *corev1.Pod) bool { return condition(p, corev1.PodScheduled) == corev1.ConditionFalse })
			r.status(p)
			r.note("why", "%s", p.Status.Conditions[0].Message)
		}},
		{Name: "is not scheduled where no node has its label", Do: func(r *run) {
			r.pod("q", `{nodeSelector: {absent: label}, containers: [{name: c, args: [""]}]}`)
			r.status(r.until("q", "refused", func(p *corev1.Pod) bool { return condition(p, corev1.PodScheduled) == corev1.ConditionFalse }))
		}},
		{Name: "runs where it is bound without the scheduler", Do: func(r *run) {
			r.pod("q", `{nodeName: `+r.node.name+`, containers: [{name: c, args: ["echo bound"]}]}`)
			r.finish("q")
		}},
		{Name: "tells what it has been given", Pod: `containers: [{name: c, args: [""], resources: {limits: {cpu: 100m, memory: 64Mi}, requests: {cpu: 50m}}}]`, Do: func(r *run) {
			p := r.until("p", "ended", ended)
			c := container(p, "c")
			r.note("allocated", "%v", c.AllocatedResources)
			r.note("resources", "%v", c.Resources != nil)
			r.note("image", "%s", c.Image)
			r.note("ids", "%v %v", c.ContainerID != "", c.ImageID != "")
		}},
	}
}

func images() []Case {
	return []Case{
		{Name: "says ErrImagePull where nobody knows its image", Do: func(r *run) {
			r.pod("q", `{containers: [{name: c, image: "biplane.test/absent:1"}]}`)
			r.until("q", "waiting", waiting("c", "ErrImagePull"))
			r.status(r.until("q", "backing off", waiting("c", "ImagePullBackOff")))
			r.events("q", "BackOff")
		}},
		{Name: "says ErrImageNeverPull where its image may not be pulled", Do: func(r *run) {
			r.pod("q", `{containers: [{name: c, image: "biplane.test/absent:1", imagePullPolicy: Never}]}`)
			r.status(r.until("q", "waiting", waiting("c", "ErrImageNeverPull")))
		}},
		{Name: "says InvalidImageName where its image's name is none", Do: func(r *run) {
			r.pod("q", `{containers: [{name: c, image: "Not//A:Name:x"}]}`)
			r.status(r.until("q", "waiting", waiting("c", "InvalidImageName")))
		}},
		{Name: "runs an image that is there and may not be pulled", Pod: `containers: [{name: c, imagePullPolicy: Never, args: ["echo hello"]}]`},
		{Name: "waits for the image of its second container", Do: func(r *run) {
			r.pod("q", `{containers: [{name: c, args: ["echo up; trap TERM 0; wait"]}, {name: d, image: "biplane.test/absent:1"}]}`)
			r.status(r.until("q", "half running", all(waiting("d", "ImagePullBackOff"), func(p *corev1.Pod) bool { return container(p, "c").State.Running != nil })))
		}},
		{Name: "runs the image's command where it gives none", Pod: `containers: [{name: c, image: "biplane.test/user:1"}]`},
		{Name: "gives its arguments to the image's program", Pod: `containers: [{name: c, image: "biplane.test/user:1", args: ["echo by arguments"]}]`},
		{Name: "forgets the image's arguments when it has its own command", Pod: `containers: [{name: c, image: "biplane.test/user:1", command: [/bin/probe, "echo by command of the pod"]}]`},
		{Name: "cannot be made where neither it nor its image names a program", Do: func(r *run) {
			r.pod("q", `{containers: [{name: c, image: "biplane.test/bare:1"}]}`)
			r.status(r.until("q", "waiting", func(p *corev1.Pod) bool {
				c := container(p, "c")
				return c.State.Waiting != nil && c.State.Waiting.Reason != "ContainerCreating" || c.State.Terminated != nil
			}))
		}},
		{Name: "has an empty environment where its image has none", Pod: `containers: [{name: c, image: "biplane.test/bare:1", command: [/bin/probe, "env; env PATH"]}]`},
	}
}

// A server's port is another in each case: on some nodes pods share the machine's network.
func server(name string, port int, extra string) string {
	return fmt.Sprintf(`{restartPolicy: Always, %s containers: [{name: c, args: ["serve %d"], ports: [{name: web, containerPort: %d}], readinessProbe: {tcpSocket: {port: web}, periodSeconds: 1}}]}`, extra, port, port)
}

func services() []Case {
	client := func(script string) string { return `{containers: [{name: c, args: ["` + script + `"]}]}` }
	return []Case{
		{Name: "answers at the address and the names of its Service", Objects: `{kind: Service, metadata: {name: web}, spec: {selector: {app: web}, ports: [{port: 18180, targetPort: web}]}}`, Do: func(r *run) {
			r.labelled("s", server("s", 18030, ""), `{labels: {app: web}}`)
			r.until("s", "ready", ready)
			r.pod("q", client("get http://web:18180/ until 200; get http://web."+r.namespace+":18180/; get http://web."+r.namespace+".svc:18180/; get http://web."+r.namespace+".svc.cluster.local:18180/; get http://$(WEB_SERVICE_HOST):$(WEB_SERVICE_PORT)/"))
			r.finish("q")
		}},
		{Name: "answers at its own Service", Objects: `{kind: Service, metadata: {name: web}, spec: {selector: {app: web}, ports: [{port: 18180, targetPort: 18031}]}}`, Do: func(r *run) {
			r.labelled("s", server("s", 18031, ""), `{labels: {app: web}}`)
			r.until("s", "ready", ready)
			r.noteExec("itself", "s", "c", "get http://web:18180/ until 200")
		}},
		{Name: "is refused at a Service that nobody is behind", Objects: `{kind: Service, metadata: {name: web}, spec: {selector: {app: none}, ports: [{port: 18180}]}}`, Do: func(r *run) {
			r.pause(time.Second)
			r.pod("q", client("resolve web absent; dial web:18180"))
			r.finish("q")
		}},
		{Name: "is behind its Service only while it is ready", Objects: `{kind: Service, metadata: {name: web}, spec: {selector: {app: web}, ports: [{port: 18180, targetPort: 18032}]}}`, Do: func(r *run) {
			r.labelled("s", `{containers: [{name: c, args: ["serve 18032 /tmp/ready"], readinessProbe: {httpGet: {port: 18032, path: /ready}, periodSeconds: 1, failureThreshold: 1}}]}`, `{labels: {app: web}}`)
			r.event("s", "Unhealthy")
			r.pod("before", client("dial web:18180"))
			r.finish("before")
			r.noteExec("make it ready", "s", "c", "write /tmp/ready")
			r.until("s", "ready", ready)
			r.pod("after", client("get http://web:18180/ until 200"))
			r.finish("after")
		}},
		{Name: "finds the pods of a headless Service by its name", Objects: `{kind: Service, metadata: {name: all}, spec: {clusterIP: None, selector: {app: web}, ports: [{port: 18033}]}}`, Do: func(r *run) {
			r.labelled("s", server("s", 18033, "hostname: one, subdomain: all,"), `{labels: {app: web}}`)
			r.until("s", "ready", ready)
			r.pause(time.Second)
			r.pod("q", client("get http://all:18033/ until 200; get http://one.all:18033/"))
			r.finish("q")
		}},
		{Name: "reaches the API server by its name", Do: func(r *run) {
			r.pod("q", client("resolve kubernetes.default kubernetes.default.svc kubernetes.default.svc.cluster.local; api /version"))
			r.finish("q")
		}},
		{Name: "is asked by many ports and names of one Service", Objects: `{kind: Service, metadata: {name: two}, spec: {selector: {app: web}, ports: [{name: a, port: 18180, targetPort: 18034}, {name: b, port: 9090, targetPort: 18035}]}}`, Do: func(r *run) {
			r.labelled("s", `{containers: [{name: c, args: ["serve 18034"]}, {name: d, args: ["listen 18035"]}]}`, `{labels: {app: web}}`)
			r.until("s", "ready", ready)
			r.pod("q", client("get http://two:18180/ until 200; dial two:9090"))
			r.finish("q")
		}},
		{Name: "has one loopback for its containers", Pod: `containers: [{name: c, args: ["get http://127.0.0.1:18036/ready until 200; get http://localhost:18036/ready"]}, {name: d, args: ["trap TERM 0; wait-file /absent"]}]
initContainers: [{name: s, restartPolicy: Always, args: ["trap TERM 0; serve 18036"]}]`, Do: func(r *run) {
			p := r.until("p", "answered", func(p *corev1.Pod) bool { return container(p, "c").State.Terminated != nil })
			r.note("c", "%s", r.state(container(p, "c").State))
			r.noteLog("log", "p", corev1.PodLogOptions{Container: "c"})
		}},
	}
}

func controllers() []Case {
	return []Case{
		{Name: "of a Job is made until enough have succeeded", Objects: `
kind: Job
metadata: {name: j}
spec: {completions: 3, parallelism: 2, template: {spec: {restartPolicy: Never, containers: [{name: c, args: ["echo done"]}]}}}`, Do: func(r *run) {
			r.job("j")
		}},
		{Name: "of a Job that fails is made again as often as it may", Objects: `
kind: Job
metadata: {name: j}
spec: {backoffLimit: 1, template: {spec: {restartPolicy: Never, containers: [{name: c, args: ["exit 42"]}]}}}`, Do: func(r *run) {
			r.job("j")
		}},
		{Name: "of a Job is counted by its exit code where the Job says so", Objects: `
kind: Job
metadata: {name: j}
spec: {backoffLimit: 5, podFailurePolicy: {rules: [{action: FailJob, onExitCodes: {operator: In, values: [42]}}]}, template: {spec: {restartPolicy: Never, containers: [{name: c, args: ["exit 42"]}]}}}`, Do: func(r *run) {
			r.job("j")
		}},
		{Name: "of a Job knows its number", Objects: `
kind: Job
metadata: {name: j}
spec: {completions: 2, parallelism: 2, completionMode: Indexed, template: {spec: {restartPolicy: Never, containers: [{name: c, args: ["env JOB_COMPLETION_INDEX; hostname"]}]}}}`, Do: func(r *run) {
			r.job("j")
			for _, p := range r.pods("") {
				r.noteLog("log of "+p.Annotations["batch.kubernetes.io/job-completion-index"], p.Name, corev1.PodLogOptions{})
			}
		}},
		{Name: "of a Job is ended by the Job's deadline", Objects: `
kind: Job
metadata: {name: j}
spec: {activeDeadlineSeconds: 3, template: {spec: {restartPolicy: Never, terminationGracePeriodSeconds: 1, containers: [{name: c, args: ["trap TERM 0; wait"]}]}}}`, Do: func(r *run) {
			r.jobOver("j")
		}},
		{Name: "of a Deployment is replaced by one of the next version", Objects: `
kind: Deployment
metadata: {name: d}
spec: {replicas: 2, selector: {matchLabels: {app: d}}, template: {metadata: {labels: {app: d}}, spec: {terminationGracePeriodSeconds: 1, containers: [{name: c, env: [{name: V, value: one}], args: ["env V; trap TERM 0; wait"]}]}}}`, Do: func(r *run) {
			r.deployed("d", "V=one")
			r.patch("Deployment", "d", `{"spec":{"template":{"metadata":{"annotations":{"v":"two"}},"spec":{"containers":[{"name":"c","image":"`+ProbeImage+`","env":[{"name":"V","value":"two"}],"args":["env V; trap TERM 0; wait"]}]}}}}`)
			r.deployed("d", "V=two")
		}},
		{Name: "of a Deployment is made anew when it is deleted", Objects: `
kind: Deployment
metadata: {name: d}
spec: {replicas: 1, selector: {matchLabels: {app: d}}, template: {metadata: {labels: {app: d}}, spec: {terminationGracePeriodSeconds: 1, containers: [{name: c, args: ["echo up; trap TERM 0; wait"]}]}}}`, Do: func(r *run) {
			r.deployed("d", "up")
			r.remove(r.pods("app=d")[0].Name, nil)
			r.deployed("d", "up")
		}},
		{Name: "of a StatefulSet keeps its name", Objects: `
kind: StatefulSet
metadata: {name: s}
spec: {replicas: 2, serviceName: s, selector: {matchLabels: {app: s}}, template: {metadata: {labels: {app: s}}, spec: {terminationGracePeriodSeconds: 1, containers: [{name: c, args: ["hostname; trap TERM 0; wait"]}]}}}`, Do: func(r *run) {
			r.until("s-0", "ready", ready)
			r.until("s-1", "ready", ready)
			r.remove("s-0", nil)
			r.until("s-0", "ready again", ready)
			r.noteLog("first", "s-0", corev1.PodLogOptions{})
			r.noteLog("second", "s-1", corev1.PodLogOptions{})
		}},
		{Name: "of a DaemonSet runs on the node", Objects: `
kind: DaemonSet
metadata: {name: d}
spec: {selector: {matchLabels: {app: d}}, template: {metadata: {labels: {app: d}}, spec: {terminationGracePeriodSeconds: 1, containers: [{name: c, args: ["echo up; trap TERM 0; wait"]}]}}}`, Do: func(r *run) {
			for len(r.pods("app=d")) == 0 {
				r.pause(100 * time.Millisecond)
			}
			p := r.until(r.pods("app=d")[0].Name, "ready", ready)
			r.note("node", "%s", p.Spec.NodeName)
			r.status(p)
		}},
	}
}

func (r *run) pods(selector string) []corev1.Pod {
	list, err := r.node.client.CoreV1().Pods(r.namespace).List(r.ctx, metav1.ListOptions{LabelSelector: selector})
	r.must(err, "listing pods")
	return list.Items
}

// job waits until a Job is over and writes it down, with the ends of its pods.
func (r *run) job(name string) {
	r.jobOver(name)
	ends := map[string]bool{}
	for _, p := range r.pods("") {
		ends[fmt.Sprintf("%s: %s", p.Status.Phase, r.state(container(&p, "c").State))] = true
	}
	r.note("pods", "%s", strings.Join(sorted(ends), "; "))
}

// jobOver is job for one whose pods are deleted with it.
func (r *run) jobOver(name string) {
	for {
		job, err := r.node.client.BatchV1().Jobs(r.namespace).Get(r.ctx, name, metav1.GetOptions{})
		r.must(err, "looking at the Job")
		for _, c := range job.Status.Conditions {
			over := c.Type == "Complete" || c.Type == "Failed"
			if over && c.Status == corev1.ConditionTrue && job.Status.Active == 0 {
				r.note("job", "%s %s, succeeded %d, failed %d", c.Type, c.Reason, job.Status.Succeeded, job.Status.Failed)
				return
			}
		}
		r.pause(100 * time.Millisecond)
	}
}

// deployed waits until a Deployment has only pods of its last version, which log
// text.
func (r *run) deployed(name, text string) {
	for {
		d, err := r.node.client.AppsV1().Deployments(r.namespace).Get(r.ctx, name, metav1.GetOptions{})
		r.must(err, "looking at the Deployment")
		s := d.Status
		if s.ObservedGeneration == d.Generation && s.UpdatedReplicas == *d.Spec.Replicas && s.AvailableReplicas == *d.Spec.Replicas && s.Replicas == *d.Spec.Replicas {
			break
		}
		r.pause(100 * time.Millisecond)
	}
	n := 0
	for _, p := range r.pods("app=" + name) {
		if p.DeletionTimestamp == nil {
			r.logged(p.Name, "c", text)
			n++
		}
	}
	r.note("pods that log "+text, "%d", n)
}

func events() []Case {
	return []Case{
		{Name: "tells of its life in events", Pod: `containers: [{name: c, args: [""]}]`, Do: func(r *run) {
			r.until("p", "ended", ended)
			r.events("p", "Started")
			r.note("created", "%s", r.event("p", "Created"))
			r.note("started", "%s", r.event("p", "Started"))
			r.note("pulled", "%s", r.event("p", "Pulled"))
		}},
		{Name: "tells of its killing in events", Do: func(r *run) {
			r.pod("q", `{terminationGracePeriodSeconds: 1, containers: [{name: c, args: ["trap TERM 0; echo up; wait"]}]}`)
			r.logged("q", "c", "up")
			r.remove("q", nil)
			r.note("killing", "%s", r.event("q", "Killing"))
		}},
		{Name: "tells of its restarts in events", Do: func(r *run) {
			r.pod("q", `{restartPolicy: Always, containers: [{name: c, args: ["exit 1"]}]}`)
			r.until("q", "there", func(*corev1.Pod) bool { return true })
			r.note("back-off", "%s", r.event("q", "BackOff"))
		}},
	}
}
