#!/bin/sh
# setup.sh makes a Python environment below .cache:
#
#	setup.sh [NAME REQUIREMENTS]
#
# Without arguments it is .cache/venv, which the tests and the demo use: the
# emulator behind the AWS double, and the AWS CLI. It says nothing and takes a
# moment when the environment is already as the requirements want it. Two at once
# wait for each other; one that is killed half-way leaves nothing that the next
# one trusts.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
cache=$(cd "$here/../.." && pwd)/.cache
venv=$cache/${1:-venv}
requirements=${2:-$here/requirements.txt}
python=${PYTHON:-python3}

refuse() {
	echo "setup: $1" >&2
	exit 2
}

command -v "$python" >/dev/null || refuse "$python is not installed: run 'apt install python3 python3-venv'"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
	refuse "$python is $("$python" -V 2>&1), 3.11 or newer is needed: set PYTHON to a newer one"

# The environment is good if its stamp names these requirements and this
# Python, and the Python that it was made from is still there.
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
want="$version $(sha256sum <"$requirements" | cut -d' ' -f1)"
current() {
	[ "$(cat "$venv/stamp" 2>/dev/null)" = "$want" ] && "$venv/bin/python" -c '' 2>/dev/null
}
current && exit 0

mkdir -p "$cache" || refuse "cannot make $cache: run as its owner"
exec 9>"$venv.lock" || refuse "cannot write $venv.lock: run as the owner of $cache"
flock 9
current && exit 0

echo "setup: making $venv (a minute, once)" >&2
# Scripts in an environment name its path, so it is made where it stays, and
# the stamp, written last, says that it is whole.
rm -rf "$venv"
"$python" -m venv "$venv" >"$venv.log" 2>&1 || {
	rm -rf "$venv"
	"$python" -c 'import ensurepip' 2>/dev/null ||
		refuse "$python cannot make virtual environments: run 'apt install python3-venv'"
	refuse "$python -m venv failed, see $venv.log"
}
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps \
	-r "$requirements" >"$venv.log" 2>&1 || {
	tail -n 3 "$venv.log" >&2
	refuse "packages could not be installed, see $venv.log: check the network and run again"
}
printf '%s\n' "$want" >"$venv/stamp.new"
mv "$venv/stamp.new" "$venv/stamp"
