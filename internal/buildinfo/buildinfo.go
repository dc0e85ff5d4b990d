// Package buildinfo says which build this is. The linker fills it in (see the
// Makefile); a plain `go build` or `go test` leaves it at "devel". It reads
// nothing at run time: two builds of one commit are the same bytes.
package buildinfo

import "runtime"

// Set by -ldflags "-X biplane.dev/biplane/internal/buildinfo.version=…".
var (
	version = "devel"
	commit  = "unknown"
	date    = "unknown" // of the commit, not of the build
)

// Info is what `version` prints.
type Info struct {
	Version  string `json:"version"`
	Commit   string `json:"commit"`
	Date     string `json:"date"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// Read returns what was stamped.
func Read() Info {
	return Info{Version: version, Commit: commit, Date: date, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
}
