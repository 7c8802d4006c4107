//! What a world asks of the log, a step at a time.

use bytes::Bytes;
use thalweg::{Ack, AppendOptions, Batch, Header, Offset, PartitionConfig, Record, Retention};

use crate::promises;
use crate::swarm::Kind;
use crate::waiting::Asked;
use crate::world::World;

/// Most partitions at a time.
const PARTITIONS_MAX: usize = 6;
/// Most calls that wait at a time.
const WAITING_MAX: usize = 40;
/// When the wall clock of the disk begins, ms since the Unix epoch.
const BEGINNING_MS: i64 = 1_700_000_000_000;

impl World<'_> {
    pub(crate) fn step(&mut self) {
        if self.waiting.len() > WAITING_MAX {
            self.answer_all();
        }
        match self.random.below(100) {
            0..3 if self.swarm.has(Kind::Bursts) => {
                self.burst();
                self.cut_between_answers();
            }
            3..5 if self.swarm.has(Kind::Slow) => self.hold_up(),
            5..6 if self.swarm.has(Kind::Slow) => self.read_slowly(),
            0..42 => self.append(),
            42..46 => self.append_if(),
            46..52 if self.swarm.has(Kind::Joints) => self.append_jointly(),
            46..52 => self.append(),
            52..56 if self.swarm.has(Kind::Trims) => self.trim(),
            56..61 if self.swarm.has(Kind::Catalog) => self.change_catalog(),
            61..70 => self.read(),
            70..74 if self.swarm.has(Kind::Readers) => self.watch(),
            74..83 => {
                let ms = self.random.below(40);
                self.events.note(format!("pause {ms} ms"));
                self.pause(ms);
            }
            83..90 => {
                self.events.note("await everything".to_owned());
                self.answer_all();
            }
            90..94 => self.plan_faults(),
            94..96 if !self.host.disk.is_off() && !self.ended() => {
                self.events.note("a power cut now, on a copy".to_owned());
                promises::durable::survives_the_worst(self);
            }
            96..100 => {
                let end = self.pick_end();
                self.restart(end);
            }
            _ => {
                self.host.shard().turn();
            }
        }
        if self.swarm.has(Kind::Cuts) && self.random.chance(0.03) {
            // In the middle of what was asked for just now, or of what the background does.
            let most = if self.random.chance(0.5) { 6 } else { 60 };
            let ops = self.random.below(most);
            self.events.note(format!("a power cut after {ops} operations"));
            self.host.disk.crash_after(ops);
        }
    }

    pub(crate) fn pick_partition(&mut self) -> Option<String> {
        let count = self.oracle.there.len() as u64;
        let nth = (count > 0).then(|| self.random.below(count) as usize)?;
        self.oracle.there.keys().nth(nth).cloned()
    }

    /// Records that can't be mistaken for any others.
    pub(crate) fn records(&mut self, most: u64) -> Vec<Record> {
        let count = 1 + self.random.below(most);
        let bytes = if self.swarm.has(Kind::Large) { 6000 / count } else { 900 };
        let len = [8, 100, bytes][self.random.below(3) as usize] as usize;
        (0..count).map(|_| self.record(len)).collect()
    }

    /// A value that there is only once.
    pub(crate) fn value(&mut self, len: usize) -> Bytes {
        self.values += 1;
        let mut value = self.values.to_le_bytes().to_vec();
        value.resize(len.max(8), self.values as u8);
        value.into()
    }

    pub(crate) fn record(&mut self, len: usize) -> Record {
        let value = self.value(len);
        let number = self.values;
        let keyed = self.swarm.has(Kind::Compaction) || self.random.chance(0.3);
        let key = keyed.then(|| format!("key {}", self.random.below(6)).into_bytes().into());
        let tombstone = key.is_some() && self.random.chance(0.1);
        let mut record = Record { key, value: (!tombstone).then_some(value), ..Record::default() };
        if tombstone || self.random.chance(0.2) {
            // What has no value must be told from others too.
            let value = Some(number.to_le_bytes().to_vec().into());
            record.headers.push(Header { name: "number".into(), value });
            record.headers.push(Header { name: "".into(), value: None });
        }
        if self.random.chance(0.5) {
            record.timestamp_ms = Some(BEGINNING_MS + self.random.below(100_000) as i64 - 50_000);
        }
        record
    }

    pub(crate) fn append(&mut self) {
        let Some(name) = self.pick_partition() else { return };
        let ack = if self.swarm.has(Kind::Accepted) && self.random.chance(0.4) {
            Ack::Accepted
        } else {
            Ack::Flushed
        };
        self.append_to(&name, AppendOptions { ack, expected_offset: None });
    }

    fn append_if(&mut self) {
        let Some(name) = self.pick_partition() else { return };
        let end = self.oracle.there[&name].end();
        let expected = (end + self.random.below(2)).saturating_sub(self.random.below(2));
        self.append_to(&name, AppendOptions { ack: Ack::Flushed, expected_offset: Some(Offset(expected)) });
    }

    pub(crate) fn append_to(&mut self, name: &str, options: AppendOptions) {
        let records = self.records(6);
        self.append_records(name, options, records);
    }

    pub(crate) fn append_records(&mut self, name: &str, options: AppendOptions, records: Vec<Record>) {
        self.events.note(format!("append {} to {name}, {options:?}", records.len()));
        let Ok(partition) = self.log().partition(name) else { return };
        let batch = match records.as_slice() {
            [record] => Batch::One(record.clone()),
            records => Batch::Many(records.to_vec()),
        };
        let ticket = partition.append_with(batch, options);
        self.oracle.sent(name, &records, None);
        let expected = options.expected_offset.map(|offset| offset.0);
        let flushed = options.ack == Ack::Flushed;
        self.ask(Asked::Append { name: name.to_owned(), records, expected, flushed, ticket });
    }

    fn append_jointly(&mut self) {
        self.joints += 1;
        let mut parts = Vec::new();
        for _ in 0..1 + self.random.below(3) {
            let Some(name) = self.pick_partition() else { return };
            let mut records = self.records(2);
            records.retain(|record| record.value.as_ref().is_none_or(|value| value.len() < 1000));
            if !records.is_empty() {
                parts.push((name, records));
            }
        }
        let handle = |name: &str| self.log().partition(name).expect("it is there");
        let batches =
            parts.iter().map(|(name, records)| (handle(name), Batch::Many(records.clone()))).collect();
        let ticket = self.log().append_atomic(batches);
        self.events.note(format!("joint append {} of {} parts", self.joints, parts.len()));
        for (name, records) in &parts {
            self.oracle.sent(name, records, Some(self.joints));
        }
        self.ask(Asked::Joint { parts, ticket });
    }

    fn trim(&mut self) {
        let Some(name) = self.pick_partition() else { return };
        let truth = self.oracle.there.get_mut(&name).expect("it is there");
        let to = truth.log_start + self.random.below(truth.end() - truth.log_start + 1);
        truth.trims.push(to);
        self.events.note(format!("trim {name} to {to}"));
        let ticket = self.log().partition(&name).expect("it is there").trim(Offset(to));
        self.ask(Asked::Trim { name, to, ticket });
    }

    fn change_catalog(&mut self) {
        match self.random.below(4) {
            0 => {
                let Some(name) = self.pick_partition() else { return };
                if self.oracle.there.len() < 2 {
                    return;
                }
                self.events.note(format!("delete {name}"));
                let ticket = self.log().start_delete(&name).expect("it is there");
                self.oracle.deleting(&name);
                self.ask(Asked::Delete { name, ticket });
            }
            1 => {
                let Some(name) = self.pick_partition() else { return };
                let config = self.partition_config();
                self.events.note(format!("configure {name}: {config:?}"));
                self.oracle.there.get_mut(&name).expect("it is there").ask(config);
                let ticket = self.log().partition(&name).expect("it is there").configure(config);
                self.ask(Asked::Configure { name, config, ticket });
            }
            _ => self.create(),
        }
    }

    fn partition_config(&mut self) -> PartitionConfig {
        let compact = self.swarm.has(Kind::Compaction) && self.random.chance(0.4);
        let mut config = PartitionConfig { compact, ..PartitionConfig::default() };
        if self.swarm.has(Kind::Retention) {
            config.retention = match self.random.below(3) {
                0 => Retention { bytes_max: Some(20_000), age_max_ms: None },
                1 => Retention { bytes_max: None, age_max_ms: Some(200_000) },
                _ => Retention::default(),
            };
        }
        config
    }

    pub(crate) fn create(&mut self) {
        if self.oracle.there.len() + self.oracle.limbo.len() >= PARTITIONS_MAX {
            return;
        }
        let name = format!("p{}", self.names % 8);
        self.names += 1;
        if self.oracle.there.contains_key(&name) || self.oracle.limbo.contains_key(&name) {
            return;
        }
        let config = self.partition_config();
        self.events.note(format!("create {name}: {config:?}"));
        let creating = self.log().start_create(&name, config);
        self.oracle.creating(&name, config);
        self.ask(Asked::Create { name, creating });
    }
}
