// Command biplane-dataplane is the processes of a data plane: see package
// dataplane.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"biplane.dev/biplane/dataplane"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the first signal drains, the second kills
	os.Exit(dataplane.Run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}
