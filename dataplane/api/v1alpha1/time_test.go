package v1alpha1_test

import (
	"encoding/json"
	"testing"
	"time"

	"biplane.dev/biplane/dataplane/api/v1alpha1"
)

func TestTime(t *testing.T) {
	t.Parallel()
	micros := time.Date(2026, 5, 4, 3, 2, 1, 234567000, time.UTC)
	for _, test := range []struct {
		name, text string
		want       time.Time
	}{
		{"it reads microseconds", `"2026-05-04T03:02:01.234567Z"`, micros},
		{"it reads whole seconds, as older objects have them", `"2026-05-04T03:02:01Z"`, micros.Truncate(time.Second)},
		{"it reads another zone's time", `"2026-05-04T05:02:01.234567+02:00"`, micros},
		{"it reads nothing", `null`, time.Time{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var got v1alpha1.Time
			if err := json.Unmarshal([]byte(test.text), &got); err != nil || !got.Time.Equal(test.want) {
				t.Errorf("got %s, %v, want %s", got.Time, err, test.want)
			}
		})
	}
	t.Run("it writes microseconds, and no more", func(t *testing.T) {
		t.Parallel()
		got, err := json.Marshal(v1alpha1.At(micros.Add(89 * time.Nanosecond)))
		if err != nil || string(got) != `"2026-05-04T03:02:01.234567Z"` {
			t.Errorf("got %s, %v, want microseconds", got, err)
		}
	})
	for _, text := range []string{`"yesterday"`, `5`, `"2026-05-04"`} {
		t.Run("it refuses "+text, func(t *testing.T) {
			t.Parallel()
			var got v1alpha1.Time
			if err := json.Unmarshal([]byte(text), &got); err == nil {
				t.Errorf("got %s, want an error", got.Time)
			}
		})
	}
}
