#!/usr/bin/env bash
# Run every fuzz target of every module for a while: test/fuzz.sh [DURATION].
# `go test` already runs their stored inputs; this looks for new ones.
set -euo pipefail
cd "$(dirname "$0")/.."
for_each=${1:-30s}

find . -name go.mod -not -path '*/testdata/*' -not -path './.cache/*' | while read -r module; do
	(
		cd "$(dirname "$module")"
		# Only packages with a target are compiled, once more and for fuzzing. Two
		# fields a line: the target, its package.
		packages=$(go list -f '{{$dir := .Dir}}{{range .TestGoFiles}}{{$dir}}/{{.}}{{"\n"}}{{end}}{{range .XTestGoFiles}}{{$dir}}/{{.}}{{"\n"}}{{end}}' ./... |
			xargs grep -l '^func Fuzz' | xargs -r dirname | sort -u)
		[ -n "$packages" ] || exit 0
		go test -list '^Fuzz' $packages | awk '/^Fuzz/ { targets[++n] = $1 } /^ok/ { for (i = 1; i <= n; i++) print targets[i], $2; n = 0 }' |
			while read -r target package; do
				echo "fuzzing $target of $package for $for_each"
				go test -run '^$' -fuzz "^$target\$" -fuzztime "$for_each" "$package" </dev/null
			done
	)
done
