package access

import (
	"reflect"
	"slices"
	"testing"

	"biplane.dev/biplane/provision/operations"
)

// Granting, checking and revoking call nothing that the table does not have: the
// guard would refuse it.
func TestEveryCallOfTheStepsIsInTheTable(t *testing.T) {
	t.Parallel()
	var listed []string
	for _, op := range operations.Operations() {
		if op.Roles.Has(operations.CustomerAdministrator | operations.Vendor) {
			listed = append(listed, operations.Name(op.Call))
		}
	}
	client := reflect.TypeFor[IAM]()
	for i := range client.NumMethod() {
		if call := "iam:" + client.Method(i).Name; !slices.Contains(listed, call) {
			t.Errorf("got %s, which the table does not have", call)
		}
	}
}
