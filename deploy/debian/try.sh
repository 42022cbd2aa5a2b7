#!/bin/sh
# Installs, upgrades, removes and purges the package in a small Debian made for it, and inspects the
# sample frames there as the user of the service. Needs root and debootstrap, and takes minutes.
#
#     deploy/debian/try.sh FOLDER ROOT
#
# FOLDER holds the package; ROOT is made where it is not there, and kept for the next time.
# shellcheck disable=SC2016 # what is expected is expanded within the root
set -eu

folder=$1
root=$2
here=$(cd "$(dirname "$0")" && pwd)
project=$here/../..
# shellcheck source=/dev/null
suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
package=$(ls "$folder"/inspection-station_*.deb)

within() {
    # No network: what the package needs, it brings.
    unshare --mount --net --pid --fork --mount-proc="$root/proc" chroot "$root" "$@"
}

# What is expected is asked within the root.
expect() {
    if ! within sh -c "$1"; then
        echo "expected: $1" >&2
        exit 1
    fi
}

if [ ! -e "$root/made" ]; then
    rm -rf "$root"
    install -d "$root"
    debootstrap --variant=minbase \
        --include=python3-venv,systemd,libgl1,libglib2.0-0 "$suite" "$root" >"$root.log"
    touch "$root/made"
fi
within dpkg --purge inspection-station >/dev/null 2>&1 || true
rm -rf "$root/demo" "$root"/opt/edge* "$root/var/lib/edge"
cp -r "$project/configs/demo" "$root/demo"
install -m 0644 "$package" "$root/ours.deb"

within dpkg --install /ours.deb
expect 'test "$(stat -c %U:%G:%a /etc/edge)" = root:edge:2750'
expect 'systemd-analyze verify --recursive-errors=no /usr/lib/systemd/system/edge-run@.service'
expect 'edge-run --help >/dev/null && edge-listen --help >/dev/null && edge-sign --help >/dev/null'
expect 'runuser -u edge -- env HOME=/tmp edge-run --camera /demo/frames --model /demo/bottle.xml \
    --once --config /dev/null 2>/tmp/words >/tmp/verdicts; tail -1 /tmp/words;
    test "$(grep -c "" /tmp/verdicts)" = "$(ls /demo/frames | grep -c "")"'
expect '! /opt/edge/bin/python -c "import torch" 2>/dev/null'

# A newer version beside it: what runs keeps its files until it is started again.
newer=$(mktemp -d)
dpkg-deb --raw-extract "$package" "$newer/deb"
sed -i 's/^Version: .*/Version: 99.0/' "$newer/deb/DEBIAN/control"
sed -i 's/^version=.*/version=99.0/' "$newer/deb/DEBIAN/postinst"
dpkg-deb --root-owner-group -Znone --build "$newer/deb" "$root/newer.deb" >/dev/null
rm -rf "$newer"
echo 'site: edited' >>"$root/etc/edge/station.yaml.example"
before=$(readlink "$root/opt/edge")
within dpkg --install --force-confold /newer.deb
expect 'test "$(readlink /opt/edge)" = edge-99.0 && edge-run --help >/dev/null'
expect "test -x /opt/$before/bin/edge-run"
expect 'grep -q "site: edited" /etc/edge/station.yaml.example'

install -d "$root/var/lib/edge/cam1"
touch "$root/var/lib/edge/cam1/journal.db"
within dpkg --remove inspection-station
expect 'test ! -e /opt/edge && test ! -e /opt/edge-99.0 && test ! -e /usr/bin/edge-run'
expect 'test -e /etc/edge/station.yaml.example && test -e /var/lib/edge/cam1/journal.db'
within dpkg --purge inspection-station
expect 'test ! -e /etc/edge && test -e /var/lib/edge/cam1/journal.db'
echo "$package: installed, upgraded, removed and purged in $root"
