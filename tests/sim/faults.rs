//! What goes wrong in a world, planned anew every now and then.

use std::path::PathBuf;

use thalweg_io::sim::{Effect, FaultRule, OpKind};

use crate::swarm::Kind;
use crate::world::World;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
/// A disk on which everything fits.
pub(crate) const ROOMY: u64 = 1 << 40;
const DAY_MS: i64 = 86_400_000;

/// Files that faults are about.
const FILES: [&str; 4] = [".log", ".tmp", "MANIFEST", ""];

impl World<'_> {
    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.random.below(choices.len() as u64) as usize]
    }

    /// Whether some of this kind is due.
    fn due(&mut self, kind: Kind) -> bool {
        let level = self.swarm.level(kind);
        self.random.chance(level)
    }

    /// Something may go wrong soon.
    pub(crate) fn plan_faults(&mut self) {
        let soon = self.random.below(40);
        if self.due(Kind::WriteErrors) {
            let changes = [OpKind::Write, OpKind::Write, OpKind::Rename, OpKind::Remove, OpKind::Open];
            let more = [OpKind::Allocate, OpKind::Truncate, OpKind::Write];
            let op = if self.random.chance(0.7) { self.pick(&changes) } else { self.pick(&more) };
            let failures = [Effect::Error(EIO), Effect::Error(EIO), Effect::Error(ENOSPC), Effect::Short];
            let (file, nth) = (self.pick(&FILES), self.pick(&[0, 1, 2, 3]));
            // What is opened under another name is read.
            let file = if op == OpKind::Open { ".tmp" } else { file };
            self.plan(FaultRule::new(op, failures[nth].clone()).on(file).skip(soon));
        }
        if self.due(Kind::SyncErrors) {
            let rule = if self.random.chance(0.3) {
                FaultRule::new(OpKind::SyncDir, Effect::Error(EIO)).skip(soon % 5)
            } else {
                let file = self.pick(&FILES);
                FaultRule::new(OpKind::Sync, Effect::Error(EIO)).on(file).skip(soon % 10)
            };
            self.plan(rule);
        }
        if self.due(Kind::ReadErrors) {
            let (file, times) = (self.pick(&FILES), 1 + self.random.below(4));
            let op = self.pick(&[OpKind::Read, OpKind::Read, OpKind::Read, OpKind::Open]);
            self.plan(FaultRule::new(op, Effect::Error(EIO)).on(file).skip(soon % 10).times(times));
        }
        if self.due(Kind::Rot) {
            // The same wrong answer twice is more than an opening can tell.
            let (effect, times) = match self.random.chance(0.5) {
                true => (Effect::FlipBit, 1 + self.random.below(4)),
                false => (Effect::Misdirect, 1),
            };
            let file = self.pick(&[".log", ".log", "MANIFEST", ""]);
            self.plan(FaultRule::new(OpKind::Read, effect).on(file).skip(soon % 5).times(times));
            if self.random.chance(0.5) {
                self.lose_write_of_next_file();
            }
        }
        if self.due(Kind::Slow) {
            let (op, ns) =
                (self.pick(&[OpKind::Write, OpKind::Sync, OpKind::Read]), self.random.below(20_000_000));
            let (file, times) = (self.pick(&FILES), 1 + self.random.below(5));
            self.plan(FaultRule::new(op, Effect::Delay(ns)).on(file).skip(soon).times(times));
        }
        if self.due(Kind::Full) {
            let used = ROOMY.saturating_sub(self.host.disk.free_bytes());
            let more = self.random.below(600 << 10);
            if !self.full {
                self.events.note(format!("room for {more} B more"));
                self.host.disk.set_capacity(used + more);
            } else {
                self.events.note("room again".to_owned());
                self.host.disk.set_capacity(ROOMY);
            }
            self.full = !self.full;
        }
        if self.due(Kind::Clock) {
            let days = self.random.below(10) as i64 - 5;
            let delta = days * DAY_MS / self.pick(&[1, 24, 24 * 3600]);
            self.events.note(format!("the wall clock jumps {delta} ms"));
            self.host.disk.shift_wall_ms(delta);
        }
    }

    /// A file that is made soon is not stored as it was written. A segment is read back before it counts,
    /// and a WAL file is full of zeros anyway.
    fn lose_write_of_next_file(&mut self) {
        let number = |path: PathBuf| u64::from_str_radix(path.file_stem()?.to_str()?, 16).ok();
        let files = self.host.disk.files().into_iter().map(|(path, _)| path);
        let last = files.filter_map(number).max().unwrap_or(0);
        let name = format!("/{:016x}.tmp", last + 1 + self.random.below(3));
        let nth = self.random.below(3);
        self.plan(FaultRule::new(OpKind::Write, Effect::Drop).on(name).skip(nth));
    }

    pub(crate) fn plan(&mut self, rule: FaultRule) {
        self.events.note(format!("fault: {rule:?}"));
        self.host.disk.plan(rule);
    }

    /// Nothing more goes wrong than has.
    pub(crate) fn calm(&mut self) {
        self.host.disk.clear_faults();
        self.host.disk.crash_after(u64::MAX);
    }

    /// Whether a read may fail now.
    pub(crate) fn reads_may_fail(&self) -> bool {
        let kinds = [Kind::ReadErrors, Kind::Rot];
        self.host.disk.is_off() || kinds.into_iter().any(|kind| self.swarm.has(kind))
    }
}
