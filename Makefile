# The targets are the whole interface: the build machine runs them and nothing
# else. `make` alone lists them.

SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# Where the home folder cannot be written, Go's caches go beside our own.
gocache := $(shell go env GOCACHE 2>/dev/null)
ifneq ($(shell mkdir -p "$(gocache)" 2>/dev/null && test -w "$(gocache)" && echo yes),yes)
export GOCACHE    := $(CURDIR)/.cache/go-build
export GOPATH     := $(CURDIR)/.cache/go
endif

# One set of flags for every build, test and analysis, or Go compiles everything
# once for each: of Kubernetes that is ten minutes. Take the same by hand, too.
export CGO_ENABLED := 0
export GOFLAGS     := -trimpath -buildvcs=false

# The stamp says which source a binary was made of, and nothing about when or
# where: two builds of one commit are the same bytes (test/reproducible.sh).
VERSION ?= $(shell git describe --tags --dirty 2>/dev/null || cat VERSION)
COMMIT  ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
DATE    ?= $(shell git log -1 --format=%cI 2>/dev/null || echo unknown)
buildinfo := biplane.dev/biplane/internal/buildinfo
stamp     := -X $(buildinfo).version=$(VERSION) -X $(buildinfo).commit=$(COMMIT) -X $(buildinfo).date=$(DATE)

# Kubernetes' programs say their version by a stamp too, which clients parse.
kubernetes := $(shell awk '$$1 == "k8s.io/kubernetes" { print $$2; exit }' sandbox/go.mod)
k8s_words  := $(subst ., ,$(patsubst v%,%,$(kubernetes)))
k8s_stamp  := $(foreach package,k8s.io/component-base/version k8s.io/client-go/pkg/version,\
	-X $(package).gitVersion=$(kubernetes) -X $(package).gitMajor=$(word 1,$(k8s_words)) -X $(package).gitMinor=$(word 2,$(k8s_words)))

# Modules of their own, so that what they link never reaches a release.
nested := $(patsubst %/go.mod,%,$(shell find * -mindepth 1 -name go.mod -not -path '*/testdata/*'))

FUZZTIME ?= 30s

# Those that cut a program off at its AWS calls; provision/step/killtest says how. One by
# one, since each takes both cores.
killtest = go test -p 1 -v -run '^TestKill([A-Z]|$$)' -timeout $(1) $$(go list -f '{{range .XTestImports}}{{if eq . "biplane.dev/biplane/provision/step/killtest"}}{{$$.ImportPath}}{{end}}{{end}}' ./...)

.PHONY: help build test test-all conformance check generate demo setup kubectl helm

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: kubectl helm ## make what tests and the demo use besides Go: PostgreSQL and HAProxy (Debian's), the emulator, the AWS CLI, boto3 (.cache/venv), Flyte (.cache/flyte-VERSION), kubectl and helm (.cache/bin)
	@test/python/setup.sh
	@test/postgres/setup.sh
	@test/haproxy/setup.sh
	@test/python/setup.sh flyte-2.12.1 test/e2e/sdk/2.12.1.txt

build: ## build static, reproducible binaries into bin/ (Kubernetes takes ten minutes the first time, seconds later)
	go build -ldflags '-s -w $(stamp)' -o bin/ ./cmd/...
	go -C sandbox build -ldflags '-s -w $(stamp) $(k8s_stamp)' -o ../bin/ ./cmd/biplane-sandbox

kubectl:
	@go -C sandbox build -ldflags '-s -w $(k8s_stamp)' -o ../.cache/bin/ k8s.io/kubernetes/cmd/kubectl

# Of which Kubernetes it renders charts when it has no cluster to ask, it has by a
# stamp, too. Of the version that we link: pinned in tools/go.mod, and a test compares.
helm:
	@go -C tools build -ldflags '-s -w $(foreach package,chartutil lint/rules,\
		-X helm.sh/helm/v3/pkg/$(package).k8sVersionMajor=$(word 1,$(k8s_words)) -X helm.sh/helm/v3/pkg/$(package).k8sVersionMinor=$(word 2,$(k8s_words)))' \
		-o ../.cache/bin/ helm.sh/helm/v3/cmd/helm

# The sandbox's tests run bin/biplane-sandbox, so it is built first: go sees
# whether it is still current. What is worth a figure prints it: the kill tests
# how many calls and trials, the comparison with foreign evaluators how many
# decisions and disagreements, the sandbox its matrix and its tables of pods,
# Flyte's SDK how long a run takes.
# There, vet would read all of Kubernetes; `make check` does that.
test: build setup ## run every test, with the corpus of every fuzz target
	go test -timeout 20m -skip '^TestKill([A-Z]|$$)' $$(go list ./... | grep -v /test/e2e)
	$(call killtest,40m)
	@for module in $(nested); do echo "in $$module:"; (cd "$$module" && go test -vet=off -timeout 20m -v ./...); done
	go test -timeout 30m -v ./test/e2e

# The race detector would compile Kubernetes once more, and slow it tenfold: of
# the sandbox it watches the packages that link none of it.
test-all: test ## also: the race detector, every kill and every lost response (an hour), pods on a real kubelet, fuzzing for FUZZTIME each, benchmarks, two builds compared
	CGO_ENABLED=1 go test -race -timeout 30m ./...
	$(call killtest,12h) -args -every-kill
	cd sandbox && CGO_ENABLED=1 go test -race -timeout 30m $$(go list -test -f '{{.ImportPath}} {{join .Deps " "}}' ./... | \
		awk '$$1 ~ /\.test$$/ && !/ k8s\.io\/kubernetes\// { sub(/\.test$$/, "", $$1); print $$1 }')
	cd sandbox && go test -vet=off -timeout 30m -v -run '^TestPods$$' ./test/pods -args -kubelet
	test/fuzz.sh $(FUZZTIME)
	go test -run '^$$' -bench . -benchmem ./...
	@for module in $(nested); do echo "in $$module:"; (cd "$$module" && go test -run '^$$' -bench . -benchmem ./...); done
	test/reproducible.sh

conformance: build setup ## run Kubernetes' own end-to-end tests of pods against the process node, and count them
	sandbox/conformance/run.sh

check: ## format, vet, static analysis, tidy modules, generated files, words
	test/check.sh

generate: ## make the generated files again; leaves no difference when they are current
	tools/generate.sh

demo: build setup ## do the main job against the AWS double, then run a pod and workflows in the sandbox, and print what happened
	@test/demo.sh
