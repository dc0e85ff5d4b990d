// Command biplane-controlplane is the control plane: see package controlplane.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"biplane.dev/biplane/controlplane"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the first signal drains, the second kills
	os.Exit(controlplane.Run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}
