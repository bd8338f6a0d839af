use proptest::prelude::*;

use super::super::{Kernel, LANES, Simd};
use crate::Isa;

/// Every operation, one after the other, on the same operands.
#[derive(Clone, Copy)]
struct Everything<'a> {
    a: &'a [u32; LANES],
    b: &'a [u32; LANES],
    table: &'a [u32],
    words: &'a [[u8; 2]; LANES],
    n: u32,
}

impl Kernel for Everything<'_> {
    type Output = Vec<u32>;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Vec<u32> {
        let (a, b, n) = (s.load_u32(self.a), s.load_u32(self.b), self.n);
        let counts = s.and(b, s.splat_u32(31));
        let (small, other) = (s.right(a, 8), s.right(b, 8));
        let (refilled, used) = s.refill(a, self.words);
        let results = [
            s.plus(a, b),
            s.minus(a, b),
            s.times(a, b),
            s.minus_saturating(s.right(a, 16), s.right(b, 16)),
            s.smaller(a, b),
            s.and(a, b),
            s.or(a, b),
            s.xor(a, b),
            s.left(a, n),
            s.right(a, n),
            s.left_each(a, counts),
            s.right_each(a, counts),
            s.spread_sign(a),
            s.as_f32_bits(small),
            s.as_f32_bits(s.left(small, n.min(7))),
            s.choose(s.at_least(small, other), a, b),
            s.look_up(self.table, b),
            refilled,
        ];
        let mut out = vec![used as u32];
        for v in results {
            let mut lanes = [0; LANES];
            s.store_u32(v, &mut lanes);
            out.extend(lanes);
        }
        out
    }
}

proptest! {
    #[test]
    fn every_operation_gives_the_same_integers_on_every_isa(
        a in proptest::array::uniform16(prop_oneof![any::<u32>(), 0u32..1 << 16, 0u32..4]),
        b in proptest::array::uniform16(prop_oneof![any::<u32>(), 0u32..64]),
        table in proptest::collection::vec(any::<u32>(), 1..64),
        words in proptest::array::uniform16(any::<[u8; 2]>()),
        n in 0u32..32,
    ) {
        let all = Everything { a: &a, b: &b, table: &table, words: &words, n };
        let expected = Isa::Portable.dispatch(all);
        for isa in Isa::available() {
            prop_assert_eq!(&isa.dispatch(all), &expected, "{}", isa);
        }
    }
}
