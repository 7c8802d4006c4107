//! `thalweg log configure`.

use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::ArgGroup;
use thalweg::PartitionConfig;

use crate::Global;
use crate::log::describe::show;
use crate::log::settings::Bound;
use crate::open;
use crate::times::parse_duration_ms;

/// Arguments of `thalweg log configure`.
#[derive(Debug, clap::Args)]
#[command(group(ArgGroup::new("change").required(true).multiple(true)))]
pub(crate) struct ConfigureArgs {
    /// The partition's name
    name: String,
    /// Keep at most about this much, such as 10GiB, or none for all
    #[arg(long, value_name = "SIZE", value_parser = Bound::bytes, group = "change")]
    retention_bytes: Option<Bound>,
    /// Keep records this long, such as 7d, or none for ever
    #[arg(long, value_name = "DURATION", value_parser = Bound::ms, group = "change")]
    retention_age: Option<Bound>,
    /// Whether to keep only the last record of each key; records without a key stay
    #[arg(long, value_name = "BOOL", group = "change")]
    compact: Option<bool>,
    /// Keep the tombstones of a compacted partition this long
    #[arg(long, value_name = "DURATION", value_parser = parse_duration_ms, group = "change")]
    tombstone_age: Option<u64>,
}

impl ConfigureArgs {
    fn change(&self, mut config: PartitionConfig) -> PartitionConfig {
        if let Some(Bound(bytes_max)) = self.retention_bytes {
            config.retention.bytes_max = bytes_max;
        }
        if let Some(Bound(age_max_ms)) = self.retention_age {
            config.retention.age_max_ms = age_max_ms;
        }
        config.compact = self.compact.unwrap_or(config.compact);
        config.tombstone_age_ms = self.tombstone_age.unwrap_or(config.tombstone_age_ms);
        config
    }
}

/// Changes the settings that are given, and shows the partition.
pub(crate) fn run(global: &Global, args: &ConfigureArgs) -> anyhow::Result<ExitCode> {
    let engine = open::open_existing(open::config(global)?)?;
    let partition = open::partition(&engine, &args.name)?;
    let config = args.change(open::describe(&engine, &partition)?.config);
    ensure!(
        config.compact || args.tombstone_age.is_none(),
        "{:?} is not compacted, so it has no --tombstone-age; add --compact true",
        args.name
    );
    let configured = partition.configure(config).wait();
    configured.with_context(|| format!("{:?} was not changed", args.name))?;
    let info = open::describe(&engine, &partition)?;
    engine.close()?;
    show(global, &info)?;
    Ok(ExitCode::SUCCESS)
}
