#!/bin/sh
# Lets the default server listen on IPv6, where there is IPv6 and the configuration can be written.
set -e
configuration=/etc/nginx/conf.d/default.conf

[ -f /proc/net/if_inet6 ] || exit 0
touch "$configuration" 2> /dev/null || { echo "$0: cannot write $configuration" && exit 0; }
grep -q '\[::\]' "$configuration" || sed -i -E 's/listen +80;/&\n    listen [::]:80;/' "$configuration"
