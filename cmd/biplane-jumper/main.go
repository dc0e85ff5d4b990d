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
	signal.Ignore(syscall.SIGPIPE) // streams outlive who reads the log
	signalled, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ctx, drain := context.WithCancel(context.Background())
	context.AfterFunc(signalled, func() {
		stop() // the second signal kills
		drain()
	})
	os.Exit(jumper.Run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}
