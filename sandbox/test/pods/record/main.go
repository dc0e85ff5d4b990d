// Command record runs the pod suite against the cluster of a kubeconfig and
// writes down what it observes, or what differs from what was observed before:
//
//	go run ./test/pods/record --images DIR                            # writes the images to import first
//	go run ./test/pods/record --kubeconfig FILE > testdata/kubelet.txt
//	go run ./test/pods/record --kubeconfig FILE --against testdata/kubelet.txt
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"time"

	"biplane.dev/biplane/sandbox/test/pods"
)

func main() {
	kubeconfig := flag.String("kubeconfig", os.Getenv("KUBECONFIG"), "of the cluster")
	images := flag.String("images", "", "write the images into this folder and end")
	against := flag.String("against", "", "print beside what is in this file")
	only := flag.String("run", "", "only cases whose names match")
	parallel := flag.Int("parallel", 16, "cases at a time")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := record(ctx, *kubeconfig, *images, *against, *only, *parallel); err != nil {
		fmt.Fprintln(os.Stderr, "record:", err)
		os.Exit(1)
	}
}

func record(ctx context.Context, kubeconfig, images, against, only string, parallel int) error {
	if images != "" {
		files, err := pods.Images(ctx, images)
		for name, file := range files {
			fmt.Println(name, file)
		}
		return err
	}
	match, err := regexp.Compile(only)
	if err != nil {
		return fmt.Errorf("reading --run: %w", err)
	}
	cases := slices.DeleteFunc(pods.Cases(), func(c pods.Case) bool { return !match.MatchString(c.Name) })
	node, err := pods.Open(ctx, kubeconfig)
	if err != nil {
		return err
	}
	began := time.Now()
	results, err := pods.Run(ctx, node, cases, parallel)
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "%d cases in %v on %s\n", len(results), time.Since(began).Round(time.Second), node.Version())
	slowest := slices.SortedFunc(slices.Values(results), func(a, b pods.Result) int { return int(b.Took - a.Took) })
	for _, r := range slowest[:min(5, len(slowest))] {
		fmt.Fprintf(os.Stderr, "  %6.1fs it %s\n", r.Took.Seconds(), r.Name)
	}
	if against == "" {
		return pods.Write(os.Stdout, node.Version(), results)
	}
	f, err := os.Open(against)
	if err != nil {
		return err
	}
	defer f.Close()
	_, before, err := pods.Read(f)
	if err != nil {
		return fmt.Errorf("reading %s: %w", against, err)
	}
	before = slices.DeleteFunc(before, func(r pods.Result) bool { return !match.MatchString(r.Name) })
	rows := pods.Rows(before, results)
	pods.Print(os.Stdout, rows)
	fmt.Printf("\n%d of %d observations differ\n", len(pods.Differences(rows)), len(rows))
	return nil
}
