#!/usr/bin/env bash
# Run every fuzz target of every module for a while: test/fuzz.sh [DURATION].
# `go test` already runs their stored inputs; this looks for new ones.
set -euo pipefail
cd "$(dirname "$0")/.."
for_each=${1:-30s}

find . -name go.mod -not -path '*/testdata/*' -not -path './.cache/*' | while read -r module; do
	(
		cd "$(dirname "$module")"
		# Two fields a line: the target, its package.
		go test -list '^Fuzz' ./... | awk '/^Fuzz/ { targets[++n] = $1 } /^ok/ { for (i = 1; i <= n; i++) print targets[i], $2; n = 0 }' |
			while read -r target package; do
				echo "fuzzing $target of $package for $for_each"
				go test -run '^$' -fuzz "^$target\$" -fuzztime "$for_each" "$package" </dev/null
			done
	)
done
