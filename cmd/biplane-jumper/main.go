// Command biplane-jumper passes TLS through to a private EKS endpoint: see package
// jumper.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"biplane.dev/biplane/jumper"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the first signal drains, the second kills
	os.Exit(jumper.Run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}
