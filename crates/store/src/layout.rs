use crate::config::{RowType, TableConfig};
use crate::keys::mix;

/// How one row lies in memory, in words of four bytes: weights (f32, or two bf16 a word), optimiser state,
/// and the step of the last change less the table's base (a `u32`).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    /// D.
    pub(crate) dim: usize,
    /// Words of weights.
    pub(crate) weights: usize,
    /// Words of state.
    pub(crate) state: usize,
    pub(crate) dtype: RowType,
}

impl Layout {
    pub(crate) fn new(config: &TableConfig) -> Self {
        let dim = config.dim;
        let weights = match config.dtype {
            RowType::F32 => dim,
            RowType::Bf16 => dim.div_ceil(2),
        };
        Self { dim, weights, state: config.state_len(), dtype: config.dtype }
    }

    /// Words of weights and state.
    #[inline]
    pub(crate) fn live(self) -> usize {
        self.weights + self.state
    }

    /// Words per row.
    #[inline]
    pub(crate) fn stride(self) -> usize {
        self.live() + 1
    }

    /// The weights of `row` as f32s, `out` is `[D]`.
    #[inline]
    pub(crate) fn read(self, row: &[f32], out: &mut [f32]) {
        match self.dtype {
            RowType::F32 => out.copy_from_slice(&row[..self.weights]),
            RowType::Bf16 => widen(&row[..self.weights], out),
        }
    }

    /// Puts `weights` `[D]` into `row`, to the nearest that the type has.
    pub(crate) fn write(self, row: &mut [f32], weights: &[f32]) {
        match self.dtype {
            RowType::F32 => row[..self.weights].copy_from_slice(weights),
            RowType::Bf16 => narrow(&mut row[..self.weights], weights, |_, w| nearest(w)),
        }
    }

    /// As [`write`](Self::write), rounded up or down at random by the bits that `seed` leads to.
    pub(crate) fn write_dithered(self, row: &mut [f32], weights: &[f32], seed: u64) {
        match self.dtype {
            RowType::F32 => row[..self.weights].copy_from_slice(weights),
            RowType::Bf16 => {
                let mut bits = 0;
                narrow(&mut row[..self.weights], weights, |at, w| {
                    if at % 4 == 0 {
                        bits = mix(seed ^ at as u64);
                    }
                    let up = (bits >> (16 * (at % 4))) as u32 & 0xffff;
                    (w.to_bits() + up) >> 16
                });
            }
        }
    }

    /// The weights of a row as files have them, `out` is `[D]`.
    #[inline]
    pub(crate) fn decode(self, bytes: &[u8], out: &mut [f32]) {
        match self.dtype {
            RowType::F32 => {
                let (words, _) = bytes.as_chunks();
                out.iter_mut().zip(words).for_each(|(w, &word)| *w = f32::from_le_bytes(word));
            }
            RowType::Bf16 => {
                let (halves, _) = bytes.as_chunks();
                let wide = |half| f32::from_bits(u32::from(u16::from_le_bytes(half)) << 16);
                out.iter_mut().zip(halves).for_each(|(w, &half)| *w = wide(half));
            }
        }
    }

    #[inline]
    pub(crate) fn touched(self, row: &[f32]) -> u32 {
        row[self.live()].to_bits()
    }

    #[inline]
    pub(crate) fn touch(self, row: &mut [f32], word: u32) {
        row[self.live()] = f32::from_bits(word);
    }
}

/// The upper half of the nearest bf16, ties to even; of finite numbers only.
fn nearest(w: f32) -> u32 {
    let bits = w.to_bits();
    (bits + 0x7fff + ((bits >> 16) & 1)) >> 16
}

/// Two bf16 a word, the first in the lower half.
fn widen(words: &[f32], out: &mut [f32]) {
    for (pair, word) in out.chunks_mut(2).zip(words) {
        let word = word.to_bits();
        let halves = [word << 16, word & 0xffff_0000].map(f32::from_bits);
        pair.copy_from_slice(&halves[..pair.len()]);
    }
}

fn narrow(words: &mut [f32], weights: &[f32], mut half: impl FnMut(usize, f32) -> u32) {
    for (at, (pair, word)) in weights.chunks(2).zip(words).enumerate() {
        let low = half(2 * at, pair[0]);
        let high = pair.get(1).map_or(0, |&w| half(2 * at + 1, w));
        *word = f32::from_bits(high << 16 | low);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn halves(dim: usize) -> Layout {
        Layout::new(&TableConfig { dtype: RowType::Bf16, ..TableConfig::new("t", dim) })
    }

    #[test]
    fn what_bf16_can_hold_comes_back_and_the_rest_goes_to_the_nearest_with_ties_to_even() {
        let layout = halves(5);
        let mut row = vec![0.0; layout.stride()];
        let mut out = [0.0; 5];
        layout.write(&mut row, &[1.0, -2.5, 0.0, 3.0e38, 1e-30]);
        layout.read(&row, &mut out);
        assert_eq!(out[..4], [1.0, -2.5, 0.0, f32::from_bits(0x7f62_0000)]);
        assert!((out[4] / 1e-30 - 1.0).abs() < 1.0 / 256.0);
        let [down, up] = [0x3f80_8000, 0x3f81_8000].map(f32::from_bits); // both halfway
        layout.write(&mut row, &[down, up, -down, 0.0, 0.0]);
        layout.read(&row, &mut out);
        assert_eq!(
            out[..3].iter().map(|x| x.to_bits()).collect::<Vec<_>>(),
            [0x3f80_0000, 0x3f82_0000, 0xbf80_0000]
        );
    }

    #[test]
    fn dithered_weights_are_right_on_average_and_exact_ones_stay() {
        let layout = halves(3);
        let (mut row, mut out) = (vec![0.0; layout.stride()], [0.0; 3]);
        let mut sum = [0.0f64; 3];
        for seed in 0..20_000 {
            layout.write_dithered(&mut row, &[1.001, -0.3, 0.5], mix(seed));
            layout.read(&row, &mut out);
            sum.iter_mut().zip(out).for_each(|(sum, w)| *sum += f64::from(w) / 20_000.0);
        }
        assert!((sum[0] - 1.001).abs() < 1e-4 && (sum[1] + 0.3).abs() < 1e-4, "{sum:?}");
        assert_eq!(out[2], 0.5);
    }
}
