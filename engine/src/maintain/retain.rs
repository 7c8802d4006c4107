//! Retention: what may go, and the segments nobody needs any more.

use std::rc::Rc;
use std::sync::Arc;

use thalweg_io::{Backend, Op, OpenMode};

use crate::append::request::{Arrival, ControlError, ControlRequest, Queued};
use crate::config::Retention;
use crate::ids::{FileNumber, Offset, PartitionId};
use crate::maintain::MaintainError;
use crate::maintain::prepare::zero_fill;
use crate::manifest::{Change, SegmentKind};
use crate::partitions::RunRef;
use crate::planted::{Planted, planted};
use crate::shard::Core;
use crate::slot::Slot;
use crate::wal::control::Control;
use crate::wal::ring::SpareFile;

/// A trim that retention asked for.
pub(super) type TrimSlot = Arc<Slot<Result<PartitionId, ControlError>>>;

/// The new log start offset that `retention` allows, by whole runs, oldest first.
pub(crate) fn retained_start(retention: &Retention, runs: &[RunRef], now_ms: i64) -> Option<Offset> {
    let mut bytes: u64 = runs.iter().map(|run| run.bytes).sum();
    let mut start = None;
    for run in runs {
        let too_many = retention.bytes_max.is_some_and(|bytes_max| bytes - run.bytes >= bytes_max);
        // A timestamp ahead of the clock keeps its run no longer than one of now would.
        let newest = run.max_timestamp_ms.min(now_ms);
        let too_old =
            retention.age_max_ms.is_some_and(|age_max_ms| now_ms.saturating_sub(newest) as u64 > age_max_ms);
        if !too_many && !too_old && !planted(Planted::RetentionTakesAll) {
            break;
        }
        bytes -= run.bytes;
        start = Some(run.end_offset);
    }
    start
}

impl<B: Backend> Core<B> {
    /// Queues trims for partitions whose oldest runs may go. `asked` are the trims of last time:
    /// while they are on their way nothing is asked for again.
    pub(super) async fn enforce_retention(&self, asked: &mut Vec<TrimSlot>) {
        asked.retain(|slot| !slot.is_ready());
        if !asked.is_empty() || self.ends() {
            return;
        }
        let now_ms = self.reactor.wall_ms();
        let mut due = Vec::new();
        self.walk_partitions(|id, partition| {
            if partition.config.retention == Retention::default() {
                return;
            }
            let start = retained_start(&partition.config.retention, &partition.runs, now_ms);
            due.extend(start.filter(|start| *start > partition.log_start).map(|start| (id, start)));
        })
        .await;
        let now = self.reactor.now();
        let mut state = self.state_mut();
        for (partition, log_start) in due {
            let control = Control::Trim { partition, log_start };
            let slot = Arc::new(Slot::new());
            asked.push(slot.clone());
            let arrival = Arrival::Control(ControlRequest { control, reply: Some(slot) });
            state.arrival_bytes += arrival.bytes_max();
            state.arrivals.push_back(Queued { arrival, since: now });
        }
    }

    /// Removes segments that no partition refers to, first from the manifest, then from the disk.
    pub(super) async fn drop_dead_segments(self: &Rc<Self>) -> Result<(), MaintainError> {
        let dead: Vec<(FileNumber, SegmentKind)> = {
            let state = self.state();
            let dead = state.segments.values().filter(|segment| segment.is_dead());
            dead.map(|segment| (segment.meta.file, segment.meta.kind)).collect()
        };
        for (file, kind) in dead {
            if kind == SegmentKind::Promoted && self.keeps_dead() {
                self.maintain.notify(usize::MAX); // it becomes a WAL file again
                continue;
            }
            if !self.state_mut().take_segment(file) {
                continue;
            }
            self.files.forget(file);
            if planted(Planted::SegmentRemovedEarly) {
                let _ = self.reactor.run(Op::Remove { path: self.path(file) }).await;
            }
            let committed = self.commit_manifest(vec![Change::SegmentRemoved(file)]).await;
            committed.inspect_err(|_| self.state_mut().give_back_segment(file))?;
            self.state_mut().segments.remove(&file);
            let removed = self.reactor.run(Op::Remove { path: self.path(file) }).await;
            if let Err(error) = removed {
                tracing::warn!(shard = self.shard.0, file = file.0, %error, "a dead segment stays on disk");
            }
            self.metrics.borrow_mut().segments_removed += 1;
        }
        Ok(())
    }

    /// Gives a dead promoted segment back to the WAL ring: its blocks are written already.
    pub(super) async fn recycle(self: &Rc<Self>, number: FileNumber) -> Result<(), MaintainError> {
        if !self.state_mut().take_segment(number) {
            return Ok(());
        }
        let file_bytes = self.state().wal.file_bytes;
        let unread = self.files.forget(number);
        // The file stops being a segment before its bytes change. If the engine ends in between,
        // it is in no manifest, and opening takes it for what it is: nobody's.
        let committed = self.commit_manifest(vec![Change::SegmentRemoved(number)]).await;
        committed.inspect_err(|_| self.state_mut().give_back_segment(number))?;
        self.state_mut().segments.remove(&number);
        let path = self.path(number);
        if !unread {
            // Whoever reads it reads on; its blocks go with its last reader.
            self.metrics.borrow_mut().segments_removed += 1;
            return Ok(self.reactor.run(Op::Remove { path }).await?);
        }
        let (id, len) = match self.reactor.open(path.clone(), OpenMode::ReadWrite).await {
            Ok(opened) => opened,
            Err(error) => {
                let _ = self.reactor.run(Op::Remove { path }).await;
                return Err(error.into());
            }
        };
        let ready = async {
            if len > file_bytes {
                self.reactor.run(Op::Truncate { file: id, len: file_bytes }).await?;
            }
            zero_fill(&self.governor, id, len.min(file_bytes), file_bytes).await?;
            self.reactor.run(Op::Sync { file: id }).await
        };
        let committed = match ready.await {
            Ok(()) => {
                let added = self.commit_manifest(vec![Change::WalFileAdded(number)]).await;
                added.map_err(MaintainError::from)
            }
            Err(error) => Err(error.into()),
        };
        if let Err(error) = committed {
            let _ = self.reactor.run(Op::Close { file: id }).await;
            if !error.is_fatal() {
                let _ = self.reactor.run(Op::Remove { path }).await;
            }
            return Err(error);
        }
        let mut state = self.state_mut();
        state.wal.spares.push_back(SpareFile { number, id });
        drop(state);
        self.metrics.borrow_mut().files_recycled += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(spec: &[(u64, u64, i64)]) -> Vec<RunRef> {
        let mut base = 0;
        let make = |(count, bytes, max_timestamp_ms): &(u64, u64, i64)| {
            let run = RunRef {
                base_offset: Offset(base),
                end_offset: Offset(base + count),
                file: FileNumber(0),
                max_timestamp_ms: *max_timestamp_ms,
                bytes: *bytes,
                first_entry: 0,
                entry_count: 1,
            };
            base += count;
            run
        };
        spec.iter().map(make).collect()
    }

    #[track_caller]
    fn check(bytes_max: Option<u64>, age_max_ms: Option<u64>, now_ms: i64, want: Option<u64>) {
        let runs = runs(&[(10, 100, 1000), (10, 100, 2000), (10, 100, 3000)]);
        let got = retained_start(&Retention { bytes_max, age_max_ms }, &runs, now_ms);
        assert_eq!(got, want.map(Offset));
    }

    #[test]
    fn whole_runs_go_while_enough_bytes_stay() {
        check(Some(300), None, 0, None);
        check(Some(200), None, 0, Some(10));
        check(Some(199), None, 0, Some(10));
        check(Some(100), None, 0, Some(20));
        check(Some(0), None, 0, Some(30));
    }

    #[test]
    fn runs_go_when_their_newest_record_is_old() {
        check(None, Some(500), 1500, None);
        check(None, Some(500), 1501, Some(10));
        check(None, Some(500), 9000, Some(30));
    }

    #[test]
    fn a_clock_that_jumped_back_deletes_nothing() {
        check(None, Some(500), -1_000_000, None);
    }
}
