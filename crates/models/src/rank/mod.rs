//! Rankers, one file each.

pub mod autoint;
pub mod bst;
pub mod dcn;
pub mod dcn_v2;
pub mod deepfm;
pub mod dien;
pub mod din;
pub mod din_self;
pub mod dsin;
pub mod ensemble;
pub mod esmm;
pub mod ffm;
pub mod final_mlp;
pub mod fm;
pub mod gbdt;
pub mod lr;
pub mod mean_pool;
pub mod mmoe;
pub mod moe;
pub mod ple;
pub mod shared_bottom;
pub mod sim_hard;
pub mod sim_soft;
pub mod wide_deep;
