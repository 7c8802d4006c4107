//! What a measurement cost beside time: processor, device and kernel.

mod cpu;
mod device;
mod syscalls;

pub use cpu::{Cpu, shard_cpu_ns};
pub use device::Device;
pub use syscalls::Syscalls;
