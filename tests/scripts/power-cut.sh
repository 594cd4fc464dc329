#!/usr/bin/env bash
# Cuts the power of a real file system while a process works on a pool in it, again and again: `tests/kill.rs` with the
# shutdown call of ext4 or XFS in place of a kill. What was not synced by then is lost, as in a power cut; the journal is
# replayed when the file system is mounted again, and then the test judges what is there.
#
#   sudo tests/scripts/power-cut.sh ext4 [CUTS]      (or xfs)
#
# btrfs knows no such call up to Linux 6.18 (it answers ENOTTY): block-log.sh cuts its power in another way.
#
# Needs root, a loop device, mkfs of that file system, python3 and cargo. Leaves nothing behind.
set -euo pipefail
kind=${1:?which file system: ext4 or xfs}
cuts=${2:-100}
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

work=$(mktemp -d)
export POWER_CUT_IMAGE=$work/disk.img POWER_CUT_MOUNT=$work/mount
mkdir "$POWER_CUT_MOUNT"
finish() {
    umount "$POWER_CUT_MOUNT" 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT

truncate -s 512M "$POWER_CUT_IMAGE"
case $kind in
    ext4) mkfs.ext4 -q -F "$POWER_CUT_IMAGE" ;;
    xfs) mkfs.xfs -q -f "$POWER_CUT_IMAGE" ;;
    *) echo "no shutdown call is known of $kind" >&2; exit 2 ;;
esac
mount -o loop "$POWER_CUT_IMAGE" "$POWER_CUT_MOUNT"

cat >"$work/hook" <<'HOOK'
#!/usr/bin/env bash
set -euo pipefail
case $1 in
    # _IOR('X', 125, u32) with 2: go down, and write nothing out, the log neither.
    cut) python3 -c '
import fcntl, os, struct, sys
directory = os.open(sys.argv[1], os.O_RDONLY)
fcntl.ioctl(directory, 0x8004587D, struct.pack("I", 2))
' "$POWER_CUT_MOUNT" ;;
    back)
        umount "$POWER_CUT_MOUNT"
        mount -o loop "$POWER_CUT_IMAGE" "$POWER_CUT_MOUNT"
        ;;
esac
HOOK
chmod +x "$work/hook"

SNAPGROUP_KILLS=$cuts SNAPGROUP_KILL_POOL=$POWER_CUT_MOUNT SNAPGROUP_KILL_HOOK=$work/hook \
    cargo test --test kill -- --nocapture
