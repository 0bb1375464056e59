//! Products of matrices so small that all three fit the first-level cache: nothing is packed, no thread is asked.

#![allow(unsafe_code)]

/// The left matrix of a small product: element (i, l) stands at `i · row_step + l · step`.
#[derive(Clone, Copy)]
pub(crate) struct Left<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) row_step: usize,
    pub(crate) step: usize,
}

/// `c = a b` for c `[m, n]`, a `[m, k]`, b `[k, n]`, `sizes` being (m, n, k); c and b are given with the elements from row
/// to row. An element's sum runs over the inner axis in order. With `FMA` each step is rounded once; inline this into a
/// function compiled for it.
///
/// # Panics
/// If an operand is too short.
#[inline(always)]
pub(crate) fn product<const FMA: bool>(
    (c, c_step): (&mut [f32], usize),
    a: Left<'_>,
    (b, b_step): (&[f32], usize),
    (m, n, k): (usize, usize, usize),
) {
    assert!(m > 0 && n > 0 && k > 0 && c_step >= n && b_step >= n);
    assert!(c.len() >= (m - 1) * c_step + n && b.len() >= (k - 1) * b_step + n);
    assert!(a.data.len() > (m - 1) * a.row_step + (k - 1) * a.step);
    let mut work = Blocks::<FMA> { c: c.as_mut_ptr(), c_step, a, b: b.as_ptr(), b_step, k };
    let mut j = 0;
    // SAFETY: blocks cover rows below m and columns below n, for which the assertions above vouch.
    unsafe {
        while n - j >= 16 {
            work.columns::<16>(m, j);
            j += 16;
        }
        while n - j >= 8 {
            work.columns::<8>(m, j);
            j += 8;
        }
        (j..n).for_each(|j| work.columns::<1>(m, j));
    }
}

struct Blocks<'a, const FMA: bool> {
    c: *mut f32,
    c_step: usize,
    a: Left<'a>,
    b: *const f32,
    b_step: usize,
    k: usize,
}

impl<const FMA: bool> Blocks<'_, FMA> {
    /// Columns `j .. j + W` of all rows.
    ///
    /// # Safety
    /// As [`Self::block`], for all rows below `m`.
    #[inline(always)]
    unsafe fn columns<const W: usize>(&mut self, m: usize, j: usize) {
        let mut i = 0;
        // SAFETY: by this function's contract.
        unsafe {
            while m - i >= 4 {
                self.block::<4, W>(i, j);
                i += 4;
            }
            if m - i >= 2 {
                self.block::<2, W>(i, j);
                i += 2;
            }
            if i < m {
                self.block::<1, W>(i, j);
            }
        }
    }

    /// Sums of `R` rows from `i` on and `W` columns from `j` on, held in registers.
    ///
    /// # Safety
    /// a is readable at these rows for all of the inner axis, b at these columns, c writable at both.
    #[inline(always)]
    unsafe fn block<const R: usize, const W: usize>(&mut self, i: usize, j: usize) {
        let mut sums = [[0.0f32; W]; R];
        // SAFETY: by this function's contract.
        unsafe {
            let a = self.a.data.as_ptr().add(i * self.a.row_step);
            for l in 0..self.k {
                let right = self.b.add(l * self.b_step + j).cast::<[f32; W]>().read_unaligned();
                for r in 0..R {
                    let left = *a.add(r * self.a.row_step + l * self.a.step);
                    for w in 0..W {
                        let sum = sums[r][w];
                        sums[r][w] = if FMA { left.mul_add(right[w], sum) } else { sum + left * right[w] };
                    }
                }
            }
            for (r, sums) in sums.iter().enumerate() {
                self.c.add((i + r) * self.c_step + j).cast::<[f32; W]>().write_unaligned(*sums);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_and_stride_agrees_with_three_loops() {
        for (m, n, k) in [(1, 1, 1), (10, 16, 32), (10, 32, 10), (7, 25, 3), (3, 9, 11), (4, 8, 1)] {
            let number = |i: usize| ((i * 7 + 3) % 11) as f32 - 5.0;
            let (a_step, b_step, c_step) = (k + 2, n + 3, n + 1);
            let a: Vec<f32> = (0..m * a_step).map(number).collect();
            let flipped: Vec<f32> = (0..m * k).map(|i| a[i % m * a_step + i / m]).collect();
            let b: Vec<f32> = (0..k * b_step).map(|i| number(i + 5)).collect();
            let mut wanted = vec![9.0; m * c_step];
            for i in 0..m {
                for j in 0..n {
                    wanted[i * c_step + j] = (0..k).map(|l| a[i * a_step + l] * b[l * b_step + j]).sum();
                }
            }
            let sizes = (m, n, k);
            for left in
                [Left { data: &a, row_step: a_step, step: 1 }, Left { data: &flipped, row_step: 1, step: m }]
            {
                let mut c = vec![9.0; m * c_step];
                product::<false>((&mut c, c_step), left, (&b, b_step), sizes);
                assert_eq!(c, wanted, "{sizes:?}");
                c.fill(9.0);
                product::<true>((&mut c, c_step), left, (&b, b_step), sizes);
                assert_eq!(c, wanted, "{sizes:?}");
            }
        }
    }
}
