//! Asking before something is lost.

use std::io::{self, IsTerminal, Write};

use anyhow::anyhow;

use crate::errors::WithHint;

/// Asks a question on the terminal; anything but yes is no.
///
/// # Errors
/// Without a terminal nobody can answer, and silence is not consent.
pub(crate) fn confirm(question: &str) -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        return Err(anyhow!("{question} Nobody is there to ask: stdin is no terminal"))
            .hint("add --yes to go ahead without asking");
    }
    let mut stderr = io::stderr().lock();
    write!(stderr, "{question} [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}
