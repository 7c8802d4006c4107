//! A partition and its settings as they are shown.

use bytesize::ByteSize;
use serde::Serialize;
use thalweg::{Offset, PartitionConfig, PartitionId, PartitionInfo};

use crate::times::duration;

/// A partition as `--json` shows it, whatever the command.
#[derive(Serialize)]
pub(crate) struct JsonPartition<'a> {
    partition: &'a str,
    id: PartitionId,
    config: &'a PartitionConfig,
    log_start: Offset,
    flushed: Offset,
    log_end: Offset,
    bytes: u64,
    segments: u64,
}

impl<'a> From<&'a PartitionInfo> for JsonPartition<'a> {
    fn from(info: &'a PartitionInfo) -> JsonPartition<'a> {
        let PartitionInfo { id, name, config, log_start, flushed, log_end, bytes, segments } = info;
        JsonPartition {
            partition: name,
            id: *id,
            config,
            log_start: *log_start,
            flushed: *flushed,
            log_end: *log_end,
            bytes: *bytes,
            segments: *segments,
        }
    }
}

/// What a partition keeps, in a few words.
pub(crate) fn keeps(config: &PartitionConfig) -> String {
    let age = config.retention.age_max_ms.map(duration);
    let bytes = config.retention.bytes_max.map(size);
    let compact = config.compact.then(|| "last of each key".to_owned());
    let words: Vec<String> = [age, bytes, compact].into_iter().flatten().collect();
    if words.is_empty() { "all".to_owned() } else { words.join(", ") }
}

/// A size as people read it.
pub(crate) fn size(bytes: u64) -> String {
    ByteSize(bytes).display().iec().to_string()
}

#[cfg(test)]
mod tests {
    use thalweg::Retention;

    use super::*;

    #[test]
    fn what_is_kept_is_said_in_a_few_words() {
        let mut config = PartitionConfig::default();
        assert_eq!(keeps(&config), "all");
        config.retention = Retention { bytes_max: Some(10 << 30), age_max_ms: Some(604_800_000) };
        assert_eq!(keeps(&config), "7days, 10.0 GiB");
        config = PartitionConfig { compact: true, ..PartitionConfig::default() };
        assert_eq!(keeps(&config), "last of each key");
    }
}
