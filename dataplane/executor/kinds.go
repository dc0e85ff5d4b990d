package executor

import (
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"

	"biplane.dev/biplane/internal/usererr"
)

// checkKinds says in a sentence why the cluster's objects cannot be read: it has our
// kinds in other versions only, since a newer chart was there, or not at all. A
// cache would look for them again and again, and say nothing. Where the API server
// does not answer, the caches wait for it, so that is no error here.
func checkKinds(cluster discovery.ServerGroupsInterface, known schema.GroupVersion) error {
	groups, err := cluster.ServerGroups()
	if err != nil {
		return nil
	}
	at := slices.IndexFunc(groups.Groups, func(g metav1.APIGroup) bool { return g.Name == known.Group })
	if at < 0 {
		return usererr.New(usererr.Refused, "the cluster has no kinds of %s", known.Group).
			WithHint("install the chart with 'biplane dataplane chart install', or apply its folder crds")
	}
	var there []string
	for _, version := range groups.Groups[at].Versions {
		if version.Version == known.Version {
			return nil
		}
		there = append(there, version.Version)
	}
	return usererr.New(usererr.Refused, "the cluster has the kinds of %s in version %s, and this executor knows %s only",
		known.Group, strings.Join(there, ", "), known.Version).
		WithHint("run the executor of the chart that brought them, or a newer one")
}
