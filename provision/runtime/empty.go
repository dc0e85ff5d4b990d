package runtime

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/eks"
	"github.com/aws/aws-sdk-go-v2/service/eks/types"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"biplane.dev/biplane/dataplane/chart"
	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/fault"
	"biplane.dev/biplane/provision/step"
)

// workspaceLabel is on the namespaces that the data plane made for its workspaces.
const workspaceLabel = "biplane.dev/workspace"

// inside is what a look into a cluster that is to go found in it: what its controllers
// would leave in the account (load balancers, volumes, nodes) once there is no cluster
// any more, and what makes more of it meanwhile.
type inside struct {
	*release
	target  chart.Target
	kube    kubernetes.Interface
	dynamic dynamic.Interface

	left      chart.Left
	foreign   string // the release is another data plane's
	things    []thing
	retained  []string // volumes that stay, because their owner said so
	uninstall bool
}

// thing is an object that has to go first.
type thing struct {
	title  string // Service default/web, of type LoadBalancer
	going  bool   // it was deleted, and is still there
	delete func(ctx context.Context) error
}

func (r *release) lookInside(ctx context.Context) (step.Found, error) {
	none := step.Untouched{Action: step.None}
	if r.LeaveContents {
		return step.Untouched{Action: step.Leave, Details: r.mayStay("as you said")}, nil
	}
	target, client, err := r.target(ctx)
	if err != nil || client == nil {
		return none, err
	}
	name := r.ClusterName()
	out, err := r.AWS.EKS.DescribeCluster(ctx, &eks.DescribeClusterInput{Name: &name})
	if fault.Gone(err) {
		return none, nil
	}
	if err != nil {
		return nil, err
	}
	switch out.Cluster.Status {
	case types.ClusterStatusDeleting:
		return none, nil // it was emptied before, or somebody else deletes it
	case types.ClusterStatusCreating, types.ClusterStatusFailed:
		return step.Untouched{Action: step.Leave, Details: r.mayStay("the cluster is " + string(out.Cluster.Status))}, nil
	}
	if err := r.reach(ctx, client); err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return step.Untouched{Action: step.Refuse, Details: []string{"it has to be emptied before it goes, and " + sentence(err)},
			Hint: "run it from where the API server is reached, or name the private endpoint with --through; or run it with --leave-contents, after which load balancers and volumes that the cluster's controllers made may stay behind"}, nil
	}
	return r.list(ctx, target, client)
}

// mayStay are the lines of a plan on what is not looked for.
func (r *release) mayStay(why string) []string {
	return []string{
		"the cluster is not emptied: " + why,
		"load balancers of its Services and Ingresses may stay: see 'aws resourcegroupstaggingapi get-resources --tag-filters Key=kubernetes.io/cluster/" + r.ClusterName() + " Key=elbv2.k8s.aws/cluster,Values=" + r.ClusterName() + "'",
		"volumes of its claims may stay: see 'aws ec2 describe-volumes --filters Name=tag:kubernetes.io/cluster/" + r.ClusterName() + ",Values=owned'",
	}
}

// list looks for everything that has to go before the cluster does.
func (r *release) list(ctx context.Context, target chart.Target, kube kubernetes.Interface) (*inside, error) {
	in := &inside{release: r, target: target, kube: kube}
	var err error
	if in.dynamic, err = dynamic.NewForConfig(target.Config); err != nil {
		return nil, fmt.Errorf("making a client of cluster %s: %w", r.ClusterName(), err)
	}
	if in.left, err = chart.FindLeft(ctx, target); err != nil {
		return nil, err
	}
	if in.left.Cluster != "" && in.left.Cluster != r.Spec.ControlPlane.Cluster {
		in.foreign = in.left.Cluster
		return in, nil // that of another: on a cluster of our own there is none
	}
	in.uninstall = in.left.Any
	for _, look := range []func(context.Context) error{in.workspaces, in.services, in.ingresses, in.claims, in.nodePools} {
		if err := look(ctx); err != nil {
			return nil, fmt.Errorf("looking into cluster %s: %w", r.ClusterName(), err)
		}
	}
	return in, nil
}

const page = 500

// paged lists what may be much.
func paged[T any](ctx context.Context, list func(metav1.ListOptions) (items []T, next string, err error), each func(*T)) error {
	for next := ""; ; {
		items, more, err := list(metav1.ListOptions{Limit: page, Continue: next})
		if err != nil {
			return err
		}
		for i := range items {
			each(&items[i])
		}
		if next = more; next == "" {
			return nil
		}
	}
}

func (in *inside) add(title string, of metav1.Object, remove func(ctx context.Context) error) {
	in.things = append(in.things, thing{title: title, going: of.GetDeletionTimestamp() != nil, delete: remove})
}

// workspaces are namespaces with all that tasks have left in them.
func (in *inside) workspaces(ctx context.Context) error {
	api := in.kube.CoreV1().Namespaces()
	return paged(ctx, func(o metav1.ListOptions) ([]corev1.Namespace, string, error) {
		o.LabelSelector = workspaceLabel
		all, err := api.List(ctx, o)
		if err != nil {
			return nil, "", err
		}
		return all.Items, all.Continue, nil
	}, func(n *corev1.Namespace) {
		in.add("namespace "+n.Name+" of a workspace", n, func(ctx context.Context) error { return api.Delete(ctx, n.Name, metav1.DeleteOptions{}) })
	})
}

// services have load balancers.
func (in *inside) services(ctx context.Context) error {
	return paged(ctx, func(o metav1.ListOptions) ([]corev1.Service, string, error) {
		all, err := in.kube.CoreV1().Services("").List(ctx, o)
		if err != nil {
			return nil, "", err
		}
		return all.Items, all.Continue, nil
	}, func(s *corev1.Service) {
		if s.Spec.Type != corev1.ServiceTypeLoadBalancer {
			return
		}
		in.add("load balancer of Service "+s.Namespace+"/"+s.Name, s, func(ctx context.Context) error {
			return in.kube.CoreV1().Services(s.Namespace).Delete(ctx, s.Name, metav1.DeleteOptions{})
		})
	})
}

func (in *inside) ingresses(ctx context.Context) error {
	all, err := in.kube.NetworkingV1().Ingresses("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, i := range all.Items {
		in.add("load balancer of Ingress "+i.Namespace+"/"+i.Name, &i, func(ctx context.Context) error {
			return in.kube.NetworkingV1().Ingresses(i.Namespace).Delete(ctx, i.Name, metav1.DeleteOptions{})
		})
	}
	return nil
}

// claims have disks in the account. A disk whose owner said that it is to be retained
// stays.
func (in *inside) claims(ctx context.Context) error {
	return paged(ctx, func(o metav1.ListOptions) ([]corev1.PersistentVolume, string, error) {
		all, err := in.kube.CoreV1().PersistentVolumes().List(ctx, o)
		if err != nil {
			return nil, "", err
		}
		return all.Items, all.Continue, nil
	}, func(v *corev1.PersistentVolume) {
		disk := ""
		switch {
		case v.Spec.CSI != nil && strings.HasSuffix(v.Spec.CSI.Driver, ".csi.aws.com"):
			disk = v.Spec.CSI.VolumeHandle
		case v.Spec.AWSElasticBlockStore != nil:
			disk = v.Spec.AWSElasticBlockStore.VolumeID
		default:
			return
		}
		claim := v.Spec.ClaimRef
		if v.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimDelete {
			in.retained = append(in.retained, disk)
			return
		}
		if claim == nil {
			in.add("volume "+disk, v, func(ctx context.Context) error {
				return in.kube.CoreV1().PersistentVolumes().Delete(ctx, v.Name, metav1.DeleteOptions{})
			})
			return
		}
		in.things = append(in.things, thing{title: "volume " + disk + " of claim " + claim.Namespace + "/" + claim.Name,
			going: v.Status.Phase == corev1.VolumeReleased || v.DeletionTimestamp != nil,
			delete: func(ctx context.Context) error {
				return in.kube.CoreV1().PersistentVolumeClaims(claim.Namespace).Delete(ctx, claim.Name, metav1.DeleteOptions{})
			}})
	})
}

// nodePools of Karpenter make nodes that nobody would end.
func (in *inside) nodePools(ctx context.Context) error {
	for _, kind := range []string{"nodepools", "nodeclaims"} {
		api := in.dynamic.Resource(schema.GroupVersionResource{Group: "karpenter.sh", Version: "v1", Resource: kind})
		all, err := api.List(ctx, metav1.ListOptions{})
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return err
		}
		for _, one := range all.Items {
			in.add(strings.TrimSuffix(kind, "s")+" "+one.GetName()+" of Karpenter", &one, func(ctx context.Context) error {
				return api.Delete(ctx, one.GetName(), metav1.DeleteOptions{})
			})
		}
	}
	return nil
}

func (in *inside) empty() bool { return !in.uninstall && len(in.things) == 0 }

func (in *inside) Plan() step.Change {
	if in.foreign != "" {
		return step.Change{Action: step.Leave, Details: []string{"the data plane in the cluster is another: its control plane knows it as " + in.foreign}}
	}
	var details []string
	if in.left.Running > 0 {
		details = append(details, fmt.Sprintf("%d actions run in it, and end with it", in.left.Running))
	}
	const shown = 10
	for i, t := range in.things {
		if i == shown {
			details = append(details, fmt.Sprintf("and %d more", len(in.things)-shown))
			break
		}
		details = append(details, "also the "+t.title)
	}
	for _, disk := range in.retained {
		details = append(details, "volume "+disk+" stays: its reclaim policy is Retain")
	}
	if in.empty() {
		return step.Change{Action: step.None, Details: details}
	}
	return step.Change{Action: step.Remove, Details: details}
}

// Make is for the other goal.
func (in *inside) Make(context.Context) error { return nil }

// Remove empties the cluster: the release first, since it makes more, then what is in the
// account because of the cluster, and waits until the cluster's controllers have taken
// it away.
func (in *inside) Remove(ctx context.Context) error {
	target := in.target
	target.Progress = func(line string) { step.WaitingFor(ctx, line) }
	for end := time.Now().Add(emptyPatience); ; {
		if in.uninstall {
			if _, err := chart.Uninstall(ctx, target, true); err != nil {
				return err
			}
		}
		var errs []error
		for _, t := range in.things {
			if t.going {
				continue
			}
			if err := t.delete(ctx); err != nil && !apierrors.IsNotFound(err) {
				errs = append(errs, fmt.Errorf("deleting the %s: %w", t.title, err))
			}
		}
		if err := errors.Join(errs...); err != nil {
			return err
		}
		next, err := in.list(ctx, in.target, in.kube)
		if err != nil {
			return err
		}
		if next.empty() {
			return nil
		}
		in = next
		if time.Now().After(end) {
			return usererr.New(usererr.Unavailable, "the cluster still has the %s, after %s", in.things[0].title, emptyPatience).
				WithHint("see what keeps it with 'kubectl describe', as a pod keeps the volume that it uses; then run the same command again, or go on with --leave-contents")
		}
		if len(in.things) > 0 {
			step.WaitingFor(ctx, "the "+in.things[0].title+" to go")
		}
		if err := machine.Sleep(ctx, pause); err != nil {
			return err
		}
	}
}
