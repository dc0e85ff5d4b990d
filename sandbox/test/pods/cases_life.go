package pods

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

func endings() []Case {
	var now int64
	return []Case{
		{Name: "succeeds when its program exits 0", Pod: `containers: [{name: c, args: ["echo hello"]}]`},
		{Name: "fails with its program's exit code", Pod: `containers: [{name: c, args: ["exit 7"]}]`},
		{Name: "reports an exit code of 255", Pod: `containers: [{name: c, args: ["exit 255"]}]`},
		{Name: "reports the signal that ended it as 128 and its number", Pod: `containers: [{name: c, args: ["echo before; crash"]}]`},
		{Name: "is process 1, which does not die of a signal that it does not handle", Do: func(r *run) {
			r.pod("p", `containers: [{name: c, args: ["pid; untrap TERM; signal TERM 1; signal KILL 1; echo alive; exit 3"]}]`)
			r.finish("p")
		}},
		{Name: "says StartError where the program is missing", Pod: `containers: [{name: c, command: [/bin/absent]}]`},
		{Name: "says StartError where the program cannot be executed", Pod: `containers: [{name: c, command: [/data/program]}]`},
		{Name: "says StartError where the program is a folder", Pod: `containers: [{name: c, command: [/data]}]`},
		{Name: "finds its program on the image's PATH", Pod: `containers: [{name: c, command: [probe, "echo found"]}]`},
		{Name: "makes a working directory that is missing", Pod: `containers: [{name: c, workingDir: /made/here, args: ["cwd; stat /made/here"]}]`},
		{Name: "fails when one of two containers does, and waits for the other", Pod: `
			containers: [{name: bad, args: ["exit 1"]}, {name: good, args: ["sleep 1s; echo done"]}]`},
		{Name: "restarts what failed, and succeeds when that does", Pod: `
			restartPolicy: OnFailure
			volumes: [{name: v, emptyDir: {}}]
			containers: [{name: c, args: ["retry /v/n 2"], volumeMounts: [{name: v, mountPath: /v}]}]`},
		{Name: "leaves a container alone that succeeded beside one that is restarted", Pod: `
			restartPolicy: OnFailure
			volumes: [{name: v, emptyDir: {}}]
			containers:
			- {name: again, args: ["retry /v/n 2"], volumeMounts: [{name: v, mountPath: /v}]}
			- {name: once, args: ["echo once"]}`},
		{Name: "restarts what succeeded under restartPolicy Always", Do: func(r *run) {
			r.pod("q", `{restartPolicy: Always, containers: [{name: c, args: ["echo once"]}]}`)
			r.vague = true
			r.status(r.until("q", "restarted", all(restarted("c", 1), waiting("c", "CrashLoopBackOff"))))
		}},
		{Name: "is run again, as another image, when its image changes", Do: func(r *run) {
			r.pod("q", `{restartPolicy: Never, containers: [{name: c, args: ["trap TERM 3; echo up; wait"]}]}`)
			r.logged("q", "c", "up")
			r.patch("Pod", "q", `[{"op":"replace","path":"/spec/containers/0/image","value":"biplane.test/user:1"}]`)
			r.status(r.until("q", "running again", all(restarted("c", 1), running)))
			r.events("q", "Killing")
		}},
		{Name: "backs off after its second failure, and longer after its third", Do: func(r *run) {
			r.pod("q", `{restartPolicy: Always, containers: [{name: c, args: ["echo trying; exit 2"]}]}`)
			r.vague = true
			first := r.until("q", "backing off", all(restarted("c", 1), waiting("c", "CrashLoopBackOff")))
			r.status(first)
			second := r.until("q", "backing off again", all(restarted("c", container(first, "c").RestartCount+1), waiting("c", "CrashLoopBackOff")))
			pause := func(p *corev1.Pod) time.Duration {
				d, err := time.ParseDuration(strings.TrimPrefix(backOff.FindString(container(p, "c").State.Waiting.Message), "back-off "))
				r.must(err, "reading the back-off")
				return d
			}
			r.note("longer", "%d times", pause(second)/pause(first))
			r.noteLog("previous", "q", corev1.PodLogOptions{Previous: true})
			r.events("q", "BackOff")
		}},
		{Name: "ends with DeadlineExceeded when its time is over", Pod: `
			activeDeadlineSeconds: 5
			terminationGracePeriodSeconds: 1
			containers: [{name: c, args: ["ignore TERM; wait"]}]`},
		{Name: "may end in order when its time is over", Pod: `
			activeDeadlineSeconds: 5
			containers: [{name: c, args: ["trap TERM 5; wait"]}]`},
		{Name: "gets SIGTERM when it is deleted, and its exit code is seen", Do: func(r *run) {
			r.pod("q", `containers: [{name: c, args: ["trap TERM 3; echo up; wait"]}]`)
			r.logged("q", "c", "up")
			last, _ := r.remove("q", nil)
			r.hidePod(last)
			r.status(last)
		}},
		{Name: "succeeds when it exits 0 after SIGTERM", Do: func(r *run) {
			r.pod("q", `{restartPolicy: Always, containers: [{name: c, args: ["trap TERM 0; echo up; wait"]}]}`)
			r.logged("q", "c", "up")
			last, _ := r.remove("q", nil)
			r.hidePod(last)
			r.status(last)
		}},
		{Name: "that ignores SIGTERM is killed after its grace", Do: func(r *run) {
			r.pod("q", `{terminationGracePeriodSeconds: 2, containers: [{name: c, args: ["ignore TERM; echo up; wait"]}]}`)
			r.logged("q", "c", "up")
			last, took := r.remove("q", nil)
			r.hidePod(last)
			r.status(last)
			r.note("gone after", "%s", atLeast(took, 1800*time.Millisecond))
		}},
		{Name: "has the grace that its deletion names", Do: func(r *run) {
			var one int64 = 1
			r.pod("q", `{terminationGracePeriodSeconds: 60, containers: [{name: c, args: ["ignore TERM; echo up; wait"]}]}`)
			r.logged("q", "c", "up")
			last, took := r.remove("q", &one)
			r.hidePod(last)
			r.status(last)
			r.note("gone after", "%s", atLeast(took, 900*time.Millisecond))
		}},
		{Name: "is gone at once when its deletion is forced", Do: func(r *run) {
			r.pod("q", `{terminationGracePeriodSeconds: 120, containers: [{name: c, args: ["ignore TERM; echo up; wait"]}]}`)
			r.logged("q", "c", "up")
			_, took := r.remove("q", &now)
			r.note("sooner than its grace", "%v", took < 100*time.Second)
		}},
		{Name: "takes its daemons with it", Do: func(r *run) {
			r.pod("q", `{terminationGracePeriodSeconds: 1, containers: [{name: c, args: ["spawn; sleep 500ms; procs; trap TERM 0; echo up; wait"]}]}`)
			r.logged("q", "c", "up")
			r.noteLog("log", "q", corev1.PodLogOptions{})
			r.remove("q", nil)
		}},
		{Name: "ends although a daemon of it still runs", Pod: `containers: [{name: c, args: ["spawn; echo over; exit 4"]}]`},
	}
}

func hooks() []Case {
	shared := `volumes: [{name: v, emptyDir: {}}]`
	return []Case{
		{Name: "runs its postStart command beside its program", Pod: shared + `
			containers:
			- name: c
			  args: ["wait-text /v/hook started; cat /v/hook"]
			  volumeMounts: [{name: v, mountPath: /v}]
			  lifecycle: {postStart: {exec: {command: [/bin/probe, "write /v/hook started"]}}}`},
		{Name: "is not running before its postStart command has ended", Do: func(r *run) {
			r.pod("q", `{containers: [{name: c, args: ["wait"], lifecycle: {postStart: {exec: {command: [/bin/probe, "wait-file /tmp/go"]}}}}]}`)
			r.event("q", "Started")
			r.pause(time.Second)
			p := r.until("q", "there", func(*corev1.Pod) bool { return true })
			r.status(p)
			r.noteExec("let go", "q", "c", "write /tmp/go")
			r.status(r.until("q", "running", running))
		}},
		{Name: "is killed when its postStart command fails", Do: func(r *run) {
			r.pod("q", `{terminationGracePeriodSeconds: 1, containers: [{name: c, args: ["trap TERM 9; wait"], lifecycle: {postStart: {exec: {command: [/bin/probe, "sleep 2s; exit 1"]}}}}]}`)
			r.status(r.until("q", "ended", ended))
			r.events("q", "Killing", "Normal Pulled")
		}},
		{Name: "runs its preStop command before SIGTERM", Do: func(r *run) {
			r.pod("q", `{containers: [{name: c, args: ["trap TERM 0 /tmp/hook; echo up; wait"],
			  lifecycle: {preStop: {exec: {command: [/bin/probe, "sleep 500ms; write /tmp/hook stopped"]}}}, terminationMessagePath: /tmp/hook}]}`)
			r.logged("q", "c", "up")
			last, _ := r.remove("q", nil)
			r.hidePod(last)
			r.status(last)
		}},
		{Name: "sleeps before SIGTERM where preStop says so", Do: func(r *run) {
			r.pod("q", `{containers: [{name: c, args: ["trap TERM 0; echo up; wait"], lifecycle: {preStop: {sleep: {seconds: 2}}}}]}`)
			r.logged("q", "c", "up")
			last, took := r.remove("q", nil)
			r.hidePod(last)
			r.status(last)
			r.note("gone after", "%s", atLeast(took, 1800*time.Millisecond))
		}},
		{Name: "is asked over HTTP before SIGTERM where preStop says so", Do: func(r *run) {
			r.pod("q", `{containers: [{name: c, ports: [{name: web, containerPort: 18001}], terminationMessagePolicy: FallbackToLogsOnError,
			  args: ["trap TERM 6; echo up; serve 18001"], lifecycle: {preStop: {httpGet: {port: web, path: /say, httpHeaders: [{name: X-Probe, value: bye}]}}},
			  readinessProbe: {tcpSocket: {port: web}, periodSeconds: 1}}]}`)
			r.until("q", "ready", ready)
			last, _ := r.remove("q", nil)
			r.hidePod(last)
			r.status(last)
		}},
		{Name: "has its preStop command cut off by its grace", Do: func(r *run) {
			r.pod("q", `{terminationGracePeriodSeconds: 1, containers: [{name: c, args: ["ignore TERM; echo up; wait"], lifecycle: {preStop: {exec: {command: [/bin/probe, "wait"]}}}}]}`)
			r.logged("q", "c", "up")
			last, took := r.remove("q", nil)
			r.hidePod(last)
			r.status(last)
			r.note("gone after", "%s", atLeast(took, 900*time.Millisecond))
		}},
	}
}

func probes() []Case {
	return []Case{
		{Name: "is restarted when its liveness command fails", Do: func(r *run) {
			r.pod("q", `{restartPolicy: Always, terminationGracePeriodSeconds: 1, containers: [{name: c, args: ["trap TERM 4; wait"],
			  livenessProbe: {exec: {command: [/bin/probe, "exit 1"]}, initialDelaySeconds: 3, periodSeconds: 1, failureThreshold: 2}}]}`)
			r.vague = true
			r.status(r.until("q", "restarted", all(restarted("c", 1), running)))
			r.events("q", "Killing", "Warning BackOff")
		}},
		{Name: "fails when its liveness command fails and it is not to be restarted", Pod: `
			containers: [{name: c, args: ["trap TERM 4; wait"], livenessProbe: {exec: {command: [/bin/probe, "exit 1"]}, initialDelaySeconds: 3, periodSeconds: 1, failureThreshold: 1}}]`},
		{Name: "is restarted when its liveness page is an error", Do: func(r *run) {
			r.pod("q", `{restartPolicy: Always, containers: [{name: c, args: ["trap TERM 4; serve 18002"],
			  livenessProbe: {httpGet: {port: 18002, path: /fail}, initialDelaySeconds: 3, periodSeconds: 1, failureThreshold: 1}}]}`)
			r.vague = true
			r.status(r.until("q", "restarted", all(restarted("c", 1), running)))
		}},
		{Name: "is restarted when its liveness port is closed", Do: func(r *run) {
			r.pod("q", `{restartPolicy: Always, containers: [{name: c, args: ["trap TERM 4; wait"], livenessProbe: {tcpSocket: {port: 18003}, initialDelaySeconds: 3, periodSeconds: 1, failureThreshold: 1}}]}`)
			r.vague = true
			r.status(r.until("q", "restarted", all(restarted("c", 1), running)))
		}},
		{Name: "is restarted when its liveness command takes too long", Do: func(r *run) {
			r.pod("q", `{restartPolicy: Always, containers: [{name: c, args: ["trap TERM 4; wait"],
			  livenessProbe: {exec: {command: [/bin/probe, "wait"]}, initialDelaySeconds: 3, timeoutSeconds: 1, periodSeconds: 1, failureThreshold: 1}}]}`)
			r.vague = true
			r.status(r.until("q", "restarted", all(restarted("c", 1), running)))
		}},
		{Name: "is left alone while its liveness page answers", Do: func(r *run) {
			r.pod("q", `{restartPolicy: Always, containers: [{name: c, args: ["serve 18004"], ports: [{name: web, containerPort: 18004}],
			  livenessProbe: {httpGet: {port: web, path: /say, httpHeaders: [{name: X-Probe, value: alive}]}, periodSeconds: 1}}]}`)
			r.logged("q", "c", "asked with GET alive")
			r.logged("q", "c", "kube-probe")
			r.status(r.until("q", "running", running))
		}},
		{Name: "has the grace that its liveness probe names", Do: func(r *run) {
			r.pod("q", `{restartPolicy: Always, terminationGracePeriodSeconds: 60, containers: [{name: c, args: ["ignore TERM; wait"],
			  livenessProbe: {exec: {command: [/bin/probe, "exit 1"]}, initialDelaySeconds: 3, periodSeconds: 1, failureThreshold: 1, terminationGracePeriodSeconds: 1}}]}`)
			r.vague = true
			r.status(r.until("q", "restarted", all(restarted("c", 1), running)))
		}},
		{Name: "is ready when its readiness page says so, and not before", Do: func(r *run) {
			r.pod("q", `{restartPolicy: Always, containers: [{name: c, args: ["serve 18005 /tmp/ready"], readinessProbe: {httpGet: {port: 18005, path: /ready}, periodSeconds: 1}}]}`)
			r.event("q", "Unhealthy")
			r.status(r.until("q", "running", running))
			r.noteExec("make it ready", "q", "c", "write /tmp/ready")
			r.status(r.until("q", "ready", ready))
		}},
		{Name: "is no longer ready when its readiness command fails, and is not restarted", Do: func(r *run) {
			r.pod("q", `{restartPolicy: Always, containers: [{name: c, args: ["write /tmp/ready; wait"], readinessProbe: {exec: {command: [/bin/probe, "retry /tmp/absent/x 1"]}, periodSeconds: 1, failureThreshold: 1}},
			  {name: d, args: ["write /tmp/ready; wait"], readinessProbe: {exec: {command: [/bin/probe, "wait-file /tmp/ready"]}, timeoutSeconds: 1, periodSeconds: 1, failureThreshold: 1}}]}`)
			r.until("q", "ready", ready)
			r.noteExec("make it unready", "q", "d", "rm /tmp/ready")
			r.status(r.until("q", "unready", func(p *corev1.Pod) bool { return running(p) && !ready(p) }))
		}},
		{Name: "is ready when its port is open", Do: func(r *run) {
			r.pod("q", `{restartPolicy: Always, containers: [{name: c, args: ["sleep 500ms; listen 18006"], readinessProbe: {tcpSocket: {port: 18006}, periodSeconds: 1}}]}`)
			r.status(r.until("q", "ready", ready))
		}},
		{Name: "is ready when its gRPC health service says so", Do: func(r *run) {
			r.pod("q", `{restartPolicy: Always, containers: [{name: c, args: ["grpc 18007 work"], readinessProbe: {grpc: {port: 18007, service: work}, periodSeconds: 1}}]}`)
			r.status(r.until("q", "ready", ready))
		}},
		{Name: "is restarted when its gRPC health service does not know the service", Do: func(r *run) {
			r.pod("q", `{restartPolicy: Always, containers: [{name: c, args: ["trap TERM 4; grpc 18008 work"], livenessProbe: {grpc: {port: 18008, service: other}, initialDelaySeconds: 3, periodSeconds: 1, failureThreshold: 1}}]}`)
			r.vague = true
			r.status(r.until("q", "restarted", all(restarted("c", 1), running)))
		}},
		{Name: "is not started before its startup probe has passed", Do: func(r *run) {
			r.pod("q", `{restartPolicy: Always, containers: [{name: c, args: ["wait"], startupProbe: {exec: {command: [/bin/probe, "retry /tmp/absent 1; wait-file /tmp/up"]}, timeoutSeconds: 1, periodSeconds: 1, failureThreshold: 60},
			  livenessProbe: {exec: {command: [/bin/probe, "wait-file /tmp/up"]}, timeoutSeconds: 1, periodSeconds: 1, failureThreshold: 1}}]}`)
			r.event("q", "Unhealthy")
			r.status(r.until("q", "running", running))
			r.noteExec("bring it up", "q", "c", "write /tmp/up")
			r.status(r.until("q", "ready", ready))
		}},
		{Name: "fails when its startup probe never passes", Pod: `
			terminationGracePeriodSeconds: 1
			containers: [{name: c, args: ["trap TERM 4; wait"], startupProbe: {exec: {command: [/bin/probe, "exit 1"]}, initialDelaySeconds: 3, periodSeconds: 1, failureThreshold: 2}}]`},
		{Name: "is ready only with what its readiness gates want", Do: func(r *run) {
			r.pod("q", `{restartPolicy: Always, readinessGates: [{conditionType: example.com/gate}], containers: [{name: c, args: ["wait"]}]}`)
			r.status(r.until("q", "running with its condition", func(p *corev1.Pod) bool {
				return running(p) && condition(p, corev1.ContainersReady) == corev1.ConditionTrue
			}))
			_, err := r.node.client.CoreV1().Pods(r.namespace).Patch(r.ctx, "q", "application/strategic-merge-patch+json",
				[]byte(`{"status":{"conditions":[{"type":"example.com/gate","status":"True"}]}}`), patchOptions, "status")
			r.must(err, "opening the gate")
			r.status(r.until("q", "ready", ready))
		}},
	}
}

func inits() []Case {
	return []Case{
		{Name: "runs its init containers one after the other", Pod: `
			volumes: [{name: v, emptyDir: {}}]
			initContainers:
			- {name: one, args: ["sleep 300ms; append /v/order one"], volumeMounts: [{name: v, mountPath: /v}]}
			- {name: two, args: ["append /v/order two"], volumeMounts: [{name: v, mountPath: /v}]}
			containers: [{name: c, args: ["cat /v/order"], volumeMounts: [{name: v, mountPath: /v}]}]`},
		{Name: "fails when an init container does, and starts nothing after it", Pod: `
			initContainers: [{name: bad, args: ["echo no; exit 6"]}, {name: after, args: ["echo never"]}]
			containers: [{name: c, args: ["echo never"]}]`},
		{Name: "tries an init container again", Pod: `
			restartPolicy: OnFailure
			volumes: [{name: v, emptyDir: {}}]
			initContainers: [{name: again, args: ["retry /v/n 2"], volumeMounts: [{name: v, mountPath: /v}]}]
			containers: [{name: c, args: ["echo after"]}]`},
		{Name: "is pending while an init container runs", Do: func(r *run) {
			r.pod("q", `{initContainers: [{name: first, args: ["trap TERM 0; echo up; wait"]}, {name: second, args: [""]}], containers: [{name: c, args: [""]}]}`)
			r.logged("q", "first", "up")
			r.status(r.until("q", "initialising", func(p *corev1.Pod) bool { return container(p, "first").State.Running != nil }))
			last, _ := r.remove("q", nil)
			r.hidePod(last)
			r.status(last)
		}},
		{Name: "backs off from an init container that fails", Do: func(r *run) {
			r.pod("q", `{restartPolicy: Always, initContainers: [{name: bad, args: ["exit 1"]}], containers: [{name: c, args: [""]}]}`)
			r.vague = true
			r.status(r.until("q", "backing off", all(restarted("bad", 1), waiting("bad", "CrashLoopBackOff"))))
		}},
		{Name: "has sidecars that start before it and end after it", Pod: `
			terminationGracePeriodSeconds: 5
			initContainers: [{name: side, restartPolicy: Always, args: ["trap TERM 0; serve 18010"]}, {name: after, args: ["get http://127.0.0.1:18010/ until 200"]}]
			containers: [{name: c, args: ["get http://127.0.0.1:18010/ready until 200"]}]`},
		{Name: "waits for a sidecar's startup probe", Pod: `
			volumes: [{name: v, emptyDir: {}}]
			initContainers:
			- name: side
			  restartPolicy: Always
			  args: ["trap TERM 0; sleep 1s; write /v/up; wait"]
			  startupProbe: {exec: {command: [/bin/probe, "wait-file /v/up"]}, timeoutSeconds: 1, periodSeconds: 1, failureThreshold: 30}
			  volumeMounts: [{name: v, mountPath: /v}]
			containers: [{name: c, args: ["has /v/up"], volumeMounts: [{name: v, mountPath: /v}]}]`},
		{Name: "has a sidecar that is restarted while its program goes on", Do: func(r *run) {
			r.pod("q", `{initContainers: [{name: side, restartPolicy: Always, args: ["echo side; exit 3"]}], containers: [{name: c, args: ["wait"]}]}`)
			p := r.until("q", "restarted", all(restarted("side", 1), running))
			r.note("phase", "%s", p.Status.Phase) // the sidecar's state is another at each moment
			r.note("c", "%s", r.state(container(p, "c").State))
		}},
		{Name: "ends its sidecars last when it is deleted", Do: func(r *run) {
			r.pod("q", `{volumes: [{name: v, emptyDir: {}}],
			  initContainers: [{name: side, restartPolicy: Always, args: ["trap TERM 1 /v/order; wait"], terminationMessagePolicy: FallbackToLogsOnError, volumeMounts: [{name: v, mountPath: /v}]}],
			  containers: [{name: c, args: ["trap TERM 0; echo up; wait"], volumeMounts: [{name: v, mountPath: /v}],
			    lifecycle: {preStop: {exec: {command: [/bin/probe, "sleep 500ms; append /v/order main"]}}}}]}`)
			r.logged("q", "c", "up")
			last, _ := r.remove("q", nil)
			r.hidePod(last)
			r.status(last)
		}},
	}
}
