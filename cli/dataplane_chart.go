package cli

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"biplane.dev/biplane/dataplane/chart"
)

// dataplaneChart groups what is done with the chart biplane-dataplane. The
// program carries it.
func (a *app) dataplaneChart() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "chart",
		Short: "Install the data plane's Helm chart, which this program carries",
		Long: `Install the data plane's Helm chart, which this program carries, upgrade it, see
how it is, take it away. It is Helm that does it, without its command line: what
it leaves is a release, which 'helm ls' and 'helm rollback' see.

The cluster is the one of your kubeconfig, as kubectl finds it.`,
		Example: `  biplane cluster add production --token-file token
  biplane dataplane chart install --cluster production --token-file token --values values.yaml
  biplane dataplane chart status`,
	}
	flags := cmd.PersistentFlags()
	flags.SortFlags = false
	flags.StringVar(&a.chart.namespace, "namespace", chart.DefaultNamespace, "`NAME` of the namespace of its processes; the roles trust it by name")
	flags.StringVar(&a.chart.kubeconfig, "kubeconfig", "", "`FILE` that names the cluster (default: KUBECONFIG, else ~/.kube/config)")
	cmd.AddCommand(
		a.dataplaneChartInstall(),   // the first time, and after it was broken off
		a.dataplaneChartUpgrade(),   // to this program's version, or to other values
		a.dataplaneChartStatus(),    // what runs
		a.dataplaneChartUninstall(), // take it away
	)
	return cmd
}

// chartFlags say which data plane is meant.
type chartFlags struct {
	namespace  string
	kubeconfig string
}

// target is the data plane that is meant; what is done there is told to p.
func (a *app) target(p *progress) chart.Target {
	t := chart.Target{Kubeconfig: a.chart.kubeconfig, Namespace: a.chart.namespace, Log: a.log}
	t.Progress = func(line string) {
		if !a.quiet {
			p.say(oneLine(line))
		}
	}
	return t
}

// chartText prints a data plane for people.
func chartText(s chart.Status) func(io.Writer) {
	return func(w io.Writer) {
		joined := "has not joined its control plane yet"
		if s.Joined {
			joined = "has joined its control plane"
		}
		fmt.Fprintf(w, "Data plane %s is %s, and %s.\n\n", s.Cluster, s.State, joined)
		fmt.Fprintf(w, "RELEASE\t%s in namespace %s, revision %d, of %s\n", s.Release, s.Namespace, s.Revision, s.Updated.Format(time.RFC3339))
		fmt.Fprintf(w, "CHART\t%s\n", s.Chart)
		fmt.Fprintf(w, "GATEWAY\t%s\n", s.Gateway)
		fmt.Fprint(w, "\nPROCESS\tREADY\tIMAGE\tMESSAGE\n")
		for _, process := range s.Processes {
			ready := "no"
			if process.Ready {
				ready = "yes"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", process.Name, ready, process.Image, oneLine(process.Message))
		}
	}
}
