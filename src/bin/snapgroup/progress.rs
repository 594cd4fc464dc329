//! How far something has come, on a terminal; and Ctrl-C, which ends what goes in steps between two of them.

use crate::output::{Failure, Outcome, is_terminal};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use snapgroup::{ByteCount, Event, Listener, Operation, Step, Work};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How much is done between two looks at whether somebody wants it to end.
pub(crate) const STEP: ByteCount = ByteCount::mib(16);

/// Whether this program goes step by step and draws that itself.
static IN_STEPS: AtomicBool = AtomicBool::new(false);

/// Set by Ctrl-C.
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// From here on Ctrl-C only asks for an end. A second one ends the process, as ever.
    pub(crate) fn catch() -> Outcome<Self> {
        let asked = Arc::new(AtomicBool::new(false));
        let set = Arc::clone(&asked);
        ctrlc::set_handler(move || {
            if set.swap(true, Ordering::SeqCst) {
                std::process::exit(130);
            }
        })
        .map_err(|error| Failure::Said(format!("Ctrl-C cannot be caught: {error}")))?;
        Ok(Self(asked))
    }

    fn is_asked_for(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// Goes on step by step to the end, or until Ctrl-C. `step` answers how far it has come and whether that is the end.
pub(crate) fn run(mut step: impl FnMut() -> Outcome<(ByteCount, ByteCount, Step)>) -> Outcome {
    let interrupt = Interrupt::catch()?;
    IN_STEPS.store(true, Ordering::Relaxed);
    let bar = bar();
    loop {
        let (done, total, state) = step()?;
        bar.set_length(total.as_u64());
        bar.set_position(done.as_u64());
        if state == Step::Done {
            bar.finish_and_clear();
            return Ok(());
        }
        if interrupt.is_asked_for() {
            // What was asked for goes on with the same command.
            bar.abandon();
            return Err(Failure::Interrupted);
        }
    }
}

/// A bar on standard error, and only where that is a terminal.
fn bar() -> ProgressBar {
    let style =
        ProgressStyle::with_template("{bar:40} {bytes} of {total_bytes}  {bytes_per_sec}  {eta} left")
            .expect("a constant template");
    let seen = is_terminal(&std::io::stderr());
    let target = if seen { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    ProgressBar::with_draw_target(Some(0), target).with_style(style)
}

/// Draws how far calls have come that are made as a whole and tell of it themselves. Ctrl-C ends the process in the middle of
/// one, which a pool takes as it takes any crash.
pub(crate) fn listener() -> Listener {
    let bar = bar();
    Listener::new(move |event| match event {
        Event::Progress { work, done, total } if is_whole(*work) => {
            bar.set_length(total.as_u64());
            bar.set_position(done.as_u64());
        }
        Event::Ended {
            operation: Operation::Check | Operation::Export | Operation::Repair | Operation::Verify,
            ..
        } => bar.finish_and_clear(),
        _ => {}
    })
}

/// Whether work is done by a call that is made as a whole.
fn is_whole(work: Work) -> bool {
    match work {
        Work::Check | Work::Repair | Work::Verify => true,
        Work::Export => !IN_STEPS.load(Ordering::Relaxed),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ctrl_c_ends_work_between_two_steps_and_not_in_the_middle_of_one() {
        let (mut begun, mut ended) = (0, 0);
        let outcome = run(|| {
            begun += 1;
            if begun == 1 {
                let this = std::process::id().to_string();
                let sent = std::process::Command::new("kill").args(["-INT", &this]).status();
                assert!(sent.expect("kill is there").success());
            }
            assert!(begun < 1_000_000_000, "Ctrl-C was not noticed");
            ended += 1;
            Ok((ByteCount::ZERO, ByteCount::mib(1), Step::More))
        });
        let Err(Failure::Interrupted) = outcome else { panic!("{outcome:?}") };
        assert_eq!((begun, ended >= 1), (ended, true));
    }
}
