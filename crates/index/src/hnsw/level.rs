/// Levels above the ground; with 2⁻⁴ of the nodes per level this is never reached by chance.
pub(super) const MAX_LEVEL: u8 = 15;

/// The level of an item: 0 for most, each next level for one in `m`. It depends on seed and item
/// alone, so neither order of insertion nor removals change it.
pub(super) fn level_of(seed: u64, item: u32, m: usize) -> u8 {
    let x = (seed ^ u64::from(item).wrapping_mul(0xd6e8_feb8_6659_fd93)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let uniform = (((x ^ (x >> 31)) >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    (-uniform.ln() / (m as f64).ln()).min(f64::from(MAX_LEVEL)) as u8
}
