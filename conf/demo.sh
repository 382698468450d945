#!/bin/sh
# `make run`: starts mapmux on conf/demo.yaml, shows a lookup answered, and says what to try next.
# Ctrl-C ends it.
set -eu
mapmux=${1:-build/mapmux}

"$mapmux" serve -c conf/demo.yaml --log-level warn &
pid=$!
trap 'kill $pid 2>/dev/null; wait $pid 2>/dev/null || true' EXIT
trap 'exit 0' INT TERM

until "$mapmux" query socketmap:unix:build/demo.socketmap:alias alice@example.org >/dev/null 2>&1; do
	kill -0 $pid 2>/dev/null || exit 1
	sleep 0.1
done

ask() {
	echo "\$ $*"
	"$@"
	echo
}
echo "mapmux is running on conf/demo.yaml (process $pid). It answers:"
echo
ask "$mapmux" query socketmap:inet:127.0.0.1:10001:alias alice@example.org
ask "$mapmux" query dict:unix:build/demo.dict:metadata --set shared/greeting hello
ask "$mapmux" query dict:unix:build/demo.dict:metadata shared/greeting

cat <<END
Ask it with Postfix and Dovecot, from another terminal:

  postmap -q alice@example.org socketmap:inet:127.0.0.1:10001:alias
  doveadm dict get proxy:$PWD/build/demo.dict:metadata shared/greeting

Ctrl-C ends it.
END
wait $pid
