package v1alpha1

import (
	"encoding/json"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Time is a moment, written with microseconds. It also reads one of whole seconds,
// which older objects and records have and a person may write: metav1.MicroTime
// refuses that, and one object that cannot be decoded keeps all from being listed.
//
// +kubebuilder:validation:Type=string
// +kubebuilder:validation:Format=date-time
type Time struct{ metav1.MicroTime }

// At is a moment, as precise as it is written.
func At(t time.Time) *Time {
	return &Time{metav1.NewMicroTime(t.Truncate(time.Microsecond))}
}

// UnmarshalJSON implements json.Unmarshaler.
func (t *Time) UnmarshalJSON(text []byte) error {
	var written *string
	if err := json.Unmarshal(text, &written); err != nil {
		return err
	}
	if written == nil {
		t.Time = time.Time{}
		return nil
	}
	at, err := time.Parse(time.RFC3339, *written) // takes a fraction, too
	if err != nil {
		return fmt.Errorf("%.80q is no moment: write one as 2006-01-02T15:04:05.000000Z", *written)
	}
	t.Time = at.Local()
	return nil
}
