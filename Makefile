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

# The stamp says which source a binary was made of, and nothing about when or
# where: two builds of one commit are the same bytes (test/reproducible.sh).
VERSION ?= $(shell git describe --tags --dirty 2>/dev/null || cat VERSION)
COMMIT  ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
DATE    ?= $(shell git log -1 --format=%cI 2>/dev/null || echo unknown)
buildinfo := biplane.dev/biplane/internal/buildinfo
ldflags   := -s -w -X $(buildinfo).version=$(VERSION) -X $(buildinfo).commit=$(COMMIT) -X $(buildinfo).date=$(DATE)

# Modules of their own, so that what they link never reaches a release.
nested := $(patsubst %/go.mod,%,$(shell find * -mindepth 1 -name go.mod -not -path '*/testdata/*'))

FUZZTIME ?= 30s

.PHONY: help build test test-all check generate demo setup

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: ## make the Python environment of the emulator and the AWS CLI (.cache/venv)
	@test/python/setup.sh

build: ## build static, reproducible binaries into bin/
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '$(ldflags)' -o bin/ ./cmd/...

# What is worth a figure prints it: the kill test how many calls and kills, the
# comparison with foreign evaluators how many decisions and disagreements.
test: setup ## run every test, with the corpus of every fuzz target
	go test -timeout 20m -skip '^TestKill$$' ./...
	go test -timeout 20m -v -run '^TestKill$$' ./cli
	@for module in $(nested); do echo "in $$module:"; (cd "$$module" && go test -v ./...); done

test-all: test ## also: the race detector, fuzzing for FUZZTIME each, benchmarks
	go test -race -timeout 30m ./...
	test/fuzz.sh $(FUZZTIME)
	go test -run '^$$' -bench . -benchmem ./...
	@for module in $(nested); do echo "in $$module:"; (cd "$$module" && go test -run '^$$' -bench . -benchmem ./...); done
	test/reproducible.sh

check: ## format, vet, static analysis, tidy modules, generated files, words
	test/check.sh

generate: ## make the generated files again; leaves no difference when they are current
	tools/generate.sh

demo: build setup ## do the main job against the AWS double and print what happened
	@test/demo.sh
