#!/usr/bin/env bash
# Mutation testing: the code is broken in one place after the other, and a test must fail each time.
#
# Usage: tests/scripts/mutants.sh ROOM [cargo-mutants options, such as --shard 0/8]
#
#   format      src/format, by its unit tests and tests/format_golden.rs
#   allocator   what counts, gives out and frees clusters in src/image, by the unit tests of the rooms up to it and
#               tests/image_*.rs
#   plan        src/plan, by the unit tests of the crate and tests/suite
#   recovery    src/engine/recover.rs, by the unit tests of the crate, tests/recovery.rs and tests/suite
#
# A room that names few others is built as a crate of its own, in a folder that goes away: a tenth of the crate is built in a
# tenth of the time. What was found is left in target/mutants/ROOM. Those that no test sees, and why, are in mutants.md.
# Needs cargo-mutants: cargo install cargo-mutants --locked
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

room=${1:?a room: format, allocator, plan or recovery}
shift
out=$PWD/target/mutants/$room
mkdir -p "$out"
export CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_DEBUG=0

# Makes a crate of these rooms in $there, with the dependencies that they name.
crate_of() {
    local room name line
    mkdir -p "$there/src" "$there/tests"
    cp Cargo.lock "$there/"
    printf '#![allow(dead_code, unused_imports)]\n' >"$there/src/lib.rs"
    for room in "$@"; do
        printf 'pub mod %s;\n' "$room" >>"$there/src/lib.rs"
        for name in "src/$room" "src/$room.rs"; do
            [[ ! -e $name ]] || cp -r "$name" "$there/src/"
        done
    done
    printf 'pub use units::ByteCount;\n' >>"$there/src/lib.rs"
    {
        printf '[package]\nname = "snapgroup"\nversion = "0.0.0"\nedition = "2024"\n\n[dependencies]\n'
        grep -E '^[a-z0-9_-]+ = [{"]' Cargo.toml | grep -v optional | while read -r line; do
            name=${line%% *}
            ! grep -rqE "\b$name::" "$there/src" || printf '%s\n' "$line"
        done | sort -u -k 1,1
        printf '\n[profile.dev]\nopt-level = 1\ndebug = false\n\n[lints.rust]\nunexpected_cfgs = "allow"\n\n[workspace]\n'
    } >"$there/Cargo.toml"
}

mutate() {
    # Mutants that are missed end it with 2, those that time out with 3: both are told of below.
    local status=0
    cargo mutants --dir "$1" --in-place --output "$out" --no-shuffle --colors never "${@:2}" || status=$?
    ((status == 0 || status == 2 || status == 3)) || exit "$status"
}

there=$(mktemp -d)
trap 'rm -r "$there"' EXIT
case $room in
    format)
        crate_of units format
        cp -r tests/format_golden.rs tests/fixtures "$there/tests/"
        mutate "$there" --file 'src/format/**' --timeout 60 -C=--lib -C=--tests "$@"
        ;;
    allocator)
        crate_of units sync format storage image chain
        for name in absorb create durability growth model rebase repair threads; do
            cp "tests/image_$name.rs" "$there/tests/"
        done
        cp -r tests/support "$there/tests/"
        files=()
        for name in refcounts own grow fill flush layout tables pack zero; do
            files+=(--file "src/image/$name.rs")
        done
        mutate "$there" "${files[@]}" --timeout 120 -C=--lib -C=--tests "$@"
        ;;
    plan)
        git worktree add --detach "$there/whole" >/dev/null
        trap 'git worktree remove --force "$there/whole"; rm -r "$there"' EXIT
        mutate "$there/whole" --file 'src/plan/**' --timeout 300 -C=--lib -C=--test=suite "$@"
        ;;
    recovery)
        git worktree add --detach "$there/whole" >/dev/null
        trap 'git worktree remove --force "$there/whole"; rm -r "$there"' EXIT
        mutate "$there/whole" --file src/engine/recover.rs --timeout 300 -C=--lib -C=--test=recovery \
            -C=--test=suite "$@"
        ;;
    *)
        echo "error: no such room: $room" >&2
        exit 1
        ;;
esac
for kind in missed timeout; do
    if [[ -s $out/mutants.out/$kind.txt ]]; then
        printf '\n%s:\n' "$kind"
        cat "$out/mutants.out/$kind.txt"
    fi
done
