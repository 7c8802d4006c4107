//! What takes long while the log goes on: a group that others overtake, an edit of the manifest, a name.

use thalweg::{AppendOptions, Record};
use thalweg_io::sim::{Effect, FaultRule, OpKind};

use crate::promises;
use crate::swarm::Kind;
use crate::world::{End, World};

/// Appends of a burst, and the bytes in each: more than one group in flight does not take.
const BURST: u32 = 40;
const BURST_BYTES: usize = 5000;
/// Turns in which a burst is watched, and power cuts on copies while it is answered.
const WATCHED_TURNS: u32 = 200;
const CUTS_MAX: u32 = 3;
/// The longest that anything is held up, ms.
const HELD_MS_MAX: u64 = 200;

impl World<'_> {
    /// Appends that fill several groups, before the shard has its next turn.
    pub(crate) fn burst(&mut self) {
        for _ in 0..BURST {
            let Some(name) = self.pick_partition() else { return };
            let records: Vec<Record> = vec![self.record(BURST_BYTES)];
            self.append_records(&name, AppendOptions::default(), records);
        }
    }

    /// As [`burst`](Self::burst), all to one partition and all of one size.
    pub(crate) fn burst_to(&mut self, name: &str) {
        for _ in 0..BURST {
            let record = Record {
                key: Some("a key".into()),
                value: Some(self.value(BURST_BYTES)),
                ..Record::default()
            };
            self.append_records(name, AppendOptions::default(), vec![record]);
        }
    }

    /// Whenever some of what waits is answered and some is not, the power of a copy goes off.
    pub(crate) fn cut_between_answers(&mut self) {
        let (mut cuts, mut waiting) = (0, self.waiting.len());
        for _ in 0..WATCHED_TURNS {
            self.take_answers();
            if self.waiting.is_empty() || cuts == CUTS_MAX || self.host.disk.is_off() || self.ended() {
                return;
            }
            if self.waiting.len() < waiting {
                (cuts, waiting) = (cuts + 1, self.waiting.len());
                promises::durable::survives_now(self);
            }
            let shard = self.host.shard();
            if !shard.turn() {
                shard.park();
            }
        }
    }

    /// The manifest or the directory takes long to sync, while bursts need what they wait for. Another
    /// sync of the directory may fail meanwhile, and the power may go off.
    pub(crate) fn hold_up(&mut self) {
        let held = Effect::Delay(1_000_000 * (1 + self.random.below(HELD_MS_MAX)));
        if self.random.chance(0.5) {
            self.plan(FaultRule::new(OpKind::Sync, held).on("MANIFEST"));
        } else {
            self.plan(FaultRule::new(OpKind::SyncDir, held));
            if self.swarm.has(Kind::SyncErrors) {
                self.plan(FaultRule::new(OpKind::SyncDir, Effect::Error(5)).skip(1));
            }
        }
        (0..1 + self.random.below(3)).for_each(|_| self.burst());
        let ms = self.random.below(HELD_MS_MAX / 10);
        self.pause(ms);
        if self.swarm.has(Kind::Cuts) && self.random.chance(0.5) {
            self.restart(End::Cut);
        }
    }
}
