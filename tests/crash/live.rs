//! Live power cuts: an engine in a process of its own, under load on ext4 and XFS, whose file system
//! is shut down below it at any time. Every acknowledgement that left the process counts.

use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::NamedTempFile;
use thalweg::config::BackendSetting;
use thalweg::{Batch, OwnedShard, PartitionConfig};
use thalweg_io::power;
use thalweg_io::sim::SimRandom;
use thalweg_tests::scoreboard;

use crate::device::{EXT4, Kind, Loop, XFS};
use crate::history::{History, Known, Moment};
use crate::verdict::{acquit, open_dir, verify_dir};
use crate::work::config;
use crate::{not_run, setting};

/// Length of the device.
const DEVICE_BYTES: u64 = 64 << 20;

/// Tells this program that it is the process whose power goes off: its data directory.
const CHILD: &str = "THALWEG_CRASH_CHILD";

const NAMES: [&str; 3] = ["a", "b", "c"];

/// Appends `rounds` times to each partition, or until the power goes off, and says so: `sent NAME COUNT LEN`
/// before, `acked NTH OFFSET` after.
fn load(dir: &Path, rounds: u64, say: &mut dyn FnMut(String)) {
    let mut config = config();
    config.data_dir = dir.to_owned();
    config.threads.backend = BackendSetting::Auto;
    let mut shard = OwnedShard::open(config).unwrap();
    let mut partitions = Vec::new();
    for name in NAMES {
        let creating = shard.log().start_create(name, PartitionConfig::default());
        partitions.push(shard.block_on(creating).unwrap());
        say(format!("created {name}\n"));
    }
    let (mut history, mut random) = (nothing(), SimRandom::new(1, "live"));
    for _ in 0..rounds {
        let mut tickets = Vec::new();
        for partition in &partitions {
            let (count, len) = (1 + random.below(3), 20 + random.below(3000) as usize);
            say(format!("sent {} {count} {len}\n", partition.name()));
            let sent = history.send(&[partition.name()], count, len, 0);
            let records = history.sent[sent].parts[0].records.clone();
            tickets.push((sent, partition.append(Batch::Many(records))));
        }
        for (sent, ticket) in tickets {
            // The power is off: nothing more is acknowledged.
            let Ok(at) = shard.block_on(ticket) else { return };
            say(format!("acked {sent} {}\n", at.base_offset));
        }
    }
    shard.close().unwrap();
}

/// On a disk that nothing happens to every append is acknowledged, and there. Started anew with
/// [`CHILD`] this is the process that a live power cut happens to, and goes on until then.
#[test]
fn a_process_says_what_its_log_holds() {
    if let Some(dir) = std::env::var_os(CHILD) {
        let say = |line: String| io::stdout().write_all(line.as_bytes()).unwrap();
        // The test harness may have left its line open.
        say("\n".to_owned());
        return load(Path::new(&dir), u64::MAX, &mut { say });
    }
    let (dir, mut said) = (tempfile::tempdir().unwrap(), String::new());
    load(dir.path(), 40, &mut |line| said.push_str(&line));
    let history = heard(said.lines().map(str::to_owned));
    assert_eq!(history.acked(Moment::MAX).count(), 40 * NAMES.len());
    check(dir.path(), &history).unwrap();
}

/// Ends a process when it is dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The history of a process that has done nothing yet.
fn nothing() -> History {
    let mut history = History::default();
    for name in NAMES {
        history.partitions.insert(name.to_owned(), Known::new(PartitionConfig::default(), 0));
    }
    history
}

/// What a process said, as a history.
fn heard(lines: impl Iterator<Item = String>) -> History {
    let mut history = nothing();
    for line in lines {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["created", name] => {
                let known = history.partitions.get_mut(name).expect("one of ours");
                known.created.acked = Some(0);
            }
            ["sent", name, count, len] => {
                let (count, len) = (count.parse().expect("a count"), len.parse().expect("a length"));
                history.send(&[name], count, len, 0);
            }
            ["acked", sent, offset] => {
                let sent: usize = sent.parse().expect("which append");
                history.sent[sent].acked = Some((0, vec![offset.parse().expect("an offset")]));
            }
            // What the test harness says.
            _ => {}
        }
    }
    history
}

/// One power cut after `ms`. Returns how many appends had been acknowledged.
///
/// Before and after it the image has another device: a file system that another mount namespace of the host
/// has copied lives on when it is unmounted here, and mounting its device again would show it without power.
fn cut(kind: Kind, ms: u64) -> io::Result<Result<u64, String>> {
    let (image, at) = (NamedTempFile::new()?, tempfile::tempdir()?);
    let at = at.path();
    image.as_file().set_len(DEVICE_BYTES)?;
    kind.make(image.path())?;
    let device = Loop::new(image.path(), true).or_else(|_| Loop::new(image.path(), false))?;
    let mounted = device.mount(kind, at)?;
    let dir = at.join("data");
    std::fs::create_dir(&dir)?;
    rustix::fs::syncfs(std::fs::File::open(at)?)?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--exact", "--nocapture", "live::a_process_says_what_its_log_holds"]);
    let child = command.env(CHILD, &dir).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let mut child = Killed(child);
    let said = child.0.stdout.take().ok_or_else(|| io::Error::other("no pipe"))?;
    let listening = std::thread::spawn(move || {
        let lines: Vec<String> = BufReader::new(said).lines().map_while(Result::ok).collect();
        heard(lines.into_iter())
    });
    std::thread::sleep(Duration::from_millis(ms));
    power::cut(std::fs::File::open(at)?)?;
    // What is acknowledged from here on must be on the disk too.
    std::thread::sleep(Duration::from_millis(2));
    drop(child);
    let history = listening.join().map_err(|_| io::Error::other("the process said nonsense"))?;
    mounted.end()?;
    drop(device);
    let device = Loop::new(image.path(), false)?;
    let mounted = device.mount(kind, at)?;
    let checked = check(&dir, &history);
    mounted.end()?;
    Ok(checked.map(|()| history.acked(Moment::MAX).count() as u64))
}

fn check(dir: &Path, history: &History) -> Result<(), String> {
    let verified = verify_dir(dir)?;
    acquit(&verified, open_dir(dir, 1), history, Moment::MAX).map(drop)
}

/// What some cuts came to.
#[derive(Default)]
struct Cuts {
    cuts: u64,
    acked: u64,
    wrong: Vec<String>,
}

fn cuts_of(kind: Kind, cuts: u64) -> io::Result<Cuts> {
    let mut random = SimRandom::new(setting("THALWEG_LIVE_SEED", 0), kind.name);
    let mut all = Cuts::default();
    for round in 0..cuts {
        let ms = 10 + random.below(240);
        all.cuts += 1;
        match cut(kind, ms)? {
            Ok(acked) => all.acked += acked,
            Err(why) => all.wrong.push(format!("{}, cut {round} after {ms} ms: {why}", kind.name)),
        }
    }
    Ok(all)
}

#[test]
fn a_live_power_cut_below_a_running_engine_loses_nothing_acknowledged() {
    let wanted = setting("THALWEG_LIVE_CUTS", 20);
    let mut all = Cuts::default();
    for kind in [EXT4, XFS] {
        match cuts_of(kind, wanted.div_ceil(2)) {
            Ok(cuts) => {
                all.cuts += cuts.cuts;
                all.acked += cuts.acked;
                all.wrong.extend(cuts.wrong);
            }
            Err(error) => not_run(&format!("live power cuts on {}", kind.name), &error),
        }
    }
    let counts = [("cuts", all.cuts), ("appends", all.acked)];
    scoreboard::count("live cuts", &counts, all.wrong.len() as u64);
    assert!(all.cuts == 0 || all.acked > 0, "{} cuts, and nothing was ever acknowledged", all.cuts);
    assert!(all.wrong.is_empty(), "{} cuts lost something\n{}", all.wrong.len(), all.wrong.join("\n"));
}
