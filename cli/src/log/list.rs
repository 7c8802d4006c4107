//! `thalweg log list`.

use std::io::Write;
use std::process::ExitCode;

use thalweg::{Engine, PartitionInfo};

use crate::Global;
use crate::log::info::{JsonPartition, keeps, size};
use crate::open;
use crate::output::{Out, table};

/// Partitions asked about at once: well below what a shard's queue holds.
const QUESTIONS_MAX: usize = 1024;

/// Lists the partitions by name.
pub(crate) fn run(global: &Global) -> anyhow::Result<ExitCode> {
    let engine = open::open_existing(open::config(global)?)?;
    let found = describe_all(&engine);
    engine.close()?;
    let mut out = Out::new()?;
    if global.json {
        found.iter().try_for_each(|info| out.json(&JsonPartition::from(info)))?;
    } else if found.is_empty() {
        eprintln!("no partitions yet; `thalweg log create NAME` makes one");
    } else {
        let rows: Vec<_> = found.iter().map(row).collect();
        let heads = ["NAME", "ID", "LOG START", "FLUSHED END", "BYTES", "SEGMENTS", "KEEPS"];
        table(&mut out, heads, &rows)?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn describe_all(engine: &Engine) -> Vec<PartitionInfo> {
    let mut found = Vec::new();
    for some in engine.partitions().chunks(QUESTIONS_MAX) {
        let asked: Vec<_> = some.iter().map(|partition| partition.describe()).collect();
        found.extend(asked.into_iter().filter_map(|answer| answer.wait()));
    }
    found
}

fn row(info: &PartitionInfo) -> [String; 7] {
    [
        info.name.clone(),
        info.id.to_string(),
        info.log_start.to_string(),
        info.flushed.to_string(),
        size(info.bytes),
        info.segments.to_string(),
        keeps(&info.config),
    ]
}
