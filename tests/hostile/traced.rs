//! The same, as the system sees it: this program runs itself under `strace`, and no string of any file is opened.
//!
//! `cargo test --release --test hostile -- --ignored`

use crate::names::{STRINGS, above};
use crate::support::Outcome;
use snapgroup::{AdoptVolume, CreatePool, Engine, ImportFrom, ImportVolume, LayerFormat, Options};
use std::path::Path;
use std::process::Command;

/// Where the child finds its files.
const PLACE: &str = "SNAPGROUP_HOSTILE_PLACE";
/// What the child asks for before and after it does what is judged.
const MARKS: [&str; 2] = ["snapgroup-mark-begin", "snapgroup-mark-end"];

#[test]
#[ignore = "needs strace"]
fn no_call_to_the_system_names_what_a_file_names() -> Outcome {
    let home = tempfile::tempdir()?;
    let (pool, trace) = (home.path().join("pool"), home.path().join("trace"));
    std::fs::create_dir(&pool)?;
    for (index, string) in STRINGS.iter().enumerate() {
        std::fs::write(pool.join(format!("{index}.qcow2")), above(string, Some("raw"))?)?;
    }
    let ran = Command::new("strace")
        .args(["-f", "-s", "4096", "-e", "trace=open,openat,openat2,creat", "-o"])
        .arg(&trace)
        .arg(std::env::current_exe()?)
        .args(["--exact", "traced::what_is_traced", "--ignored", "--nocapture", "--test-threads=1"])
        .env(PLACE, &pool)
        .output()?;
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let trace = String::from_utf8_lossy(&std::fs::read(&trace)?).into_owned();
    let begin = trace.find(MARKS[0]).ok_or("the child did not begin")?;
    let end = trace.rfind(MARKS[1]).ok_or("the child did not end")?;
    let opened: Vec<&str> = trace[begin..end].lines().skip(1).filter_map(name_of).collect();
    assert!(opened.len() > STRINGS.len(), "nothing was traced: {opened:?}");
    let place = pool.to_str().ok_or("not text")?;
    for name in opened {
        let own = name == place || name == "." || name.starts_with("snapgroup.");
        let listed = name.strip_suffix(".qcow2").is_some_and(|index| index.parse::<usize>().is_ok());
        assert!(own || listed, "{name:?} was opened");
    }
    Ok(())
}

/// The name in a line of a trace.
fn name_of(line: &str) -> Option<&str> {
    let call = line.find("open").or_else(|| line.find("creat"))?;
    let name = &line[call..];
    let begin = name.find('"')? + 1;
    let length = name[begin..].find('"')?;
    Some(&name[begin..begin + length])
}

#[test]
#[ignore = "is run by the test that traces it"]
fn what_is_traced() -> Outcome {
    let Ok(place) = std::env::var(PLACE) else { return Ok(()) };
    let place = Path::new(&place);
    let options = || Options { create: CreatePool::Here, ..Options::default() };
    // Whatever is opened once and for all is opened now.
    drop(Engine::open(place, options())?);
    let engine = {
        assert!(std::fs::File::open(MARKS[0]).is_err());
        Engine::open(place, options())?
    };
    for index in 0..STRINGS.len() {
        let file = format!("{index}.qcow2");
        let wish = AdoptVolume::new(file.as_str(), LayerFormat::Qcow2, "v");
        assert!(!engine.validate_chain(&wish)?.is_adoptable());
        assert!(engine.adopt_volume(&wish).is_err());
        for from in [ImportFrom::Pool(file.clone()), ImportFrom::Path(place.join(&file))] {
            assert!(engine.import(&ImportVolume::new(from, LayerFormat::Qcow2, "v")).is_err());
        }
    }
    drop(engine);
    assert!(std::fs::File::open(MARKS[1]).is_err());
    Ok(())
}
