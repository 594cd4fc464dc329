#!/usr/bin/env bash
# A program that depends on the package, and on nothing else of this repository: unpacked, built and run, without a network.
#
# Usage: tests/scripts/downstream.sh [FEATURES]; default: tracing,qmp,object-store
# The crates that the lock file names must have been fetched before, which every build does.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

features=${1-tracing,qmp,object-store}
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
cargo package --quiet --allow-dirty --no-verify --offline
there=$(mktemp -d)
trap 'rm -r "$there"' EXIT
tar -xzf "target/package/snapgroup-$version.crate" -C "$there"

mkdir -p "$there/host/src"
# What is locked here is what is built there.
cp "$there/snapgroup-$version/Cargo.lock" "$there/host/"
listed=$(sed 's/[^,]\{1,\}/"&"/g' <<<"$features")
cat >"$there/host/Cargo.toml" <<END
[package]
name = "host"
version = "0.0.0"
edition = "2024"

[dependencies]
snapgroup = { path = "../snapgroup-$version", features = [$listed] }
END
cat >"$there/host/src/main.rs" <<'END'
use snapgroup::{ByteCount, CreateGroup, CreateMachine, CreateVolume, Engine, Options};

fn main() -> snapgroup::Result<()> {
    let engine = Engine::open(std::env::args().nth(1).expect("a directory"), Options::default())?;
    let machine = engine.create_machine(&CreateMachine::new("web-1"))?.uuid;
    let volume = engine.create_volume(&CreateVolume::new("system", ByteCount::gib(1)).as_root())?.uuid;
    engine.attach_volume(volume, machine, None)?;
    engine.open_volume(volume)?.write_at(0, b"hello")?;
    let group = engine.create_group(&CreateGroup::of_machine(machine, "first"))?.inventory;
    println!("{} of {} disk", group.name, group.snapshot_count);
    engine.close()
}
END
target=$PWD/target
(cd "$there/host" && cargo run --quiet --offline --target-dir "$target/downstream" -- "$there/pool")
[[ -f $there/pool/snapgroup.redb ]] || { echo "error: no pool was made" >&2; exit 1; }
echo "built and run from the package with: ${features:-no features}"
