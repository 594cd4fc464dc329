#!/usr/bin/env bash
# One directory mounted twice, through FUSE: to the pool these are two hosts, each with locks and a cache of its own. Two owners
# are let loose on it, and everything that is asked of a store on disk is asked of one there, and of one on an overlay.
#
#   tests/scripts/shared-mounts.sh
#
# Needs root, bindfs and cargo. Leaves nothing behind. Two directories of your own, such as two mounts of one NFS export, are
# tried by hand: SNAPGROUP_MOUNTS=DIR:DIR cargo test --test owners -- --ignored --nocapture two_mounts
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
command -v bindfs >/dev/null || { echo "SKIPPED: bindfs is not installed" >&2; exit 77; }

work=$(mktemp -d)
mounts=()
tidy() {
    local mount
    for mount in "${mounts[@]}"; do umount -l "$mount" || true; done
    rm -rf "$work"
}
trap tidy EXIT

# Mounts at $work/$1 what the rest of the line says.
mounted() {
    local at=$work/$1
    shift
    mkdir -p "$at"
    "$@" "$at"
    mounts+=("$at")
}

# Everything that is asked of a store on disk, in a directory.
store_on() {
    echo "--- a store on $1"
    TMPDIR=$2 cargo test --quiet --test storage_contract --test owners --test heads_on_disk
}

mkdir "$work/shared" "$work/lower" "$work/upper" "$work/scratch"
# Two owners on two mounts with these options.
two_owners() {
    local status=0
    rm -rf "$work/shared/pool"
    mounted one bindfs -o "$1" "$work/shared"
    mounted other bindfs -o "$1" "$work/shared"
    SNAPGROUP_MOUNTS=$work/one:$work/other \
        cargo test --quiet --test owners -- --ignored --nocapture two_mounts >"$work/said" 2>&1 || status=$?
    umount "$work/one" "$work/other"
    mounts=()
    return "$status"
}

if ! two_owners direct_io; then
    cat "$work/said"
    exit 1
fi
echo "two owners without a cache: the first is told"
# What it reads of the catalogue comes from its own host then: if that were told, the test would look at nothing.
if two_owners attr_timeout=1; then
    echo "two owners with a cache: the first was told, against what the guide says" >&2
    exit 1
fi
grep -q "a deletion by a stale owner" "$work/said"
echo "control: two owners with a cache: the first is not told"

mounted one bindfs "$work/shared"
store_on FUSE "$work/one"
mounted merged mount -t overlay overlay -o "lowerdir=$work/lower,upperdir=$work/upper,workdir=$work/scratch"
store_on "an overlay" "$work/merged"
echo "all passed"
