#!/usr/bin/env bash
# Gives the data directory to postgres, steps down from root, makes a database at the first start, and becomes the
# server.
set -Eeuo pipefail

# Sets the variable $1: to what it is, to the contents of the file that $1_FILE names, or to $2.
setting() {
    local name=$1 file=$1_FILE
    if [[ -n ${!name:-} && -n ${!file:-} ]]; then
        echo "error: $name and $file exclude each other" >&2
        exit 1
    fi
    [[ -z ${!file:-} ]] || printf -v "$name" %s "$(< "${!file}")"
    [[ -n ${!name:-} ]] || printf -v "$name" %s "${2:-}"
    export "${name?}"
    unset "$file"
}

sql() {
    PGHOST='' psql -v ON_ERROR_STOP=1 --no-psqlrc --username "$POSTGRES_USER" --no-password "$@"
}

directories() {
    mkdir -p "$PGDATA"
    chmod 700 "$PGDATA" || true
    mkdir -p /var/run/postgresql || true
    chmod 3775 /var/run/postgresql || true
    if [[ $(id -u) = 0 ]]; then
        find "$PGDATA" ! -user postgres -exec chown postgres '{}' +
        find /var/run/postgresql ! -user postgres -exec chown postgres '{}' +
    fi
}

database() {
    if [[ -z $POSTGRES_PASSWORD && ${POSTGRES_HOST_AUTH_METHOD:=} != trust ]]; then
        echo "error: there is no database yet: POSTGRES_PASSWORD must say what its superuser's password is" >&2
        exit 1
    fi
    # The password is in a pipe, by its name in /dev/fd.
    initdb --username="$POSTGRES_USER" --pwfile=<(printf '%s\n' "$POSTGRES_PASSWORD") $POSTGRES_INITDB_ARGS
    echo "host all all all ${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}" >> "$PGDATA/pg_hba.conf"

    export PGPASSWORD=$POSTGRES_PASSWORD
    pg_ctl -D "$PGDATA" -o "-c listen_addresses=''" -w start
    if [[ $POSTGRES_DB != postgres ]]; then
        sql --dbname postgres --set db="$POSTGRES_DB" <<< 'CREATE DATABASE :"db";'
    fi
    for script in /docker-entrypoint-initdb.d/*; do
        case $script in
        *.sh) if [[ -x $script ]]; then "$script"; else . "$script"; fi ;;
        *.sql) sql --dbname "$POSTGRES_DB" -f "$script" ;;
        *.sql.gz) gunzip -c "$script" | sql --dbname "$POSTGRES_DB" ;;
        esac
    done
    pg_ctl -D "$PGDATA" -m fast -w stop
    unset PGPASSWORD
    printf '\nPostgreSQL init process complete; ready for start up.\n\n'
}

[[ ${1:0:1} != - ]] || set -- postgres "$@"
if [[ $1 = postgres ]]; then
    setting POSTGRES_PASSWORD
    setting POSTGRES_USER postgres
    setting POSTGRES_DB "$POSTGRES_USER"
    setting POSTGRES_INITDB_ARGS
    directories
    [[ $(id -u) != 0 ]] || exec gosu postgres "${BASH_SOURCE[0]}" "$@"
    [[ -s $PGDATA/PG_VERSION ]] || database
fi
exec "$@"
