#!/usr/bin/env bash
# Fails system calls of a release binary, without any hook in it: `strace` answers the n-th call of a kind in the quickstart
# example with an error, once or from there on, or kills it there, for every n that there is. It must not panic, nor end well
# after a sync that failed; and the pool that is left behind must open and be in order.
#
#   tests/scripts/inject.sh [LAST]       every call, or those up to the LAST one of its kind
#
# Needs strace and cargo. Leaves nothing behind.
set -euo pipefail
last=${1:-1000000}
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
cargo build --release --quiet --example quickstart
cargo build --release --quiet --features cli --bin snapgroup
target=${CARGO_TARGET_DIR:-target}/release
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Ends the script: what was done, and what came of it.
fail() {
    echo "$1" >&2
    cat "$2" >&2
    exit 1
}

runs=0 noticed=0 unmade=0
for fault in pwrite64:error=EIO pwrite64:error=ENOSPC pwrite64:error=ENOSPC+ pwrite64:error=EINTR pwrite64:signal=KILL \
    pread64:error=EIO fdatasync:error=EIO fdatasync:error=EIO+ fdatasync:signal=KILL fsync:error=EIO fsync:signal=KILL \
    openat2:error=EMFILE openat2:error=ENOSPC+ ftruncate:error=EIO ftruncate:signal=KILL fchmod:error=EIO \
    unlinkat:error=EIO unlinkat:signal=KILL getdents64:error=EIO; do
    call=${fault%%:*}
    of_fault=0
    for ((n = 1; n <= last; n++)); do
        pool=$work/pool
        rm -rf "$pool"
        # From there on, if the fault ends with a plus.
        inject=${fault%+}:when=$n
        [[ $fault == *+ ]] && inject+=+
        status=0
        { strace -f -qq -o "$work/trace" -e "trace=$call" -e "inject=$inject" \
            "$target/examples/quickstart" --keep "$pool" >"$work/said" 2>&1; } 2>/dev/null || status=$?
        # There are no more calls of this kind.
        grep -q 'INJECTED\|killed by SIGKILL' "$work/trace" || break
        runs=$((runs + 1)) of_fault=$((of_fault + 1))
        ((status == 0)) || noticed=$((noticed + 1))
        if grep -q panicked "$work/said"; then fail "$fault, call $n: a panic" "$work/said"; fi
        if [[ $fault == f*sync:error* ]] && ((status == 0)); then
            fail "$fault, call $n: a sync has failed, and nobody was told" "$work/said"
        fi
        if [[ ! -e $pool/snapgroup.redb ]]; then
            unmade=$((unmade + 1))
        elif ! "$target/snapgroup" --pool "$pool" check >"$work/check" 2>&1; then
            # Of one whose making was cut short nothing is left to be looked at. Room that is lost is what a crash may cost.
            if grep -q 'there is no pool at' "$work/check"; then
                unmade=$((unmade + 1))
            elif ! grep -q 'sound: what is told costs space or proofs, no content' "$work/check"; then
                fail "$fault, call $n: the pool is not in order" "$work/check"
            fi
        fi
    done
    echo "$fault: $of_fault"
done
echo "$runs runs with a fault, $noticed of them ended with an error or a kill; $unmade before there was a pool, every other pool in order"
