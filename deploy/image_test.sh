#!/usr/bin/env bash
# Build the image with buildah instead of Docker, and run it: `sudo make image-test`.
# Needs Debian or Ubuntu, and 25 GB in $TMPDIR (default /var/tmp). Removes everything at the end.
# DEVICE=gpu tests the GPU image, as far as that is possible without a GPU. EXTRA=jobs tests the
# image for jobs; the probe then also runs a job.
set -euo pipefail
cd "$(dirname "$0")/.."
device=${DEVICE:-cpu}
extra=${EXTRA:-serve}

if [ "$(id -u)" != 0 ]; then
    echo "Building an image without Docker needs root: sudo make image-test" >&2
    exit 1
fi
if ! type buildah debootstrap unshare ip python3 > /dev/null 2>&1; then
    apt-get update
    apt-get install -y --no-install-recommends buildah debootstrap util-linux iproute2 python3
fi

work=$(mktemp -d "${TMPDIR:-/var/tmp}/prelabel-image.XXXXXX")
mkdir "$work/tmp" "$work/storage" "$work/volumes"
export TMPDIR=$work/tmp BUILDAH_ISOLATION=chroot
hub=
clean_up() {
    [ -z "$hub" ] || kill "$hub"
    image rm --all > /dev/null 2>&1 || true
    umount "$work/storage/overlay" 2> /dev/null || true
    rm -rf "$work"
}
trap clean_up EXIT

# A separate storage, so that this machine's images are not touched. The vfs driver works where
# overlay mounts fail, such as inside another container, but stores every layer in full.
driver=vfs
mkdir "$work"/{lower,upper,layer,merged}
if mount -t overlay overlay "$work/merged" \
    -o "lowerdir=$work/lower,upperdir=$work/upper,workdir=$work/layer" 2> /dev/null; then
    umount "$work/merged"
    driver=overlay
fi
image() { buildah --root "$work/storage" --runroot "$work/run" --storage-driver "$driver" "$@"; }
step() { printf -- '--- %(%T)T %s\n' -1 "$*"; }

# This machine's pip configuration and CA certificates are mounted during the build, so that pip
# reaches its index; they do not become part of the image.
mounts=()
for path in /etc/pip.conf /etc/ssl/certs; do
    [ ! -e "$path" ] || mounts+=(--volume "$path:$path:ro")
done
build() { # TAG CONTEXT ARGUMENTS...
    local tag=$1 context=$2 started=$SECONDS
    shift 2
    image build --pull-never --format docker --layers --build-arg BASE_IMAGE=localhost/prelabel-base \
        --build-arg "DEVICE=$device" --build-arg "EXTRA=$extra" "${mounts[@]}" "$@" --tag "$tag" "$context" \
        > "$work/build.log" 2>&1 || { tail -n 50 "$work/build.log"; exit 1; }
    step "$tag was built in $((SECONDS - started)) s; its layers, without those of the previous image:"
    image inspect --type image "$tag" | python3 deploy/docker/layers.py "$work/storage" "$work/layers"
}

# Run an image as docker-compose.yml does: only volumes and memory are writable, no capabilities,
# and a separate network. The network has no route out, which the demo model does not need, but it
# has an address that is not loopback.
run() { # TAG MODEL
    local container root command environment
    container=$(image from --pull-never "$1")
    root=$(image mount "$container")
    mapfile -t environment < <(image inspect --format '{{range .OCIv1.Config.Env}}{{println .}}{{end}}' "$container" | grep '=')
    mapfile -t command < <(image inspect --format '{{range .OCIv1.Config.Cmd}}{{println .}}{{end}}' "$container" | grep .)
    mapfile -t -O "${#environment[@]}" environment < <(sed -n 's/^ *\(RAY_[A-Z_]*\): "\(.*\)"$/\1=\2/p' docker-compose.yml)
    printf '127.0.0.1 localhost\n192.0.2.2 %s\n' "$(hostname)" > "$root/etc/hosts"
    cp -a "$root/models" "$root/data" "$work/volumes/"
    if [ -e "$root/home/prelabel/.ray" ]; then
        echo "The image holds a Ray token." >&2
        exit 1
    fi
    step "run $1"
    # shellcheck disable=SC2016 # the inner shell expands the variables
    unshare --net --mount --pid --fork --kill-child sh -euc '
        root=$1 volumes=$2
        shift 2
        ip link set lo up
        ip address add 192.0.2.2/32 dev lo
        ip route add default dev lo src 192.0.2.2
        mount --bind "$root" "$root"
        mount -o remount,bind,ro "$root"
        mount -t proc proc "$root/proc"
        mount -t sysfs -o ro sysfs "$root/sys"
        mount -t tmpfs -o mode=755 tmpfs "$root/dev"
        for each in null zero full random urandom; do
            touch "$root/dev/$each"
            mount --bind "/dev/$each" "$root/dev/$each"
        done
        mkdir "$root/dev/shm"
        mount -t tmpfs -o mode=1777,size=2g tmpfs "$root/dev/shm"
        mount -t tmpfs -o mode=1777,noexec,nosuid,nodev tmpfs "$root/tmp"
        mkdir "$root/tmp/ray"
        mount -t tmpfs -o size=2g,mode=1777,nosuid,nodev tmpfs "$root/tmp/ray"
        mount -t tmpfs -o uid=1000,gid=1000,mode=0700 tmpfs "$root/home/prelabel"
        for each in models data; do mount --bind "$volumes/$each" "$root/$each"; done
        exec chroot "$root" setpriv --reuid=1000 --regid=1000 --clear-groups --no-new-privs \
            --inh-caps=-all --bounding-set=-all env -i "$@"' sh "$root" "$work/volumes" \
        "${environment[@]}" sh -c 'cd /app && exec "$@"' sh \
        python -c "$(cat deploy/image_probe.py)" "$2" "${command[@]}"
    image umount "$container" > /dev/null
    image rm "$container" > /dev/null
    rm -rf "$work"/volumes/*
}

step "base image: a minimal Debian with Python 3.11, instead of one from a registry"
packages=ca-certificates,python3-venv
[ "$device" = cpu ] || packages+=,libpython3-dev
debootstrap --variant=minbase "--include=$packages" bookworm "$work/base" \
    > "$work/base.log" || { cat "$work/base.log"; exit 1; }
container=$(image from scratch)
image add --quiet "$container" "$work/base" / > /dev/null
image config --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
image commit --quiet --rm "$container" prelabel-base > /dev/null
rm -rf "$work/base"

step "image for $device, with the demo model"
build prelabel .
run prelabel demo

step "image after a change of the code"
mkdir "$work/context"
mapfile -t sources < <(sed -nE '/^COPY --/!s/^COPY (.*) [^ ]+$/\1/p' Dockerfile | tr ' ' '\n')
cp -a --parents Dockerfile .dockerignore "${sources[@]}" "$work/context"
echo "# changed" >> "$work/context/prelabel/pipeline.py"
build prelabel:changed "$work/context"

step "image with baked-in weights, from a hub on loopback that serves the demo's under another name"
python3 deploy/docker/hub.py "$work/port" iSEE-Laboratory/llmdet_tiny prelabel/checkpoints/demo 2> "$work/hub.log" &
hub=$!
until [ -s "$work/port" ]; do sleep 0.1; done
build prelabel:baked . --build-arg MODEL=llmdet-tiny \
    --build-arg "HF_ENDPOINT=http://127.0.0.1:$(cat "$work/port")"
run prelabel:baked llmdet-tiny
step "done in $SECONDS s"
