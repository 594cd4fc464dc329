//! The hooks for a running QEMU, against ends of sockets that answer as they are told to.
#![cfg(unix)]

use snapgroup::qmp::{GuestAgent, QemuSwitch, QmpError};
use snapgroup::{
    ByteCount, Consistency, CreateGroup, CreateMachine, CreateVolume, Engine, HookError, LiveOptions,
    Options, Quiesce, Running, Switch,
};
use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::Duration;
use tempfile::TempDir;

type Outcome = Result<(), Box<dyn Error>>;

const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(50);

/// A socket at which each connection is served by one of these, in turn.
struct Peer {
    _directory: TempDir,
    socket: PathBuf,
    serving: JoinHandle<()>,
}

type Service = Box<dyn FnOnce(&mut BufReader<UnixStream>) + Send>;

impl Peer {
    fn serving(services: Vec<Service>) -> Result<Self, Box<dyn Error>> {
        let directory = TempDir::new()?;
        let socket = directory.path().join("socket");
        let listener = UnixListener::bind(&socket)?;
        let serving = std::thread::spawn(move || {
            for service in services {
                let (stream, _) = listener.accept().expect("a client comes");
                let mut stream = BufReader::new(stream);
                service(&mut stream);
                // Until the client has gone.
                drop(stream.read_to_end(&mut Vec::new()));
            }
        });
        Ok(Self { _directory: directory, socket, serving })
    }

    fn end(self) {
        self.serving.join().expect("what was asked was as expected");
    }
}

/// Waits for a line that holds `text`, and answers with lines in which `ID` is the id that was given.
fn expect(stream: &mut BufReader<UnixStream>, text: &str, answers: &[&str]) {
    let mut line = String::new();
    stream.read_line(&mut line).expect("text");
    assert!(line.contains(text), "{line} instead of {text}");
    let question: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    for answer in answers {
        let answer = answer.replace("ID", &question["id"].to_string());
        writeln!(stream.get_mut(), "{answer}").expect("the client listens");
    }
}

/// Answers the question by which a client finds the beginning, after what somebody before was still to be told.
fn sync(stream: &mut BufReader<UnixStream>) {
    let mut first = [0; 1];
    stream.read_exact(&mut first).expect("a byte");
    assert_eq!(first, [0xff]);
    let mut line = String::new();
    stream.read_line(&mut line).expect("text");
    let question: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(question["execute"], "guest-sync-delimited");
    let stale = b"{\"return\": 7}\n";
    let id = &question["arguments"]["id"];
    let answer = format!("{{\"return\": {id}}}\n");
    let bytes = [&stale[..], &[0xff][..], answer.as_bytes()].concat();
    stream.get_mut().write_all(&bytes).expect("the client listens");
}

fn monitor(stream: &mut BufReader<UnixStream>) {
    writeln!(stream.get_mut(), r#"{{"QMP": {{"version": {{}}, "capabilities": []}}}}"#).expect("a client");
    expect(stream, "qmp_capabilities", &[r#"{"event": "RESUME"}"#, r#"{"return": {}, "id": ID}"#]);
}

fn out(error: HookError) -> Box<dyn Error> {
    error
}

/// The error of the socket behind that of the hook.
fn qmp<T: std::fmt::Debug>(answer: Result<T, HookError>) -> QmpError {
    *answer.expect_err("it was answered").downcast::<QmpError>().expect("an error of the protocol")
}

/// A guest that must not be asked.
#[derive(Debug)]
struct Untouched;

impl Quiesce for Untouched {
    fn freeze(&mut self, _: Duration) -> Result<Consistency, HookError> {
        panic!("nobody is there to switch its disks");
    }

    fn thaw(&mut self, _: Duration) -> Result<(), HookError> {
        panic!("it was not frozen");
    }
}

#[test]
fn a_monitor_that_nobody_answers_at_is_told_of_before_anything_is_made() -> Outcome {
    let engine = Engine::in_memory(Options::default())?;
    let machine = engine.create_machine(&CreateMachine::new("vm"))?.uuid;
    let volume = engine.create_volume(&CreateVolume::new("disk", ByteCount::mib(1)))?.uuid;
    engine.attach_volume(volume, machine, None)?;
    engine.set_running(machine, Running::Elsewhere)?;
    let directory = TempDir::new()?;
    let mut qemu = QemuSwitch::at(directory.path().join("nosuch"));
    let request = CreateGroup::of_machine(machine, "nightly");
    let answer = engine.create_group_live(&request, &mut Untouched, &mut qemu, &LiveOptions::default());
    let Err(snapgroup::Error::NotSwitched { source }) = answer else { panic!("{answer:?}") };
    let QmpError::Connect { socket, .. } = qmp(Err::<(), _>(source)) else { panic!("another error") };
    assert!(socket.ends_with("nosuch"), "{socket}");
    assert!(engine.prepared_groups()?.is_empty());
    assert_eq!(engine.chain(volume)?.len(), 1);
    Ok(())
}

#[test]
fn an_agent_that_froze_file_systems_makes_a_group_consistent_in_them() -> Outcome {
    let peer = Peer::serving(vec![
        Box::new(|stream| {
            sync(stream);
            expect(stream, "guest-fsfreeze-freeze", &[r#"{"return": 2, "id": ID}"#]);
            expect(stream, "guest-fsfreeze-thaw", &[r#"{"return": 2}"#]);
        }),
        Box::new(|stream| {
            sync(stream);
            expect(stream, "guest-fsfreeze-freeze", &[r#"{"return": 0}"#]);
            expect(stream, "guest-fsfreeze-thaw", &[r#"{"return": 0}"#]);
        }),
        Box::new(|stream| {
            sync(stream);
            expect(stream, "guest-fsfreeze-freeze", &[r#"{"return": 2}"#]);
            expect(stream, "guest-fsfreeze-thaw", &[r#"{"return": 0}"#]);
        }),
    ])?;
    let mut agent = GuestAgent::at(&peer.socket);
    assert_eq!(agent.freeze(LONG).map_err(out)?, Consistency::FileSystem);
    agent.thaw(LONG).map_err(out)?;
    assert_eq!(agent.freeze(LONG).map_err(out)?, Consistency::Crash, "there was nothing to freeze");
    agent.thaw(LONG).map_err(out)?;
    assert_eq!(agent.freeze(LONG).map_err(out)?, Consistency::FileSystem);
    assert!(agent.thaw(LONG).is_err(), "it had thawed before it was told to");
    peer.end();
    Ok(())
}

#[test]
fn an_agent_that_does_not_answer_in_time_is_asked_to_thaw_all_the_same() -> Outcome {
    let peer = Peer::serving(vec![
        Box::new(|stream| {
            sync(stream);
            expect(stream, "guest-fsfreeze-freeze", &[]);
        }),
        Box::new(|stream| {
            sync(stream);
            expect(stream, "guest-fsfreeze-thaw", &[r#"{"return": 1}"#]);
        }),
    ])?;
    let mut agent = GuestAgent::at(&peer.socket);
    let QmpError::Unanswered { command, source } = qmp(agent.freeze(SHORT)) else { panic!("another error") };
    assert_eq!((command.as_str(), source.kind()), ("guest-fsfreeze-freeze", std::io::ErrorKind::TimedOut));
    agent.thaw(LONG).map_err(out)?;
    peer.end();
    Ok(())
}

#[test]
fn what_is_refused_is_told_with_its_class_and_its_words() -> Outcome {
    let refusal = r#"{"error": {"class": "CommandNotFound", "desc": "no such command"}, "id": ID}"#;
    let peer = Peer::serving(vec![
        Box::new(move |stream| {
            monitor(stream);
            expect(stream, "query-named-block-nodes", &[r#"{"event": "STOP"}"#, refusal]);
        }),
        Box::new(|stream| {
            monitor(stream);
            expect(stream, "query-named-block-nodes", &[r#"{"return": [], "id": 77}"#]);
        }),
        Box::new(|stream| {
            monitor(stream);
            expect(stream, "query-named-block-nodes", &["no JSON"]);
        }),
        Box::new(|stream| {
            monitor(stream);
            expect(stream, "query-named-block-nodes", &[r#"{"return": [{}], "id": ID}"#]);
            expect(stream, "query-block", &[r#"{"return": [], "id": ID}"#]);
            expect(stream, "query-block-exports", &[r#"{"return": [], "id": ID}"#]);
        }),
        Box::new(|stream| drop(writeln!(stream.get_mut(), r#"{{"something": "else"}}"#))),
        Box::new(|stream| stream.get_ref().shutdown(std::net::Shutdown::Both).expect("it is open")),
    ])?;
    let mut qemu = QemuSwitch::at(&peer.socket).answered_within(LONG);
    let QmpError::Refused { command, class, desc } = qmp(qemu.look(&[])) else { panic!("another error") };
    assert_eq!((command.as_str(), class.as_str()), ("query-named-block-nodes", "CommandNotFound"));
    assert_eq!(desc, "no such command");
    for rule in ["another question", "expected", "missing field", "no QMP"] {
        let QmpError::Malformed { rule: found, .. } = qmp(qemu.look(&[])) else { panic!("another error") };
        assert!(found.contains(rule), "{found} instead of {rule}");
    }
    let QmpError::Unanswered { source, .. } = qmp(qemu.look(&[])) else { panic!("another error") };
    assert_eq!(source.kind(), std::io::ErrorKind::UnexpectedEof);
    let socket = peer.socket.clone();
    peer.end();
    let QmpError::Connect { socket: found, .. } = qmp(qemu.look(&[])) else { panic!("another error") };
    assert_eq!(found, socket.display().to_string());
    Ok(())
}
