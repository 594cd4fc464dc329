#!/usr/bin/env bash
# Mutation testing: the code is broken in one place after the other, and a test must fail each time.
#
# Usage: [MUTANTS_SECONDS=N] tests/scripts/mutants.sh ROOM [WORD ...]
#
#   format      src/format
#   allocator   what counts, gives out and frees clusters in src/image
#   writes      of these, what writes clusters and makes images larger, asked with the whole crate
#   plan        src/plan
#   recovery    src/engine/recover.rs and src/engine/unsettled.rs
#
# With words, only the mutants are run whose file, line, function or change holds one of them. What came of each is left in
# target/mutants/ROOM.txt. Those that no test sees, and why, are in mutants.md.
#
# One build holds the mutants of all rooms, each asleep until the environment names its number (tests/scripts/mutants), so
# that a mutant costs no compiler, but only the tests that come by it. Needs Linux.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
cargo build --quiet --manifest-path tests/scripts/mutants/Cargo.toml --target-dir target/mutants/tool
exec target/mutants/tool/debug/mutants "$@"
