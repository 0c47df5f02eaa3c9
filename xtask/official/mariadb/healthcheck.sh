#!/bin/bash
# Whether the server answers on its port; a wrong password is an answer, too.
set -e
[[ $1 = --connect ]]
answer=$(mariadb --protocol=tcp --host=127.0.0.1 -unobody -e 'SELECT 1' 2>&1) || [[ $answer = *'ERROR 1045'* ]]
