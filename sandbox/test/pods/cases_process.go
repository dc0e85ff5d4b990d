package pods

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

func repeat(s string, n int) string { return strings.Repeat(s, n) }

// hideIssuer hides the audience of default tokens, which is the cluster's issuer.
func hideIssuer(log string) string {
	var lines []string
	for line := range strings.Lines(log) {
		if before, after, ok := strings.Cut(line, "aud ["); ok {
			_, after, _ = strings.Cut(after, "]")
			line = before + "aud [ISSUER]" + after
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "")
}

func environment() []Case {
	return []Case{
		{Name: "has the image's variables, its own, and Kubernetes'", Pod: `
			containers: [{name: c, env: [{name: OWN, value: mine}, {name: OVERRIDDEN, value: pod}, {name: EMPTY}], args: ["env; env OWN FROM_IMAGE OVERRIDDEN EMPTY PATH HOSTNAME HOME KUBERNETES_PORT_443_TCP_PROTO"]}]`},
		{Name: "expands variables in variables, commands and arguments", Pod: `
			containers:
			- name: c
			  env: [{name: A, value: one}, {name: B, value: "$(A) two"}, {name: C, value: "$(LATER) $$(A) $(A"}, {name: LATER, value: x}]
			  command: [/bin/probe, "args $(B) '$(C)' $$(A) $(ABSENT) $$$(A)"]
			  args: ["env B C; echo $(A)"]`},
		{Name: "has variables of config maps and secrets", Objects: someConfig + "---" + someSecret, Pod: `
			containers: [{name: c, env: [{name: K, valueFrom: {configMapKeyRef: {name: cm, key: key}}}, {name: P, valueFrom: {secretKeyRef: {name: s, key: password}}}, {name: NONE, valueFrom: {configMapKeyRef: {name: absent, key: key, optional: true}}}, {name: M, valueFrom: {secretKeyRef: {name: s, key: absent, optional: true}}}, {name: ALL, value: "$(K)-$(P)"}],
			  args: ["env K P NONE M ALL"]}]`},
		{Name: "has all variables of a config map and of a secret", Objects: someConfig + "---" + someSecret, Pod: `
			containers: [{name: c, envFrom: [{configMapRef: {name: cm}}, {secretRef: {name: s}, prefix: S_}, {configMapRef: {name: absent, optional: true}}], env: [{name: user, value: own}], args: ["env key other.txt S_password S_user user binary"]}]`},
		{Name: "waits for a config map that a variable is of", Do: func(r *run) {
			r.pod("q", `{containers: [{name: c, env: [{name: K, valueFrom: {configMapKeyRef: {name: cm, key: key}}}], args: ["env K"]}]}`)
			r.status(r.until("q", "waiting", waiting("c", "CreateContainerConfigError")))
			r.apply(someConfig)
			r.finish("q")
		}},
		{Name: "waits for a key that a variable is of", Objects: someSecret, Do: func(r *run) {
			r.pod("q", `{containers: [{name: c, env: [{name: K, valueFrom: {secretKeyRef: {name: s, key: absent}}}], args: ["env K"]}]}`)
			r.status(r.until("q", "waiting", waiting("c", "CreateContainerConfigError")))
		}},
		{Name: "waits for a secret that all variables are of", Do: func(r *run) {
			r.pod("q", `{containers: [{name: c, envFrom: [{secretRef: {name: absent}}], args: [""]}]}`)
			r.status(r.until("q", "waiting", waiting("c", "CreateContainerConfigError")))
		}},
		{Name: "has variables of its own fields", Do: func(r *run) {
			r.labelled("q", `{restartPolicy: Never, serviceAccountName: default, containers: [{name: c, env: [{name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}, {name: NS, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}, {name: ID, valueFrom: {fieldRef: {fieldPath: metadata.uid}}},
			  {name: LABEL, valueFrom: {fieldRef: {fieldPath: "metadata.labels['app']"}}}, {name: NOTE, valueFrom: {fieldRef: {fieldPath: "metadata.annotations['note']"}}}, {name: ACCOUNT, valueFrom: {fieldRef: {fieldPath: spec.serviceAccountName}}},
			  {name: NODE_NAME, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}, {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}, {name: HOST, valueFrom: {fieldRef: {fieldPath: status.hostIP}}}],
			  args: ["env NAME NS ID LABEL NOTE ACCOUNT NODE_NAME"]}, {name: addresses, env: [{name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}, {name: HOST, valueFrom: {fieldRef: {fieldPath: status.hostIP}}}], args: ["env IP HOST"]}]}`,
				`{labels: {app: web}, annotations: {note: hello}}`)
			p := r.until("q", "ended", ended)
			r.status(p)
			r.noteLog("log", "q", corev1.PodLogOptions{Container: "c"})
			text, err := r.log("q", corev1.PodLogOptions{Container: "addresses"})
			r.must(err, "reading the log")
			r.note("its addresses", "as in its status: %v", text == fmt.Sprintf("IP=%s\nHOST=%s\n", p.Status.PodIP, p.Status.HostIP))
		}},
		{Name: "has variables of its resources", Pod: `
			containers: [{name: c, resources: {limits: {cpu: 1500m, memory: 64Mi}, requests: {cpu: 100m, memory: 32Mi}}, env: [{name: CPU, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}, {name: MILLI, valueFrom: {resourceFieldRef: {resource: requests.cpu, divisor: 1m}}}, {name: MEM, valueFrom: {resourceFieldRef: {resource: limits.memory}}}, {name: MEBI, valueFrom: {resourceFieldRef: {resource: requests.memory, divisor: 1Mi}}}],
			  args: ["env CPU MILLI MEM MEBI"]}]`},
		{Name: "has variables of the Services of its namespace", Objects: `{kind: Service, metadata: {name: my-db}, spec: {selector: {app: none}, ports: [{name: main, port: 5432}, {name: other, port: 99, protocol: UDP}]}}`,
			Pod: `{containers: [{name: c, args: ["env MY_DB_SERVICE_PORT MY_DB_SERVICE_PORT_MAIN MY_DB_PORT_5432_TCP_PORT MY_DB_PORT_5432_TCP_PROTO MY_DB_PORT_99_UDP_PORT"]}]}`},
		{Name: "has no variables of Services where it wants none", Objects: `{kind: Service, metadata: {name: my-db}, spec: {selector: {app: none}, ports: [{port: 5432}]}}`,
			Pod: `{enableServiceLinks: false, containers: [{name: c, args: ["env MY_DB_SERVICE_PORT KUBERNETES_PORT_443_TCP_PROTO"]}]}`},
		{Name: "has ten thousand variables", Do: func(r *run) {
			var vars strings.Builder
			for i := range 10000 {
				fmt.Fprintf(&vars, "{name: V%d, value: v%d}, ", i, i)
			}
			r.pod("q", `{containers: [{name: c, env: [`+vars.String()+`], args: ["env V0 V4999 V9999"]}]}`)
			r.finish("q")
		}},
	}
}

func identities() []Case {
	return []Case{
		{Name: "is user 0 by itself", Pod: `containers: [{name: c, args: ["id; groups; stat /root /data/file; cat /data/file"]}]`},
		{Name: "is the user and group that it asks for", Pod: `
			securityContext: {runAsUser: 1000, runAsGroup: 2000}
			containers: [{name: c, args: ["id; write /tmp/x y; stat /tmp/x; write /data/x y; env HOME"]}, {name: d, securityContext: {runAsUser: 3000}, args: ["id"]}]`},
		{Name: "has the groups that it asks for", Pod: `
			securityContext: {runAsUser: 1000, runAsGroup: 2000, supplementalGroups: [5000, 6000]}
			containers: [{name: c, args: ["id; groups"]}]`},
		{Name: "is the image's user, in its folder", Pod: `containers: [{name: c, image: "biplane.test/user:1"}, {name: d, image: "biplane.test/user:1", securityContext: {runAsUser: 77}}]`},
		{Name: "is refused where it must not be root and the image says nothing", Do: func(r *run) {
			r.pod("q", `{securityContext: {runAsNonRoot: true}, containers: [{name: c, args: [""]}]}`)
			p := r.until("q", "waiting", waiting("c", "CreateContainerConfigError"))
			r.status(p)
		}},
		{Name: "runs where it must not be root and says who it is", Pod: `{securityContext: {runAsNonRoot: true, runAsUser: 1000}, containers: [{name: c, args: ["id"]}]}`},
		{Name: "is refused where it must not be root and the image names a user", Do: func(r *run) {
			r.pod("q", `{securityContext: {runAsNonRoot: true}, containers: [{name: c, image: "biplane.test/user:1"}]}`)
			r.status(r.until("q", "waiting", waiting("c", "CreateContainerConfigError")))
		}},
		{Name: "can write into its root, for itself alone", Pod: `
			initContainers: [{name: i, args: ["write /x here; mkdir /deep/er; cat /x"]}]
			containers: [{name: c, args: ["has /x /deep; write /data/file changed; cat /data/file"]}]`},
		{Name: "cannot write into its root where that is read-only", Pod: `
			volumes: [{name: v, emptyDir: {}}]
			containers: [{name: c, securityContext: {readOnlyRootFilesystem: true}, args: ["write /x y; write /tmp/x y; write /v/x y; write /dev/termination-log said"], volumeMounts: [{name: v, mountPath: /v}]}]`},
		{Name: "sees no processes but its own", Pod: `containers: [{name: c, args: ["procs; pid"]}, {name: d, args: ["procs"]}]`},
		{Name: "shares processes among its containers where it asks for it", Do: func(r *run) {
			r.pod("q", `{shareProcessNamespace: true, containers: [{name: c, args: ["echo up; trap TERM 0; wait"]}, {name: d, args: ["echo up; trap TERM 0; wait"]}]}`)
			refused := waiting("c", "CreateContainerConfigError")
			if p := r.until("q", "running or refused", func(p *corev1.Pod) bool { return running(p) || refused(p) }); refused(p) {
				r.note("refused", "%s", r.state(container(p, "c").State))
				return
			}
			a := r.exec("q", "c", nil, "/bin/probe", "procs")
			r.note("probes", "%d", strings.Count(a.out, "probe"))
		}},
		{Name: "has namespaces of its own", Do: func(r *run) {
			// They all run when they are read: the kernel gives an id again once its
			// namespace is gone.
			r.pod("q", `{terminationGracePeriodSeconds: 0, containers: [{name: c, args: ["namespaces; echo read; sleep 1h"]}, {name: d, args: ["namespaces; echo read; sleep 1h"]}]}`)
			r.pod("other", `{terminationGracePeriodSeconds: 0, containers: [{name: c, args: ["namespaces; echo read; sleep 1h"]}]}`)
			r.logged("q", "c", "read")
			r.logged("q", "d", "read")
			r.logged("other", "c", "read")
			ids := func(pod, name string) map[string]string {
				text, err := r.log(pod, corev1.PodLogOptions{Container: name})
				r.must(err, "reading the log")
				ids := map[string]string{}
				for line := range strings.Lines(text) {
					kind, id, _ := strings.Cut(strings.TrimSpace(line), ":")
					ids[kind] = id
				}
				return ids
			}
			c, d, o := ids("q", "c"), ids("q", "d"), ids("other", "c")
			for _, kind := range []string{"mnt", "pid", "uts", "ipc", "net"} {
				r.note(kind, "shared in the pod: %v, with another: %v", c[kind] == d[kind], c[kind] == o[kind])
			}
		}},
		{Name: "is called by its name", Pod: `containers: [{name: c, args: ["hostname; env HOSTNAME"]}]`},
		{Name: "is called as it asks", Pod: `
			hostname: me
			subdomain: us
			hostAliases: [{ip: 192.0.2.1, hostnames: [db, db.example.com]}]
			containers: [{name: c, args: ["hostname; env HOSTNAME; resolve me db db.example.com localhost"]}]`},
		{Name: "can neither see the keys of its cluster nor the files of other pods", Do: func(r *run) {
			r.pod("q", `{containers: [{name: c, args: ["ls /; has /work /home /var/lib"]}]}`)
			r.finish("q")
		}},
	}
}

func logs() []Case {
	return []Case{
		{Name: "logs both of its streams", Pod: `containers: [{name: c, args: ["echo out; sleep 300ms; err error; sleep 300ms; echo out again; print without a newline"]}]`},
		{Name: "logs a line of 40,000 bytes as one", Pod: `containers: [{name: c, args: ["flood 2 40000; echo end"]}]`, Do: func(r *run) {
			r.until("p", "ended", ended)
			text, err := r.log("p", corev1.PodLogOptions{})
			r.must(err, "reading the log")
			for line := range strings.Lines(text) {
				r.note("line", "%d bytes, ends with %q", len(line), line[max(0, len(line)-4):])
			}
		}},
		{Name: "shows the end of its log", Pod: `containers: [{name: c, args: ["echo one; echo two; echo three"]}]`, Do: func(r *run) {
			r.until("p", "ended", ended)
			var two, none, bytes int64 = 2, 0, 5
			r.noteLog("tail 2", "p", corev1.PodLogOptions{TailLines: &two})
			r.noteLog("tail 0", "p", corev1.PodLogOptions{TailLines: &none})
			r.noteLog("5 bytes", "p", corev1.PodLogOptions{LimitBytes: &bytes})
		}},
		{Name: "shows its log since a time, with times", Pod: `containers: [{name: c, args: ["echo early; sleep 3s; echo late"]}]`, Do: func(r *run) {
			p := r.until("p", "ended", ended)
			since := container(p, "c").State.Terminated.FinishedAt.Add(-1_500_000_000)
			var lines []string
			text, err := r.log("p", corev1.PodLogOptions{Timestamps: true})
			r.must(err, "reading the log")
			previous := ""
			for line := range strings.Lines(text) {
				stamp, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
				lines = append(lines, fmt.Sprintf("%s after the one before: %v", rest, stamp > previous))
				previous = stamp
				if rest == "late" {
					r.note("late is logged", "within 1.5s of the end: %v", stamp > since.UTC().Format("2006-01-02T15:04:05"))
				}
			}
			r.note("with times", "%s", strings.Join(lines, ", "))
			at := metaTime(since)
			r.noteLog("since", "p", corev1.PodLogOptions{SinceTime: &at})
		}},
		{Name: "follows its log to its end", Do: func(r *run) {
			r.pod("q", `{containers: [{name: c, args: ["echo up; wait-file /tmp/go; echo more; sleep 200ms; echo end"]}]}`)
			r.logged("q", "c", "up")
			done := make(chan string)
			go func() {
				text, err := r.log("q", corev1.PodLogOptions{Follow: true})
				if err != nil {
					text = "failed"
				}
				done <- text
			}()
			// What comes of it is a race: the container ends once the file is there, and it too.
			r.exec("q", "c", nil, "/bin/probe", "write /tmp/go")
			r.note("followed", "%s", <-done)
		}},
		{Name: "shows the log of the container before", Do: func(r *run) {
			r.pod("q", `{restartPolicy: OnFailure, volumes: [{name: v, emptyDir: {}}], containers: [{name: c, args: ["retry /v/n 2; echo second; wait"], volumeMounts: [{name: v, mountPath: /v}]}]}`)
			r.until("q", "restarted", all(restarted("c", 1), running))
			r.logged("q", "c", "second")
			r.noteLog("now", "q", corev1.PodLogOptions{})
			r.noteLog("before", "q", corev1.PodLogOptions{Previous: true})
		}},
		{Name: "has no log of a container before the first", Pod: `containers: [{name: c, args: ["echo one"]}]`, Do: func(r *run) {
			r.until("p", "ended", ended)
			r.noteLog("before", "p", corev1.PodLogOptions{Previous: true})
		}},
		{Name: "has no log before it was started", Do: func(r *run) {
			r.pod("q", `{volumes: [{name: v, configMap: {name: absent}}], containers: [{name: c, args: [""], volumeMounts: [{name: v, mountPath: /v}]}]}`)
			r.until("q", "waiting", waiting("c", "ContainerCreating"))
			r.noteLog("log", "q", corev1.PodLogOptions{})
		}},
		{Name: "has logs by the names of its containers alone", Pod: `containers: [{name: c, args: ["echo c"]}, {name: d, args: ["echo d"]}]`, Do: func(r *run) {
			r.until("p", "ended", ended)
			r.noteLog("no name", "p", corev1.PodLogOptions{})
			r.noteLog("a wrong name", "p", corev1.PodLogOptions{Container: "x"})
		}},
		{Name: "logs 64 MiB without harm", Pod: `containers: [{name: c, args: ["flood 65536 1000; echo end"]}]`, Do: func(r *run) {
			r.status(r.until("p", "ended", ended))
			var one int64 = 1
			r.noteLog("last line", "p", corev1.PodLogOptions{TailLines: &one})
		}},
	}
}
