#!/bin/sh
# Installs the service, its user, folders and camera rules. Safe to run twice: what a site has
# changed stays. DESTDIR=/somewhere installs there and touches nothing else; with PREFIX=/usr, too, it
# lays the files where a package of the system has them.
#
#     sudo systemd/install.sh             on the inspection PC
#     sudo systemd/install.sh --broker    on the PC of the MQTT broker
set -eu

root=${DESTDIR:-}
here=$(cd "$(dirname "$0")" && pwd)
vendor=$root${PREFIX:-/usr/local}/lib
rules=$root/etc/udev/rules.d
if [ "${PREFIX:-}" = /usr ]; then
    rules=$vendor/udev/rules.d
fi

usage() {
    sed -n '2,7s/^# \{0,1\}//p' "$0"
}

# Ours: replaced, so that a newer version reaches the PC.
put() {
    install -D -m 0644 "$here/$1" "$2"
    echo "installed  $2"
}

# The site's from the first day: never overwritten. A newer one of ours is laid beside it.
offer() {
    if [ ! -e "$3" ]; then
        install -D -m "$1" "$2" "$3"
        echo "installed  $3"
    elif cmp -s "$2" "$3"; then
        echo "kept       $3"
    else
        install -m "$1" "$2" "$3.new"
        echo "kept       $3, which differs from ours; ours lies beside it: $3.new"
    fi
}

install_station() {
    put edge-run@.service "$vendor/systemd/system/edge-run@.service"
    put sysusers.d/edge.conf "$vendor/sysusers.d/edge.conf"
    put tmpfiles.d/edge.conf "$vendor/tmpfiles.d/edge.conf"
    put udev/70-edge-cameras.rules "$rules/70-edge-cameras.rules"
    if [ -z "$root" ]; then
        systemd-sysusers edge.conf
        systemd-tmpfiles --create edge.conf
    else
        install -d -m 2750 "$root/etc/edge"
        install -d -m 0755 "$root/var/lib/edge/models"
        install -d -m 0700 "$root/etc/credstore"
    fi
    offer 0640 "$here/../configs/station.yaml" "$root/etc/edge/station.yaml.example"
    if [ -z "$root" ]; then
        chgrp edge /etc/edge/station.yaml.example
        # Not in a container or a chroot, where no systemd and no udev run.
        if [ -d /run/systemd/system ]; then
            systemctl daemon-reload
        fi
        # A virtual machine or a container may run systemd and no udev.
        if [ -S /run/udev/control ]; then
            udevadm control --reload
            udevadm trigger --subsystem-match=video4linux --subsystem-match=usb
        else
            echo "no udev    camera rules count from the next start of this PC on"
        fi
    fi
    if [ ! -x "$root/opt/edge/bin/edge-run" ]; then
        echo
        echo "The software itself is not in /opt/edge yet:"
        echo "    apt install python3-venv"
        echo "    python3 -m venv /opt/edge"
        echo "    /opt/edge/bin/pip install --constraint constraints.txt ."
    fi
    echo
    echo "Next, for each camera:"
    echo "    cp /etc/edge/station.yaml.example /etc/edge/cam1.yaml, and edit it"
    echo "    runuser -u edge -- /opt/edge/bin/edge-run --check --config /etc/edge/cam1.yaml"
    echo "    systemctl enable --now edge-run@cam1"
}

install_broker() {
    folder=$root/etc/mosquitto
    offer 0640 "$here/mosquitto/edge.conf" "$folder/conf.d/edge.conf"
    offer 0640 "$here/mosquitto/edge.acl" "$folder/edge.acl"
    if [ -n "$root" ]; then
        return
    fi
    if ! getent group mosquitto >/dev/null; then
        echo "There is no mosquitto here yet: apt install mosquitto, then run this again." >&2
        exit 69
    fi
    for ours in "$folder/conf.d/edge.conf" "$folder/edge.acl"; do
        for file in "$ours" "$ours.new"; do
            if [ -e "$file" ]; then
                chgrp mosquitto "$file"
                chmod 0640 "$file"
            fi
        done
    done
    "$here/mosquitto/make-certificates.sh" "$folder/certs" "$(hostname -f 2>/dev/null || hostname)"
    chgrp mosquitto "$folder/certs/server.key"
    if [ ! -e "$folder/edge.passwd" ]; then
        install -m 0640 -g mosquitto /dev/null "$folder/edge.passwd"
        echo "installed  $folder/edge.passwd, with nobody in it"
    fi
    echo
    echo "Next:"
    echo "    mosquitto_passwd $folder/edge.passwd SITE/LINE/STATION/CAMERA    for each station"
    echo "    mosquitto_passwd $folder/edge.passwd mes                         and each name in edge.acl"
    echo "    one account for each program: an account is connected once, and a second pushes the first off"
    echo "    systemctl restart mosquitto"
    echo "    copy $folder/certs/ca.crt to each station, and name it in mqtt.ca_file"
    echo "    edge-run --doctor --config STATION.yaml                          on each station"
}

if [ -z "$root" ] && [ "$(id -u)" -ne 0 ]; then
    echo "Run it as root: sudo $0 $*" >&2
    exit 77
fi
case "${1:-}" in
    "") install_station ;;
    --broker) install_broker ;;
    *) usage >&2; exit 64 ;;
esac
