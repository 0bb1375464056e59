//! Rankers, one file each.

pub mod dcn_v2;
pub mod deepfm;
