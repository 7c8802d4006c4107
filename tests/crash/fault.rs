//! What a disk may do wrong to one request.

/// A kind of request, as far as faults tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Create,
    Open,
    Read,
    Write,
    Sync,
    Allocate,
    Truncate,
    Rename,
    Remove,
    CreateDir,
    SyncDir,
}

/// What happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It fails with this `errno`. A write has then left anything, a sync has lost what it covers.
    Error(i32),
    /// A read or write moves half of its bytes.
    Short,
    /// A write or sync is answered 4 ms later; others are served meanwhile.
    Delay,
    /// As `Delay`, so late that whoever waits has noticed.
    Late,
    /// It is not answered as long as the file system is there, and nothing of it happens.
    Stuck,
    /// A write is acknowledged and never happens.
    Drop,
    /// A write lands a block further on.
    Misdirect,
    /// One bit of a write is stored wrong.
    Flip,
    /// A write stores zeros.
    Zero,
    /// A sync is acknowledged and syncs nothing.
    LostSync,
}

impl Fault {
    /// Whether it means anything for a request of this kind.
    pub(crate) fn fits(self, kind: Kind) -> bool {
        match self {
            Fault::Error(_) | Fault::Stuck => true,
            Fault::Short => matches!(kind, Kind::Read | Kind::Write),
            Fault::Delay | Fault::Late => matches!(kind, Kind::Write | Kind::Sync | Kind::SyncDir),
            Fault::Drop | Fault::Misdirect | Fault::Flip | Fault::Zero => kind == Kind::Write,
            Fault::LostSync => matches!(kind, Kind::Sync | Kind::SyncDir),
        }
    }
}

/// A fault to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// So many requests go by first.
    pub(crate) after: u64,
    pub(crate) fault: Fault,
}
