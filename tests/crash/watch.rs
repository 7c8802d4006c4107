//! Ends a test that hangs: a request that never returns can't be left in any other way.

use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use crate::fuse::let_go;

/// Longest that one attempt may take.
const LIMIT: Duration = Duration::from_secs(30);

/// Ends the process, unless it is dropped in time.
pub(crate) struct Watch {
    _alive: Sender<()>,
}

impl Watch {
    /// Watches `what`, which happens on the file system mounted at `mounted`.
    pub(crate) fn new(what: String, mounted: &Path) -> Watch {
        Watch::of_work(what, mounted, Duration::ZERO)
    }

    /// As [`new`](Self::new), for what takes so much longer.
    pub(crate) fn of_work(what: String, mounted: &Path, longer: Duration) -> Watch {
        let (alive, ended) = channel();
        let mounted = mounted.to_owned();
        thread::spawn(move || {
            if ended.recv_timeout(LIMIT + longer) == Err(RecvTimeoutError::Timeout) {
                eprintln!("hangs for {:?}: {what}", LIMIT + longer);
                let_go(&mounted);
                std::process::exit(101);
            }
        });
        Watch { _alive: alive }
    }
}
