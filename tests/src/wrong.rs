//! What an oracle says of a log.

/// Why a log is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// It says itself that something can't be read.
    Unreadable(String),
    /// Something is missing, or is not what was appended, and nobody says so.
    Broken(String),
}

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Wrong::Unreadable(why) | Wrong::Broken(why)) = self;
        f.write_str(why)
    }
}

impl From<String> for Wrong {
    fn from(why: String) -> Wrong {
        Wrong::Broken(why)
    }
}

impl From<&str> for Wrong {
    fn from(why: &str) -> Wrong {
        Wrong::Broken(why.to_owned())
    }
}
