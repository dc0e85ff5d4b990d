#!/bin/sh
# Runs versitygw's own full-flow tests against bare versitygw and against the
# enforcing front, and prints both numbers. Takes some minutes.
set -eu
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM
export CGO_ENABLED=0 GOFLAGS='-trimpath -buildvcs=false'
version=$(go list -m -f '{{.Version}}' github.com/versity/versitygw)
# Its command line needs modules that ours does not, hence a build of its own.
GOBIN="$work" go install "github.com/versity/versitygw/cmd/versitygw@$version"
go test -run '^TestFullFlow$' -v -timeout 45m ./internal/s3 -versitygw "$work/versitygw"
