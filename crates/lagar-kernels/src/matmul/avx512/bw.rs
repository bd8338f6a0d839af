//! From codes to levels with AVX-512 BW, without VBMI.
//!
//! Bytes move inside 16-byte lanes only, so a look-up is `vpshufb` of 16 levels, as with AVX2, or a permutation of words of two
//! levels each.

pub(super) mod decode;
pub(super) mod straight;

use std::ops::Range;

use super::super::lookup::Form;
use super::super::tile::{Factors, Tile};
use super::units::{Set, Source};
use decode::{Bends, Bytes, Free, Halves, Nibble, Plain, Spread, Whole};
use straight::{Codebook, FourBits, TwoBits};

/// Calls a function with the steps that fit a table.
macro_rules! with_steps {
    ($lookup:expr, $set:ident::$function:ident $arguments:tt) => {
        match ($lookup.depth, $lookup.form) {
            (2, Form::Split) => $set::$function::<TwoBits, 4> $arguments,
            (4, Form::Split) => $set::$function::<FourBits, 2> $arguments,
            (4, Form::Nibble) => $set::$function::<Codebook, 2> $arguments,
            (8, Form::Plain) => $set::$function::<Whole<Bytes, Plain>, 1> $arguments,
            (8, Form::Split) => $set::$function::<Whole<Bytes, Halves>, 1> $arguments,
            (8, Form::Bent) => $set::$function::<Whole<Bytes, Bends>, 1> $arguments,
            (8, _) => $set::$function::<Whole<Bytes, Free<4>>, 1> $arguments,
            (1 | 2, Form::Nibble) => $set::$function::<Whole<Spread<true, true>, Nibble>, 1> $arguments,
            (1, Form::Split) => $set::$function::<Whole<Spread<true, true>, Halves>, 1> $arguments,
            (1 | 2 | 4, Form::Bent) => $set::$function::<Whole<Spread<true, true>, Bends>, 1> $arguments,
            (1 | 2 | 4, _) => $set::$function::<Whole<Spread<true, true>, Free<4>>, 1> $arguments,
            (7, Form::Split) => $set::$function::<Whole<Spread<false, false>, Halves>, 1> $arguments,
            (7, Form::Bent) => $set::$function::<Whole<Spread<false, false>, Bends>, 1> $arguments,
            (7, _) if $lookup.window == 7 => {
                $set::$function::<Whole<Spread<false, false>, Free<2>>, 1> $arguments
            }
            (7, _) => $set::$function::<Whole<Spread<false, false>, Free<4>>, 1> $arguments,
            (_, Form::Nibble) => $set::$function::<Whole<Spread<false, true>, Nibble>, 1> $arguments,
            (_, Form::Split) => $set::$function::<Whole<Spread<false, true>, Halves>, 1> $arguments,
            (_, Form::Bent) => $set::$function::<Whole<Spread<false, true>, Bends>, 1> $arguments,
            _ if $lookup.window <= 6 => {
                $set::$function::<Whole<Spread<false, true>, Free<1>>, 1> $arguments
            }
            _ => $set::$function::<Whole<Spread<false, true>, Free<4>>, 1> $arguments,
        }
    };
}

/// See [`Ops::dot`](super::Ops::dot).
///
/// # Safety
/// The processor has the features of the set.
pub(super) unsafe fn dot<F: Set>(
    tile: &Tile<'_>,
    units: Range<usize>,
    by: &Factors<'_>,
    sums: &mut [f32],
) {
    tile.check_dot(&units, super::FEW, by, sums);
    // SAFETY: the caller promises the processor; the lengths are checked.
    unsafe { with_steps!(tile.lookup, F::products(Source::of(tile, &units), by, sums)) }
}

/// See [`Ops::decode`](super::Ops::decode).
///
/// # Safety
/// The processor has the features of the set.
pub(super) unsafe fn decode<F: Set>(tile: &Tile<'_>, units: Range<usize>, out: &mut [u8]) {
    tile.check_decode(&units, out);
    // SAFETY: the caller promises the processor; the lengths are checked.
    unsafe { with_steps!(tile.lookup, F::decode(Source::of(tile, &units), out)) }
}
