#!/bin/sh
# Takes away what install.sh brought. Settings, models, journals and images stay, and so does the
# user they belong to.
#
#     sudo systemd/uninstall.sh            the software is removed with: rm -r /opt/edge
#     sudo systemd/uninstall.sh --purge    settings with drop-ins, models, journals and images, too
set -eu

root=${DESTDIR:-}
vendor=$root/usr/local/lib

usage() {
    sed -n '2,6s/^# \{0,1\}//p' "$0"
}

take() {
    if [ -e "$1" ] || [ -L "$1" ]; then
        rm -f "$1"
        echo "removed    $1"
    fi
}

if [ -z "$root" ] && [ "$(id -u)" -ne 0 ]; then
    echo "Run it as root: sudo $0 $*" >&2
    exit 77
fi
purge=no
case "${1:-}" in
    "") ;;
    --purge) purge=yes ;;
    *) usage >&2; exit 64 ;;
esac

if [ -z "$root" ] && [ -d /run/systemd/system ]; then
    # The stations first: a verdict that is being written is written.
    systemctl stop 'edge-run@*.service'
fi
for enabled in "$root"/etc/systemd/system/multi-user.target.wants/edge-run@*.service; do
    take "$enabled"
done
take "$vendor/systemd/system/edge-run@.service"
take "$vendor/sysusers.d/edge.conf"
take "$vendor/tmpfiles.d/edge.conf"
take "$root/etc/udev/rules.d/70-edge-cameras.rules"
# The site's: the broker is still needed by others, and its certificates by everybody.
take "$root/etc/mosquitto/conf.d/edge.conf.new"
take "$root/etc/mosquitto/edge.acl.new"
if [ "$purge" = yes ]; then
    rm -rf "$root/etc/edge" "$root/var/lib/edge" "$root/var/cache/edge"
    rm -rf "$root"/etc/systemd/system/edge-run@*.service.d
    rm -f "$root"/etc/credstore/edge-*.mqtt-password "$root"/etc/credstore/edge-*.page-token
    rm -f "$root/etc/mosquitto/edge.acl" "$root/etc/mosquitto/conf.d/edge.conf"
    echo "removed    settings, models, journals, images and passwords"
else
    for kept in "$root/etc/edge" "$root/var/lib/edge" \
        "$root/etc/mosquitto/conf.d/edge.conf" "$root/etc/mosquitto/edge.acl"; do
        if [ -e "$kept" ]; then
            echo "kept       $kept"
        fi
    done
fi
if [ -z "$root" ] && [ -d /run/systemd/system ]; then
    systemctl daemon-reload
    if [ -S /run/udev/control ]; then
        udevadm control --reload
    fi
fi
