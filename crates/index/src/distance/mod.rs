//! Inner products of vectors stored as f32, bf16 or int8, by the widest instructions that this machine has.
//!
//! AVX-512 or AVX2 with FMA are found at run time; on AArch64 NEON is there always and the plain code is
//! compiled to it. Rounding of floats may differ between plain code and FMA, never between two calls on one
//! machine; sums of integers are exact everywhere.

mod float;
mod int;

pub use float::dot;
pub(crate) use float::{dot_bf16, dots_bf16, dots_f32, from_bf16, pair_bf16, to_bf16};
pub(crate) use int::{dot_int8, dots_int8, most, pair_int8};

/// Numbers that rows are filled up to a multiple of, with zeros.
pub(crate) const LANES: usize = 16;

/// What there is beyond plain code.
#[cfg(target_arch = "x86_64")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wide {
    Avx512,
    Avx2,
    None,
}

/// What this machine has; the answer is kept by the standard library.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn wide() -> Wide {
    if is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512f") {
        return Wide::Avx512;
    }
    match is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        true => Wide::Avx2,
        false => Wide::None,
    }
}

/// Makes a function of several versions of one body, `body(args, fused multiply-add)`, and picks at run time.
macro_rules! widest {
    ($(#[$doc:meta])* $vis:vis fn $name:ident($($arg:ident: $kind:ty),*) -> $out:ty, $body:path) => {
        $(#[$doc])*
        #[inline]
        $vis fn $name($($arg: $kind),*) -> $out {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx2,fma")]
                #[inline]
                fn avx512($($arg: $kind),*) -> $out {
                    $body($($arg,)* f32::mul_add)
                }
                #[target_feature(enable = "avx2,fma")]
                #[inline]
                fn avx2($($arg: $kind),*) -> $out {
                    $body($($arg,)* f32::mul_add)
                }
                match crate::distance::wide() {
                    // SAFETY: the features were found on this machine.
                    crate::distance::Wide::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    crate::distance::Wide::Avx2 => return unsafe { avx2($($arg),*) },
                    crate::distance::Wide::None => {}
                }
            }
            $body($($arg,)* |a: f32, b: f32, sum: f32| a * b + sum)
        }
    };
}
use widest;
