package chart

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	helmchart "helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chartutil"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"biplane.dev/biplane/dataplane/config"
	"biplane.dev/biplane/internal/usererr"
)

// least is what cannot be left out.
const least = `
controlPlane: {gateway: "gateway.example.com:443", cluster: production}
storage: {region: eu-central-1, metadataBucket: meta, fastRegistrationBucket: fast}
`

func mustLoad(t *testing.T) *helmchart.Chart {
	t.Helper()
	chart, err := load()
	if err != nil {
		t.Fatal(err)
	}
	return chart
}

func parseValues(t *testing.T, texts ...string) map[string]any {
	t.Helper()
	values := map[string]any{}
	for _, text := range texts {
		more, err := ReadValues("values", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		values = chartutil.MergeTables(more, values)
	}
	return values
}

// rendered is what `helm template` prints, as objects.
func rendered(t *testing.T, texts ...string) []*unstructured.Unstructured {
	t.Helper()
	manifest, err := Render("union", parseValues(t, texts...))
	if err != nil {
		t.Fatal(err)
	}
	var objects []*unstructured.Unstructured
	for _, document := range strings.Split(manifest, "\n---\n") {
		object := map[string]any{}
		if err := yaml.UnmarshalStrict([]byte(document), &object); err != nil {
			t.Fatalf("%v in\n%s", err, document)
		}
		if len(object) > 0 {
			objects = append(objects, &unstructured.Unstructured{Object: object})
		}
	}
	return objects
}

// of returns the objects of a kind, by name.
func of[T any](t *testing.T, objects []*unstructured.Unstructured, kind string) map[string]T {
	t.Helper()
	found := map[string]T{}
	for _, object := range objects {
		if object.GetKind() != kind {
			continue
		}
		var one T
		if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(object.Object, &one, true); err != nil {
			t.Fatalf("%s %s: %v", kind, object.GetName(), err)
		}
		found[object.GetName()] = one
	}
	return found
}

// loaded is the configuration that the processes would read.
func loaded(t *testing.T, objects []*unstructured.Unstructured) *config.Config {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte(of[corev1.ConfigMap](t, objects, "ConfigMap")["biplane-dataplane"].Data["config.yaml"]), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func TestConfig(t *testing.T) {
	t.Parallel()

	t.Run("it is what the processes take for their defaults, where no value says otherwise", func(t *testing.T) {
		t.Parallel()
		file := filepath.Join(t.TempDir(), "config.yaml")
		text := "apiVersion: biplane.dev/v1alpha1\nkind: DataPlaneConfig\n" + least
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		want, err := config.Load(file)
		if err != nil {
			t.Fatal(err)
		}
		if got := loaded(t, rendered(t, least)); !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	})

	t.Run("it has a value for each of its keys", func(t *testing.T) {
		t.Parallel()
		cfg := loaded(t, rendered(t, least, `
controlPlane: {ca: "-----BEGIN CERTIFICATE-----\nAA: 'A'\n-----END CERTIFICATE-----\n"}
storage: {endpoint: "https://s3.example.com", stsEndpoint: "https://sts.example.com", clientEndpoint: "https://s3.example.org", keepLogs: 1h30m}
roles: {task: "arn:aws:iam::123456789012:role/userflyterole", upload: "arn:aws:iam::123456789012:role/adminflyterole"}
operator: {port: 7001, listenAddress: 127.0.0.1, endpoint: "op:1"}
clustersync: {port: 7002, endpoint: "cs:1", values: {maxPods: "10"}, templates: {70-more.yaml: "a: 1"}, pullSecret: registry}
executor: {port: 7003, endpoint: "ex:1", workers: 3, defaultCPU: 500m, defaultMemory: 2Gi, systemRetries: 1, keepFinished: 2h, imagePullGrace: 1m,
  taskEnv: {A: "b: c"}, interruptibleNodeSelector: {spot: "true"}, interruptibleTolerations: [{key: spot, operator: Equal, value: "true", effect: NoSchedule}]}
proxy: {port: 7004, endpoint: "pr:1", origins: ["https://console.example.com"]}
log: {level: debug, format: text}
`))
		everyField(t, "", reflect.ValueOf(*cfg))
		if got, want := cfg.Operator.Listen, "127.0.0.1:7001"; got != want {
			t.Errorf("got operator.listen %q, want %q", got, want)
		}
		if got, want := cfg.Storage.KeepLogs, 90*time.Minute; got != want {
			t.Errorf("got keepLogs %v, want %v", got, want)
		}
		if got, want := cfg.Executor.Env["A"], "b: c"; got != want {
			t.Errorf("got variable %q, want %q", got, want)
		}
	})
}

// everyField finds those that have no value: a new key of the configuration needs
// one in the chart.
func everyField(t *testing.T, path string, v reflect.Value) {
	t.Helper()
	if v.IsZero() {
		t.Errorf("got nothing in the key of %s, want a value of the chart for it", path)
	}
	if v.Kind() == reflect.Struct {
		for i := range v.NumField() {
			everyField(t, path+"."+v.Type().Field(i).Name, v.Field(i))
		}
	}
	if v.Kind() == reflect.Slice && v.Len() > 0 {
		everyField(t, path+"[0]", v.Index(0))
	}
}

func TestPods(t *testing.T) {
	t.Parallel()
	deployments := of[appsv1.Deployment](t, rendered(t, least), "Deployment")
	for name, account := range map[string]string{"operator": "operator-system", "clustersync": "clustersync-system", "executor": "executor", "proxy": "proxy-system"} {
		deployment, ok := deployments[name]
		if !ok {
			t.Errorf("got no Deployment %s, want one", name)
			continue
		}
		pod := deployment.Spec.Template.Spec
		if pod.ServiceAccountName != account {
			t.Errorf("got service account %s of %s, want %s", pod.ServiceAccountName, name, account)
		}
		if s := pod.SecurityContext; s == nil || s.RunAsNonRoot == nil || !*s.RunAsNonRoot || s.SeccompProfile == nil {
			t.Errorf("got %s with security context %v, want it not to be root", name, s)
		}
		container := pod.Containers[0]
		s := container.SecurityContext
		if !*s.ReadOnlyRootFilesystem || *s.AllowPrivilegeEscalation || !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) {
			t.Errorf("got %s with %v, want no rights that it does not need", name, s)
		}
		if container.Resources.Requests.Cpu().IsZero() || container.Resources.Requests.Memory().IsZero() {
			t.Errorf("got %s asking for %v, want CPU and memory", name, container.Resources.Requests)
		}
		for _, probe := range []*corev1.Probe{container.StartupProbe, container.LivenessProbe, container.ReadinessProbe} {
			if probe == nil || probe.HTTPGet.Scheme != corev1.URISchemeHTTPS {
				t.Errorf("got the probe %v of %s, want HTTPS", probe, name)
			}
		}
		mounts := map[string]bool{}
		for _, mount := range container.VolumeMounts {
			mounts[mount.MountPath] = true
			if !mount.ReadOnly && mount.MountPath != "/tmp" {
				t.Errorf("got %s of %s to be written to, want it not", mount.MountPath, name)
			}
		}
		want := []string{filepath.Dir(config.File), config.TLSFolder, filepath.Dir(config.TokenFile)}
		if name == "operator" {
			want = append(want, filepath.Dir(config.JoinTokenFile))
		} else if mounts[filepath.Dir(config.JoinTokenFile)] {
			t.Errorf("got the join token in %s, want it in the operator alone", name)
		}
		for _, path := range want {
			if !mounts[path] {
				t.Errorf("got no %s in %s, want it mounted", path, name)
			}
		}
	}
}

// TestRights holds what must never be in a rule, whatever is added. What is in
// them is tried on a real API server, by TestInstall.
func TestRights(t *testing.T) {
	t.Parallel()
	objects := rendered(t, least, "clustersync: {pullSecret: registry}")
	rules := map[string][]rbacv1.PolicyRule{}
	for name, role := range of[rbacv1.ClusterRole](t, objects, "ClusterRole") {
		rules["ClusterRole "+name] = role.Rules
	}
	for name, role := range of[rbacv1.Role](t, objects, "Role") {
		rules["Role "+name] = role.Rules
	}
	if len(rules) != 8 {
		t.Errorf("got %d roles, want 8", len(rules))
	}
	for name, rules := range rules {
		for _, rule := range rules {
			for _, word := range slices.Concat(rule.APIGroups, rule.Resources, rule.Verbs) {
				if word == "*" || word == "escalate" || word == "impersonate" {
					t.Errorf("got %q in %s, want every right by its name", word, name)
				}
			}
			if slices.Contains(rule.Resources, "secrets") && len(rule.ResourceNames) == 0 && !slices.Equal(rule.Verbs, []string{"create"}) {
				t.Errorf("got every secret in %s, want them by name", name)
			}
			for _, kind := range []string{"pods/exec", "pods/ephemeralcontainers", "serviceaccounts/token", "nodes/proxy"} {
				if slices.Contains(rule.Resources, kind) {
					t.Errorf("got %s in %s, want nobody to have it", kind, name)
				}
			}
		}
	}
}

func TestChart(t *testing.T) {
	t.Parallel()

	t.Run("it is of this repository's version", func(t *testing.T) {
		t.Parallel()
		version, err := os.ReadFile("../../VERSION")
		if err != nil {
			t.Fatal(err)
		}
		want := strings.TrimSpace(string(version))
		if got := mustLoad(t).Metadata; got.Version != want || got.AppVersion != want {
			t.Errorf("got version %s and appVersion %s, want %s", got.Version, got.AppVersion, want)
		}
	})

	t.Run("it uses service accounts that are there", func(t *testing.T) {
		t.Parallel()
		if got := of[corev1.ServiceAccount](t, rendered(t, least, "serviceAccounts: {create: false}"), "ServiceAccount"); len(got) != 0 {
			t.Errorf("got %d service accounts, want none", len(got))
		}
	})

	t.Run("it gives the accounts their roles, and clustersync none", func(t *testing.T) {
		t.Parallel()
		accounts := of[corev1.ServiceAccount](t, rendered(t, least, `roles: {operator: "arn:aws:iam::123456789012:role/op", executor: "arn:aws:iam::123456789012:role/ex", proxy: "arn:aws:iam::123456789012:role/pr"}`), "ServiceAccount")
		for name, want := range map[string]string{"operator-system": "op", "executor": "ex", "proxy-system": "pr", "clustersync-system": ""} {
			if got := accounts[name].Annotations["eks.amazonaws.com/role-arn"]; got != "" && !strings.HasSuffix(got, "/"+want) || got == "" && want != "" {
				t.Errorf("got role %q of %s, want %q", got, name, want)
			}
		}
	})

	t.Run("it has a network policy for each process, if asked", func(t *testing.T) {
		t.Parallel()
		count := func(texts ...string) (n int) {
			for _, object := range rendered(t, texts...) {
				if object.GetKind() == "NetworkPolicy" {
					n++
				}
			}
			return n
		}
		if got := count(least); got != 0 {
			t.Errorf("got %d, want none", got)
		}
		if got := count(least, "networkPolicy: {enabled: true}"); got != 4 {
			t.Errorf("got %d, want 4", got)
		}
	})
}

func TestRefused(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, helm, want string }{
		{"says that the cluster is too old", "chart requires kubeVersion: >=1.30.0-0 which is incompatible with Kubernetes v1.27.3", "the cluster has Kubernetes v1.27.3, and the chart needs >=1.30.0"},
		{"names an object that is somebody else's", `ClusterRole "biplane-proxy" in namespace "" exists and cannot be imported into the current release: x`, "ClusterRole biplane-proxy is there already"},
		{"does not say that a cluster is away which is there", "timed out waiting for the condition", "cannot install the chart: timed out"},
	} {
		t.Run("it "+test.name, func(t *testing.T) {
			t.Parallel()
			if got := (&cluster{}).refused(t.Context(), errors.New(test.helm)); !strings.HasPrefix(got.Error(), test.want) {
				t.Errorf("got %v, want %q", got, test.want)
			}
		})
	}
}

func TestBadValues(t *testing.T) {
	t.Parallel()
	for name, one := range map[string]struct{ values, want, hint string }{
		"it names a key that there is not":             {least + "contrlPlane: {}", `the values have a key "contrlPlane", which the chart does not know`, `did you mean "controlPlane"?`},
		"it names a key below another":                 {least + "log: {levle: info}", `the values have a key "log.levle"`, `did you mean "log.level"?`},
		"it names a key in a list":                     {least + "executor: {interruptibleTolerations: [{kye: a}]}", `"executor.interruptibleTolerations.0.kye"`, ""},
		"it names a value that is missing":             {"storage: {}", "the values lack controlPlane.gateway: host:port", "--values"},
		"it names what is missing below":               {"controlPlane: {gateway: 'a:1', cluster: c}\nstorage: {region: eu-central-1}", "the values lack storage.metadataBucket", ""},
		"it refuses a port that is root's":             {least + "proxy: {port: 80}", "the value proxy.port cannot be 80", "give a port from 1024 to 65535"},
		"it refuses a word where a number is needed":   {least + "executor: {workers: many}", `the value executor.workers cannot be "many"`, "give a number from 1 to 1000"},
		"it refuses a duration without unit":           {least + "storage: {keepLogs: '30'}", `the value storage.keepLogs cannot be "30"`, "90s, 10m or 720h"},
		"it refuses an endpoint that the SDK misreads": {least + "operator: {endpoint: 'localhost:8443'}", `the value operator.endpoint cannot be "localhost:8443"`, "takes for plain text"},
		"it refuses a gateway without port":            {least + "controlPlane: {gateway: gateway.example.com}", `the value controlPlane.gateway cannot be "gateway.example.com"`, "host:port"},
		"it refuses a CA that is no PEM":               {least + "controlPlane: {ca: /etc/ca.crt}", `the value controlPlane.ca cannot be "/etc/ca.crt"`, "BEGIN CERTIFICATE"},
		"it refuses a level that there is not":         {least + "log: {level: loud}", `the value log.level cannot be "loud"`, "give debug, info, warn or error"},
		"it refuses a role that is none":               {least + "roles: {executor: adminflyterole}", `the value roles.executor cannot be "adminflyterole"`, "arn:aws:iam::"},
		"it refuses a section that is a word":          {least + "executor: fast", `the value executor cannot be "fast"`, "a mapping of keys to values"},
		"it refuses a number where words are needed":   {least + "executor: {taskEnv: {A: 3}}", "the value executor.taskEnv.A cannot be 3", "in quotes"},
		"it refuses a template by another name":        {least + "clustersync: {templates: {a.yml: x}}", `the values have a template called "a.yml"`, "ends with .yaml"},
		"it refuses a variable without name":           {least + "proxy: {env: [{value: x}]}", `the value proxy.env.0 cannot be {"value":"x"}`, "a variable with name"},
		"it shows no more of a value than a line has":  {least + "proxy: {listenAddress: [" + strings.Repeat("x,", 200) + "]}", "the value proxy.listenAddress cannot be [", "an IP address"},
		"it refuses what is no YAML":                   {"a: [", "values is not YAML", ""},
		"it refuses a list where there are keys":       {"- a", "values is not YAML", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			values := map[string]any{}
			var err error
			for _, text := range strings.SplitAfter(one.values, least) {
				var more map[string]any
				if more, err = ReadValues("values", []byte(text)); err != nil {
					break
				}
				values = chartutil.MergeTables(more, values)
			}
			if err == nil {
				err = check(mustLoad(t), values)
			}
			said, ok := err.(*usererr.Error)
			if !ok {
				t.Fatalf("got %v, want a sentence", err)
			}
			if !strings.Contains(said.Error(), one.want) || strings.Contains(said.Error(), "\n") || !strings.Contains(said.Hint, one.hint) {
				t.Errorf("got %q, hint %q, want %q, hint %q", said, said.Hint, one.want, one.hint)
			}
		})
	}

	t.Run("it takes a key with nothing behind it for one that is left out", func(t *testing.T) {
		t.Parallel()
		objects := rendered(t, least, "roles:\nexecutor:\n  workers:\n  # defaultCPU: 2\nlog: {level: debug, format: }")
		if got := loaded(t, objects); got.Executor.Workers != 32 || got.Log.Level != "debug" || got.Log.Format != "json" {
			t.Errorf("got %+v, want the chart's own where nothing is said", got)
		}
	})

	t.Run("it says of every value what it takes", func(t *testing.T) {
		t.Parallel()
		chart := mustLoad(t)
		var schema map[string]any
		if err := json.Unmarshal(chart.Schema, &schema); err != nil {
			t.Fatal(err)
		}
		tried := 0
		var walk func(node map[string]any, path []string)
		walk = func(node map[string]any, path []string) {
			if reference, ok := node["$ref"].(string); ok {
				node = schema["definitions"].(map[string]any)[strings.TrimPrefix(reference, "#/definitions/")].(map[string]any)
			}
			if len(path) > 0 {
				// What no value of the chart is.
				values := parseValues(t, least)
				inner := values
				for _, key := range path[:len(path)-1] {
					next, ok := inner[key].(map[string]any)
					if !ok {
						next = map[string]any{}
						inner[key] = next
					}
					inner = next
				}
				inner[path[len(path)-1]] = 1.5
				err := check(chart, values)
				said, ok := err.(*usererr.Error)
				if want := "the value " + strings.Join(path, ".") + " cannot be 1.5"; !ok || said.Error() != want || !strings.HasPrefix(said.Hint, "give ") {
					t.Errorf("got %v, want %q, and a hint of what it takes", err, want)
				}
				tried++
			}
			properties, _ := node["properties"].(map[string]any)
			for key, property := range properties {
				walk(property.(map[string]any), append(slices.Clone(path), key))
			}
		}
		walk(schema, nil)
		if tried < 80 {
			t.Errorf("got %d values tried, want all of them", tried)
		}
	})

	t.Run("it refuses values for another cluster than is named", func(t *testing.T) {
		t.Parallel()
		if _, err := withCluster(parseValues(t, least), "staging"); err == nil || !strings.Contains(err.Error(), "the values are for cluster production, and --cluster is staging") {
			t.Errorf("got %v, want both names", err)
		}
	})
}

func TestMerge(t *testing.T) {
	t.Parallel()
	section := func(pairs ...any) map[string]any {
		m := map[string]any{}
		for i := 0; i < len(pairs); i += 2 {
			m[pairs[i].(string)] = pairs[i+1]
		}
		return m
	}
	below := section("image", section("repository", "a", "tag", "1"), "log", section("level", "info"))
	got := Merge(below, nil, section("image", section("repository", "b")), section("log", "none", "proxy", section("port", 1)))
	want := section("image", section("repository", "b", "tag", "1"), "log", "none", "proxy", section("port", 1))
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if below["image"].(map[string]any)["repository"] != "a" {
		t.Errorf("got the lower values changed to %v, want them as they were", below)
	}
}
