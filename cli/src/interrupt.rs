//! Ctrl-C and SIGTERM, for commands that have something to finish.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};

/// Exit code of a command that was interrupted: 128 + SIGINT, as shells have it.
pub(crate) const INTERRUPTED_EXIT_CODE: u8 = 130;

/// Whether somebody asked this process to stop. The first time it sets a flag, the second time
/// the process ends there and then: the log survives that too.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Takes over the signals.
    pub(crate) fn install() -> io::Result<Interrupt> {
        let asked = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            let code = i32::from(INTERRUPTED_EXIT_CODE);
            // In this order: the flag that the first one looks at is set by the second.
            signal_hook::flag::register_conditional_shutdown(signal, code, asked.clone())?;
            signal_hook::flag::register(signal, asked.clone())?;
        }
        Ok(Interrupt(asked))
    }

    /// Whether it was asked.
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
