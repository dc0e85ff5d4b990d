#!/usr/bin/env bash
# Build this commit twice, in two folders of different names and with separate
# build caches, and compare the binaries byte for byte.
set -euo pipefail
cd "$(dirname "$0")/.."

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

commit=$(git rev-parse HEAD) # once: a commit may come meanwhile
for copy in one a/rather/longer/path; do
	mkdir -p "$scratch/$copy"
	git archive "$commit" | tar -x -C "$scratch/$copy"
	# An archive has no history, so the stamp is handed over.
	GOCACHE="$scratch/cache-${copy%%/*}" make -s -C "$scratch/$copy" build \
		VERSION="$(git describe --tags "$commit" 2>/dev/null || cat VERSION)" \
		COMMIT="$(git rev-parse --short=12 "$commit")" DATE="$(git log -1 --format=%cI "$commit")"
done

status=0
for binary in "$scratch"/one/bin/*; do
	name=$(basename "$binary")
	if cmp -s "$binary" "$scratch/a/rather/longer/path/bin/$name"; then
		echo "$name: the same bytes twice, sha256 $(sha256sum <"$binary" | cut -c1-16)..."
	else
		echo "$name: two builds of one commit differ" >&2
		status=1
	fi
	if file -L "$binary" 2>/dev/null | grep -q 'dynamically linked'; then
		echo "$name: is not static" >&2
		status=1
	fi
done
exit $status
