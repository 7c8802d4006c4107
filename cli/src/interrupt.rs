//! Ctrl-C and SIGTERM, for commands that have something to finish, or to remove.

use std::path::PathBuf;
use std::process::{self, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use std::{fs, io, thread};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Shells have it that a command which a signal ended has this exit code, and the signal's number.
const SIGNALLED: u8 = 128;
/// How often a folder is tried to be removed, and the pause between.
const REMOVALS_MAX: u32 = 20;
const REMOVE_AGAIN: Duration = Duration::from_millis(10);

/// Whether somebody asked this process to stop. The first time it takes a note, the second time
/// the process ends there and then: the log survives that too.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt(Arc<AtomicUsize>);

impl Interrupt {
    /// Takes over the signals.
    pub(crate) fn install() -> io::Result<Interrupt> {
        let (asked, which) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        for signal in [SIGINT, SIGTERM] {
            let code = i32::from(SIGNALLED) + signal;
            // In this order: the flag that the first one looks at is set by the last.
            signal_hook::flag::register_conditional_shutdown(signal, code, asked.clone())?;
            signal_hook::flag::register_usize(signal, which.clone(), signal.unsigned_abs() as usize)?;
            signal_hook::flag::register(signal, asked.clone())?;
        }
        Ok(Interrupt(which))
    }

    /// The same for a command that nothing finishes: the first time, `folder` is removed and the process
    /// ends.
    pub(crate) fn install_without(folder: PathBuf) -> io::Result<Interrupt> {
        let interrupt = Interrupt::install()?;
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        thread::Builder::new().name("interrupt".into()).spawn(move || {
            let Some(signal) = signals.forever().next() else { return };
            for _ in 0..REMOVALS_MAX {
                // Engines that are open may be making a file meanwhile, so once may not be enough.
                if fs::remove_dir_all(&folder).is_ok() || !folder.exists() {
                    break;
                }
                thread::sleep(REMOVE_AGAIN);
            }
            process::exit(i32::from(SIGNALLED) + signal);
        })?;
        Ok(interrupt)
    }

    /// After [`install_without`](Interrupt::install_without): if it was asked, an error is only that the
    /// folder is gone, and this waits for the end.
    pub(crate) fn end_if_set(&self) {
        while self.is_set() {
            thread::park();
        }
    }

    /// Whether it was asked.
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    /// How a command ends that finished what it had begun: 0, or 130 or 143 if it was asked to stop.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self.0.load(Ordering::Relaxed) {
            0 => ExitCode::SUCCESS,
            signal => ExitCode::from(SIGNALLED + signal as u8),
        }
    }
}
