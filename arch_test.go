// Package biplane_test holds the walls between the parts, those of the sandbox's
// module too: which package may import which, and what each program links. The
// compiler keeps the rest, because a part's workings sit in its own internal/.
package biplane_test

import (
	"encoding/json"
	"errors"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "biplane.dev/biplane/"

var update = flag.Bool("update", false, "write cmd/*/deps.txt")

// arrows are the imports that are refused. A pattern is an import path, or
// with /... everything below it too; our own packages are named without the
// module, and "std" is the standard library.
var arrows = []struct {
	from    string
	never   []string // imports refused
	only    []string // or: every other import refused
	because string
}{
	{from: "provision/iampolicy/sar", only: []string{"std"},
		because: "the service facts are data, to be read by anything"},
	{from: "provision/iampolicy", only: []string{"std", "internal/nearest", "provision/iampolicy/sar"},
		because: "the engine is usable on its own, and what decides must be readable to the end"},
	{from: "provision/vendor", only: []string{"std", "github.com/goccy/go-yaml/...", "internal/nearest", "internal/usererr"},
		because: "names are below everything that uses them"},
	{from: "provision/step", never: []string{"github.com/aws/...", "provision/access", "provision/operations"},
		because: "a step is run, killed and resumed alike whatever it makes"},
	{from: "provision/...", never: []string{"cli", "cmd/...", "internal/awsdouble/...", "internal/awsidentity/...", "internal/sandbox", "sandbox/..."},
		because: "what goes to AWS must not know that it is being tested"},
	{from: "internal/awsidentity/...", never: []string{"internal/awsdouble/...", "provision/access", "provision/operations", "provision/vendor", "cli"},
		because: "the identity service judges any policy, so it must not know ours; the sandbox links it without the double"},
	{from: "internal/awsdouble/...", never: []string{"provision/access", "cli"},
		because: "a double that knew the documents would not test them"},
	{from: "internal/sdkhash", only: []string{"std", "google.golang.org/protobuf/...", "api/gen/flyteidl2/..."},
		because: "both planes hash as the SDK does, and what they hash is Flyte's"},
	{from: "jumper", only: []string{"std", "golang.org/x/net/dns/dnsmessage", "golang.org/x/net/netutil", "internal/buildinfo", "internal/usererr"},
		because: "it runs in a customer's account between a vendor and a cluster, and is to be read to the end"},
	{from: "internal/usererr", only: []string{"std"},
		because: "every package may return one"},
	{from: "internal/nearest", only: []string{"std"},
		because: "the policy engine, which is usable on its own, links it"},
	{from: "dataplane/chart", never: []string{"dataplane/api/...", "dataplane/internal/...", "controlplane/...", "cli"},
		because: "the command line links it, and no controller with it"},
	{from: "charts", only: []string{"std"},
		because: "charts are data"},
	{from: "cli", never: []string{"internal/awsdouble/...", "internal/awsidentity/..."},
		because: "the command line works against AWS and the double with no difference"},
	{from: "internal/sandbox", only: []string{"std", "github.com/goccy/go-yaml/...", "internal/usererr"},
		because: "the command line starts and asks a sandbox, and contains none of it"},
	{from: "sandbox/internal/container", never: []string{"k8s.io/...", "sandbox/internal/node"},
		because: "the stage that becomes a container's program starts in a millisecond, and knows no pods"},
	{from: "sandbox/internal/identity", never: []string{"k8s.io/kubernetes/...", "sandbox/internal/s3", "internal/awsdouble/..."},
		because: "who decides knows neither what it protects nor where tokens come from"},
	{from: "api/...", only: []string{"std", "api/...", "google.golang.org/protobuf/...", "google.golang.org/genproto/googleapis/rpc/...", "connectrpc.com/connect"},
		because: "what two planes say to each other knows neither"},
	{from: "tunnel/...", never: []string{"api/gen/flyteidl2/...", "controlplane/...", "dataplane/...", "provision/...", "k8s.io/..."},
		because: "the tunnel carries bytes, and knows neither of its ends"},
	{from: "controlplane/...", never: []string{"dataplane/...", "provision/...", "cli", "k8s.io/client-go/...", "sigs.k8s.io/...", "internal/sandbox", "sandbox/..."},
		because: "a control plane is told states; what makes them is elsewhere, and it opens no account"},
	{from: "dataplane/...", never: []string{"controlplane/...", "provision/...", "cli", "sandbox/..."},
		because: "a data plane runs alone, in an account that it was given"},
	{from: "controlplane/...", never: []string{"cli", "sandbox/...", "provision/...", "internal/awsdouble/...", "internal/awsidentity/...", "internal/sandbox", "dataplane",
		"dataplane/config", "dataplane/operator/...", "dataplane/clustersync/...", "dataplane/executor/...", "dataplane/proxy/...", "dataplane/internal/..."},
		because: "of a data plane it knows the interfaces, and of its objects the limits"},
	{from: "sandbox/...", never: []string{"cli", "internal/awsdouble/..."},
		because: "the sandbox is a real cluster and a real store; the double answers for all else of AWS"},
}

// fences keep a library to the packages that wrap it.
var fences = []struct {
	library string
	within  []string
	because string
}{
	{"github.com/spf13/...", []string{"cli", "controlplane", "internal/awsdouble", "sandbox/..."},
		"flags are read once, at the edge: by the programs that have some, and the sandbox is many"},
	{"go.etcd.io/bbolt", []string{"internal/awsidentity/..."},
		"one store, of the identity service; steps have no state file"},
	{"github.com/aws/aws-sdk-go-v2/config", []string{"cli", "cmd/..."},
		"credentials and region are found once, at the edge, and handed down"},
	{"cli", []string{"cmd/biplane"},
		"the command line is nobody's library"},
	{"modernc.org/sqlite/...", []string{"controlplane/internal/store/..."},
		"one store, behind one suite"},
	{"github.com/jackc/pgx/...", []string{"controlplane/internal/store/..."},
		"one store, behind one suite"},
	{"github.com/libp2p/go-yamux/...", []string{"tunnel"},
		"streams are the tunnel's"},
	{"sigs.k8s.io/controller-runtime/...", []string{"dataplane/..."},
		"controllers are in a data plane and nowhere else"},
	{"k8s.io/kubernetes/...", []string{"sandbox/internal/program", "sandbox/internal/kubernetes", "sandbox/internal/kubelet", "sandbox/internal/node/..."},
		"ten minutes of compiling, and no promise about its Go code: where we depend on it is seen in four places"},
	{"go.etcd.io/etcd/...", []string{"sandbox/internal/program", "sandbox/internal/kubernetes"},
		"etcd is the API server's; nobody else speaks to it"},
	{"sigs.k8s.io/kwok/...", []string{"sandbox/internal/program", "sandbox/internal/kwok"},
		"fake nodes are one kind of three"},
	{"github.com/versity/...", []string{"sandbox/internal/program", "sandbox/internal/s3", "sandbox/internal/identity"},
		"the store, and the protocol by which it asks who may"},
	{"sandbox/...", []string{"sandbox/..."},
		"the main module must build without Kubernetes"},
	{"unsafe", []string{"api/gen/...", "sandbox/internal/container", "sandbox/internal/kubelet", "sandbox/test/pods/probe"},
		"nothing here is worth it but what the kernel takes and no package wraps: clone3, mount_setattr, siginfo, sigaction"},
	{"helm.sh/helm/...", []string{"dataplane/chart"},
		"Helm is one way to install; who calls it says what it wants in our words"},
	{"C", nil,
		"binaries are static"},
}

// links say what a program must not contain, however deep.
var links = []struct {
	program string
	never   []string
	because string
}{
	{"cmd/biplane", []string{"internal/awsdouble/...", "internal/awsidentity/...", "go.etcd.io/...", "k8s.io/kubernetes/...", "sigs.k8s.io/controller-runtime/...", "modernc.org/...", "github.com/jackc/...", "testing", "github.com/rogpeppe/go-internal/..."},
		"the command line holds no store of ours, no controllers and no double; Helm's packages bring Kubernetes' client"},
	{"cmd/biplane-controlplane", []string{"provision/...", "k8s.io/client-go/...", "sigs.k8s.io/controller-runtime/...", "helm.sh/...", "testing"},
		"the control plane opens no account, and asks no cluster but through its tunnel"},
	{"cmd/biplane-dataplane", []string{"provision/...", "controlplane/...", "modernc.org/...", "github.com/jackc/...", "helm.sh/...", "testing"},
		"a data plane has no SQL, and makes no accounts"},
	{"cmd/biplane-jumper", []string{"provision/...", "controlplane/...", "dataplane/...", "tunnel/...", "github.com/...", "k8s.io/...", "testing"},
		"a few megabytes of the standard library, and of ours what it says in one sentence"},
	{"cmd/biplane-awsdouble", []string{"cli", "provision/access"},
		"the double is an endpoint, and knows nothing of what is sent to it"},
}

type pkg struct {
	ImportPath string
	Name       string
	Dir        string
	GoFiles    []string
	Standard   bool
	Imports    []string
	Deps       []string
}

func TestImports(t *testing.T) {
	t.Parallel()
	packages := list(t)
	for _, p := range packages {
		from, ours := strings.CutPrefix(p.ImportPath, module)
		if !ours {
			continue
		}
		for _, imported := range p.Imports {
			for _, rule := range arrows {
				if !matches(rule.from, from) {
					continue
				}
				refused := slices.ContainsFunc(rule.never, func(pattern string) bool { return matches(pattern, short(imported)) })
				if len(rule.only) > 0 {
					refused = !slices.ContainsFunc(rule.only, func(pattern string) bool {
						return matches(pattern, short(imported)) || pattern == "std" && packages[imported].Standard
					})
				}
				if refused {
					t.Errorf("got %s importing %s, want it not to: %s", from, short(imported), rule.because)
				}
			}
			for _, fence := range fences {
				if matches(fence.library, short(imported)) && !slices.ContainsFunc(fence.within, func(pattern string) bool { return matches(pattern, from) }) {
					t.Errorf("got %s importing %s, want only %v to: %s", from, short(imported), fence.within, fence.because)
				}
			}
		}
	}
	for _, link := range links {
		program, ok := packages[module+link.program]
		if !ok {
			t.Errorf("got no program %s, want the one that a rule is about", link.program)
		}
		for _, dep := range program.Deps {
			if slices.ContainsFunc(link.never, func(pattern string) bool { return matches(pattern, short(dep)) }) {
				t.Errorf("got %s linking %s, want it not to: %s", link.program, short(dep), link.because)
			}
		}
	}
}

// TestDepsLists compares what each program links with the list beside it, so
// that a review sees what a change adds. `make generate` writes the lists.
// biplane-sandbox has none: it is Kubernetes, thousands of packages, and
// sandbox/go.mod shows what a change adds.
func TestDepsLists(t *testing.T) {
	t.Parallel()
	packages := list(t)
	for _, p := range packages {
		from, ours := strings.CutPrefix(p.ImportPath, module)
		if !ours || p.Name != "main" || !strings.HasPrefix(from, "cmd/") {
			continue
		}
		var linked strings.Builder
		for _, dep := range slices.Sorted(slices.Values(p.Deps)) {
			if !packages[dep].Standard {
				linked.WriteString(dep + "\n")
			}
		}
		file := filepath.Join(filepath.FromSlash(from), "deps.txt")
		if *update {
			if err := os.WriteFile(file, []byte(linked.String()), 0o644); err != nil {
				t.Error(err)
			}
			continue
		}
		kept, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
		have := strings.Fields(string(kept))
		now := strings.Fields(linked.String())
		for _, dep := range now {
			if !slices.Contains(have, dep) {
				t.Errorf("got %s linking %s, want it in %s: run 'make generate' if it is meant", from, dep, file)
			}
		}
		for _, dep := range have {
			if !slices.Contains(now, dep) {
				t.Errorf("got %s in %s, want it gone, since %s does not link it: run 'make generate'", dep, file, from)
			}
		}
	}
}

// TestPackages holds rules about names and state that no import shows.
func TestPackages(t *testing.T) {
	t.Parallel()
	for _, p := range list(t) {
		from, ours := strings.CutPrefix(p.ImportPath, module)
		if !ours || matches("api/gen/...", from) { // those are generated
			continue
		}
		if slices.Contains([]string{"util", "utils", "common", "helpers", "models", "impl"}, path.Base(from)) {
			t.Errorf("got package %s, want a noun that its users would say", from)
		}
		files, err := filepath.Glob(filepath.Join(p.Dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		documented := false
		for _, file := range files {
			parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments|parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			// Where there are tests alone, one of them says it.
			documented = documented || parsed.Doc != nil && (len(p.GoFiles) == 0 || !strings.HasSuffix(file, "_test.go"))
			for _, decl := range parsed.Decls {
				if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
					t.Errorf("got func init in %s, want what it sets up to be an argument", file)
				}
			}
		}
		if !documented {
			t.Errorf("got no package comment in %s, want what it is for, what it is not for, and where to start", from)
		}
	}
}

// list asks the go command about every package of this module and the
// sandbox's, and all they import, tests aside: as linked for a Linux server,
// whatever runs the test.
func list(t *testing.T) map[string]pkg {
	t.Helper()
	packages := map[string]pkg{}
	for _, dir := range []string{".", "sandbox"} {
		listModule(t, dir, packages)
	}
	return packages
}

func listModule(t *testing.T, dir string, packages map[string]pkg) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "-C", dir, "list", "-deps", "-json=ImportPath,Name,Dir,GoFiles,Standard,Imports,Deps", "./...")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOFLAGS=-mod=readonly")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	before := len(packages)
	for decoder := json.NewDecoder(out); ; {
		var p pkg
		if err := decoder.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		packages[p.ImportPath] = p
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("go list in %s: %v", dir, err)
	}
	if len(packages) == before {
		t.Fatalf("got no packages of %s from go list, want ours", dir)
	}
}

func short(importPath string) string { return strings.TrimPrefix(importPath, module) }

func matches(pattern, name string) bool {
	if prefix, below := strings.CutSuffix(pattern, "/..."); below {
		return name == prefix || strings.HasPrefix(name, prefix+"/")
	}
	return name == pattern
}
