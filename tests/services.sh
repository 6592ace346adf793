#!/bin/sh
# services.sh COMMAND…: runs a command with a private PostgreSQL and a private Redis on free ports, and stops them after it.
#   TEST_POSTGRES_URL  a server to make schemas in, TEST_REDIS_URL  a server to prefix keys in
set -eu
cd "$(dirname "$0")/.."

folder=$(mktemp -d)
chmod 755 "$folder"
redis_pid=
as=
postgres=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -1)
[ -n "$postgres" ] || postgres=$(dirname "$(command -v initdb)")

stop() {
    status=$?
    trap - EXIT INT TERM
    [ -f "$folder/pg/data/postmaster.pid" ] && $as "$postgres/pg_ctl" -D "$folder/pg/data" -m immediate stop >/dev/null 2>&1
    [ -n "$redis_pid" ] && kill "$redis_pid" 2>/dev/null
    rm -rf "$folder"
    exit "$status"
}
trap stop EXIT
trap 'exit 130' INT TERM

# Below the ports that connections going out are given, which would take one before it is listened on.
free_port() {
    python3 -c 'if True:
        import random, socket
        while True:
            port = random.randrange(10000, 12000)
            try:
                socket.socket().bind(("127.0.0.1", port))
            except OSError:
                continue
            print(port)
            break'
}

mkdir "$folder/pg"
if [ "$(id -u)" = 0 ]; then # PostgreSQL refuses to run as root
    chown postgres "$folder/pg"
    as="setpriv --reuid=postgres --regid=postgres --clear-groups --"
fi
$as "$postgres/initdb" -D "$folder/pg/data" -U trunkline --auth=trust --no-sync -E UTF8 --locale=C.UTF-8 >/dev/null
port=$(free_port)
$as "$postgres/pg_ctl" -D "$folder/pg/data" -l "$folder/pg/log" -w -o "-p $port -c listen_addresses=127.0.0.1 \
    -c unix_socket_directories=$folder/pg -c fsync=off -c synchronous_commit=off -c full_page_writes=off \
    -c max_connections=300" start >/dev/null
export TEST_POSTGRES_URL="postgres://trunkline@127.0.0.1:$port/postgres"

port=$(free_port)
redis-server --port "$port" --bind 127.0.0.1 --dir "$folder" --save '' --appendonly no >"$folder/redis.log" 2>&1 &
redis_pid=$!
until python3 -c "import socket; socket.create_connection(('127.0.0.1', $port))" 2>/dev/null; do
    kill -0 "$redis_pid" || { cat "$folder/redis.log" >&2; exit 1; }
    sleep 0.05
done
export TEST_REDIS_URL="redis://127.0.0.1:$port/"

"$@"
