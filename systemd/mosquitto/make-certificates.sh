#!/bin/sh
# Makes an authority of the plant's own and the broker's certificate, where there are none. What is
# there stays; a site with an authority of its own puts ca.crt, server.crt and server.key there first.
#
#     systemd/mosquitto/make-certificates.sh /etc/mosquitto/certs broker.plant.example [NAME|ADDRESS …]
set -eu

# An authority lasts as long as a line; a certificate is made again by removing server.crt.
authority_days=7300
server_days=825

if [ $# -lt 2 ]; then
    sed -n '2,6s/^# \{0,1\}//p' "$0" >&2
    exit 64
fi
folder=$1
shift
name=$1
install -d -m 0755 "$folder"

new_key() {
    # Readable by its owner from the first byte on.
    (umask 077 && openssl ecparam -name prime256v1 -genkey -noout -out "$1")
}

if [ -e "$folder/ca.crt" ]; then
    echo "kept       $folder/ca.crt"
else
    new_key "$folder/ca.key"
    openssl req -x509 -new -key "$folder/ca.key" -days "$authority_days" \
        -subj "/CN=Inspection stations, authority of $name" -out "$folder/ca.crt"
    echo "made       $folder/ca.crt; keep ca.key in a safe place, away from this PC"
fi
if [ -e "$folder/server.crt" ]; then
    echo "kept       $folder/server.crt"
    exit 0
fi
if [ ! -e "$folder/ca.key" ]; then
    echo "$folder/ca.key is not here, so server.crt has to come from whoever has it." >&2
    exit 66
fi

# Every name and address that stations call the broker by.
names=DNS:localhost,IP:127.0.0.1
for other in "$@"; do
    case $other in
        *:* | *[0-9].[0-9]*.[0-9]*.[0-9]*) names=$names,IP:$other ;;
        *) names=$names,DNS:$other ;;
    esac
done
[ -e "$folder/server.key" ] || new_key "$folder/server.key"
chmod 0640 "$folder/server.key"
request=$(mktemp)
trap 'rm -f "$request" "$request.ext"' EXIT
openssl req -new -key "$folder/server.key" -subj "/CN=$name" -out "$request"
printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth\n' "$names" >"$request.ext"
openssl x509 -req -in "$request" -CA "$folder/ca.crt" -CAkey "$folder/ca.key" -CAcreateserial \
    -days "$server_days" -extfile "$request.ext" -out "$folder/server.crt" 2>/dev/null
echo "made       $folder/server.crt for $names"
