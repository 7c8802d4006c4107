//! The binary from outside: what it prints, what it leaves on the disk, how it ends.

#![forbid(unsafe_code)]

mod bench;
mod crash;
mod damage;
mod errors;
mod files;
mod home;
mod probe;
mod records;
mod soak;
mod tail;
