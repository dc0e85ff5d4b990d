package operator

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordinationv1 "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// leaseName is that of the Lease that the working operator holds.
const leaseName = "biplane-operator"

// An operator that was killed is followed by another pod's after leaseLife at
// most, and by itself, in a new container, at once.
const (
	leaseLife     = 15 * time.Second
	leaseDeadline = 10 * time.Second
	leaseRetry    = 2 * time.Second
)

// elect calls lead whenever this operator is the one to work, with a context that
// ends with that. It gives the lease back only once lead has returned, so that
// what two do is never mixed. It returns when ctx ends.
func (o *Operator) elect(ctx context.Context, lead func(context.Context)) error {
	leases, err := coordinationv1.NewForConfig(o.options.Kubernetes)
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		if err := o.campaign(ctx, leases, lead); err != nil {
			return err
		}
	}
	return nil
}

func (o *Operator) campaign(ctx context.Context, leases coordinationv1.LeasesGetter, lead func(context.Context)) error {
	held, release := context.WithCancel(context.WithoutCancel(ctx))
	defer release()
	started := make(chan struct{})
	led := make(chan struct{})
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: o.config.Namespace, Name: leaseName},
			Client:     leases,
			LockConfig: resourcelock.ResourceLockConfig{Identity: o.identity()},
		},
		LeaseDuration: leaseLife, RenewDeadline: leaseDeadline, RetryPeriod: leaseRetry,
		ReleaseOnCancel: true,
		Name:            leaseName,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(leading context.Context) {
				defer close(led)
				close(started)
				o.log.Info("leading")
				leading, cancel := context.WithCancel(leading)
				defer cancel()
				defer context.AfterFunc(ctx, cancel)()
				lead(leading)
				release()
			},
			OnStoppedLeading: func() {},
		},
	})
	if err != nil {
		return fmt.Errorf("preparing the election: %w", err)
	}
	// Who does not lead has nothing to finish.
	defer context.AfterFunc(ctx, func() {
		select {
		case <-started:
		default:
			release()
		}
	})()
	elector.Run(held)
	select {
	case <-started:
		<-led
		o.log.Info("not leading any more")
	default:
	}
	return nil
}

// identity is the pod's, so that a container that was started again holds the lease
// that it held. It is read from the pod's own token; a host's name would be that of
// others, too, where pods share the host's.
func (o *Operator) identity() string {
	host, _ := os.Hostname()
	return cmp.Or(o.options.Identity, podOf(o.options.TokenFile), host, "operator")
}

func podOf(tokenFile string) string {
	token, err := os.ReadFile(tokenFile)
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(token), ".")
	payload, _, _ := strings.Cut(rest, ".")
	text, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil {
		return ""
	}
	var claims struct {
		Kubernetes struct {
			Pod struct{ Name, UID string }
		} `json:"kubernetes.io"`
	}
	if json.Unmarshal(text, &claims) != nil || claims.Kubernetes.Pod.UID == "" {
		return ""
	}
	return claims.Kubernetes.Pod.Name + "_" + claims.Kubernetes.Pod.UID
}
