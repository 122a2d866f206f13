#!/usr/bin/env bash
# Builds the image without a Docker engine and runs the demo in it, as its unprivileged user on a read-only root. Looks
# for what must not be in it, and whether it reaches an S3 store, since most of botocore's data was removed.
# debootstrap builds a stand-in for the base image under the name in the Dockerfile. So this tests the build steps,
# not the published base. Needs Debian and root; takes a few minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "$(id -u)" != 0 ]; then echo "image-check must run as root, because debootstrap and buildah create file systems; run it with sudo" >&2; exit 1; fi
if ! command -v buildah >/dev/null || ! command -v debootstrap >/dev/null; then
  apt-get update -qq && apt-get install -y -qq --no-install-recommends buildah debootstrap >/dev/null
fi
work=$(mktemp -d /var/tmp/callvault-image.XXXXXX)
rclone=""
export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot
bah() { buildah --root "$work/storage" --runroot "$work/run" "$@"; }
cleanup() { [ -z "$rclone" ] || kill "$rclone" || true; bah rm --all >/dev/null 2>&1 || true; rm -rf "$work"; }
trap cleanup EXIT

echo "building a stand-in for the base image ..."
debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$work/base" >"$work/debootstrap.log" 2>&1 \
  || { tail -5 "$work/debootstrap.log" >&2; exit 1; }
base=$(bah from scratch)
bah add --quiet "$base" "$work/base" / >/dev/null
bah commit --quiet "$base" docker.io/library/python:3.11-slim-bookworm >/dev/null
rm -rf "$work/base"

echo "building the image ..."
mounts=(-v /etc/ssl/certs:/etc/ssl/certs:ro)
[ -e /etc/pip.conf ] && mounts+=(-v /etc/pip.conf:/etc/pip.conf:ro)
timeout 900 buildah --root "$work/storage" --runroot "$work/run" bud --pull-never --network host "${mounts[@]}" \
  --tag callvault . >"$work/build.log" 2>&1 || { tail -20 "$work/build.log" >&2; exit 1; }

echo "running the demo in the image, as its user, on a read-only root ..."
image=$(bah from --pull-never localhost/callvault)
root=$(bah mount "$image")
packages=$(echo "$root"/opt/callvault/lib/python3.*/site-packages)
left=$(find "$packages" -maxdepth 1 \( -name 'pip*' -o -name 'setuptools*' -o -name 'wheel*' -o -name 'pyarrow*' \); \
  find "$packages" -type d -name tests)
if [ -n "$left" ]; then echo "these must not be in the image: $left" >&2; exit 1; fi
size=$(du -sm --apparent-size "$root/opt/callvault" | cut -f1)
if [ "$size" -ge 200 ]; then echo "the application takes $size MB; expected less than 200" >&2; exit 1; fi
echo "the application takes $size MB"
mkdir -p "$work/s3/bucket"
port=$(.venv/bin/python -c 'from lab.processes import free_port; print(free_port())')
timeout 300 .venv/bin/rclone serve s3 --addr "127.0.0.1:$port" --auth-key imagecheckkey,imagechecksecret --vfs-cache-mode off \
  --config /dev/null "$work/s3" 2>"$work/rclone.log" &
rclone=$!
# Does what `docker run --read-only --tmpfs /tmp --tmpfs /var/lib/callvault` does, in its own mount namespace.
timeout 180 unshare --mount bash -euo pipefail -c '
  mount --bind "$1" "$1"
  mount -o remount,bind,ro "$1"
  mount -t tmpfs -o mode=1777 tmp "$1/tmp"
  mount -t tmpfs -o uid=10001,mode=700 data "$1/var/lib/callvault"
  mount -t proc proc "$1/proc"
  mount -t tmpfs dev "$1/dev"
  for one in null urandom; do touch "$1/dev/$one" && mount --bind "/dev/$one" "$1/dev/$one"; done
  inside() { chroot --userspec=10001:10001 "$1" /usr/bin/env -i PATH=/opt/callvault/bin:/usr/bin:/bin HOME=/var/lib/callvault CALLVAULT_DATA=/var/lib/callvault "${@:2}"; }
  [ "$(inside "$1" id -u)" = 10001 ]
  if inside "$1" touch /opt/callvault/written 2>/dev/null; then echo "the root file system is writable; it must be read-only" >&2; exit 1; fi
  inside "$1" callvault demo --recordings 5
  s3=(AWS_ENDPOINT_URL_S3="http://127.0.0.1:$2" AWS_ACCESS_KEY_ID=imagecheckkey AWS_SECRET_ACCESS_KEY=imagechecksecret
    AWS_DEFAULT_REGION=us-east-1 CALLVAULT_ARCHIVE_URL=s3://bucket/archive)
  inside "$1" "${s3[@]}" callvault init
  inside "$1" "${s3[@]}" callvault verify
  inside "$1" python -c "import boto3
for service in (\"s3\", \"sts\", \"sso\", \"sso-oidc\", \"signin\"):  # what finds credentials
    boto3.client(service, region_name=\"eu-central-1\")"
  if inside "$1" callvault healthy 2>/dev/null; then echo "callvault healthy succeeded although nothing runs" >&2; exit 1; fi
' check "$root" "$port"
