#!/bin/sh
# Runs what is in /docker-entrypoint.d, in the order of the names, and then the command.
set -e

say() {
    [ -n "${NGINX_ENTRYPOINT_QUIET_LOGS:-}" ] || echo "$0: $*"
}

if [ "$1" = nginx ]; then
    for part in /docker-entrypoint.d/*; do
        case $part in
        *.envsh) [ ! -x "$part" ] || . "$part" ;;
        *.sh) [ ! -x "$part" ] || { say "running $part" && "$part"; } ;;
        *) say "ignoring $part" ;;
        esac
    done
    say "ready for start up"
fi
exec "$@"
