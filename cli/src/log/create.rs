//! `thalweg log create`.

use std::io::Write;
use std::process::ExitCode;

use anyhow::anyhow;
use serde::Serialize;
use thalweg::{ControlError, PartitionConfig, Retention};

use crate::Global;
use crate::errors::WithHint;
use crate::log::info::JsonPartition;
use crate::log::settings::{parse_kept_bytes, parse_kept_ms};
use crate::open;
use crate::output::Out;
use crate::times::parse_duration_ms;

/// Arguments of `thalweg log create`.
#[derive(Debug, clap::Args)]
pub(crate) struct CreateArgs {
    /// The partition's name
    name: String,
    /// Keep at most about this much, such as 10GiB; the oldest records go first
    #[arg(long, value_name = "SIZE", value_parser = parse_kept_bytes)]
    retention_bytes: Option<u64>,
    /// Keep records this long, such as 7d
    #[arg(long, value_name = "DURATION", value_parser = parse_kept_ms)]
    retention_age: Option<u64>,
    /// Keep only the last record of each key; every record then needs one
    #[arg(long)]
    compact: bool,
    /// Keep the tombstones of a compacted partition this long [default: 1d]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration_ms, requires = "compact")]
    tombstone_age: Option<u64>,
    /// Succeed if there is a partition of that name already; its settings stay as they are
    #[arg(long)]
    if_not_exists: bool,
}

/// For `--json`.
#[derive(Serialize)]
struct Created<'a> {
    #[serde(flatten)]
    info: JsonPartition<'a>,
    created: bool,
}

impl CreateArgs {
    fn config(&self) -> PartitionConfig {
        let defaults = PartitionConfig::default();
        PartitionConfig {
            retention: Retention { bytes_max: self.retention_bytes, age_max_ms: self.retention_age },
            compact: self.compact,
            tombstone_age_ms: self.tombstone_age.unwrap_or(defaults.tombstone_age_ms),
        }
    }
}

/// Makes a partition, and the data directory if there is none.
pub(crate) fn run(global: &Global, args: &CreateArgs) -> anyhow::Result<ExitCode> {
    let engine = open::open_or_make(open::config(global)?)?;
    let (partition, made) = match engine.create(&args.name, args.config()) {
        Ok(partition) => (partition, true),
        Err(ControlError::NameTaken(_)) if args.if_not_exists => {
            (open::partition(&engine, &args.name)?, false)
        }
        Err(error @ ControlError::NameTaken(_)) => {
            return Err(anyhow!(error)).hint("--if-not-exists accepts a partition that is there already");
        }
        Err(error) => return Err(error.into()),
    };
    let info = open::describe(&engine, &partition)?;
    let mut out = Out::new()?;
    if global.json {
        out.json(&Created { info: (&info).into(), created: made })?;
    } else if made {
        out.line(format_args!("created {:?}, partition {}", info.name, info.id))?;
    } else {
        out.line(format_args!("{:?} exists, partition {}", info.name, info.id))?;
    }
    if !made && info.config != args.config() {
        eprintln!("warning: {:?} exists with other settings, which were left alone", info.name);
    }
    out.flush()?;
    engine.close()?;
    Ok(ExitCode::SUCCESS)
}
