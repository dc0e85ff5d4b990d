// biplane-sandbox is etcd, the programs of Kubernetes, the S3 server, the
// identity service, the nodes and the supervisor of a sandbox in one
// executable. Package program has the table.
package main

import (
	"os"

	"biplane.dev/biplane/sandbox/internal/program"
)

func main() {
	os.Exit(program.Run(os.Args[1:]))
}
