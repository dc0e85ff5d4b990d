package pods

import (
	"os"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var patchOptions = metav1.PatchOptions{}

const someConfig = `
kind: ConfigMap
metadata: {name: cm}
data: {key: value, other.txt: "two\nlines\n"}
binaryData: {binary: AAEC/w==}
`

const someSecret = `
kind: Secret
metadata: {name: s}
stringData: {password: hidden, user: me}
`

func volumes() []Case {
	return []Case{
		{Name: "shares an emptyDir among its containers", Pod: `
			volumes: [{name: v, emptyDir: {}}]
			initContainers: [{name: writer, args: ["stat /v; mount /v; write /v/x hello"], volumeMounts: [{name: v, mountPath: /v}]}]
			containers: [{name: c, args: ["ls /elsewhere; cat /elsewhere/x; stat /elsewhere/x"], volumeMounts: [{name: v, mountPath: /elsewhere}]}]`},
		{Name: "has an emptyDir in memory", Pod: `
			volumes: [{name: v, emptyDir: {medium: Memory, sizeLimit: 1Mi}}]
			containers: [{name: c, args: ["mount /v; write /v/x hello; cat /v/x"], volumeMounts: [{name: v, mountPath: /v}]}]`},
		{Name: "keeps an emptyDir when a container is restarted", Do: func(r *run) {
			r.pod("q", `{restartPolicy: OnFailure, volumes: [{name: v, emptyDir: {}}], containers: [{name: c, args: ["append /v/n x; append /tmp/n x; cat /v/n /tmp/n; retry /v/tries 2"], volumeMounts: [{name: v, mountPath: /v}]}]}`)
			r.finish("q")
		}},
		{Name: "sees a config map as files", Objects: someConfig, Pod: `
			volumes: [{name: v, configMap: {name: cm}}]
			containers: [{name: c, args: ["ls /v; stat /v /v/key; cat /v/key /v/other.txt /v/binary"], volumeMounts: [{name: v, mountPath: /v}]}]`},
		{Name: "sees a config map's files with the modes and paths it asks for", Objects: someConfig, Pod: `
			volumes: [{name: v, configMap: {name: cm, defaultMode: 0400, items: [{key: key, path: deep/down/here}, {key: other.txt, path: top, mode: 0751}]}}]
			containers: [{name: c, args: ["ls /v /v/deep /v/deep/down; stat /v/deep /v/deep/down/here /v/top; cat /v/deep/down/here"], volumeMounts: [{name: v, mountPath: /v}]}]`},
		{Name: "cannot write into a config map", Objects: someConfig, Pod: `
			volumes: [{name: v, configMap: {name: cm}}]
			containers: [{name: c, args: ["write /v/key x; write /v/new x"], volumeMounts: [{name: v, mountPath: /v}]}]`},
		{Name: "sees a config map change", Objects: someConfig, Do: func(r *run) {
			// The names follow the contents: new ones first, then the old ones go.
			r.pod("q", `{volumes: [{name: v, configMap: {name: cm}}], containers: [{name: c, args: ["cat /v/key; wait-text /v/key changed; wait-file /v/new; wait-gone /v/other.txt; ls /v; cat /v/key"], volumeMounts: [{name: v, mountPath: /v}]}]}`)
			r.logged("q", "c", "value")
			r.patch("ConfigMap", "cm", `{"data":{"key":"changed","new":"key","other.txt":null}}`)
			r.finish("q")
		}},
		{Name: "waits for a config map that is not there", Do: func(r *run) {
			r.pod("q", `{volumes: [{name: v, configMap: {name: cm}}], containers: [{name: c, args: ["cat /v/key"], volumeMounts: [{name: v, mountPath: /v}]}]}`)
			r.note("event", "%s", r.event("q", "FailedMount"))
			r.status(r.until("q", "waiting", waiting("c", "ContainerCreating")))
			r.apply(someConfig)
			r.finish("q")
		}},
		{Name: "does without a config map that is optional", Pod: `
			volumes: [{name: v, configMap: {name: absent, optional: true}}]
			containers: [{name: c, args: ["ls /v"], volumeMounts: [{name: v, mountPath: /v}]}]`},
		{Name: "waits for a key that its config map has not", Objects: someConfig, Do: func(r *run) {
			r.pod("q", `{volumes: [{name: v, configMap: {name: cm, items: [{key: absent, path: x}]}}], containers: [{name: c, args: [""], volumeMounts: [{name: v, mountPath: /v}]}]}`)
			r.note("event", "%s", r.event("q", "FailedMount"))
		}},
		{Name: "sees a secret as files in memory", Objects: someSecret, Pod: `
			volumes: [{name: v, secret: {secretName: s, defaultMode: 0440}}]
			containers: [{name: c, args: ["ls /v; mount /v; stat /v/password; cat /v/password /v/user"], volumeMounts: [{name: v, mountPath: /v, readOnly: true}]}]`},
		{Name: "keeps a secret that is deleted while it is mounted", Objects: someSecret, Do: func(r *run) {
			r.pod("q", `{volumes: [{name: v, secret: {secretName: s}}], containers: [{name: c, args: ["echo up; wait-file /tmp/go; cat /v/password"], volumeMounts: [{name: v, mountPath: /v}]}]}`)
			r.logged("q", "c", "up")
			r.must(r.node.client.CoreV1().Secrets(r.namespace).Delete(r.ctx, "s", metav1.DeleteOptions{}), "deleting the secret")
			r.pause(2 * time.Second)
			// What comes of it is a race: the container ends once the file is there, and it too.
			r.exec("q", "c", nil, "/bin/probe", "write /tmp/go")
			r.finish("q")
		}},
		{Name: "sees itself in a downward API volume", Do: func(r *run) {
			r.labelled("q", `{volumes: [{name: v, downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}, {path: note, fieldRef: {fieldPath: "metadata.annotations['note']"}},
			  {path: one, fieldRef: {fieldPath: "metadata.labels['app']"}}, {path: name, mode: 0400, fieldRef: {fieldPath: metadata.name}}, {path: namespace, fieldRef: {fieldPath: metadata.namespace}}, {path: uid, fieldRef: {fieldPath: metadata.uid}},
			  {path: cpu, resourceFieldRef: {containerName: c, resource: limits.cpu, divisor: 1m}}, {path: memory, resourceFieldRef: {containerName: c, resource: requests.memory}}]}}],
			  containers: [{name: c, resources: {limits: {cpu: 250m, memory: 64Mi}, requests: {cpu: 10m, memory: 32Mi}},
			  args: ["ls /v; stat /v/name; cat /v/labels /v/note /v/one /v/name /v/namespace /v/uid /v/cpu /v/memory"], volumeMounts: [{name: v, mountPath: /v}]}]}`,
				`{labels: {app: web, tier: "1"}, annotations: {note: "a \"quoted\" line"}}`)
			r.hidePod(r.until("q", "there", func(*corev1.Pod) bool { return true }))
			r.finish("q")
		}},
		{Name: "sees its labels change in a downward API volume", Do: func(r *run) {
			r.labelled("q", `{volumes: [{name: v, downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}], containers: [{name: c, args: ["cat /v/labels; wait-text /v/labels 'app=\"new\"'; cat /v/labels"], volumeMounts: [{name: v, mountPath: /v}]}]}`, `{labels: {app: old}}`)
			r.logged("q", "c", "old")
			r.patch("Pod", "q", `{"metadata":{"labels":{"app":"new"}}}`)
			r.finish("q")
		}},
		{Name: "sees many sources in one projected volume", Objects: someConfig + "---" + someSecret, Pod: `
			volumes: [{name: v, projected: {defaultMode: 0440, sources: [{configMap: {name: cm, items: [{key: key, path: a/config}]}}, {secret: {name: s, items: [{key: password, path: a/secret, mode: 0400}]}},
			  {downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}]}}, {serviceAccountToken: {audience: elsewhere, expirationSeconds: 700, path: token}}, {configMap: {name: absent, optional: true}}]}}]
			containers: [{name: c, args: ["ls /v /v/a; stat /v/a/config /v/a/secret /v/name /v/token; cat /v/a/config /v/a/secret /v/name; token /v/token; mount /v"], volumeMounts: [{name: v, mountPath: /v}]}]`},
		{Name: "mounts one file of a volume", Objects: someConfig, Pod: `
			volumes: [{name: v, configMap: {name: cm}}]
			containers: [{name: c, args: ["cat /data/file /data/mounted; ls /data; stat /data/file"], volumeMounts: [{name: v, mountPath: /data/file, subPath: key}, {name: v, mountPath: /data/mounted, subPath: other.txt, readOnly: true}]}]`},
		{Name: "mounts a folder of a volume by a path made of its name", Pod: `
			volumes: [{name: v, emptyDir: {}}]
			initContainers: [{name: writer, args: ["write /v/x hello; write /all/side seen"], env: [{name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}], volumeMounts: [{name: v, mountPath: /v, subPathExpr: "logs/$(POD)"}, {name: v, mountPath: /all}]}]
			containers: [{name: c, args: ["ls /all /all/logs /all/logs/p; cat /all/logs/p/x"], volumeMounts: [{name: v, mountPath: /all}]}]`},
		{Name: "cannot write where a mount is read-only", Pod: `
			volumes: [{name: v, emptyDir: {}}]
			containers: [{name: c, args: ["write /v/x y; mount /v; write /w/x y; cat /v/x"], volumeMounts: [{name: v, mountPath: /v, readOnly: true}, {name: v, mountPath: /w}]}]`},
		{Name: "mounts a volume inside of another", Objects: someConfig, Pod: `
			volumes: [{name: outer, emptyDir: {}}, {name: inner, configMap: {name: cm}}]
			containers: [{name: c, args: ["write /v/x y; ls /v /v/inner; cat /v/inner/key"], volumeMounts: [{name: inner, mountPath: /v/inner}, {name: outer, mountPath: /v}]}]`},
		{Name: "hides the image's files below a mount", Pod: `
			volumes: [{name: v, emptyDir: {}}]
			containers: [{name: c, args: ["ls /data"], volumeMounts: [{name: v, mountPath: /data}]}]`},
		{Name: "mounts a folder of its machine", Do: func(r *run) {
			folder := "/tmp/" + r.namespace // there is none yet
			defer os.RemoveAll(folder)
			spec := func(kind, script string) string {
				return `{volumes: [{name: v, hostPath: {path: ` + folder + `, type: ` + kind + `}}], containers: [{name: c, args: ["` + script + `"], volumeMounts: [{name: v, mountPath: /v}]}]}`
			}
			r.pod("writer", spec("DirectoryOrCreate", "stat /v; write /v/x hello"))
			r.finish("writer")
			r.pod("reader", spec("Directory", "cat /v/x"))
			r.finish("reader")
		}},
		{Name: "waits for a folder of its machine that is not there", Do: func(r *run) {
			r.pod("q", `{volumes: [{name: v, hostPath: {path: /tmp/absent-folder, type: Directory}}], containers: [{name: c, args: [""], volumeMounts: [{name: v, mountPath: /v}]}]}`)
			r.note("event", "%s", r.event("q", "FailedMount"))
			r.status(r.until("q", "waiting", waiting("c", "ContainerCreating")))
		}},
		{Name: "waits for a file of its machine that is a folder", Do: func(r *run) {
			folder := "/tmp/" + r.namespace
			defer os.RemoveAll(folder)
			r.hide(folder, "FOLDER")
			r.pod("before", `{volumes: [{name: v, hostPath: {path: `+folder+`, type: DirectoryOrCreate}}], containers: [{name: c, args: [""], volumeMounts: [{name: v, mountPath: /v}]}]}`)
			r.until("before", "ended", ended)
			r.pod("q", `{volumes: [{name: v, hostPath: {path: `+folder+`, type: File}}], containers: [{name: c, args: [""], volumeMounts: [{name: v, mountPath: /v}]}]}`)
			r.note("event", "%s", r.event("q", "FailedMount"))
		}},
		{Name: "mounts a folder of its machine's system", Pod: `
			volumes: [{name: v, hostPath: {path: /usr/share, type: Directory}}]
			containers: [{name: c, args: ["has /v/doc"], volumeMounts: [{name: v, mountPath: /v, readOnly: true}]}]`, Do: func(r *run) {
			for { // an event may come after the pod's last change
				p := r.until("p", "there", func(*corev1.Pod) bool { return true })
				if ended(p) || r.refusedMount("p") {
					r.status(p)
					return
				}
				r.pause(200 * time.Millisecond)
			}
		}},
		{Name: "gives an emptyDir to its fsGroup", Pod: `
			securityContext: {fsGroup: 4567}
			volumes: [{name: v, emptyDir: {}}]
			containers: [{name: c, args: ["groups; stat /v; write /v/x y; stat /v/x"], volumeMounts: [{name: v, mountPath: /v}]}]`},
		{Name: "can write an emptyDir as any user", Pod: `
			securityContext: {runAsUser: 1000}
			volumes: [{name: v, emptyDir: {}}]
			containers: [{name: c, args: ["write /v/x y; stat /v/x"], volumeMounts: [{name: v, mountPath: /v}]}]`},
	}
}

func tokens() []Case {
	const where = "/var/run/secrets/kubernetes.io/serviceaccount"
	return []Case{
		{Name: "has a token of its service account where client libraries look", Pod: `
			containers: [{name: c, args: ["ls ` + where + `; stat ` + where + `/token ` + where + `/ca.crt; cat ` + where + `/namespace; token ` + where + `/token; mount ` + where + `; write ` + where + `/x y"]}]`,
			Do: func(r *run) {
				p := r.until("p", "ended", ended)
				text, err := r.log("p", corev1.PodLogOptions{})
				r.must(err, "reading the log")
				r.noteLines("log", hideIssuer(text))
				r.status(p)
			}},
		{Name: "has the token of the service account it names", Objects: `{kind: ServiceAccount, metadata: {name: robot}}`, Pod: `
			serviceAccountName: robot
			containers: [{name: c, args: ["token ` + where + `/token"]}]`,
			Do: func(r *run) {
				r.until("p", "ended", ended)
				text, err := r.log("p", corev1.PodLogOptions{})
				r.must(err, "reading the log")
				r.noteLines("log", hideIssuer(text))
			}},
		{Name: "has no token where it wants none", Pod: `
			automountServiceAccountToken: false
			containers: [{name: c, args: ["has ` + where + `"]}]`},
		{Name: "has a token for another audience that lives as long as it asks", Pod: `
			volumes: [{name: v, projected: {sources: [{serviceAccountToken: {audience: sts.amazonaws.com, expirationSeconds: 86400, path: token}}]}}]
			containers: [{name: c, args: ["token /v/token; stat /v/token"], volumeMounts: [{name: v, mountPath: /v}]}]`},
		{Name: "can read its token as another user", Pod: `
			securityContext: {runAsUser: 1000, runAsGroup: 1000}
			volumes: [{name: v, projected: {sources: [{serviceAccountToken: {audience: a, path: token}}]}}]
			containers: [{name: c, args: ["id; stat /v/token; token /v/token"], volumeMounts: [{name: v, mountPath: /v}]}]`},
		{Name: "can read its token by its fsGroup alone", Pod: `
			securityContext: {fsGroup: 4567}
			volumes: [{name: v, projected: {sources: [{serviceAccountToken: {audience: a, path: token}}]}}]
			containers: [{name: c, args: ["stat /v/token; token /v/token"], volumeMounts: [{name: v, mountPath: /v}]}]`},
		{Name: "is known to the API server by its token", Pod: `
			containers: [{name: c, args: ["api /version /api/v1/namespaces/kube-system/secrets"]}]`},
	}
}

func messages() []Case {
	return []Case{
		{Name: "says what it wrote to its termination log", Pod: `containers: [{name: c, args: ["write /dev/termination-log 'that was it'; echo in the log"]}]`},
		{Name: "says it from the path that it names", Pod: `containers: [{name: c, terminationMessagePath: /tmp/last, args: ["write /tmp/last words; exit 1"]}]`},
		{Name: "says the end of its log when it fails without a message", Pod: `containers: [{name: c, terminationMessagePolicy: FallbackToLogsOnError, args: ["echo first; sleep 300ms; err second; exit 1"]}]`},
		{Name: "says nothing of its log when it succeeds", Pod: `containers: [{name: c, terminationMessagePolicy: FallbackToLogsOnError, args: ["echo first"]}]`},
		{Name: "says its message rather than its log", Pod: `containers: [{name: c, terminationMessagePolicy: FallbackToLogsOnError, args: ["echo first; write /dev/termination-log message; exit 1"]}]`},
		{Name: "says no more than 4096 bytes", Pod: `containers: [{name: c, args: ["write /dev/termination-log ` + repeat("0123456789", 500) + `"]}]`, Do: func(r *run) {
			p := r.until("p", "ended", ended)
			m := container(p, "c").State.Terminated.Message
			r.note("message", "%d bytes, from %q to %q", len(m), m[:min(12, len(m))], m[max(0, len(m)-12):])
		}},
		{Name: "says no more than 80 lines of its log", Pod: `containers: [{name: c, terminationMessagePolicy: FallbackToLogsOnError, args: ["flood 200 3; exit 1"]}]`, Do: func(r *run) {
			p := r.until("p", "ended", ended)
			m := container(p, "c").State.Terminated.Message
			r.note("message", "%d bytes, from %q to %q", len(m), m[:min(12, len(m))], m[max(0, len(m)-12):])
		}},
	}
}

// refusedMount says whether an event tells that a volume cannot be mounted.
func (r *run) refusedMount(pod string) bool {
	list, err := r.node.client.CoreV1().Events(r.namespace).List(r.ctx, metav1.ListOptions{})
	return err == nil && slices.ContainsFunc(list.Items, func(e corev1.Event) bool {
		return e.InvolvedObject.Name == pod && e.Reason == "FailedMount"
	})
}
