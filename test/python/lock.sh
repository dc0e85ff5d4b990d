#!/bin/sh
# lock.sh rewrites requirements.txt from requirements.in: every package with
# its version and the hashes of all its files, for every Python from 3.11 on.
# It needs uv, which setting up does not.
set -eu
cd "$(dirname "$0")"
command -v uv >/dev/null || {
	echo "lock.sh: uv is not installed: run 'pip install uv' in an environment of your own" >&2
	exit 2
}
{
	echo "# Written by lock.sh from requirements.in; do not edit."
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-header --no-emit-find-links --no-emit-index-url --upgrade requirements.in
} >requirements.txt.new
mv requirements.txt.new requirements.txt
