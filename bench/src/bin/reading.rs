//! Measures the read side: `reading cold|mixed|tail|recover|clean DIR [WHAT]`.

#![forbid(unsafe_code)]

use std::error::Error;
use std::path::{Path, PathBuf};

#[allow(unreachable_pub, reason = "written as a part of a library")]
#[path = "../cold_read.rs"]
mod cold_read;
#[allow(unreachable_pub, reason = "written as a part of a library")]
#[path = "../mixed.rs"]
mod mixed;
#[allow(unreachable_pub, dead_code, reason = "written as a part of a library")]
#[path = "../recover.rs"]
mod recover;
#[allow(unreachable_pub, dead_code, reason = "written as a part of a library")]
#[path = "../tail.rs"]
mod tail;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let what = args.next().ok_or("what is to be measured?")?;
    let parent = args.next().map_or_else(|| PathBuf::from("."), PathBuf::from);
    if what == "load" {
        return recover::load(&parent, &recover::Options::default());
    }
    let dir = tempfile::tempdir_in(parent)?;
    let (dir, detail) = (dir.path(), args.next().unwrap_or_default());
    match what.as_str() {
        "cold" => cold(dir, &detail),
        "mixed" => mixed(dir, &detail),
        "tail" => {
            let rounds = tail::measure(dir, &tail::Options::default())?;
            rounds.iter().for_each(|round| println!("{round:?}"));
            Ok(())
        }
        "recover" => {
            let mut child = std::process::Command::new(std::env::current_exe()?);
            child.arg("load").arg(dir);
            for round in recover::measure(dir, child, &recover::Options::default())? {
                println!("{round:?}: ratio {:.3}", round.ratio());
            }
            Ok(())
        }
        "clean" => {
            let gib: u64 = if detail.is_empty() { 10 } else { detail.parse()? };
            println!("{:?}", recover::measure_clean(dir, gib << 30, 3)?);
            Ok(())
        }
        _ => Err(format!("{what}: not known").into()),
    }
}

/// `detail` is the number of records an append carries.
fn cold(dir: &Path, detail: &str) -> Result<()> {
    let mut options = cold_read::Options::default();
    if !detail.is_empty() {
        options.batch_records = detail.parse()?;
    }
    let measured = cold_read::measure(dir, &options)?;
    for round in &measured.rounds {
        println!(
            "device 1 {:.0} MB/s, 4 {:.0} MB/s, log {:.0} MB/s, ratio {:.3}",
            round.device_one / 1e6,
            round.device_four / 1e6,
            round.log / 1e6,
            round.ratio()
        );
    }
    let (ratio, batches, files) = (measured.ratio(), measured.batch_bytes, measured.file_bytes);
    println!("ratio {ratio:.3}, {batches} B of batches in {files} B of files");
    Ok(())
}

/// `detail` is `c16` for 16 appends in flight, `o1000` for 1000 a second.
fn mixed(dir: &Path, detail: &str) -> Result<()> {
    let mut options = mixed::Options::default();
    options.load = match detail.split_at(detail.len().min(1)) {
        ("c", number) => mixed::Load::Closed { in_flight: number.parse()? },
        ("o", number) => mixed::Load::Open { per_s: number.parse()? },
        _ => options.load,
    };
    let measured = mixed::measure(dir, &options)?;
    println!("scan alone {:.0} MB/s", measured.scan_alone_per_s / 1e6);
    for (alone, beside) in measured.alone.iter().zip(&measured.beside) {
        println!("alone {alone:.1?}\nbeside {beside:.1?}");
    }
    println!(
        "{:?}: ratios p50 {:.2} p99 {:.2} p99.9 {:.2} rate {:.2}",
        options.load,
        measured.ratio(|row| row.p50_us),
        measured.ratio(|row| row.p99_us),
        measured.ratio(|row| row.p999_us),
        measured.ratio(|row| row.per_s)
    );
    Ok(())
}
