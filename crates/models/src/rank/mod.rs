//! Rankers, one file each.

pub mod autoint;
pub mod dcn;
pub mod dcn_v2;
pub mod deepfm;
pub mod ensemble;
pub mod esmm;
pub mod ffm;
pub mod final_mlp;
pub mod fm;
pub mod gbdt;
pub mod lr;
pub mod mmoe;
pub mod moe;
pub mod ple;
pub mod shared_bottom;
pub mod wide_deep;
