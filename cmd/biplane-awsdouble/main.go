// Command biplane-awsdouble is an AWS endpoint on this machine, see internal/awsdouble.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"biplane.dev/biplane/internal/awsdouble"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the first Ctrl-C stops it, the second kills
	os.Exit(awsdouble.Run(ctx, os.Args[1:], awsdouble.Streams{Out: os.Stdout, Err: os.Stderr}))
}
