package node

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/kubernetes/pkg/apis/scheduling"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
	kubeletevents "k8s.io/kubernetes/pkg/kubelet/events"
	"k8s.io/kubernetes/pkg/kubelet/images"
	"k8s.io/kubernetes/pkg/kubelet/kuberuntime"
	"k8s.io/kubernetes/pkg/kubelet/qos"
	"k8s.io/kubernetes/pkg/securitycontext"
	"k8s.io/kubernetes/pkg/util/parsers"

	"biplane.dev/biplane/sandbox/internal/container"
	"biplane.dev/biplane/sandbox/internal/image"
)

// configRetry is how soon a container is tried again whose spec names something
// that is not there.
const configRetry = 5 * time.Second

// startFailure is why a container was not even tried. Reason is that of its
// waiting state.
type startFailure struct {
	reason string
	err    error
}

func (e *startFailure) Error() string { return e.err.Error() }
func (e *startFailure) Unwrap() error { return e.err }

// start makes the next attempt of a container, beside the pod's goroutine.
func (w *worker) start(ctx context.Context, s *slot) {
	s.starting, s.then = true, nil
	pod := w.pod
	number := s.restarts
	if s.run != nil {
		number = s.run.number + 1
	}
	go func() {
		w.n.starting <- struct{}{}
		a, err := w.n.startContainer(pod, s, number)
		<-w.n.starting
		w.do(func() { w.begun(ctx, s, a, err) })
	}()
}

// begun takes up an attempt that runs, or why there is none.
func (w *worker) begun(ctx context.Context, s *slot, a *attempt, err error) {
	s.starting, s.changed = false, false
	var failure *startFailure
	switch {
	case errors.As(err, &failure):
		w.startFailed(s, failure)
		return
	case a.ended != nil: // it could not be executed
		w.n.events.container(w.pod, s, v1.EventTypeWarning, kubeletevents.FailedToStartContainer, "Error: %s", a.ended.Message)
		w.replace(s, a)
		if s.restartable(w.pod, a.ended.ExitCode) {
			s.waiting = &v1.ContainerStateWaiting{Reason: kubecontainer.ErrRunContainer.Error(), Message: a.ended.Message}
		}
		w.n.keepExit(w.uid, s, a)
		return
	}
	w.replace(s, a)
	go func() {
		<-a.container.Done()
		if ctx.Err() != nil {
			return // it ended with the node, and is as after a machine's restart
		}
		ended := w.n.terminated(w.uid, s, a)
		w.do(func() { w.exited(s, a, ended) })
	}()
	if s.spec.Lifecycle == nil || s.spec.Lifecycle.PostStart == nil {
		w.afterHook(ctx, s, a)
		return
	}
	pod := w.pod
	go func() {
		err := w.n.hook(ctx, pod, s.spec, a, s.spec.Lifecycle.PostStart)
		w.do(func() {
			if err != nil && a.ended == nil {
				w.n.events.container(w.pod, s, v1.EventTypeWarning, kubeletevents.FailedPostStartHook, "PostStartHook failed")
				s.waiting = &v1.ContainerStateWaiting{Reason: kuberuntime.ErrPostStartHook.Error(), Message: err.Error()}
				w.kill(ctx, s, w.grace(), "FailedPostStartHook")
				return
			}
			w.afterHook(ctx, s, a)
		})
	}()
}

// afterHook is when the kubelet first calls a container running.
func (w *worker) afterHook(ctx context.Context, s *slot, a *attempt) {
	a.hooked = true
	if a.ended == nil {
		w.probe(ctx, s, a)
	}
}

// replace puts a new attempt in the place of the one before.
func (w *worker) replace(s *slot, a *attempt) {
	if s.run != nil {
		s.last = s.run.ended
		w.n.removeAttempt(w.uid, s.spec.Name, s.run.number-1)
	}
	s.run, s.waiting, s.restarts = a, nil, a.number
}

// exited takes up the end of an attempt.
func (w *worker) exited(s *slot, a *attempt, ended *v1.ContainerStateTerminated) {
	a.ended = ended
	a.ready, a.started = false, false
	if a.stopProbes != nil {
		a.stopProbes()
	}
}

// startFailed says why a container waits, and when it is tried again.
func (w *worker) startFailed(s *slot, failure *startFailure) {
	now := time.Now()
	message := failure.Error()
	switch failure.reason {
	case images.ErrImagePull.Error():
		key := string(w.uid) + "_" + s.spec.Image
		w.n.pulls.Next(key, now)
		s.retry = now.Add(w.n.pulls.Get(key))
		w.n.events.container(w.pod, s, v1.EventTypeNormal, kubeletevents.PullingImage, "Pulling image %q", s.spec.Image)
		w.n.events.container(w.pod, s, v1.EventTypeWarning, kubeletevents.FailedToPullImage, "Failed to pull image %q: %s", s.spec.Image, message)
		w.n.events.container(w.pod, s, v1.EventTypeWarning, kubeletevents.FailedToCreateContainer, "Error: %s", failure.reason)
		s.waiting = &v1.ContainerStateWaiting{Reason: failure.reason, Message: message}
		s.backOff(now.Add(time.Second), &v1.ContainerStateWaiting{
			Reason:  images.ErrImagePullBackOff.Error(),
			Message: fmt.Sprintf("Back-off pulling image %q: %s: %s", s.spec.Image, failure.reason, message),
		})
	default:
		s.retry = now.Add(configRetry)
		w.n.events.container(w.pod, s, v1.EventTypeWarning, kubeletevents.FailedToCreateContainer, "Error: %s", message)
		s.waiting = &v1.ContainerStateWaiting{Reason: failure.reason, Message: message}
	}
}

// startContainer makes an attempt: it runs, or it ended before it began. The
// error is a *startFailure.
func (n *node) startContainer(pod *v1.Pod, s *slot, number int32) (*attempt, error) {
	found, err := n.findImage(s.spec)
	if err != nil {
		return nil, err
	}
	n.events.container(pod, s, v1.EventTypeNormal, kubeletevents.PulledImage, "Container image %q already present on machine", s.spec.Image)

	a := &attempt{number: number, id: newContainerID(), imageID: found.ID, log: n.logPath(pod.UID, s.spec.Name, number), logEnded: make(chan struct{})}
	spec, err := n.containerSpec(pod, s, found, a)
	var failure *startFailure
	if errors.As(err, &failure) {
		return nil, failure
	}
	if err != nil {
		return nil, &startFailure{kuberuntime.ErrCreateContainerConfig.Error(), err}
	}
	log, err := openLog(a.log)
	if err != nil {
		return nil, &startFailure{kuberuntime.ErrCreateContainer.Error(), err}
	}
	spec.Log = log
	n.events.container(pod, s, v1.EventTypeNormal, kubeletevents.CreatedContainer, "Created container: %s", s.spec.Name)
	started, err := n.containers.Start(spec)
	if err != nil {
		log.Close()
		close(a.logEnded)
		var refused *container.StartError
		if !errors.As(err, &refused) {
			return nil, &startFailure{kuberuntime.ErrCreateContainer.Error(), err}
		}
		now := time.Now()
		a.ended = &v1.ContainerStateTerminated{
			ExitCode: 128, Reason: "StartError", Message: err.Error(),
			StartedAt: timestamp(time.Unix(0, 0)), FinishedAt: timestamp(now), ContainerID: containerScheme + "://" + a.id,
		}
		return a, nil
	}
	a.container, a.env, a.since = started, spec.Env, time.Now()
	go func() {
		<-started.Done()
		log.Close()
		close(a.logEnded)
		if err := started.Remove(); err != nil {
			n.log.Warn("a container's folder was not removed", "error", err)
		}
	}()
	n.events.container(pod, s, v1.EventTypeNormal, kubeletevents.StartedContainer, "Started container %s", s.spec.Name)
	return a, nil
}

// findImage says what the container's image is, in the kubelet's reasons when it
// is none.
func (n *node) findImage(c *v1.Container) (image.Image, error) {
	if _, _, _, err := parsers.ParseImageName(c.Image); err != nil {
		//lint:ignore ST1005 the kubelet's own words, which people look for
		return image.Image{}, &startFailure{images.ErrInvalidImageName.Error(), fmt.Errorf("Failed to apply default image tag %q: %w", c.Image, err)}
	}
	found, err := n.images.Resolve(c.Image)
	if err == nil {
		return found, nil
	}
	if c.ImagePullPolicy == v1.PullNever {
		return image.Image{}, &startFailure{images.ErrImageNeverPull.Error(), fmt.Errorf("Container image %q is not present with pull policy of Never", c.Image)}
	}
	return image.Image{}, &startFailure{images.ErrImagePull.Error(), err}
}

// podNice is how nice pods are: without it a hundred programs that start at once
// leave the API server on a small machine no time to be told of them. A kubelet
// keeps some of a machine for Kubernetes by a control group, which takes root.
const podNice = 10

// nice is that of a pod's programs. Those that the cluster itself rests on, by
// their priority class, are not.
func nice(pod *v1.Pod) int {
	if pod.Spec.Priority != nil && *pod.Spec.Priority >= scheduling.SystemCriticalPriority {
		return 0
	}
	return podNice
}

// containerSpec resolves everything that a container's spec names.
func (n *node) containerSpec(pod *v1.Pod, s *slot, found image.Image, a *attempt) (container.Spec, error) {
	c := s.spec
	security := securitycontext.DetermineEffectiveSecurityContext(pod, c)
	uid, gid, err := user(security, found)
	if err != nil {
		return container.Spec{}, err
	}
	if err := refuseRoot(pod, c, security, uid, found.Config.User); err != nil {
		return container.Spec{}, err
	}
	if err := refuseUnsupported(pod); err != nil {
		return container.Spec{}, err
	}
	a.uid, a.gid = int64(uid), int64(gid)

	variables, err := n.environment(pod, c)
	if err != nil {
		return container.Spec{}, err
	}
	args, err := program(c, variables, found.Config)
	if err != nil {
		return container.Spec{}, err
	}
	mounts, err := n.mounts(pod, c, variables, a)
	if err != nil {
		return container.Spec{}, err
	}

	hostname := n.hostname(pod)
	defaults := []string{"HOSTNAME=" + hostname}
	if c.TTY {
		defaults = append(defaults, "TERM=xterm")
	}
	spec := container.Spec{
		ID: a.id, Root: found.Root, Args: args, Dir: cmp.Or(c.WorkingDir, found.Config.WorkingDir),
		Env: merged(found.Config.Env, variables, defaults...),
		UID: uid, GID: gid, Hostname: hostname, Mounts: mounts,
		Write:           !isTrue(security.ReadOnlyRootFilesystem),
		Privileged:      isTrue(security.Privileged),
		NoNewPrivileges: securitycontext.AddNoNewPrivileges(security),
		Nice:            nice(pod),
		OOMScoreAdj:     max(0, qos.GetContainerOOMScoreAdjust(pod, c, machineMemory())),
		TTY:             c.TTY, Stdin: c.Stdin, OnceIn: c.StdinOnce,
		Memory: c.Resources.Limits.Memory().Value(),
	}
	if security.Capabilities != nil {
		for _, capability := range security.Capabilities.Add {
			spec.Capabilities.Add = append(spec.Capabilities.Add, string(capability))
		}
		for _, capability := range security.Capabilities.Drop {
			spec.Capabilities.Drop = append(spec.Capabilities.Drop, string(capability))
		}
	}
	return spec, nil
}

// program is the command line: the pod's command and args, in the place of the
// image's entrypoint and cmd.
func program(c *v1.Container, variables []kubecontainer.EnvVar, config image.Config) ([]string, error) {
	command, args := kubecontainer.ExpandContainerCommandAndArgs(c, variables)
	if len(command) == 0 {
		command = config.Entrypoint
		if len(args) == 0 {
			args = config.Cmd
		}
	}
	all := slices.Concat(command, args)
	if len(all) == 0 {
		return nil, &startFailure{kuberuntime.ErrCreateContainer.Error(),
			fmt.Errorf("no command specified: image %q has none of its own, so set the container's command", c.Image)}
	}
	return all, nil
}

// user is who a program sees itself as.
func user(security *v1.SecurityContext, found image.Image) (uid, gid int, err error) {
	name := found.Config.User
	if security.RunAsUser != nil {
		name = strconv.FormatInt(*security.RunAsUser, 10)
	}
	uid, gid, err = found.User(name)
	if err != nil {
		return 0, 0, err
	}
	if security.RunAsGroup != nil {
		gid = int(*security.RunAsGroup)
	}
	return uid, gid, nil
}

// runAsUser is what the spec says of a container's user.
func runAsUser(pod *v1.Pod, c *v1.Container) *int64 {
	return securitycontext.DetermineEffectiveSecurityContext(pod, c).RunAsUser
}

// refuseRoot is runAsNonRoot.
func refuseRoot(pod *v1.Pod, c *v1.Container, security *v1.SecurityContext, uid int, imageUser string) error {
	where := fmt.Sprintf("(pod: %q, container: %s)", pod.Name+"_"+pod.Namespace+"("+string(pod.UID)+")", c.Name)
	name, _, _ := strings.Cut(imageUser, ":")
	_, numeric := strconv.ParseInt(name, 10, 64)
	switch {
	case !isTrue(security.RunAsNonRoot):
		return nil
	case security.RunAsUser != nil && uid == 0:
		return fmt.Errorf("container's runAsUser breaks non-root policy %s", where)
	case security.RunAsUser != nil:
		return nil
	case name != "" && numeric != nil:
		return fmt.Errorf("container has runAsNonRoot and image has non-numeric user (%s), cannot verify user is non-root %s", name, where)
	case uid == 0:
		return fmt.Errorf("container has runAsNonRoot and image will run as root %s", where)
	}
	return nil
}

// refuseUnsupported refuses what would quietly be something else here.
func refuseUnsupported(pod *v1.Pod) error {
	refused := ""
	switch {
	case pod.Spec.HostPID:
		refused = "hostPID"
	case pod.Spec.HostIPC:
		refused = "hostIPC"
	case isTrue(pod.Spec.ShareProcessNamespace):
		refused = "shareProcessNamespace"
	case pod.Spec.SecurityContext != nil && len(pod.Spec.SecurityContext.Sysctls) > 0:
		refused = "securityContext.sysctls"
	}
	if refused == "" {
		return nil
	}
	return fmt.Errorf("%s is not to be had on a process node: leave it out, or run the pod on 'biplane sandbox up --node kubelet'", refused)
}

// mounts is what a container sees of its pod: volumes, its termination message,
// and the files by which names are looked up.
func (n *node) mounts(pod *v1.Pod, c *v1.Container, variables []kubecontainer.EnvVar, a *attempt) ([]container.Mount, error) {
	var mounts []container.Mount
	taken := map[string]bool{}
	for _, mount := range c.VolumeMounts {
		i := slices.IndexFunc(pod.Spec.Volumes, func(v v1.Volume) bool { return v.Name == mount.Name })
		if i < 0 {
			return nil, fmt.Errorf("cannot find volume %q to mount into container %q", mount.Name, c.Name)
		}
		subPath := mount.SubPath
		if mount.SubPathExpr != "" {
			var err error
			if subPath, err = kubecontainer.ExpandContainerVolumeMounts(mount, variables); err != nil {
				return nil, err
			}
		}
		if filepath.IsAbs(subPath) {
			return nil, fmt.Errorf("error SubPath `%s` must not be an absolute path", subPath)
		}
		if slices.Contains(strings.Split(subPath, "/"), "..") {
			return nil, fmt.Errorf("unable to provision SubPath `%s`: must not contain '..'", subPath)
		}
		volume := &pod.Spec.Volumes[i]
		target := mount.MountPath
		if !filepath.IsAbs(target) {
			target = "/" + target
		}
		readOnly := mount.ReadOnly || volume.ConfigMap != nil || volume.Secret != nil || volume.DownwardAPI != nil || volume.Projected != nil
		source, err := filepath.EvalSymlinks(n.volumes.path(pod, volume))
		if err != nil {
			return nil, fmt.Errorf("volume %q is not there: %w", mount.Name, err)
		}
		if volume.HostPath != nil {
			machines, err := n.volumes.allowed(source)
			if err != nil {
				return nil, err
			}
			readOnly = readOnly || machines
		}
		taken[filepath.Clean(target)] = true
		mounts = append(mounts, container.Mount{
			Source: source, SubPath: subPath, Target: target, ReadOnly: readOnly,
		})
	}
	dir := n.podDir(pod.UID)
	if message := c.TerminationMessagePath; message != "" && !taken[filepath.Clean(message)] {
		path := n.messagePath(pod.UID, c.Name, a.number)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return nil, err
		}
		if err := os.WriteFile(path, nil, 0o666); err != nil {
			return nil, err
		}
		if err := os.Chmod(path, 0o666); err != nil { // whatever the umask is
			return nil, err
		}
		mounts = append(mounts, container.Mount{Source: path, Target: message})
	}
	for name, target := range map[string]string{"hosts": "/etc/hosts", "resolv.conf": "/etc/resolv.conf"} {
		if !taken[target] {
			mounts = append(mounts, container.Mount{Source: filepath.Join(dir, name), Target: target})
		}
	}
	// What is mounted below another mount has to come after it.
	slices.SortStableFunc(mounts, func(a, b container.Mount) int {
		return cmp.Compare(strings.Count(filepath.Clean(a.Target), "/"), strings.Count(filepath.Clean(b.Target), "/"))
	})
	return mounts, nil
}

// hostname is what a pod is called inside.
func (n *node) hostname(pod *v1.Pod) string {
	name := pod.Name
	if pod.Spec.Hostname != "" {
		name = pod.Spec.Hostname
	}
	if isTrue(pod.Spec.SetHostnameAsFQDN) && pod.Spec.Subdomain != "" {
		name = name + "." + pod.Spec.Subdomain + "." + pod.Namespace + ".svc.cluster.local"
	}
	// The kernel's limit.
	if len(name) > 63 {
		name = strings.TrimRight(name[:63], "-.")
	}
	return name
}

func newContainerID() string {
	id := make([]byte, 32)
	rand.Read(id) // never fails
	return hex.EncodeToString(id)
}
