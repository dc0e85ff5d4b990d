#!/bin/sh
# setup.sh sees to it that PostgreSQL's programs are there, of which the store's
# tests start a private server: as root it installs Debian's package, as anybody
# else it says what to run. It says nothing and takes a moment when they are there.
# No server of the package's own is used or needed.
set -eu

there() {
	for initdb in /usr/lib/postgresql/*/bin/initdb /usr/pgsql-*/bin/initdb; do
		[ -x "$initdb" ] && return 0
	done
	command -v initdb >/dev/null
}
refuse() {
	echo "setup: $1" >&2
	exit 2
}

there && exit 0
command -v apt-get >/dev/null || refuse "PostgreSQL 14 or newer is not installed: install its server"
[ "$(id -u)" = 0 ] || refuse "PostgreSQL is not installed: run 'sudo apt-get install --no-install-recommends postgresql'"

echo "setup: installing postgresql (a minute, once)" >&2
log=$(mktemp)
# The package would start a server of its own; no test needs one.
{
	mkdir -p /etc/postgresql-common/createcluster.d
	echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.d/biplane.conf
	apt-get update -q
	DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends postgresql
} >"$log" 2>&1 || {
	tail -n 3 "$log" >&2
	refuse "postgresql could not be installed, see $log: check the network and run again"
}
rm -f "$log"
there || refuse "postgresql is installed, and has no initdb below /usr/lib/postgresql"
