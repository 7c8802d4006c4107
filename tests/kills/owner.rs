//! The process that is killed: `kills-owner append|look DIR BACKEND LIFE`. Opens the data directory and
//! says what it does, one line each, so that what it said before it died is known:
//!
//! | line                       | means                                                             |
//! |----------------------------|-------------------------------------------------------------------|
//! | `pid N`                    | it has started                                                    |
//! | `opened WAL_BYTES MICROS`  | the log is open; how much of WAL was read, how long it took       |
//! | `bound BYTES`              | most bytes of WAL that opening may ever read, all shards together |
//! | `dropped WORDS`            | what opening dropped                                              |
//! | `start P OFFSET`           | where partition P starts                                          |
//! | `run P LIFE FROM TO`       | records of one life; found by `look`, each checked                |
//! | `end P OFFSET`             | where it ends                                                     |
//! | `will P OFFSET`            | from here on it may send records below OFFSET                     |
//! | `acked P OFFSET`           | all below OFFSET are acknowledged                                 |
//! | `trim P OFFSET`            | it is going to ask for this trim                                  |
//! | `trimmed P OFFSET`         | that is acknowledged                                              |
//! | `wrong WORDS`              | the log is not as it should be                                    |
//! | `done`                     | a `look` is over; it waits to be killed                           |

#![forbid(unsafe_code)]

mod record;

use std::collections::{BTreeMap, VecDeque};
use std::error::Error;
use std::io::{Read, Write};
use std::process::ExitCode;
use std::time::Instant;

use record::{Place, Stamp};
use thalweg::config::BackendSetting;
use thalweg::superblock::{SUPERBLOCK_NAME, Superblock};
use thalweg::{
    AppendResult, Batch, Config, Engine, JointResult, Log, Offset, Partition, PartitionConfig, ReadFrom,
    Record, Ticket,
};
use thalweg_io::sim::SimRandom;

type Done<T> = Result<T, Box<dyn Error>>;

const SHARDS: u16 = 2;
const PARTITIONS: u32 = 12;
/// Appends in flight.
const IN_FLIGHT_MAX: usize = 96;
/// Records that are announced at once.
const ANNOUNCED: u64 = 256;
/// A partition with more records than this is trimmed to so many.
const KEPT_MAX: u64 = 3000;
/// Files that a shard's WAL may have in any case.
const WAL_FILES_LEAST: u64 = 3;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Done<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [role, dir, backend, life] = &args[..] else {
        return Err("usage: kills-owner append|look DIR BACKEND LIFE".into());
    };
    say(&format!("pid {}\n", std::process::id()))?;
    let mut config = thalweg_tests::small();
    config.data_dir = dir.into();
    config.shards = Some(SHARDS);
    config.wal.recovery_target_ms = 100;
    config.threads.backend = match &backend[..] {
        "auto" => BackendSetting::Auto,
        "uring" => BackendSetting::Uring,
        "blocking" => BackendSetting::Blocking,
        other => return Err(format!("{other}: no backend").into()),
    };
    let began = Instant::now();
    let engine = Engine::open(config.clone())?;
    let micros = began.elapsed().as_micros();
    let wal_bytes: u64 = engine.recovery().iter().map(|report| report.wal_bytes).sum();
    let mut said = format!("opened {wal_bytes} {micros}\nbound {}\n", bound(&config)?);
    for dropped in engine.recovery().iter().filter_map(|report| report.dropped.as_ref()) {
        said += &format!("dropped {dropped}\n");
    }
    say(&said)?;
    if role == "look" {
        look(&engine)?;
        say("done\n")?;
        // Killed here, or the one who would kill is gone.
        std::io::stdin().read_to_end(&mut Vec::new())?;
        return Ok(());
    }
    Appending::start(&engine, life.parse()?)?.go_on()
}

/// In one write, which a pipe takes whole.
fn say(lines: &str) -> std::io::Result<()> {
    std::io::stdout().write_all(lines.as_bytes())
}

/// Most bytes of WAL, of all shards, that the superblock and the recovery target allow.
fn bound(config: &Config) -> Done<u64> {
    let superblock = Superblock::decode(&std::fs::read(config.data_dir.join(SUPERBLOCK_NAME))?)?;
    let target = superblock.replay_speed / 1000 * u64::from(config.wal.recovery_target_ms);
    let files = (target / superblock.wal_file_bytes).max(WAL_FILES_LEAST);
    Ok(u64::from(superblock.shards) * files * superblock.wal_file_bytes)
}

fn name(partition: u32) -> String {
    format!("p{partition}")
}

/// Reads everything, checks each record, and says what there is.
fn look(log: &Log) -> Done<()> {
    let mut twins: Vec<Place> = Vec::new();
    let mut there: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
    for partition in log.partitions() {
        let id: u32 = partition.name()[1..].parse()?;
        let info = partition.describe().wait().ok_or("a listed partition is not there")?;
        let (start, end) = (info.log_start.0, info.flushed.0);
        let mut said = format!("start {id} {start}\n");
        let (mut next, mut run) = (start, (0, start));
        let mut reader = partition.read(ReadFrom::Earliest).to_end();
        for batch in reader.by_ref() {
            let batch = batch?;
            for found in batch.records() {
                let found = found?;
                if found.offset.0 < start {
                    continue;
                }
                let stamp = found.value().and_then(Stamp::read).filter(|stamp| stamp.place == (id, next));
                let Some(stamp) = stamp.filter(|_| found.offset.0 == next) else {
                    say(&format!(
                        "wrong {} has no record of its own at {next}: {}\n",
                        name(id),
                        found.offset
                    ))?;
                    return Ok(());
                };
                twins.extend(stamp.twin);
                if stamp.life != run.0 {
                    if next > run.1 {
                        said += &format!("run {id} {} {} {next}\n", run.0, run.1);
                    }
                    run = (stamp.life, next);
                }
                next += 1;
            }
        }
        if next > run.1 {
            said += &format!("run {id} {} {} {next}\n", run.0, run.1);
        }
        if next != end {
            said += &format!("wrong {} is read up to {next} and ends at {end}\n", name(id));
        }
        there.insert(id, (start, next));
        say(&(said + &format!("end {id} {end}\n")))?;
    }
    for (id, offset) in twins {
        if there.get(&id).is_none_or(|(_, end)| offset >= *end) {
            say(&format!("wrong half of a joint append is missing: {} {offset}\n", name(id)))?;
        }
    }
    Ok(())
}

/// An append that is under way, and how far each partition is acknowledged with it.
enum Flying {
    One(Ticket<AppendResult>, Place),
    Both(Ticket<JointResult>, [Place; 2]),
}

impl Flying {
    fn is_ready(&self) -> bool {
        match self {
            Flying::One(ticket, _) => ticket.is_ready(),
            Flying::Both(ticket, _) => ticket.is_ready(),
        }
    }

    /// Waits for it; notes what it acknowledges.
    fn land(self, acked: &mut BTreeMap<u32, u64>) -> Done<()> {
        match self {
            Flying::One(ticket, (partition, end)) => {
                let at = ticket.wait()?;
                check_place(at.base_offset.0 + u64::from(at.count), (partition, end))?;
                acked.insert(partition, end);
            }
            Flying::Both(ticket, ends) => {
                for (at, (partition, end)) in ticket.wait()?.into_iter().zip(ends) {
                    check_place(at.base_offset.0 + u64::from(at.count), (partition, end))?;
                    acked.insert(partition, end);
                }
            }
        }
        Ok(())
    }
}

fn check_place(answered: u64, (partition, end): Place) -> Done<()> {
    if answered != end {
        say(&format!("wrong {} ends at {end} and the answer says {answered}\n", name(partition)))?;
    }
    Ok(())
}

/// A partition that is appended to.
struct Growing {
    handle: Partition,
    /// Offset of the next record.
    next: u64,
    /// Records below it are announced.
    announced: u64,
}

struct Appending<'a> {
    log: &'a Log,
    life: u32,
    partitions: Vec<Growing>,
    dice: SimRandom,
    flying: VecDeque<Flying>,
}

impl<'a> Appending<'a> {
    /// Makes the partitions that are missing, and trims those that are long.
    fn start(log: &'a Log, life: u32) -> Done<Appending<'a>> {
        let mut dice = SimRandom::new(u64::from(life), "what is appended");
        let mut partitions = Vec::new();
        for id in 0..PARTITIONS {
            let handle = match log.partition(&name(id)) {
                Ok(found) => found,
                Err(_) => log.create(&name(id), PartitionConfig::default())?,
            };
            let info = handle.describe().wait().ok_or("a partition is not there")?;
            let (start, next) = (info.log_start.0, info.log_end.0);
            if next - start > KEPT_MAX && dice.chance(0.5) {
                let to = next - KEPT_MAX;
                say(&format!("trim {id} {to}\n"))?;
                handle.trim(Offset(to)).wait()?;
                say(&format!("trimmed {id} {to}\n"))?;
            }
            partitions.push(Growing { handle, next, announced: next });
        }
        Ok(Appending { log, life, partitions, dice, flying: VecDeque::new() })
    }

    /// Appends for as long as it may.
    fn go_on(mut self) -> Done<()> {
        loop {
            while self.flying.len() < IN_FLIGHT_MAX {
                self.send()?;
            }
            let mut acked = BTreeMap::new();
            while let Some(first) = self.flying.pop_front() {
                first.land(&mut acked)?;
                if !self.flying.front().is_some_and(Flying::is_ready) {
                    break;
                }
            }
            say(&acked.iter().map(|(id, end)| format!("acked {id} {end}\n")).collect::<String>())?;
        }
    }

    /// One append more: some records of one partition, or a pair of two.
    fn send(&mut self) -> Done<()> {
        let one = self.dice.below(u64::from(PARTITIONS)) as u32;
        if !self.dice.chance(0.1) {
            let count = 1 + self.dice.below(4);
            let records: Done<Vec<Record>> = (0..count).map(|_| self.record(one, None)).collect();
            let growing = &self.partitions[one as usize];
            let ticket = growing.handle.append(records?);
            self.flying.push_back(Flying::One(ticket, (one, growing.next)));
            return Ok(());
        }
        let other = (one + 1 + self.dice.below(u64::from(PARTITIONS - 1)) as u32) % PARTITIONS;
        let next = |id: u32| (id, self.partitions[id as usize].next);
        let twins = [next(other), next(one)];
        let mut batches = Vec::new();
        for (id, twin) in [one, other].into_iter().zip(twins) {
            let record = self.record(id, Some(twin))?;
            batches.push((self.partitions[id as usize].handle.clone(), Batch::from(record)));
        }
        let ends = [one, other].map(|id| (id, self.partitions[id as usize].next));
        self.flying.push_back(Flying::Both(self.log.append_atomic(batches), ends));
        Ok(())
    }

    /// The next record of a partition, announced.
    fn record(&mut self, id: u32, twin: Option<Place>) -> Done<Record> {
        let growing = &mut self.partitions[id as usize];
        let place = (id, growing.next);
        growing.next += 1;
        if growing.next > growing.announced {
            growing.announced = growing.next + ANNOUNCED;
            say(&format!("will {id} {}\n", growing.announced))?;
        }
        Ok(Record::new(Stamp { place, life: self.life, twin }.value()))
    }
}
