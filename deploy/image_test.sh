#!/usr/bin/env bash
# Build the image for real, without Docker, and run it: `sudo make image-test`.
# Needs Debian or Ubuntu, and 25 GB in $TMPDIR (/var/tmp). Leaves nothing behind.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "$(id -u)" != 0 ]; then
    echo "Building an image without Docker needs root: sudo make image-test" >&2
    exit 1
fi
if ! type buildah debootstrap unshare ip > /dev/null 2>&1; then
    apt-get update
    apt-get install -y --no-install-recommends buildah debootstrap util-linux iproute2
fi

work=$(mktemp -d "${TMPDIR:-/var/tmp}/prelabel-image.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir "$work/tmp"
export TMPDIR=$work/tmp

# A storage of its own, so that this machine's images stay as they are. chroot and vfs work where
# namespaces and overlays do not, such as inside another container.
storage=(--root "$work/storage" --runroot "$work/run" --storage-driver vfs)
export BUILDAH_ISOLATION=chroot
step() { printf -- '--- %(%T)T %s\n' -1 "$*"; }

step "base: a minimal Debian with Python 3.11, in place of one from a registry"
debootstrap --variant=minbase --include=ca-certificates,python3-venv bookworm "$work/base" \
    > "$work/base.log" || { cat "$work/base.log"; exit 1; }
container=$(buildah "${storage[@]}" from scratch)
buildah "${storage[@]}" add --quiet "$container" "$work/base" / > /dev/null
buildah "${storage[@]}" commit --quiet --rm "$container" prelabel-base > /dev/null
rm -rf "$work/base"

step "build"
# What this machine's pip needs to reach an index is lent to the build and no part of the image.
lent=()
for path in /etc/pip.conf /etc/ssl/certs; do
    [ ! -e "$path" ] || lent+=(--volume "$path:$path:ro")
done
buildah "${storage[@]}" build --quiet --pull-never --format docker \
    --build-arg BASE_IMAGE=localhost/prelabel-base "${lent[@]}" --tag prelabel . > /dev/null
step "size: $(buildah "${storage[@]}" images --format '{{.Size}}' prelabel)"

step "run, in a network of its own that leads nowhere: the demo model needs none"
container=$(buildah "${storage[@]}" from --pull-never prelabel)
read -ra command < <(buildah "${storage[@]}" inspect \
    --format '{{range .OCIv1.Config.Cmd}}{{.}} {{end}}{{"\n"}}' "$container")
unshare --net --pid --fork --kill-child --mount-proc sh -c 'ip link set lo up && exec "$@"' sh \
    buildah "${storage[@]}" run "$container" -- \
    python -c "$(cat deploy/image_probe.py)" "${command[@]}"
step "done"
