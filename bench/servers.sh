# shellcheck shell=bash
#
# The servers of a benchmark: throw-away, on free ports of the loopback interface, with the durability
# that they come with. Sourced by run, whose $work they live in.
# shellcheck disable=SC2154  # work, tools: from run

servers=() # processes to be ended, the last started first
postgres=

as_server() { # log, command
	local log=$work/$1
	shift
	(cd "$work" && exec "$tools/as-user" env -C "$work" "$@") >"$log" 2>&1 </dev/null &
	servers=($! "${servers[@]}")
}

end_servers() {
	local server
	[ -z "$postgres" ] || kill -QUIT "$postgres" 2>/dev/null || true # at once: its data goes
	for server in "${servers[@]}"; do
		kill -TERM "$server" 2>/dev/null || true
	done
}

wait_for() { # what it is, its log, command that says when it is ready
	local what=$1 log=$work/$2 tries=0
	shift 2
	until "$@" >/dev/null 2>&1; do
		tries=$((tries + 1))
		if [ $tries -gt 600 ] || ! kill -0 "${servers[0]}" 2>/dev/null; then
			tail -n 30 "$log" >&2
			die "$what has not started (above is its log)"
		fi
		sleep 0.1
	done
}

free_ports() { # how many: that many ports nobody listens on
	node -e '
		const net = require("net");
		const servers = Array.from({ length: +process.argv[1] }, () => net.createServer().listen(0, "127.0.0.1"));
		Promise.all(servers.map((s) => new Promise((r) => s.on("listening", r)))).then(() => {
			console.log(servers.map((s) => s.address().port).join(" "));
			servers.forEach((s) => s.close());
		});' "$1"
}

listens() { # port
	(exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# Durability as PostgreSQL comes. The rest keeps checkpoints out of one contestant's turn, and serves all alike.
start_postgres() {
	local data=$work/data
	unset "${!PG@}"
	export PGHOST=$work PGUSER=bench PGDATABASE=postgres
	"$tools/as-user" initdb -D "$data" -U bench --auth=trust --no-locale --encoding=UTF8 >"$work/initdb.log" 2>&1
	cat >>"$data/postgresql.conf" <<-EOF
		shared_preload_libraries = 'genjob, pg_stat_statements'
		pg_stat_statements.track = 'none'
		genjob.max_in_flight = 10000
		listen_addresses = ''
		unix_socket_directories = '$work'
		max_connections = 200
		max_worker_processes = 24
		max_prepared_transactions = 4
		shared_buffers = '1GB'
		max_wal_size = '8GB'
		checkpoint_timeout = '30min'
		autovacuum_naptime = '15s'
	EOF
	as_server postgres.log postgres -D "$data"
	postgres=${servers[0]}
	wait_for PostgreSQL postgres.log psql -XAtqc "SELECT 1"
}

start_standin() {
	as_server standin.log ./standin --backlog 8192 --port-file "$work/standin.port" --die-with-parent
	wait_for "the stand-in GenAI server" standin.log test -s "$work/standin.port"
	BENCH_STANDIN=http://127.0.0.1:$(head -n 1 "$work/standin.port")
	export BENCH_STANDIN
}

# A queue is durable and messages are persistent by what the client declares; the server's own settings stay.
start_rabbitmq() {
	local home=$work/rabbitmq bin amqp dist epmd
	bin=$(find /usr/lib/rabbitmq/bin /usr/lib/rabbitmq/lib/*/sbin -name rabbitmq-server 2>/dev/null | head -n 1)
	[ -n "$bin" ] || die "RabbitMQ is installed, but not where Debian has it" 'Leave it out: make bench PEERS="graphile celery"'
	read -r amqp dist epmd <<<"$(free_ports 3)"
	"$tools/as-user" mkdir "$home"
	printf 'listeners.tcp.1 = 127.0.0.1:%s\n' "$amqp" >"$home/rabbitmq.conf"
	echo '[].' >"$home/enabled_plugins"
	as_server epmd.log epmd -port "$epmd" -address 127.0.0.1
	as_server rabbitmq.log env HOME="$home" ERL_EPMD_PORT="$epmd" ERL_EPMD_ADDRESS=127.0.0.1 \
		RABBITMQ_NODENAME=genjob-bench@localhost RABBITMQ_DIST_PORT="$dist" RABBITMQ_CONFIG_FILE="$home/rabbitmq.conf" \
		RABBITMQ_MNESIA_BASE="$home/mnesia" RABBITMQ_LOG_BASE="$home/log" RABBITMQ_PID_FILE="$home/pid" \
		RABBITMQ_ENABLED_PLUGINS_FILE="$home/enabled_plugins" RABBITMQ_CONF_ENV_FILE=/dev/null "$bin"
	wait_for RabbitMQ rabbitmq.log listens "$amqp"
	export BENCH_RABBITMQ=amqp://guest:guest@127.0.0.1:$amqp
}

start_redis() {
	local port
	port=$(free_ports 1)
	"$tools/as-user" mkdir "$work/redis"
	as_server redis.log redis-server --bind 127.0.0.1 --port "$port" --dir "$work/redis"
	wait_for Redis redis.log listens "$port"
	export BENCH_REDIS=redis://127.0.0.1:$port/0
}

start_servers() {
	step "starting throw-away servers"
	ulimit -n "$(ulimit -Hn)"
	start_postgres
	start_standin
	! needs_broker rabbitmq || start_rabbitmq
	! needs_broker celery || start_redis
}
