// Package charts carries our Helm charts in the programs that install them. It
// knows nothing of Helm. Start with DataPlane.
package charts

import (
	"embed"
	"io/fs"
)

// all: is for the templates whose names begin with an underscore.
//
//go:embed all:biplane-dataplane
var files embed.FS

// DataPlane returns the files of the chart biplane-dataplane, with Chart.yaml at
// the top.
func DataPlane() fs.FS {
	chart, err := fs.Sub(files, "biplane-dataplane")
	if err != nil {
		panic(err) // the folder is embedded, or this would not compile
	}
	return chart
}
