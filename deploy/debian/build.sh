#!/bin/sh
# Builds the Debian package of the edge into a folder: wheels of all it needs, at the versions and
# hashes of requirements-edge.txt, and what makes an environment of its own of them on the PC.
#
#     deploy/debian/build.sh PYTHON FOLDER
#
# PYTHON is the interpreter of an environment with pip, of the version that the PC's Debian has:
# its wheels are taken.
set -eu

python=$1
folder=$2
here=$(cd "$(dirname "$0")" && pwd)
project=$here/../..
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 0755 "$root"

ask() {
    "$python" -c "$1"
}

version=$(cd "$project" && ask 'import edge; print(edge.__version__)')
minor=$(ask 'import sys; print(sys.version_info.minor)')
architecture=$(dpkg --print-architecture)
data=$root/usr/share/inspection-station
install -d "$data/wheels" "$root/usr/bin" "$root/DEBIAN" "$folder"

"$python" -m pip download --quiet --disable-pip-version-check --only-binary :all: --no-deps \
    --require-hashes --requirement "$project/requirements-edge.txt" --dest "$data/wheels"
"$python" -m pip wheel --quiet --disable-pip-version-check --no-deps \
    --wheel-dir "$data/wheels" "$project"
# Of each file that lies here, so that what an upgrade takes is what was built.
for wheel in "$data"/wheels/*.whl; do
    name=$(basename "$wheel")
    printf '%s==%s --hash=sha256:%s\n' "${name%%-*}" "$(echo "$name" | cut -d - -f 2)" \
        "$(sha256sum "$wheel" | cut -d ' ' -f 1)"
done >"$data/requirements.txt"

DESTDIR=$root PREFIX=/usr "$project/systemd/install.sh" >/dev/null
rmdir "$root/etc/credstore" "$root/var/lib/edge/models" "$root/var/lib/edge" "$root/var/lib" \
    "$root/var"  # systemd-tmpfiles makes them, with their owners
chmod 0755 "$root/etc/edge"
chmod 0644 "$root/etc/edge/station.yaml.example"
for program in edge-run edge-listen edge-sign edge-fleet; do
    ln -s "/opt/edge/bin/$program" "$root/usr/bin/$program"
done
install -D -m 0644 "$project/LICENSE" "$root/usr/share/doc/inspection-station/copyright"

for script in postinst prerm postrm; do
    sed "s/@VERSION@/$version/g" "$here/$script" >"$root/DEBIAN/$script"
    chmod 0755 "$root/DEBIAN/$script"
done
echo /etc/edge/station.yaml.example >"$root/DEBIAN/conffiles"
sed -e "s/@VERSION@/$version/g" -e "s/@MINOR@/$minor/g" -e "s/@NEXT@/$((minor + 1))/g" \
    -e "s/@ARCHITECTURE@/$architecture/g" \
    -e "s/@SIZE@/$(du -sk "$root" | cut -f 1)/" "$here/control" >"$root/DEBIAN/control"
dpkg-deb --root-owner-group -Zgzip -z1 --build "$root" "$folder" >/dev/null
echo "$folder/inspection-station_${version}_$architecture.deb"
