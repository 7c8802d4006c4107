//! `thalweg log describe`.

use std::io::Write;
use std::process::ExitCode;

use thalweg::PartitionInfo;

use crate::Global;
use crate::log::info::{JsonPartition, size};
use crate::open;
use crate::output::Out;
use crate::times::duration;

/// Arguments of `thalweg log describe`.
#[derive(Debug, clap::Args)]
pub(crate) struct DescribeArgs {
    /// The partition's name
    name: String,
}

/// Shows a partition with its settings.
pub(crate) fn run(global: &Global, args: &DescribeArgs) -> anyhow::Result<ExitCode> {
    let engine = open::open_existing(open::config(global)?)?;
    let partition = open::partition(&engine, &args.name)?;
    let info = open::describe(&engine, &partition)?;
    engine.close()?;
    show(global, &info)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints a partition with its settings.
pub(crate) fn show(global: &Global, info: &PartitionInfo) -> anyhow::Result<()> {
    let mut out = Out::new()?;
    if global.json {
        out.json(&JsonPartition::from(info))?;
    } else {
        for (what, value) in lines(info) {
            out.line(format_args!("{what:<16} {value}"))?;
        }
    }
    out.flush()?;
    Ok(())
}

fn lines(info: &PartitionInfo) -> [(&'static str, String); 9] {
    let config = &info.config;
    let tombstones = || format!("yes, tombstones for {}", duration(config.tombstone_age_ms));
    [
        ("partition", info.name.clone()),
        ("id", info.id.to_string()),
        ("log start", info.log_start.to_string()),
        ("flushed end", info.flushed.to_string()),
        ("bytes", size(info.bytes)),
        ("segments", info.segments.to_string()),
        ("retention age", config.retention.age_max_ms.map_or("none".to_owned(), duration)),
        ("retention bytes", config.retention.bytes_max.map_or("none".to_owned(), size)),
        ("compact", if config.compact { tombstones() } else { "no".to_owned() }),
    ]
}
