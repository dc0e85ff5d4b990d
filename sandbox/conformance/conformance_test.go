//go:build conformance

// Package conformance is Kubernetes' own end-to-end tests of nodes, those marked
// [NodeConformance], as one test binary. It holds no test of ours, and the tag
// keeps it out of every build but run.sh's: it is thousands of packages more.
//
// run.sh is where to start.
package conformance

import (
	"flag"
	"os"
	"testing"

	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/gomega"

	"k8s.io/kubernetes/test/e2e/framework"
	"k8s.io/kubernetes/test/e2e/framework/config"

	_ "k8s.io/kubernetes/test/e2e/common/node"    // pods, probes, hooks, init containers, expansion, status, lease
	_ "k8s.io/kubernetes/test/e2e/common/storage" // config maps, secrets, projected volumes, downward API, emptyDir, hostPath
	_ "k8s.io/kubernetes/test/e2e/framework/debug/init"
	_ "k8s.io/kubernetes/test/e2e/framework/node/init"
)

func TestMain(m *testing.M) {
	config.CopyFlags(config.Flags, flag.CommandLine)
	framework.RegisterCommonFlags(flag.CommandLine)
	framework.RegisterClusterFlags(flag.CommandLine)
	flag.Parse()
	framework.AfterReadingAllFlags(&framework.TestContext)
	os.Exit(m.Run())
}

func TestNode(t *testing.T) {
	gomega.RegisterFailHandler(framework.Fail)
	suite, reporter := framework.CreateGinkgoConfig()
	ginkgo.RunSpecs(t, "Node conformance", suite, reporter)
}
