// Package pods is one suite of what pods do, which runs against any node of any
// cluster by kubeconfig and writes down what can be observed: statuses, exit
// codes, reasons, files, environment, logs. Two nodes are alike when their
// tables are the same. So it asserts nothing by itself: the kubelet's table is
// what is right, and testdata holds one of it.
//
// It is not for what differs by design: docs/sandbox-node-differences.md lists
// that, with reasons, and the test reads it.
//
// Start with Cases, the table of everything that is tried.
package pods

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Case is one behaviour. Its name finishes the sentence "a pod …".
type Case struct {
	Name string

	// Objects are made first: YAML documents of anything but pods.
	Objects string
	// Pod is the spec of a pod named p, in YAML: with the probe's image and
	// restartPolicy Never unless it says otherwise. "" is none.
	Pod string

	// Do observes. Without it the pod is waited for, and its end and the logs of
	// its containers are written down.
	Do func(*run)
}

// Cases are all behaviours, by what they are about.
func Cases() []Case {
	return slices.Concat(
		endings(),     // exit codes, signals, reasons, restarts, deadlines, deletion
		hooks(),       // postStart and preStop
		probes(),      // liveness, readiness, startup; exec, HTTP, TCP, gRPC
		inits(),       // init containers and sidecars
		volumes(),     // each kind: files, modes, paths, updates
		tokens(),      // service accounts
		environment(), // variables from everywhere, expansion, arguments
		identities(),  // users, groups, namespaces, what can be written
		messages(),    // termination messages
		logs(),        // and what the API says of them
		sessions(),    // exec, attach, port-forward
		resources(),   // limits, out of memory, scheduling
		images(),      // configuration of images, and names that are none
		services(),    // addresses and names
		controllers(), // Jobs, Deployments, StatefulSets, DaemonSets
		events(),      // what a person reads
	)
}

// Result is what was observed of a case, in the order of observation.
type Result struct {
	Name         string
	Observations []Observation
	Took         time.Duration
}

// Observation is one line: what, and what it was.
type Observation struct{ Key, Value string }

// Run tries cases on a node, parallel of them at a time, and returns a result for each
// in the order of cases. What did not happen in time is an observation too.
func Run(ctx context.Context, node *Node, cases []Case, parallel int) ([]Result, error) {
	if err := node.prepare(ctx); err != nil {
		return nil, err
	}
	results := make([]Result, len(cases))
	var wait sync.WaitGroup
	slots := make(chan struct{}, parallel)
	for i, c := range cases {
		wait.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			results[i] = node.try(ctx, c, fmt.Sprintf("pods-%s-%03d", node.run, i))
		})
	}
	wait.Wait()
	return results, ctx.Err()
}
