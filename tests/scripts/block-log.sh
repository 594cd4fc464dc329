#!/usr/bin/env bash
# Cuts the power of a real file system at any request to its block device: a process works on a pool while every write and
# flush of the device is logged (`qemu-storage-daemon`, driver blklogwrites); then the device is rebuilt as each flush left
# it and with any part of what was written since, mounted, and what had returned by then is looked for in the pool.
# Last a control: with a flush taken away, something must be missing.
#
#   sudo tests/scripts/block-log.sh ext4 [STATES]      (or xfs, or btrfs)
#
# SNAPGROUP_DEEDS says how much work is logged (default 150), SNAPGROUP_SEED which work and which states. Needs root, loop
# devices, /dev/fuse, mkfs of that file system, qemu-storage-daemon and cargo. Leaves nothing behind.
set -euo pipefail
kind=${1:?which file system: ext4, xfs or btrfs}
export SNAPGROUP_STATES=${2:-2000}
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
cargo test --test block_log --no-run

work=$(mktemp -d)
memory=$(mktemp -d -p /dev/shm)
export SNAPGROUP_BLOCK_LOG=$work
mkdir "$work/mount"
ln -s "$memory" "$work/state"
loop="" daemon=""
stop() {
    umount "$work/mount" 2>/dev/null || true
    if [[ -n $loop ]]; then losetup -d "$loop"; fi
    loop=""
    if [[ -n $daemon ]]; then
        kill "$daemon"
        # It empties its queue and lets go of the mount before it ends.
        tail --pid="$daemon" -f /dev/null
    fi
    daemon=""
}
finish() {
    stop
    rm -rf "$work" "$memory"
}
trap finish EXIT

case $kind in
    ext4) truncate -s 64M "$work/disk.img" && mkfs.ext4 -q -F "$work/disk.img" ;;
    xfs) truncate -s 300M "$work/disk.img" && mkfs.xfs -q -f "$work/disk.img" ;;
    btrfs) truncate -s 128M "$work/disk.img" && mkfs.btrfs -q -f "$work/disk.img" ;;
    *) echo "not a file system that is known here: $kind" >&2; exit 2 ;;
esac
cp --sparse=always "$work/disk.img" "$work/base.img"
touch "$work/log.img" "$work/export"
qemu-storage-daemon --daemonize --pidfile "$work/pid" \
    --blockdev driver=file,node-name=disk,filename="$work/disk.img" \
    --blockdev driver=file,node-name=log,filename="$work/log.img" \
    --blockdev driver=blklogwrites,node-name=logged,file=disk,log=log,log-sector-size=512 \
    --export type=fuse,id=logged,node-name=logged,mountpoint="$work/export",writable=on
daemon=$(<"$work/pid")
# Without direct I/O: the loop device then has one request under way at a time. Of several at once the driver mixes up
# the entries.
loop=$(losetup --find --show "$work/export")
mount "$loop" "$work/mount"

cargo test --quiet --test block_log -- --ignored --exact a_child_works_on_a_device_whose_writes_are_logged
stop
uname -sr
echo "$kind:"
for half in every_state_that_a_device_may_be_left_in_holds_what_had_returned a_device_that_lost_a_flush_is_found_out; do
    cargo test --quiet --test block_log -- --ignored --exact --nocapture "$half"
done
