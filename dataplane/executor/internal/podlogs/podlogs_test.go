package podlogs

import (
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func TestBounded(t *testing.T) {
	t.Parallel()
	now := func() time.Time { return time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC) }
	for _, test := range []struct{ name, log, want string }{
		{"it keeps a log that is short enough", "0123456789", "0123456789"},
		{"it says where it cut one", "0123456789x", "0123456789\n2026-05-04T03:02:01Z The log was longer than 256 MiB and ends here.\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			for _, r := range []io.Reader{strings.NewReader(test.log), iotest.OneByteReader(strings.NewReader(test.log)), iotest.DataErrReader(strings.NewReader(test.log))} {
				got, err := io.ReadAll(&bounded{r: r, left: 10, now: now})
				if err != nil || string(got) != test.want {
					t.Errorf("got %q, %v, want %q", got, err, test.want)
				}
			}
		})
	}
}
