//! Re-ranking rules, one file each.

pub mod alive;
pub mod mmr;
pub mod per_author;
pub mod seen;
