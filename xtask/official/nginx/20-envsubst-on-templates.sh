#!/bin/sh
# Makes configurations of /etc/nginx/templates/NAME.template, with the values of environment variables.
set -e
variables=$(env | sed -n 's/^\([A-Za-z_][A-Za-z0-9_]*\)=.*/${\1}/p' | tr '\n' ' ')

for template in /etc/nginx/templates/*.template; do
    [ -f "$template" ] || continue
    name=${template##*/}
    envsubst "$variables" < "$template" > "/etc/nginx/conf.d/${name%.template}"
done
