//! Processor time, of the process and from `/proc`.

use std::fs;

use rustix::time::{ClockId, clock_gettime};

/// Processor time of the process since a point in time.
pub struct Cpu {
    own_ns: u64,
}

impl Cpu {
    /// Starts to count.
    #[must_use]
    pub fn start() -> Cpu {
        Cpu { own_ns: own_ns() }
    }

    /// Nanoseconds that this process used since.
    #[must_use]
    pub fn own_ns(&self) -> u64 {
        own_ns().saturating_sub(self.own_ns)
    }
}

/// Nanoseconds that the threads of the engine's shards have used so far, and those that the kernel keeps
/// for their rings. Work that it has done by threads of its own (`kworker`) is not among it.
#[must_use]
pub fn shard_cpu_ns() -> u64 {
    threads_ns(|name| name.starts_with("thalweg-") || name.starts_with("iou-"))
}

/// Of threads that have ended, too.
fn own_ns() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn threads_ns(wanted: impl Fn(&str) -> bool) -> u64 {
    let Ok(tasks) = fs::read_dir("/proc/self/task") else { return 0 };
    let of_task = |dir: fs::DirEntry| {
        let name = fs::read_to_string(dir.path().join("comm")).ok()?;
        let stat = fs::read_to_string(dir.path().join("schedstat")).ok().filter(|_| wanted(&name))?;
        stat.split(' ').next()?.parse::<u64>().ok()
    };
    tasks.flatten().filter_map(of_task).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_takes_processor_time_of_this_process() {
        let cpu = Cpu::start();
        let mut sum = 0u64;
        while cpu.own_ns() == 0 {
            sum = (0..1_000_000u64).fold(sum, |sum, n| std::hint::black_box(sum ^ n));
        }
        assert_eq!(threads_ns(|name| name.starts_with("no such thread")), 0);
    }
}
