#!/bin/sh
# setup.sh sees to it that HAProxy is there, beside which the jumper's benchmark
# measures: as root it installs Debian's package, as anybody else it says what to
# run. It says nothing and takes a moment when it is there. No service of the
# package's own is used or started.
set -eu

there() {
	[ -x /usr/sbin/haproxy ] || command -v haproxy >/dev/null
}
refuse() {
	echo "setup: $1" >&2
	exit 2
}

there && exit 0
command -v apt-get >/dev/null || refuse "HAProxy is not installed: install it"
[ "$(id -u)" = 0 ] || refuse "HAProxy is not installed: run 'sudo apt-get install --no-install-recommends haproxy'"

echo "setup: installing haproxy (seconds, once)" >&2
log=$(mktemp)
# RUNLEVEL keeps the package from starting its service.
{
	apt-get update -q
	RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends haproxy
} >"$log" 2>&1 || {
	tail -n 3 "$log" >&2
	refuse "haproxy could not be installed, see $log: check the network and run again"
}
rm -f "$log"
there || refuse "haproxy is installed, and not to be found in /usr/sbin"
