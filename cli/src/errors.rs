//! Errors as people read them: what failed and where, then what to do about it.

use std::fmt;
use std::io::Write;

/// What to do about an error. Attached as context, and shown on a line of its own.
#[derive(Debug)]
pub(crate) struct Hint(pub String);

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Attaches a [`Hint`] to an error.
pub(crate) trait WithHint<T> {
    /// The same result, whose error says what to do.
    fn hint(self, hint: impl Into<String>) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> WithHint<T> for Result<T, E> {
    fn hint(self, hint: impl Into<String>) -> anyhow::Result<T> {
        self.map_err(|error| error.into().context(Hint(hint.into())))
    }
}

/// Writes an error to stderr.
pub(crate) fn report(error: &anyhow::Error) {
    // Nobody is left to hear of a failure to write to stderr.
    let _ = std::io::stderr().lock().write_all(describe(error).as_bytes());
}

/// `error: outer: inner`, then `hint: ...` if there is one.
fn describe(error: &anyhow::Error) -> String {
    let hint = error.downcast_ref::<Hint>().map(ToString::to_string);
    let mut layers: Vec<String> = Vec::new();
    for layer in error.chain().map(ToString::to_string) {
        // Many errors quote their source, or are transparent to it: say everything once.
        let said = layers.last().is_some_and(|outer| outer.ends_with(&layer));
        if Some(&layer) != hint.as_ref() && !said {
            layers.push(layer);
        }
    }
    let what = layers.join(": ");
    match hint {
        Some(hint) => format!("error: {what}\n hint: {hint}\n"),
        None => format!("error: {what}\n"),
    }
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};

    use super::*;

    #[test]
    fn an_error_says_everything_once_and_then_what_to_do() {
        let error: anyhow::Result<()> = Err(anyhow!("disk: gone"));
        let error = error.context("log \"a\"").hint("plug it in").unwrap_err();
        assert_eq!(describe(&error), "error: log \"a\": disk: gone\n hint: plug it in\n");
        let error = anyhow!("gone").context("disk: gone").context("log \"a\"");
        assert_eq!(describe(&error), "error: log \"a\": disk: gone\n");
    }
}
