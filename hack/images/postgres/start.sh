#!/bin/sh
# Make the database on first start, then run the server in the foreground.
set -eu
data=/data/15
if ! [ -s "$data/PG_VERSION" ]; then
    rm -rf "$data" "$data.new"
    initdb --pgdata="$data.new" --username=policy --pwfile=/etc/postgres/password \
        --auth-local=trust --auth-host=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8
    echo 'host all all all scram-sha-256' >> "$data.new/pg_hba.conf"
    echo 'CREATE DATABASE decisions;' | postgres --single -D "$data.new" postgres
    mv "$data.new" "$data"
fi
exec postgres -D "$data" -c listen_addresses='*' -c unix_socket_directories=/tmp
