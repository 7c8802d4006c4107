//! Ctrl-C and SIGTERM, for commands that have something to finish.

use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};

/// Shells have it that a command which a signal ended has this exit code, and the signal's number.
const SIGNALLED: u8 = 128;

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
