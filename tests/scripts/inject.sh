#!/usr/bin/env bash
# Fails system calls of a release binary, without any hook in it: `strace` answers the n-th write, sync or rename of the
# quickstart example with an error, or kills it there; the pool that is left behind must open and be in order.
#
#   tests/scripts/inject.sh [LAST]       every call up to the LAST one of its kind (default 40)
#
# Needs strace and cargo.
set -euo pipefail
last=${1:-40}
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
cargo build --release --quiet --example quickstart --features cli --bin snapgroup
target=${CARGO_TARGET_DIR:-target}/release
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

runs=0
for fault in pwrite64:error=EIO pwrite64:error=ENOSPC pwrite64:signal=KILL fdatasync:error=EIO fdatasync:signal=KILL \
    fsync:error=EIO fsync:signal=KILL openat2:error=EMFILE unlinkat:error=EIO unlinkat:signal=KILL; do
    for ((n = 1; n <= last; n++)); do
        pool=$work/pool
        rm -rf "$pool"
        # Its own exit says that the fault was noticed, or did no harm; what counts is what it leaves behind.
        strace -f -qq -o /dev/null -e trace=none -e "inject=$fault:when=$n" \
            "$target/examples/quickstart" --keep "$pool" >"$work/said" 2>&1 || true
        if grep -q panicked "$work/said"; then
            echo "$fault, call $n: a panic" >&2
            cat "$work/said" >&2
            exit 1
        fi
        if [[ -e $pool/snapgroup.redb ]]; then
            "$target/snapgroup" --pool "$pool" check >"$work/check" 2>&1 || {
                grep -q 'no pool\|not a pool' "$work/check" || {
                    echo "$fault, call $n:" >&2
                    cat "$work/check" >&2
                    exit 1
                }
            }
        fi
        runs=$((runs + 1))
    done
done
echo "$runs runs with a fault, every pool in order"
