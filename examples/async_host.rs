//! A host with a runtime: calls that block are made on threads that may, and awaited: `cargo run --example async_host`.
//!
//! With tokio, `unblock` below is `tokio::task::spawn_blocking`. This one is written out, with a runtime of ten lines, so
//! that the example needs neither.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use snapgroup::{ByteCount, CreateGroup, CreateMachine, CreateVolume, Engine, Options, Result, Uuid};
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

fn main() -> Result<()> {
    let engine = Engine::in_memory(Options::default())?;
    block_on(serve(engine))
}

async fn serve(engine: Engine) -> Result<()> {
    let machines: Vec<Uuid> = (0..3).map(|index| machine(&engine, index)).collect::<Result<_>>()?;

    // Begun side by side: machines do not wait for each other.
    let begun: Vec<_> = machines
        .iter()
        .map(|machine| {
            let (engine, wish) = (engine.clone(), CreateGroup::of_machine(*machine, "nightly"));
            unblock(move || engine.create_group(&wish))
        })
        .collect();
    for group in begun {
        let group = group.await?.inventory;
        println!(
            "{} of machine {}: {} disks",
            group.name,
            group.vm_instance_uuid.simple(),
            group.snapshot_count
        );
    }
    Ok(())
}

fn machine(engine: &Engine, index: usize) -> Result<Uuid> {
    let machine = engine.create_machine(&CreateMachine::new(format!("vm-{index}")))?.uuid;
    for name in ["system", "data"] {
        let volume = engine.create_volume(&CreateVolume::new(name, ByteCount::gib(1)))?;
        engine.attach_volume(volume.uuid, machine, None)?;
    }
    Ok(machine)
}

/// What a thread has come to, and who waits for it.
struct Shared<T>(Mutex<(Option<T>, Option<Waker>)>);

/// Runs a call on a thread of its own; the future is its answer.
fn unblock<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> impl Future<Output = T> {
    let shared = Arc::new(Shared(Mutex::new((None, None))));
    let done = Arc::clone(&shared);
    thread::spawn(move || {
        let answer = call();
        let mut state = done.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 = Some(answer);
        if let Some(waker) = state.1.take() {
            waker.wake();
        }
    });
    std::future::poll_fn(move |context| {
        let mut state = shared.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state.0.take() {
            Some(answer) => Poll::Ready(answer),
            None => {
                state.1 = Some(context.waker().clone());
                Poll::Pending
            }
        }
    })
}

/// Wakes the one thread that waits.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(answer) => return answer,
            Poll::Pending => thread::park(),
        }
    }
}
