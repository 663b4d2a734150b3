#!/bin/sh
# The programs that linguad needs beside Python: `sh demo/packages.sh demo` for the engines of the reference
# node (espeak-ng, apertium with English-Spanish), `test` for what the tests start as well.
# Installs them with apt where that is possible without asking; else names the packages and fails.
set -eu
for_whom=${1:-demo}

has_postgres() {
    command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1
}

has_prometheus() {
    command -v prometheus >/dev/null && command -v promtool >/dev/null
}

# Only the programs of Prometheus are wanted: its service shall start neither now nor with the machine.
keep_prometheus_off() {
    has_prometheus || [ "$for_whom" != test ] || [ ! -d /run/systemd/system ] \
        || $sudo systemctl --quiet mask prometheus.service
}

missing() {
    command -v espeak-ng >/dev/null || printf ' espeak-ng'
    command -v apertium >/dev/null || printf ' apertium'
    apertium -l 2>/dev/null | grep -q 'eng-spa' || printf ' apertium-eng-spa'
    [ "$for_whom" = test ] || return 0
    has_postgres || printf ' postgresql'
    command -v redis-server >/dev/null || printf ' redis-server'
    command -v curl >/dev/null || printf ' curl'
    command -v jq >/dev/null || printf ' jq'
    command -v nginx >/dev/null || [ -x /usr/sbin/nginx ] || printf ' nginx-light'
    command -v chromium >/dev/null || command -v google-chrome >/dev/null || printf ' chromium'
    has_prometheus || printf ' prometheus'
}

packages=$(missing)
[ -n "$packages" ] || exit 0

if command -v apt-get >/dev/null; then
    sudo=''
    [ "$(id -u)" -eq 0 ] || sudo='sudo -n'
    if $sudo true 2>/dev/null && keep_prometheus_off; then
        echo "Installing$packages"
        $sudo apt-get update -qq || echo "apt-get update failed; trying with the package lists that are here"
        # shellcheck disable=SC2086 # the words are the packages
        $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages || true
        packages=$(missing)
        [ -n "$packages" ] || exit 0
    fi
fi

echo "Missing packages:$packages; on Debian and Ubuntu: sudo apt-get install$packages" >&2
exit 1
