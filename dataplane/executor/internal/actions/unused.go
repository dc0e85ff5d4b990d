package actions

import (
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"
)

// UsedLately says of a template that an action of it may be about to be created,
// so that it must not be removed although none is there.
func UsedLately(template client.Object, now time.Time) bool {
	used, err := time.Parse(time.RFC3339, template.GetAnnotations()[annotationUsed])
	if err != nil {
		used = template.GetCreationTimestamp().Time // by somebody else than Enqueue
	}
	return now.Sub(used) < 2*markUsedAfter
}
