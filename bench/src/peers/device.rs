//! The device itself, as rows beside the others: the floor, one write in flight. For a batch, and for
//! 64 in flight, the 64 records are in one write.

use std::path::Path;
use std::time::Duration;

use super::load::{BATCH_RECORDS, Load, RECORD_BYTES, Workload};
use super::{About, Result, Subject};
use crate::floor::{Floor, FloorKind};
use crate::load::Loaded;

const DSYNC: About = About { name: "dsync floor", package: None };
const WRITE_THEN_SYNC: About = About { name: "sync floor", package: None };

/// One way to make a write durable.
pub(super) struct Device {
    floor: Floor,
    kind: FloorKind,
}

impl Device {
    pub(super) fn open(dir: &Path, kind: FloorKind) -> Result<Device> {
        Ok(Device { floor: Floor::open(dir)?, kind })
    }
}

impl Subject for Device {
    fn about(&self) -> About {
        match self.kind {
            FloorKind::Dsync => DSYNC,
            FloorKind::WriteThenSync => WRITE_THEN_SYNC,
        }
    }

    fn takes(&self, _: Workload) -> bool {
        true
    }

    fn run(&mut self, workload: Workload, load: &Load) -> Result<Loaded> {
        let records = if workload == Workload::One { 1 } else { BATCH_RECORDS };
        let latency = self.floor.measure(self.kind, records * RECORD_BYTES, load.time)?;
        // One write begins where another ends.
        let time = Duration::from_secs_f64(latency.mean() * latency.len() as f64 / 1e9);
        Ok(Loaded { records: latency.len() * records as u64, time, latency })
    }
}
