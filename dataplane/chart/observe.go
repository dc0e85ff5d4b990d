package chart

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"
)

// configName is the ConfigMap of the chart; receivedName is the operator's, which it
// writes once it has joined and the control plane has spoken.
const (
	configName   = "biplane-dataplane"
	receivedName = "biplane-received"
)

// Seen is what can be told of a data plane without a look into Secrets, Helm's records
// among them, which whoever only looks at a cluster may not read. The objects
// themselves say what is installed.
type Seen struct {
	Installed bool // its configuration is there, whoever installed it
	// Cluster and Gateway are those that it is configured for.
	Cluster, Gateway string
	Chart            string // NAME-VERSION, as its objects say
	Joined           bool   // the control plane has spoken to it
	Processes        []Process
	// Differs are the objects that are not as the chart and the values have them.
	Differs []Difference
	// Unseen are kinds that may not be read.
	Unseen []string
}

// Difference is an object that is not as it is wanted.
type Difference struct {
	Object string // KIND NAME
	Want   string
	Got    string
}

// Ready reports whether all processes are.
func (s Seen) Ready() bool {
	return len(s.Processes) > 0 && !slices.ContainsFunc(s.Processes, func(p Process) bool { return !p.Ready })
}

// Observe compares the cluster with the chart and values, by reading alone: what the
// API server would make of an object it tells only to who may write it (see changed).
// So what was added to an object is no difference; that a value was dropped is seen by
// the hash of all values, which the configuration carries.
func Observe(ctx context.Context, t Target, values map[string]any) (Seen, error) {
	c, err := connect(t)
	if err != nil {
		return Seen{}, err
	}
	manifest, err := Render(c.namespace, values)
	if err != nil {
		return Seen{}, err
	}
	wanted, err := objectsOf(manifest)
	if err != nil {
		return Seen{}, err
	}
	mapper, err := c.getter.ToRESTMapper()
	if err != nil {
		return Seen{}, err
	}
	var seen Seen
	var mu sync.Mutex
	group, within := errgroup.WithContext(ctx)
	group.SetLimit(lookers)
	for _, want := range wanted {
		group.Go(func() error {
			differs, err := c.differs(within, mapper, want)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case apierrors.IsForbidden(err):
				seen.Unseen = append(seen.Unseen, want.GetKind())
			case err != nil:
				return c.cannot("look at "+want.GetKind()+" "+want.GetName(), err)
			case differs != nil:
				seen.Differs = append(seen.Differs, *differs)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return Seen{}, err
	}
	slices.Sort(seen.Unseen)
	seen.Unseen = slices.Compact(seen.Unseen)
	slices.SortFunc(seen.Differs, func(a, b Difference) int { return strings.Compare(a.Object, b.Object) })
	if err := c.readConfiguration(ctx, &seen); err != nil {
		return Seen{}, err
	}
	if !seen.Installed {
		return seen, nil
	}
	_, err = c.kube.CoreV1().ConfigMaps(c.namespace).Get(ctx, receivedName, metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return Seen{}, c.cannot("look at ConfigMap "+receivedName, err)
	}
	seen.Joined = err == nil
	seen.Processes, err = c.processes(ctx)
	return seen, err
}

// readConfiguration tells whose data plane it is.
func (c *cluster) readConfiguration(ctx context.Context, seen *Seen) error {
	config, err := c.kube.CoreV1().ConfigMaps(c.namespace).Get(ctx, configName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return c.cannot("read ConfigMap "+configName, err)
	}
	var text struct {
		ControlPlane struct {
			Cluster string `json:"cluster"`
			Gateway string `json:"gateway"`
		} `json:"controlPlane"`
	}
	// One that somebody broke is a difference anyway.
	_ = yaml.Unmarshal([]byte(config.Data["config.yaml"]), &text)
	seen.Installed, seen.Cluster, seen.Gateway = true, text.ControlPlane.Cluster, text.ControlPlane.Gateway
	seen.Chart = config.Labels["helm.sh/chart"]
	return nil
}

// objectsOf are the objects of a manifest.
func objectsOf(manifest string) ([]*unstructured.Unstructured, error) {
	var all []*unstructured.Unstructured
	decoder := utilyaml.NewYAMLOrJSONDecoder(strings.NewReader(manifest), 4096)
	for {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(object)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("reading the rendered chart: %w", err)
		}
		if len(object.Object) > 0 {
			all = append(all, object)
		}
	}
}

// differs is nil where the object is as it is wanted.
func (c *cluster) differs(ctx context.Context, mapper meta.RESTMapper, want *unstructured.Unstructured) (*Difference, error) {
	kind := want.GroupVersionKind()
	mapping, err := mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		return nil, err
	}
	var at dynamic.ResourceInterface = c.dynamic.Resource(mapping.Resource)
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		at = c.dynamic.Resource(mapping.Resource).Namespace(c.namespace)
		if namespace := want.GetNamespace(); namespace != "" {
			at = c.dynamic.Resource(mapping.Resource).Namespace(namespace)
		}
	}
	name := kind.Kind + " " + want.GetName()
	have, err := at.Get(ctx, want.GetName(), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return &Difference{Object: name, Want: "there", Got: "missing"}, nil
	}
	if err != nil {
		return nil, err
	}
	if label := "helm.sh/chart"; want.GetLabels()[label] != have.GetLabels()[label] {
		return &Difference{Object: name, Want: "of chart " + want.GetLabels()[label], Got: "of chart " + orNone(have.GetLabels()[label])}, nil
	}
	if field := missingIn(want.Object, have.Object, nil); field != nil {
		return &Difference{Object: name, Want: "as the chart and the values have it", Got: "another in " + strings.Join(field, ".")}, nil
	}
	return nil, nil
}

// missingIn is the path of the first field of a wanted object that another has not, or
// has otherwise; nil where it has all of them. What the wanted one does not say is
// for defaults and for others.
func missingIn(want, have any, path []string) []string {
	switch want := want.(type) {
	case nil:
		return nil
	case map[string]any:
		have, ok := have.(map[string]any)
		if !ok && len(want) > 0 {
			return path
		}
		for _, key := range slices.Sorted(maps.Keys(want)) {
			if field := missingIn(want[key], have[key], append(path[:len(path):len(path)], key)); field != nil {
				return field
			}
		}
		return nil
	case []any:
		have, _ := have.([]any)
		if len(have) < len(want) {
			return path
		}
		for i := range want {
			if field := missingIn(want[i], have[i], path); field != nil {
				return field
			}
		}
		return nil
	case string:
		if want == "" && have == nil {
			return nil
		}
	case bool:
		if !want && have == nil {
			return nil
		}
	}
	if fmt.Sprint(want) == fmt.Sprint(have) {
		return nil
	}
	if slices.Contains(path, "resources") {
		one, err := resource.ParseQuantity(fmt.Sprint(want))
		other, otherErr := resource.ParseQuantity(fmt.Sprint(have))
		if err == nil && otherErr == nil && one.Cmp(other) == 0 {
			return nil
		}
	}
	return path
}

func orNone(text string) string {
	if text == "" {
		return "none"
	}
	return text
}
