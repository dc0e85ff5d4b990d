package chart_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"biplane.dev/biplane/dataplane/chart"
)

// The chart's folder, and Helm's command line, of the version that is linked, by
// 'make setup'.
const (
	chartFolder = "../../charts/biplane-dataplane"
	helmProgram = "../../.cache/bin/helm"
)

// helmCommand is Helm's command line, with nothing of the machine's own around it.
func helmCommand(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	program, err := filepath.Abs(helmProgram)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(program); err != nil {
		t.Fatalf("got no %s, want it made by 'make setup'", program)
	}
	home := t.TempDir()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Env = []string{"KUBECONFIG=" + cluster.Kubeconfig, "HOME=" + home, "HELM_CACHE_HOME=" + home, "HELM_CONFIG_HOME=" + home, "HELM_DATA_HOME=" + home}
	return cmd
}

// helm runs it to its end.
func helm(t *testing.T, args ...string) (stdout string, err error) {
	t.Helper()
	cmd := helmCommand(t, args...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%w: %s%s", err, &said, &out)
	}
	return out.String(), nil
}

func mustHelm(t *testing.T, args ...string) string {
	t.Helper()
	out, err := helm(t, args...)
	if err != nil {
		t.Fatalf("got %v of helm %s, want it done", err, args[0])
	}
	return out
}

func fromHelm[T any](t *testing.T, args ...string) (answer T) {
	t.Helper()
	out := mustHelm(t, append(args, "--namespace", namespace, "--output", "json")...)
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		t.Fatalf("got %v of %s", err, out)
	}
	return answer
}

// valuesFile has the values of options, as a person would write them.
func valuesFile(t *testing.T, o chart.Options) string {
	t.Helper()
	section := o.Values["controlPlane"].(map[string]any)
	section["cluster"] = o.Cluster
	text, err := yaml.Marshal(o.Values)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "values.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestHelmVersion compares what is linked with the command line that these tests run.
func TestHelmVersion(t *testing.T) {
	t.Parallel()
	version := regexp.MustCompile(`helm\.sh/helm/v3 (v\S+)`)
	of := func(file string) string {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		found := version.FindSubmatch(text)
		if found == nil {
			t.Fatalf("got no Helm in %s, want one", file)
		}
		return string(found[1])
	}
	if got, want := of("../../tools/go.mod"), of("../../go.mod"); got != want {
		t.Errorf("got Helm %s in tools/go.mod, want %s as in go.mod", got, want)
	}
}

// TestHelmAlone is what needs no cluster.
func TestHelmAlone(t *testing.T) {
	t.Parallel()

	t.Run("it lints the chart", func(t *testing.T) {
		t.Parallel()
		out := mustHelm(t, "lint", chartFolder, "--strict", "--values", valuesFile(t, options()))
		if !strings.Contains(out, "1 chart(s) linted, 0 chart(s) failed") || strings.Contains(out, "[WARNING]") || strings.Contains(out, "[ERROR]") {
			t.Errorf("got %s, want nothing to be found", out)
		}
	})

	t.Run("it renders what we do", func(t *testing.T) {
		t.Parallel()
		o := options()
		out := mustHelm(t, "template", chart.ReleaseName, chartFolder, "--namespace", namespace, "--values", valuesFile(t, o))
		want, err := chart.Render(namespace, o.Values)
		if err != nil {
			t.Fatal(err)
		}
		if strings.TrimSpace(out) != strings.TrimSpace(want) {
			t.Errorf("got %d bytes, want the %d bytes of chart.Render", len(out), len(want))
		}
	})

	t.Run("it says which value is missing", func(t *testing.T) {
		t.Parallel()
		if _, err := helm(t, "template", chart.ReleaseName, chartFolder); err == nil || !strings.Contains(err.Error(), "controlPlane.gateway is needed: host:port of the control plane's tunnel gateway") {
			t.Errorf("got %v, want the value and what it is", err)
		}
	})

	t.Run("it says which value cannot be", func(t *testing.T) {
		t.Parallel()
		_, err := helm(t, "template", chart.ReleaseName, chartFolder, "--values", valuesFile(t, options()), "--set", "proxy.port=80")
		if err == nil || !strings.Contains(err.Error(), "/proxy/port") {
			t.Errorf("got %v, want the value", err)
		}
	})
}

// helmSees is a part of TestInstall: the release is there, of some revision.
func helmSees(t *testing.T) {
	type listed struct{ Name, Namespace, Revision, Status, Chart string }
	status, err := chart.Read(t.Context(), to(options()).Target)
	if err != nil {
		t.Fatal(err)
	}
	list := fromHelm[[]listed](t, "list")
	if len(list) != 1 || list[0].Name != chart.ReleaseName || list[0].Status != "deployed" || list[0].Chart != "biplane-dataplane-"+status.Chart {
		t.Fatalf("got %+v listed, want the release, deployed", list)
	}

	type described struct {
		Info    struct{ Status, Notes string }
		Version int
	}
	if got := fromHelm[described](t, "status", chart.ReleaseName); got.Version != status.Revision || got.Info.Status != "deployed" ||
		!strings.Contains(got.Info.Notes, "The data plane production is installed in the namespace "+namespace) {
		t.Errorf("got %+v, want revision %d and the notes", got, status.Revision)
	}

	type revision struct {
		Revision int
		Status   string
	}
	if got := fromHelm[[]revision](t, "history", chart.ReleaseName); len(got) != status.Revision || got[0].Status != "superseded" || got[len(got)-1].Status != "deployed" {
		t.Errorf("got the history %+v, want %d revisions, of which the last is deployed", got, status.Revision)
	}

	level := func() string {
		var configuration corev1.ConfigMap
		get(t, &configuration, namespace, "biplane-dataplane")
		return regexp.MustCompile(`level: (\S+)`).FindStringSubmatch(configuration.Data["config.yaml"])[1]
	}
	for _, step := range []struct{ revision, level string }{{"2", "debug"}, {"1", "info"}} {
		mustHelm(t, "rollback", chart.ReleaseName, step.revision, "--namespace", namespace)
		if got := level(); got != step.level {
			t.Errorf("got level %s after a rollback to revision %s, want %s", got, step.revision, step.level)
		}
	}

	// And we go on from there.
	play(t)
	after, err := chart.Install(t.Context(), to(options()))
	if err != nil {
		t.Fatal(err)
	}
	if after.State != "deployed" || after.Revision != status.Revision+2 {
		t.Errorf("got %s, revision %d, want the last rollback left as it is, which has these values", after.State, after.Revision)
	}
	if everything := mustHelm(t, "get", "all", chart.ReleaseName, "--namespace", namespace); strings.Contains(everything, token) {
		t.Error("got the join token in what Helm keeps, want it nowhere")
	}
}

// helmInstalls is the last part of TestInstall: the cluster is as before the first.
func helmInstalls(t *testing.T) {
	o := to(options())
	file := valuesFile(t, o)
	mustHelm(t, "install", chart.ReleaseName, chartFolder, "--namespace", namespace, "--values", file)
	get(t, &appsv1.Deployment{}, namespace, "operator")
	definition := &unstructured.Unstructured{}
	definition.SetAPIVersion("apiextensions.k8s.io/v1")
	definition.SetKind("CustomResourceDefinition")
	for _, kind := range []string{"workspaces", "taskactions", "tasktemplates"} {
		get(t, definition, "", kind+".biplane.dev")
	}

	play(t)
	status, err := chart.Install(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if status.Revision != 1 || !status.Ready() {
		t.Errorf("got %+v, want revision 1 left as it is, and ready", status)
	}

	// One that is broken off in the middle is taken up, whoever began it.
	o.Values["log"] = map[string]any{"level": "debug"}
	helmKilled(t, "upgrade", chart.ReleaseName, chartFolder, "--namespace", namespace, "--values", valuesFile(t, o))
	if status, err = chart.Install(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if !status.Ready() {
		t.Errorf("got %+v, want it ready", status)
	}

	mustHelm(t, "uninstall", chart.ReleaseName, "--namespace", namespace)
	wantNone(t, &appsv1.Deployment{}, "operator")
	if _, err := chart.Uninstall(t.Context(), o.Target, true); err != nil {
		t.Fatal(err)
	}
}

// helmKilled runs Helm's command line and kills it once it has said in its record
// that an upgrade is under way.
func helmKilled(t *testing.T, args ...string) {
	t.Helper()
	cmd := helmCommand(t, args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		var record corev1.Secret
		err := cluster.Client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: "sh.helm.release.v1." + chart.ReleaseName + ".v2"}, &record)
		if err == nil {
			break
		}
		if !apierrors.IsNotFound(err) {
			t.Fatal(err)
		}
	}
	cmd.Process.Kill() // it may have ended by itself a moment ago
	<-ended
}
