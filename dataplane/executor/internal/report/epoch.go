package report

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	tunnelv1 "biplane.dev/biplane/api/gen/biplane/tunnel/v1"
)

// Positions are revisions of etcd, which mean something in one history only. The
// epoch names it: the UID of the namespace kube-system, which is what a cluster
// has instead of an identity. In a cluster that was made anew, under the same
// name, positions begin at 0 again. Where the same cluster's etcd was restored,
// its revisions go back, and a number is added.

// callTimeout of one call of the control plane. A batch is small, and whatever
// takes longer is better tried again.
const callTimeout = 20 * time.Second

// begin asks in which epoch and at which position the control plane is.
func (r *Reporter) begin(ctx context.Context) (epoch string, position uint64, err error) {
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	at, err := r.Link.GetPosition(call, &tunnelv1.GetPositionRequest{})
	if err != nil {
		return "", 0, fmt.Errorf("asking the control plane for its position: %w", err)
	}
	cluster, err := r.identity(ctx)
	if err != nil {
		return "", 0, err
	}
	switch epoch = at.GetEpoch(); {
	case epoch == "": // nothing was recorded, or by one that knows no epochs
		return cluster, at.GetPosition(), nil
	case epoch == cluster, strings.HasPrefix(epoch, cluster+"/"):
		return epoch, at.GetPosition(), nil
	}
	return cluster, 0, nil
}

// anotherEpoch is one that this cluster has not had.
func (r *Reporter) anotherEpoch(ctx context.Context) (string, error) {
	cluster, err := r.identity(ctx)
	return cluster + "/" + strconv.FormatInt(time.Now().Unix(), 10), err
}

func (r *Reporter) identity(ctx context.Context) (string, error) {
	system := &corev1.Namespace{}
	if err := r.Client.Get(ctx, types.NamespacedName{Name: "kube-system"}, system); err != nil {
		return "", fmt.Errorf("reading which cluster this is: %w", err)
	}
	return string(system.UID), nil
}
