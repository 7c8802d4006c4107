//! A random life.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use thalweg::{
    AppendError, AppendResult, Batch, ControlError, Creating, JointResult, Offset, PartitionConfig,
    PartitionId, ReadFrom, Record, Retention, Ticket,
};
use thalweg_io::sim::SimRandom;
use thalweg_tests::{HostExt, Sent, Truth, in_order};

use crate::rough::Rough;

enum Waiting {
    Append { name: String, facts: Vec<Record>, expected: Option<u64>, ticket: Ticket<AppendResult> },
    Joint { id: u64, parts: Vec<(String, Vec<Record>)>, ticket: Ticket<JointResult> },
    Trim { name: String, to: u64, ticket: Ticket<Result<PartitionId, ControlError>> },
    Create { name: String, config: PartitionConfig, creating: Creating },
    Delete { name: String, ticket: Ticket<Result<PartitionId, ControlError>> },
}

/// A random life of a log.
pub(crate) struct Story<'a, H> {
    host: H,
    random: SimRandom,
    steps: &'a mut Vec<String>,
    truths: BTreeMap<String, Truth>,
    /// Names whose partition may or may not exist, with what it would hold.
    limbo: BTreeMap<String, Truth>,
    waiting: Vec<Waiting>,
    values: u64,
    names: u64,
    joints: u64,
    is_open: bool,
}

fn poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    match Pin::new(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    }
}

/// Whether an append may have happened though it was answered with an error.
fn is_open(error: &AppendError) -> bool {
    matches!(error, AppendError::Halted { .. } | AppendError::Closed)
}

impl<'a, H: Rough> Story<'a, H> {
    pub(crate) fn new(host: H, seed: u64, steps: &'a mut Vec<String>) -> Self {
        Story {
            host,
            random: SimRandom::new(seed, "story"),
            steps,
            truths: BTreeMap::new(),
            limbo: BTreeMap::new(),
            waiting: Vec::new(),
            values: 0,
            names: 0,
            joints: 0,
            is_open: true,
        }
    }

    pub(crate) async fn tell(mut self, steps: u32) {
        self.host.open().await;
        for _ in 0..3 {
            self.create();
        }
        self.answer_all().await;
        for _ in 0..steps {
            self.step().await;
            self.take_answers();
        }
        self.restart(true).await;
    }

    async fn step(&mut self) {
        match self.random.below(100) {
            0..45 => self.append(),
            45..50 => self.append_if(),
            50..58 => self.joint(),
            58..64 => self.trim(),
            64..67 => self.create(),
            67..69 => self.delete(),
            69..78 => self.read().await,
            78..85 => {
                let ms = self.random.below(40);
                self.note(format!("pause {ms} ms"));
                self.host.pause(ms).await;
            }
            85..93 => {
                self.note("await".into());
                self.answer_all().await;
            }
            93..95 => self.restart(true).await,
            _ => self.restart(false).await,
        }
    }

    fn note(&mut self, step: String) {
        self.steps.push(step);
    }

    fn pick(&mut self) -> Option<String> {
        let count = self.truths.len() as u64;
        (count > 0)
            .then(|| self.random.below(count) as usize)
            .and_then(|index| self.truths.keys().nth(index).cloned())
    }

    fn facts(&mut self, name: &str) -> Vec<Record> {
        let compact = self.truths[name].config.compact;
        let count = 1 + self.random.below(8);
        let len = [10, 100, 800][self.random.below(3) as usize];
        let facts = (0..count).map(|_| {
            self.values += 1;
            let mut value = format!("{}:", self.values).into_bytes();
            value.resize(len.max(value.len()), self.values as u8);
            let keyed = compact || self.random.chance(0.3);
            let key = keyed.then(|| format!("key {}", self.random.below(6)).into_bytes().into());
            let value = (!compact || self.random.chance(0.9)).then(|| value.into());
            Record { key, value, ..Record::default() }
        });
        facts.collect()
    }

    fn append(&mut self) {
        let Some(name) = self.pick() else { return };
        let facts = self.facts(&name);
        self.note(format!("append {} to {name}", facts.len()));
        let ticket = self.host.partition(&name).append(Batch::Many(facts.clone()));
        self.send(&name, &facts, None);
        self.waiting.push(Waiting::Append { name, facts, expected: None, ticket });
    }

    fn append_if(&mut self) {
        let Some(name) = self.pick() else { return };
        let facts = self.facts(&name);
        let truth = &self.truths[&name];
        let expected = (truth.end() + self.random.below(2)).saturating_sub(self.random.below(2));
        self.note(format!("append {} to {name} if at {expected}", facts.len()));
        let ticket = self.host.partition(&name).append_if(Offset(expected), Batch::Many(facts.clone()));
        self.send(&name, &facts, None);
        self.waiting.push(Waiting::Append { name, facts, expected: Some(expected), ticket });
    }

    fn joint(&mut self) {
        let mut parts = Vec::new();
        for _ in 0..1 + self.random.below(3) {
            if let Some(name) = self.pick() {
                let mut facts = self.facts(&name);
                facts.truncate(2);
                parts.push((name, facts));
            }
        }
        self.joints += 1;
        let id = self.joints;
        self.note(format!(
            "joint append {id} to {:?}",
            parts.iter().map(|(name, _)| name).collect::<Vec<_>>()
        ));
        let batches =
            parts.iter().map(|(name, facts)| (self.host.partition(name), Batch::Many(facts.clone())));
        let ticket = self.host.log().append_atomic(batches.collect());
        for (name, facts) in &parts {
            self.send(name, facts, Some(id));
        }
        self.waiting.push(Waiting::Joint { id, parts, ticket });
    }

    fn send(&mut self, name: &str, facts: &[Record], joint: Option<u64>) {
        if let Some(truth) = self.truths.get_mut(name) {
            truth.sent.push(Sent { records: facts.to_vec(), joint, at: None });
        }
    }

    /// The answer to a batch is there: it was stored at `base`, or not at all.
    fn unsend(&mut self, name: &str, facts: &[Record], base: Option<u64>) {
        let Some(truth) = self.truths.get_mut(name).or(self.limbo.get_mut(name)) else { return };
        let at = truth.sent.iter().position(|sent| sent.records == facts);
        // A partition of that name may have come and gone since.
        let Some(at) = at else { return };
        truth.sent.remove(at);
        if let Some(base) = base {
            truth.acknowledge(base, facts).unwrap_or_else(|wrong| panic!("{name}: {wrong}"));
        }
    }

    fn trim(&mut self) {
        let Some(name) = self.pick() else { return };
        let truth = &self.truths[&name];
        let to = truth.log_start + self.random.below(truth.end() - truth.log_start + 1);
        self.note(format!("trim {name} to {to}"));
        let ticket = self.host.partition(&name).trim(Offset(to));
        self.truths.get_mut(&name).expect("picked").trims.push(to);
        self.waiting.push(Waiting::Trim { name, to, ticket });
    }

    fn create(&mut self) {
        if self.truths.len() + self.limbo.len() >= 8 {
            return;
        }
        let config = match self.random.below(6) {
            0 => PartitionConfig { compact: true, ..PartitionConfig::default() },
            1 => PartitionConfig {
                retention: Retention { bytes_max: Some(20_000), age_max_ms: None },
                ..PartitionConfig::default()
            },
            _ => PartitionConfig::default(),
        };
        let name = format!("p{}", self.names % 10);
        self.names += 1;
        if self.truths.contains_key(&name) || self.limbo.contains_key(&name) {
            return;
        }
        self.note(format!("create {name}, {config:?}"));
        let creating = self.host.log().start_create(&name, config);
        self.limbo.insert(name.clone(), Truth::new(config));
        self.waiting.push(Waiting::Create { name, config, creating });
    }

    fn delete(&mut self) {
        let Some(name) = self.pick() else { return };
        self.note(format!("delete {name}"));
        let ticket = self.host.log().start_delete(&name).expect("it is there");
        let truth = self.truths.remove(&name).expect("picked");
        self.limbo.insert(name.clone(), truth);
        self.waiting.push(Waiting::Delete { name, ticket });
    }

    async fn read(&mut self) {
        let Some(name) = self.pick() else { return };
        let truth = &self.truths[&name];
        if !truth.trims.is_empty() {
            return; // where it starts is not certain
        }
        let from = truth.log_start + self.random.below(truth.end() - truth.log_start + 1);
        let end = truth.end();
        self.note(format!("read {name} from {from}"));
        let partition = self.host.partition(&name);
        let rows = self.host.read(&partition, ReadFrom::Offset(Offset(from))).await;
        let log_start = self.host.describe(&partition).await.log_start.0;
        self.take_answers();
        let Some(truth) = self.truths.get(&name) else { return };
        let rows = in_order(&name, rows).unwrap_or_else(|wrong| panic!("{wrong}"));
        let checked = truth.check_kept(&name, from..end, log_start, &rows);
        checked.and_then(|()| truth.place(&name, from, &rows)).unwrap_or_else(|wrong| panic!("{wrong}"));
    }

    /// Notes what has been answered by now.
    fn take_answers(&mut self) {
        for mut waiting in std::mem::take(&mut self.waiting) {
            match &mut waiting {
                Waiting::Append { name, facts, expected, ticket } => {
                    let (name, facts, expected) = (name.clone(), facts.clone(), *expected);
                    match poll(ticket) {
                        Some(answer) => self.appended(&name, &facts, expected, answer),
                        None => self.waiting.push(waiting),
                    }
                }
                Waiting::Joint { id, parts, ticket } => match poll(ticket) {
                    Some(answer) => {
                        let (id, parts) = (*id, std::mem::take(parts));
                        self.joined(id, &parts, answer);
                    }
                    None => self.waiting.push(waiting),
                },
                Waiting::Trim { name, to, ticket } => match poll(ticket) {
                    Some(answer) => {
                        let (name, to) = (name.clone(), *to);
                        self.trimmed(&name, to, answer);
                    }
                    None => self.waiting.push(waiting),
                },
                Waiting::Create { name, config, creating } => match poll(creating) {
                    Some(answer) => {
                        let (name, config) = (name.clone(), *config);
                        if answer.is_ok() {
                            self.limbo.remove(&name);
                            self.truths.insert(name, Truth::new(config));
                        }
                    }
                    None => self.waiting.push(waiting),
                },
                Waiting::Delete { name, ticket } => match poll(ticket) {
                    Some(answer) => {
                        if answer.is_ok() {
                            self.limbo.remove(name);
                            let name = name.clone();
                            self.forget(&name);
                        }
                    }
                    None => self.waiting.push(waiting),
                },
            }
        }
    }

    fn appended(&mut self, name: &str, facts: &[Record], expected: Option<u64>, answer: AppendResult) {
        match answer {
            Ok(at) => {
                assert!(expected.is_none_or(|expected| at.base_offset.0 == expected));
                assert_eq!(at.count as usize, facts.len());
                self.unsend(name, facts, Some(at.base_offset.0));
            }
            Err(error) if is_open(&error) => {}
            Err(error) => {
                let known =
                    matches!(error, AppendError::UnexpectedOffset { .. } | AppendError::NoSuchPartition(_));
                assert!(known, "{error}");
                assert!(!matches!(error, AppendError::UnexpectedOffset { .. }) || expected.is_some());
                self.unsend(name, facts, None);
            }
        }
    }

    fn joined(&mut self, id: u64, parts: &[(String, Vec<Record>)], answer: JointResult) {
        match answer {
            Ok(places) => {
                self.note(format!("joint append {id} is acknowledged"));
                assert_eq!(places.len(), parts.len());
                for ((name, facts), at) in parts.iter().zip(places) {
                    assert_eq!(at.count as usize, facts.len());
                    self.unsend(name, facts, Some(at.base_offset.0));
                }
            }
            Err(error) if is_open(&error) => {}
            Err(error) => {
                assert!(matches!(error, AppendError::NoSuchPartition(_)), "{error}");
                parts.iter().for_each(|(name, facts)| self.unsend(name, facts, None));
            }
        }
    }

    fn trimmed(&mut self, name: &str, to: u64, answer: Result<PartitionId, ControlError>) {
        let Some(truth) = self.truths.get_mut(name).or(self.limbo.get_mut(name)) else { return };
        match answer {
            Ok(_) => {
                truth.log_start = truth.log_start.max(to);
                truth.known = truth.known.split_off(&truth.log_start);
                truth.trims.retain(|trim| *trim != to);
            }
            Err(ControlError::Append(error)) if is_open(&error) => {}
            Err(ControlError::Append(AppendError::NoSuchPartition(_))) => {
                truth.trims.retain(|trim| *trim != to)
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// A deleted name may be used again while the log is open.
    fn forget(&mut self, name: &str) {
        self.note(format!("{name} is gone"));
        if self.is_open {
            self.host.log().forget(name);
        }
    }
}

impl<H: Rough> Story<'_, H> {
    /// Lets the log go on until everything is answered.
    async fn answer_all(&mut self) {
        for _ in 0..100_000 {
            self.take_answers();
            if self.waiting.is_empty() {
                return;
            }
            self.host.pause(1).await;
        }
        panic!("{} requests are never answered", self.waiting.len());
    }

    async fn restart(&mut self, clean: bool) {
        if clean {
            self.note("close".into());
            self.host.close().await;
        } else {
            if self.random.chance(0.5) {
                self.host.threaten(&mut self.random);
            }
            let turns = self.random.below(3);
            self.note(format!("power cut after {turns} ms"));
            self.host.pause(turns).await;
            self.host.end(&mut self.random).await;
        }
        // After the end every ticket has an answer.
        self.is_open = false;
        self.take_answers();
        assert!(self.waiting.is_empty(), "{} tickets outlive their log unanswered", self.waiting.len());
        if !clean && self.random.chance(0.3) {
            self.host.threaten(&mut self.random);
        }
        loop {
            let opened = self.host.try_open().await;
            match (self.host.calm().await, opened) {
                (true, Ok(())) => break,
                (false, _) => self.note("power cut while opening".into()),
                (true, Err(error)) => panic!("it does not open: {error}"),
            }
        }
        self.is_open = true;
        self.look_at_everything().await;
    }

    async fn look_at_everything(&mut self) {
        let there: BTreeSet<String> =
            self.host.log().partitions().iter().map(|partition| partition.name().to_owned()).collect();
        for name in self.truths.keys() {
            assert!(there.contains(name), "{name} is gone");
        }
        let limbo = std::mem::take(&mut self.limbo);
        for name in &there {
            let known = self.truths.contains_key(name) || limbo.contains_key(name);
            assert!(known, "{name} is back, or nobody made it");
        }
        self.truths.extend(limbo.into_iter().filter(|(name, _)| there.contains(name)));
        let (mut whole, mut lost) = (BTreeSet::new(), BTreeSet::new());
        for name in there {
            let partition = self.host.partition(&name);
            let info = self.host.describe(&partition).await;
            let mut rows = self.host.read(&partition, ReadFrom::Earliest).await;
            rows.retain(|row| row.offset >= info.log_start.0);
            let log_start = self.host.describe(&partition).await.log_start.0;
            let truth = self.truths.get_mut(&name).expect("it is known");
            truth.check_start(&name, info.log_start.0).unwrap_or_else(|wrong| panic!("{wrong}"));
            assert_eq!(info.config, truth.config, "{name}");
            assert_eq!(info.flushed, info.log_end, "{name}");
            assert!(info.log_end.0 >= truth.end(), "{name}: ends at {}", info.log_end);
            let rows = in_order(&name, rows).unwrap_or_else(|wrong| panic!("{wrong}"));
            let checked = truth.check_kept(&name, info.log_start.0..u64::MAX, log_start, &rows);
            let placed = checked.and_then(|()| truth.place(&name, info.log_start.0, &rows));
            let placed = placed.unwrap_or_else(|wrong| panic!("{wrong}"));
            let dense = rows.len() as u64 == info.log_end.0 - info.log_start.0;
            let trimmed_since = truth.config.retention != Retention::default();
            assert!(dense || truth.config.compact || trimmed_since, "{name}: there is a hole: {info:?}");
            let settled = truth.settle(info.log_start.0, &placed);
            let (there, gone) = settled.unwrap_or_else(|wrong| panic!("{name}: {wrong}"));
            whole.extend(there);
            lost.extend(gone);
        }
        let torn: Vec<_> = whole.intersection(&lost).collect();
        assert!(torn.is_empty(), "joint appends are there in part: {torn:?}");
    }
}
