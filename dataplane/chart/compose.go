package chart

import (
	"context"
	"maps"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// OwnValues is the ConfigMap, in the namespace of the data plane, in which the owner
// of a cluster says what is particular about it, for whoever installs a data plane
// there: mirrors of images, tolerations, endpoints. Its key is OwnValuesKey.
const (
	OwnValues    = "biplane-dataplane-values"
	OwnValuesKey = "values.yaml"
)

// Facts are what is known of a data plane by whoever made its account.
type Facts struct {
	Gateway string // host:port of the control plane's
	Cluster string // the name there

	Region                    string
	Metadata                  string // bucket
	FastRegistration          string // bucket
	Operator, Executor        string // ARNs of roles
	Proxy, Task, Upload       string // ARNs of roles
	ImageRepository, ImageTag string // the chart's when empty
}

// ValuesOf are the values that follow from facts; Merge lays others over them.
func ValuesOf(f Facts) map[string]any {
	values := map[string]any{
		"controlPlane": map[string]any{"gateway": f.Gateway, "cluster": f.Cluster},
		"storage":      map[string]any{"region": f.Region, "metadataBucket": f.Metadata, "fastRegistrationBucket": f.FastRegistration},
		"roles":        map[string]any{"operator": f.Operator, "executor": f.Executor, "proxy": f.Proxy, "task": f.Task, "upload": f.Upload},
	}
	image := map[string]any{}
	if f.ImageRepository != "" {
		image["repository"] = f.ImageRepository
	}
	if f.ImageTag != "" {
		image["tag"] = f.ImageTag
	}
	if len(image) > 0 {
		values["image"] = image
	}
	return values
}

// Merge lays values over each other, section by section; the last has the last word.
func Merge(layers ...map[string]any) map[string]any {
	all := map[string]any{}
	for _, layer := range layers {
		for key, value := range layer {
			below, isSection := all[key].(map[string]any)
			if above, ok := value.(map[string]any); ok {
				if isSection {
					value = Merge(below, above)
				} else {
					value = maps.Clone(above)
				}
			}
			all[key] = value
		}
	}
	return all
}

// ReadOwnValues reads what the owner of the cluster says about it; nil where he says
// nothing.
func ReadOwnValues(ctx context.Context, t Target) (map[string]any, error) {
	c, err := connect(t)
	if err != nil {
		return nil, err
	}
	own, err := c.kube.CoreV1().ConfigMaps(c.namespace).Get(ctx, OwnValues, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, c.cannot("read ConfigMap "+OwnValues, err)
	}
	return ReadValues("ConfigMap "+OwnValues, []byte(own.Data[OwnValuesKey]))
}
