#!/bin/bash
# Gives the data directory to mysql, steps down from root, makes a database at the first start, and becomes the server.
set -eo pipefail
shopt -s nullglob

data=/var/lib/mysql
socket=/run/mysqld/mysqld.sock

# Sets the variable $1: to what it is, or to the contents of the file that $1_FILE names.
setting() {
    local name=$1 file=$1_FILE
    if [[ -n ${!name} && -n ${!file} ]]; then
        echo "error: $name and $file exclude each other" >&2
        exit 1
    fi
    [[ -z ${!file} ]] || printf -v "$name" %s "$(< "${!file}")"
    export "${name?}"
    unset "$file"
}

sql() {
    mariadb --protocol=socket --socket="$socket" -uroot "$@"
}

quoted() {
    printf '%s' "${1//\'/\'\'}"
}

database() {
    if [[ -z $MARIADB_ROOT_PASSWORD && -z $MARIADB_ALLOW_EMPTY_ROOT_PASSWORD ]]; then
        echo "error: there is no database yet: MARIADB_ROOT_PASSWORD must say what root's password is" >&2
        exit 1
    fi
    mariadb-install-db --datadir="$data" --rpm --auth-root-authentication-method=normal --skip-test-db \
        --skip-log-bin
    "$@" --skip-networking --socket="$socket" &
    local server=$!
    until sql -e 'SELECT 1' > /dev/null 2>&1; do
        kill -0 "$server"
        sleep 0.1
    done
    for script in /docker-entrypoint-initdb.d/*.sql; do
        sql < "$script"
    done
    sql <<< "
        DELETE FROM mysql.global_priv WHERE User NOT IN ('mariadb.sys', 'root') OR Host <> 'localhost';
        FLUSH PRIVILEGES;
        CREATE DATABASE IF NOT EXISTS \`${MARIADB_DATABASE:-mysql}\`;
        CREATE USER 'root'@'%' IDENTIFIED BY '$(quoted "$MARIADB_ROOT_PASSWORD")';
        GRANT ALL ON *.* TO 'root'@'%' WITH GRANT OPTION;
        SET PASSWORD FOR 'root'@'localhost' = PASSWORD('$(quoted "$MARIADB_ROOT_PASSWORD")');"
    kill "$server"
    wait "$server"
    echo 'MariaDB init process done. Ready for start up.'
}

[[ ${1:0:1} != - ]] || set -- mariadbd "$@"
if [[ $1 = mariadbd || $1 = mysqld ]]; then
    setting MARIADB_ROOT_PASSWORD
    setting MARIADB_DATABASE
    if [[ $(id -u) = 0 ]]; then
        find "$data" ! -user mysql -exec chown mysql: '{}' +
        find /run/mysqld -maxdepth 0 ! -user mysql -exec chown mysql: '{}' +
        exec gosu mysql "${BASH_SOURCE[0]}" "$@"
    fi
    [[ -d $data/mysql ]] || database "$@"
fi
exec "$@"
