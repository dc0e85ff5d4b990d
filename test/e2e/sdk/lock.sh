#!/bin/sh
# lock.sh rewrites VERSION.txt from VERSION.in: every package with its version and
# the hashes of all its files. It needs uv, which setting up does not.
set -eu
cd "$(dirname "$0")"
command -v uv >/dev/null || {
	echo "lock.sh: uv is not installed: run 'pip install uv' in an environment of your own" >&2
	exit 2
}
for wanted in *.in; do
	locked=${wanted%.in}.txt
	{
		echo "# Written by lock.sh from $wanted; do not edit."
		uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
			--no-header --no-emit-find-links --no-emit-index-url --upgrade "$wanted"
	} >"$locked.new"
	mv "$locked.new" "$locked"
done
