#!/usr/bin/env bash
# Everything about the tree that is not a test's business. It goes on after a
# finding, so that one run shows them all.
set -uo pipefail
cd "$(dirname "$0")/.."
status=0

finding() {
	echo "check: $1" >&2
	status=1
}

unformatted=$(gofmt -l $(git ls-files '*.go'))
[ -z "$unformatted" ] || finding "gofmt would change: $unformatted"

modules=$(git ls-files 'go.mod' '*/go.mod' | xargs -n1 dirname)

# The version is pinned in tools/go.mod; built there, run everywhere.
mkdir -p .cache
staticcheck=$PWD/.cache/staticcheck
go build -C tools -o "$staticcheck" honnef.co/go/tools/cmd/staticcheck || finding "staticcheck does not build: run 'go -C tools mod tidy'"

for module in $modules; do
	go -C "$module" vet ./... || finding "go vet objects in $module"
	go -C "$module" mod tidy -diff || finding "go.mod of $module is not tidy: run 'go -C $module mod tidy'"
	go -C "$module" mod verify >/dev/null || finding "a dependency of $module is not what go.sum says"
	(cd "$module" && "$staticcheck" ./...) || finding "staticcheck objects in $module"
done

before=$(git status --porcelain; git diff | sha256sum)
make -s generate || finding "make generate fails"
[ "$before" = "$(git status --porcelain; git diff | sha256sum)" ] || finding "make generate leaves a difference: commit it"

# Unfinished business belongs into docs/roadmap.md, and no machine's paths or
# keys into the tree. (The brackets keep this file from finding itself.)
words='TO[D]O|FIX[M]E|XX[X]:|/ho[m]e/[a-z]+/|/wo[r]k/|AKI[A][0-9A-Z]{16}|BEGIN [A-Z ]*PRIVATE KE[Y]'
if git grep -nEI "$words" -- ':!LICENSE' ':!*.sum' ':!*/testdata/*' | grep -vE 'IOSFODNN7EXAMPLE|AKIA(NOBODY|GIVENKEY)|/ho[m]e/app/'; then # AWS's own example, keys of nobody, a home in an image
	finding "these words do not belong into the tree"
fi
exit $status
