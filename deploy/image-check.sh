#!/usr/bin/env bash
# Builds the image for real, without a Docker engine, and runs the demo in it as its unprivileged user. The base is a stand-in made by debootstrap under the name that the Dockerfile asks
# for, so it shows that the steps work, not the published base. Debian, as root; some minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "$(id -u)" != 0 ]; then echo "image-check needs root: debootstrap and buildah make file systems" >&2; exit 1; fi
if ! command -v buildah >/dev/null || ! command -v debootstrap >/dev/null; then
  apt-get update -qq && apt-get install -y -qq --no-install-recommends buildah debootstrap >/dev/null
fi
work=$(mktemp -d /var/tmp/callvault-image.XXXXXX)
export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot
bah() { buildah --root "$work/storage" --runroot "$work/run" "$@"; }
cleanup() { bah rm --all >/dev/null 2>&1 || true; rm -rf "$work"; }
trap cleanup EXIT

echo "making a stand-in for the base ..."
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

echo "running the demo in it ..."
image=$(bah from --pull-never localhost/callvault)
user=$(bah run --user 10001 "$image" -- id -u)
[ "$user" = 10001 ]
timeout 120 buildah --root "$work/storage" --runroot "$work/run" run --user 10001 --network host "$image" -- \
  callvault demo --recordings 5
