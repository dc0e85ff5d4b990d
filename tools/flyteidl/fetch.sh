#!/bin/sh
# Fetches the package whose descriptors tools/flyteidl/descriptors.py writes, by
# pip, pinned, into a Python environment of its own: its protobuf runtime is
# newer than the one that other tools here want.
#   tools/flyteidl/fetch.sh DIR
set -eu
dir=${1:?usage: tools/flyteidl/fetch.sh DIR}
"${PYTHON:-python3}" -m venv "$dir"
"$dir/bin/python" -m pip install --quiet --disable-pip-version-check flyteidl2==2.0.51
