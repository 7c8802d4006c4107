//! Step 1: where is it?

use crate::ids::{Offset, PartitionId};
use crate::partitions::Partition;
use crate::planted::{Planted, planted};
use crate::read::request::{FetchError, ReadFrom, ReadLevel};
use crate::segment::IndexEntry;

/// Where a fetch starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Located {
    /// In the WAL: index of the first entry in the partition's tail.
    Tail { index: usize },
    /// In a segment: index of the run, and what to look for in it.
    Run { index: usize, target: Target },
    /// At the end of what is visible.
    End,
}

/// What to look for in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// The batch that holds this offset, or the first behind it.
    Offset(Offset),
    /// The first batch with a record of this time or later, at or behind the offset.
    Timestamp(i64, Offset),
}

impl Target {
    /// Index of the first of a run's entries that may hold it; their count if none does.
    pub(crate) fn first_of(self, entries: &[IndexEntry]) -> usize {
        match self {
            Target::Offset(wanted) => entries.partition_point(|entry| entry.end_offset <= wanted),
            Target::Timestamp(wanted, from) => {
                entries.partition_point(|entry| entry.max_timestamp_ms < wanted || entry.end_offset <= from)
            }
        }
    }
}

/// The end of what `level` shows.
pub(crate) fn visible_end(partition: &Partition, level: ReadLevel) -> Offset {
    match level {
        ReadLevel::Flushed if planted(Planted::ReadPastFlushed) => partition.log_end,
        ReadLevel::Flushed => partition.flushed,
        ReadLevel::Accepted => partition.log_end,
    }
}

/// Finds where `from` is in a partition.
pub(crate) fn locate(
    id: PartitionId,
    partition: &Partition,
    from: ReadFrom,
    level: ReadLevel,
) -> Result<Located, FetchError> {
    let end = visible_end(partition, level);
    match from {
        ReadFrom::Earliest => Ok(locate_offset(partition, partition.log_start, end)),
        ReadFrom::Latest => Ok(Located::End),
        ReadFrom::Offset(wanted) if wanted < partition.log_start => {
            Err(FetchError::BelowLogStart { partition: id, wanted, log_start: partition.log_start })
        }
        ReadFrom::Offset(wanted) if wanted > end => Err(FetchError::BeyondEnd { partition: id, wanted, end }),
        ReadFrom::Offset(wanted) => Ok(locate_offset(partition, wanted, end)),
        ReadFrom::Timestamp(wanted) => Ok(locate_timestamp(partition, wanted, end)),
    }
}

fn locate_offset(partition: &Partition, wanted: Offset, end: Offset) -> Located {
    if wanted >= end {
        return Located::End;
    }
    let index = partition.tail.partition_point(|entry| entry.end_offset() <= wanted);
    let in_tail = partition.tail.get(index).is_some_and(|entry| entry.base_offset <= wanted);
    if in_tail {
        return Located::Tail { index };
    }
    let run = partition.runs.partition_point(|run| run.end_offset <= wanted);
    if run < partition.runs.len() {
        return Located::Run { index: run, target: Target::Offset(wanted) };
    }
    // A compacted partition may have lost everything up to its tail.
    if index < partition.tail.len() { Located::Tail { index } } else { Located::End }
}

fn locate_timestamp(partition: &Partition, wanted: i64, end: Offset) -> Located {
    let start = partition.log_start;
    let run = partition.runs.iter().position(|run| run.max_timestamp_ms >= wanted && run.end_offset > start);
    if let Some(index) = run {
        return Located::Run { index, target: Target::Timestamp(wanted, start) };
    }
    let tail = partition.tail.iter().position(|entry| {
        !partition.is_sealed(entry) && entry.max_timestamp_ms >= wanted && entry.base_offset < end
    });
    tail.map_or(Located::End, |index| Located::Tail { index })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::PartitionConfig;
    use crate::ids::{FileNumber, WalPosition};
    use crate::partitions::{RunRef, TailEntry};

    /// Offsets 10..20 and 20..30 in segments, 25..30 and 30..40 in the WAL, up to 35 flushed.
    fn partition() -> Partition {
        let mut partition = Partition::new("p".into(), Arc::new(PartitionConfig::default()), Offset(10));
        let run = |base: u64, max_timestamp_ms| RunRef {
            base_offset: Offset(base),
            end_offset: Offset(base + 10),
            file: FileNumber(base),
            max_timestamp_ms,
            bytes: 100,
            first_entry: 0,
            entry_count: 1,
        };
        partition.runs = vec![run(10, 100), run(20, 200)];
        let entry = |base: u64, span: u32, max_timestamp_ms| TailEntry {
            base_offset: Offset(base),
            position: WalPosition(base * 4096),
            max_timestamp_ms,
            span,
            len: 100,
        };
        partition.tail = [entry(25, 5, 200), entry(30, 5, 150), entry(35, 5, 400)].into();
        (partition.flushed, partition.log_end) = (Offset(35), Offset(40));
        partition
    }

    #[track_caller]
    fn check(from: ReadFrom, level: ReadLevel, want: Result<Located, &str>) {
        let got = locate(PartitionId(1), &partition(), from, level);
        let got = got.map_err(|error| match error {
            FetchError::BelowLogStart { .. } => "below",
            _ => "beyond",
        });
        assert_eq!(got, want, "{from:?}");
    }

    fn run(index: usize, wanted: u64) -> Result<Located, &'static str> {
        Ok(Located::Run { index, target: Target::Offset(Offset(wanted)) })
    }

    #[test]
    fn the_newest_copy_is_taken() {
        check(ReadFrom::Offset(Offset(12)), ReadLevel::Flushed, run(0, 12));
        check(ReadFrom::Offset(Offset(24)), ReadLevel::Flushed, run(1, 24));
        check(ReadFrom::Offset(Offset(27)), ReadLevel::Flushed, Ok(Located::Tail { index: 0 }));
        check(ReadFrom::Offset(Offset(30)), ReadLevel::Flushed, Ok(Located::Tail { index: 1 }));
    }

    #[test]
    fn the_level_decides_where_the_end_is() {
        check(ReadFrom::Offset(Offset(35)), ReadLevel::Flushed, Ok(Located::End));
        check(ReadFrom::Offset(Offset(35)), ReadLevel::Accepted, Ok(Located::Tail { index: 2 }));
        check(ReadFrom::Offset(Offset(36)), ReadLevel::Flushed, Err("beyond"));
        check(ReadFrom::Offset(Offset(9)), ReadLevel::Flushed, Err("below"));
    }

    #[test]
    fn a_time_is_found_in_the_first_place_that_may_hold_it() {
        let at = |index, wanted| Ok(Located::Run { index, target: Target::Timestamp(wanted, Offset(10)) });
        check(ReadFrom::Timestamp(50), ReadLevel::Flushed, at(0, 50));
        check(ReadFrom::Timestamp(101), ReadLevel::Flushed, at(1, 101));
        check(ReadFrom::Timestamp(201), ReadLevel::Flushed, Ok(Located::End));
        check(ReadFrom::Timestamp(201), ReadLevel::Accepted, Ok(Located::Tail { index: 2 }));
    }
}
