//! Recovery: whatever a power cut, a kill or a rotten sector leaves, what was acknowledged is there
//! at its offset, or opening refuses and says where the damage is.

#![forbid(unsafe_code)]

mod crash;
mod damage;
mod flips;
mod points;
mod real;
mod repair;
mod seeds;
mod torn;
mod world;
