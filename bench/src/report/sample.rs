//! Reports to try the reports on: one as a run may be, and one as no run should be.

use super::Recorded;
use crate::load::histogram;
use crate::machine::Machine;
use crate::result::{Effort, Line, Loop, Report, Sweep, Target, Unit};

pub(crate) const EFFORT: Effort = Effort { rounds: 7, seconds: 2.0, quick: false };

/// A report with six targets reached and two not.
pub(crate) fn report() -> Report {
    let mut report = Report::new(machine(), EFFORT);
    let row = |report: &mut Report, id: &str, what: &str, unit, target, value: f64| {
        report.row(id, what, unit, target, &around(value, (value * 1e3) as u64));
    };
    let (most, least) = (Target::AtMost, Target::AtLeast);
    for (id, what, bound, value) in [
        ("append.turn.p50", "turn: one append, median over the floor's", 1.05, 1.02),
        ("append.turn.p99", "turn: one append, p99 over the floor's", 1.25, 1.11),
        ("append.spin.p50", "spin: one append, median over the floor's", 1.2, 1.15),
        ("append.wait.p50", "wait: one append, median over the floor's", 1.5, 1.6),
        ("append.open.p999", "open loop at half load, p99.9 over the floor's", 2.0, 1.74),
    ] {
        row(&mut report, id, what, Unit::Ratio, most(bound), value);
    }
    row(&mut report, "append.cpu", "processor time of an append", Unit::Us, most(6.0), 4.31);
    row(
        &mut report,
        "group.records",
        "throughput, 256 in flight",
        Unit::RecordsPerS,
        least(750e3),
        912_340.0,
    );
    row(&mut report, "group.bytes", "throughput in bytes, of the device's", Unit::Ratio, least(0.9), 0.82);
    report.figure("floor.p50", "the device: one write and flush, median", Unit::Us, &around(100.4, 1));
    report.figure("floor.bytes", "the device: writes of 1 MiB", Unit::BytesPerS, &around(1.3e9, 2));
    report.figure("append.turn.cpu_ns", "turn: processor time of an append", Unit::Ns, &around(3120.0, 3));
    report.figure("append.syscalls", "system calls of an append", Unit::Count, &[1.0; 7]);
    report.figure("idle.cpu", "an idle shard", Unit::CorePercent, &around(0.42, 5));
    report.figure("recovery", "opening after a crash, 1 GiB of WAL", Unit::S, &around(0.81, 6));
    report.curves = recorded().into_iter().map(|recorded| recorded.curve).collect();
    report.sweeps = vec![sweep()];
    report
}

/// The curves of [`report`] with their histograms.
pub(crate) fn recorded() -> Vec<Recorded> {
    let alone = "One append at a time, 1 KiB";
    let loaded = "Open loop, 40,000 appends a second, 1 KiB";
    [
        ("device.floor", "the device: write and flush", alone, Loop::Closed, 98_000.0, 60_000),
        ("append.turn", "turn", alone, Loop::Closed, 100_000.0, 60_000),
        ("append.spin", "spin", alone, Loop::Closed, 113_000.0, 52_000),
        ("append.wait", "wait", alone, Loop::Closed, 158_000.0, 37_000),
        (
            "device.open.floor",
            "the device: write and flush, one at a time",
            loaded,
            Loop::Closed,
            98_000.0,
            60_000,
        ),
        ("open.one", "1 partition, flushed, spinning producer", loaded, Loop::Open, 176_000.0, 160_000),
        ("open.many", "64 partitions", loaded, Loop::Open, 191_000.0, 160_000),
    ]
    .map(|(id, what, group, load, floor_ns, count)| {
        Recorded::new(id, what, group, load, latencies(floor_ns, count))
    })
    .into()
}

/// A report of awkward text and of values that are missing, none, or alone.
pub(crate) fn awkward() -> Report {
    let text = "<script>alert(\"1\" & '2')</script> &amp; \u{0} \u{1b}[31m";
    let long = "aVeryLongWordWithoutAnyBlankInIt".repeat(5);
    let effort = Effort { rounds: 1, seconds: 0.1, quick: true };
    let mut report = Report::new(Machine { cpu: text.into(), kernel: long.clone(), ..machine() }, effort);
    report.row("none", text, Unit::Us, Target::AtMost(1.0), &[]);
    report.row("one", &long, Unit::Ratio, Target::AtLeast(1.0), &[1.0]);
    report.row("nan", "not a number", Unit::Count, Target::AtMost(0.0), &[f64::NAN, f64::INFINITY]);
    report.row("zero", "none wanted, some there", Unit::Count, Target::AtMost(0.0), &[3.0, 4.0, 5.0]);
    report.figure("none", text, Unit::S, &[]);
    report.figure("huge", &long, Unit::RecordsPerS, &[f64::MAX, -1.0]);
    let mut one = histogram();
    one.record(5).unwrap();
    let curve = |id: &str, histogram| Recorded::new(id, text, text, Loop::Open, histogram).curve;
    report.curves = vec![curve("a", histogram()), curve("b.floor", one)];
    let mut outside = report.curves[1].clone();
    outside.points = vec![(f64::MIN, 0), (2.0, u64::MAX), (1.0, u64::MAX), (0.5, 0)];
    report.curves.push(outside);
    let line = |points: &[(f64, f64)]| Line { name: text.into(), points: points.to_vec() };
    let lines = vec![line(&[]), line(&[(1.0, 1.0)]), line(&[(f64::NAN, 1.0), (0.0, 2.0), (4.0, f64::NAN)])];
    let axis = |lines| Sweep { id: "s".into(), what: text.into(), x: text.into(), y: text.into(), lines };
    report.sweeps = vec![axis(lines), axis(Vec::new())];
    report
}

fn machine() -> Machine {
    Machine {
        cpu: "AMD EPYC 9R14".into(),
        cores: 8,
        memory_bytes: 16 << 30,
        kernel: "6.12.9".into(),
        file_system: "ext4".into(),
        device: "nvme0n1".into(),
        write_cache: "write back".into(),
        fua: false,
        scheduler: "none".into(),
        backend: "io_uring".into(),
        strategy: "write, then fdatasync".into(),
        ack: "flushed".into(),
        version: "0.1.0".into(),
        commit: "1a2b3c4".into(),
        began_unix_s: 1_763_746_200,
    }
}

fn sweep() -> Sweep {
    let line = |name: &str, most: f64, half: f64| {
        let of = |power: i32| {
            let x = 2f64.powi(power);
            (x, most * x / (x + half))
        };
        Line { name: name.into(), points: (0..=10).map(of).collect() }
    };
    let lines = vec![
        line("1 shard, turn", 930e3, 92.0),
        line("1 shard, wait", 870e3, 130.0),
        line("2 shards", 1.42e6, 210.0),
        Line {
            name: "one sync for each append: the floor".into(),
            points: vec![(1.0, 9960.0), (1024.0, 9960.0)],
        },
    ];
    Sweep {
        id: "append.in_flight".into(),
        what: "Closed loop, 1 KiB".into(),
        x: "appends in flight".into(),
        y: "records/s".into(),
        lines,
    }
}

/// Seven rounds around `value`, their median, the same for every call with `seed`.
fn around(value: f64, seed: u64) -> Vec<f64> {
    let mut dice = Dice(seed << 32);
    dice.roll();
    let away = [-1.0, 1.0, 1.0, 0.0, -1.0, 1.0, -1.0];
    away.map(|side| value * (1.0 + 0.03 * side * dice.roll())).into()
}

/// Latencies like a device's: near `floor_ns`, with a tail, and now and then a stall.
fn latencies(floor_ns: f64, count: u64) -> hdrhistogram::Histogram<u64> {
    let (mut dice, mut histogram) = (Dice(floor_ns as u64), histogram());
    for _ in 0..count {
        let usual = 0.86 + 0.15 * (dice.roll() + dice.roll());
        let tail = if dice.roll() < 0.03 { 1.0 - 0.6 * dice.roll().max(1e-9).ln() } else { 0.0 };
        let stall = if dice.roll() < 0.000_4 { 30.0 * dice.roll() } else { 0.0 };
        histogram.record((floor_ns * (usual + tail + stall)) as u64).unwrap();
    }
    histogram
}

/// Numbers from 0 to 1 that look random.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> f64 {
        // Knuth's MMIX.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Saves both reports where `THALWEG_SAMPLE_DIR` says, to be looked at; into a folder of its own otherwise.
#[test]
fn both_samples_can_be_saved() {
    let own = tempfile::tempdir().unwrap();
    let dir = std::env::var_os("THALWEG_SAMPLE_DIR").map_or(own.path().to_owned(), Into::into);
    for (name, report, recorded) in [("usual", report(), recorded()), ("awkward", awkward(), Vec::new())] {
        let written = super::save(&report, &recorded, &dir.join(name)).unwrap();
        assert!(written.iter().all(|path| path.metadata().unwrap().len() > 0));
        println!("{}", super::table(&report));
    }
}
