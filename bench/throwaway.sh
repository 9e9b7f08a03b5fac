# shellcheck shell=bash
#
# throwaway.sh
#
# A throw-away PostgreSQL with this checkout's genjob, and the stand-in server at $port, in a folder of their own that is
# removed at the end. Sourced by memory and known, which have set $top.
# shellcheck disable=SC2154  # top: from who sources this

work=$(mktemp -d "${TMPDIR:-/tmp}/genjob-bench.XXXXXX")
standin=

finish() {
	[ -z "$standin" ] || kill "$standin" 2>/dev/null || true
	[ ! -e "$work/data/postmaster.pid" ] || as_user "$work/postgres/bin/pg_ctl" -D "$work/data" -m immediate stop >/dev/null || true
	rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM HUP

as_user() {
	(cd "$work" && "$top/tools/as-user" "$@")
}

sql() {
	as_user psql -h "$work" -U postgres -qAtXv ON_ERROR_STOP=1 -c "$1" postgres
}

wait_for() { # SQL that becomes true
	until [ "$(sql "SELECT $1")" = t ]; do sleep 0.1; done
}

start_servers() {
	"$top/tools/stage" "$work/postgres"
	make -s -C "$top/test/standin"
	if [ "$(id -u)" -eq 0 ]; then
		chown -R "$("$top/tools/as-user" --name)" "$work"
	fi
	ulimit -n "$(ulimit -Hn)"
	as_user "$work/postgres/bin/initdb" -D "$work/data" -U postgres -A trust --no-locale -E UTF8 >/dev/null
	cat >>"$work/data/postgresql.conf" <<-CONF
		listen_addresses = ''
		unix_socket_directories = '$work'
		shared_preload_libraries = 'genjob'
		genjob.max_in_flight = 20000
		max_wal_size = 4GB
	CONF
	as_user "$work/postgres/bin/pg_ctl" -D "$work/data" -l "$work/log" -w start >/dev/null
	"$top/test/standin/standin" --backlog 16384 --port-file "$work/port" >"$work/standin.log" 2>&1 &
	standin=$!
	until [ -s "$work/port" ]; do sleep 0.05; done
	# shellcheck disable=SC2034  # for who sources this
	port=$(head -n 1 "$work/port")
	sql "CREATE EXTENSION genjob"
}
