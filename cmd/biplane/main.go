// Command biplane is the command line: see package cli.
package main

import (
	"context"
	"os"
	"os/signal"

	"biplane.dev/biplane/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), cli.Interrupts()...)
	context.AfterFunc(ctx, stop) // the first Ctrl-C cancels, the second kills
	os.Exit(cli.Run(ctx, os.Args[1:], cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}
