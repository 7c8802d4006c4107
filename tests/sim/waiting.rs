//! Answers that are awaited, and what they tell the oracle.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use thalweg::{
    AppendError, AppendResult, ControlError, Creating, JointResult, PartitionConfig, PartitionId, Record,
    Ticket,
};

use crate::oracle::{Answer, is_unknown, is_unknown_change};
use crate::promises::answered;
use crate::world::World;

type Change = Ticket<Result<PartitionId, ControlError>>;

/// Something that was asked for.
pub(crate) enum Asked {
    Append {
        name: String,
        records: Vec<Record>,
        expected: Option<u64>,
        flushed: bool,
        ticket: Ticket<AppendResult>,
    },
    Joint {
        parts: Vec<(String, Vec<Record>)>,
        ticket: Ticket<JointResult>,
    },
    Create {
        name: String,
        creating: Creating,
    },
    Delete {
        name: String,
        ticket: Change,
    },
    Trim {
        name: String,
        to: u64,
        ticket: Change,
    },
    Configure {
        name: String,
        config: PartitionConfig,
        ticket: Change,
    },
}

pub(crate) fn poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    match Pin::new(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    }
}

/// What an answer to a change of the catalog says: done, not done, or not known.
fn done<T>(answer: &Result<T, ControlError>) -> Option<bool> {
    match answer {
        Ok(_) => Some(true),
        Err(error) if is_unknown_change(error) => None,
        Err(_) => Some(false),
    }
}

impl World<'_> {
    pub(crate) fn ask(&mut self, asked: Asked) {
        self.waiting.push((self.host.disk.now(), asked));
    }

    /// Takes the answers that are there.
    pub(crate) fn take_answers(&mut self) {
        for (since, mut asked) in std::mem::take(&mut self.waiting) {
            if !self.take(&mut asked) {
                answered::in_time(self, since);
                self.waiting.push((since, asked));
            }
        }
    }

    /// Takes an answer, if it is there.
    fn take(&mut self, asked: &mut Asked) -> bool {
        match asked {
            Asked::Append { name, records, expected, flushed, ticket } => {
                let Some(answer) = poll(ticket) else { return false };
                self.appended(name, records, *expected, *flushed, answer);
            }
            Asked::Joint { parts, ticket } => {
                let Some(answer) = poll(ticket) else { return false };
                self.joined(parts, answer);
            }
            Asked::Create { name, creating } => {
                let Some(answer) = poll(creating) else { return false };
                answered::allowed_change(self, answer.as_ref().err());
                self.events.note(format!("create {name}: {:?}", done(&answer)));
                self.oracle.created(name, done(&answer));
            }
            Asked::Delete { name, ticket } => {
                let Some(answer) = poll(ticket) else { return false };
                answered::allowed_change(self, answer.as_ref().err());
                self.events.note(format!("delete {name}: {:?}", done(&answer)));
                self.oracle.deleted(name, done(&answer));
                if answer.is_ok() && self.host.is_open() {
                    // Its name may be used again.
                    self.log().forget(name);
                }
            }
            Asked::Trim { name, to, ticket } => {
                let Some(answer) = poll(ticket) else { return false };
                answered::allowed_change(self, answer.as_ref().err());
                self.events.note(format!("trim {name} to {to}: {:?}", done(&answer)));
                self.oracle.trimmed(name, *to, done(&answer));
            }
            Asked::Configure { name, config, ticket } => {
                let Some(answer) = poll(ticket) else { return false };
                answered::allowed_change(self, answer.as_ref().err());
                self.events.note(format!("configure {name}: {:?}", done(&answer)));
                self.oracle.configured(name, *config, done(&answer));
            }
        }
        true
    }

    fn appended(
        &mut self,
        name: &str,
        records: &[Record],
        expected: Option<u64>,
        flushed: bool,
        answer: AppendResult,
    ) {
        let answer = match answer {
            Ok(at) => {
                let base = at.base_offset.0;
                assert!(expected.is_none_or(|expected| base == expected), "I2: {name}: at {base}");
                assert_eq!(at.count as usize, records.len(), "I2: {name}: offsets of a batch");
                if flushed { Answer::Acked(base) } else { Answer::Accepted(base) }
            }
            Err(error) if is_unknown(&error) => Answer::Unknown,
            Err(error) => {
                let unexpected = matches!(error, AppendError::UnexpectedOffset { .. });
                assert!(!unexpected || expected.is_some(), "I17: {name}: {error}");
                answered::allowed(self, &error);
                Answer::Refused
            }
        };
        self.events.note(format!("append {} to {name}: {answer:?}", records.len()));
        self.oracle.answered(name, records, answer);
    }

    fn joined(&mut self, parts: &[(String, Vec<Record>)], answer: JointResult) {
        let names: Vec<_> = parts.iter().map(|(name, _)| name.as_str()).collect();
        self.events.note(format!("joint append to {names:?}: {:?}", answer.as_ref().ok()));
        match answer {
            Ok(places) => {
                assert_eq!(places.len(), parts.len(), "I2: places of a joint append");
                for ((name, records), at) in parts.iter().zip(places) {
                    assert_eq!(at.count as usize, records.len(), "I2: {name}: offsets of a batch");
                    self.oracle.answered(name, records, Answer::Acked(at.base_offset.0));
                }
            }
            Err(error) => {
                let answer = if is_unknown(&error) { Answer::Unknown } else { Answer::Refused };
                if answer == Answer::Refused {
                    answered::allowed(self, &error);
                }
                parts.iter().for_each(|(name, records)| self.oracle.answered(name, records, answer));
            }
        }
    }
}
