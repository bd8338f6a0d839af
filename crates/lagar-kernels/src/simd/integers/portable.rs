use super::super::Portable;
use super::{Integers, LANES, last_index};

type Lanes = [u32; LANES];

#[inline(always)]
fn map(a: Lanes, b: Lanes, f: impl Fn(u32, u32) -> u32) -> Lanes {
    std::array::from_fn(|i| f(a[i], b[i]))
}

impl Integers for Portable {
    type U32 = Lanes;
    type Truth = [bool; LANES];

    #[inline(always)]
    fn splat_u32(self, v: u32) -> Lanes {
        [v; LANES]
    }
    #[inline(always)]
    fn load_u32(self, from: &Lanes) -> Lanes {
        *from
    }
    #[inline(always)]
    fn store_u32(self, v: Lanes, to: &mut Lanes) {
        *to = v;
    }

    #[inline(always)]
    fn plus(self, a: Lanes, b: Lanes) -> Lanes {
        map(a, b, u32::wrapping_add)
    }
    #[inline(always)]
    fn minus(self, a: Lanes, b: Lanes) -> Lanes {
        map(a, b, u32::wrapping_sub)
    }
    #[inline(always)]
    fn times(self, a: Lanes, b: Lanes) -> Lanes {
        map(a, b, u32::wrapping_mul)
    }
    #[inline(always)]
    fn minus_saturating(self, a: Lanes, b: Lanes) -> Lanes {
        map(a, b, u32::saturating_sub)
    }
    #[inline(always)]
    fn and(self, a: Lanes, b: Lanes) -> Lanes {
        map(a, b, |a, b| a & b)
    }
    #[inline(always)]
    fn or(self, a: Lanes, b: Lanes) -> Lanes {
        map(a, b, |a, b| a | b)
    }
    #[inline(always)]
    fn xor(self, a: Lanes, b: Lanes) -> Lanes {
        map(a, b, |a, b| a ^ b)
    }
    #[inline(always)]
    fn left(self, a: Lanes, n: u32) -> Lanes {
        a.map(|a| a << n)
    }
    #[inline(always)]
    fn right(self, a: Lanes, n: u32) -> Lanes {
        a.map(|a| a >> n)
    }
    #[inline(always)]
    fn left_each(self, a: Lanes, n: Lanes) -> Lanes {
        map(a, n, |a, n| a << n)
    }
    #[inline(always)]
    fn right_each(self, a: Lanes, n: Lanes) -> Lanes {
        map(a, n, |a, n| a >> n)
    }
    #[inline(always)]
    fn spread_sign(self, a: Lanes) -> Lanes {
        a.map(|a| (a as i32 >> 31) as u32)
    }
    #[inline(always)]
    fn smaller(self, a: Lanes, b: Lanes) -> Lanes {
        map(a, b, u32::min)
    }
    #[inline(always)]
    fn as_f32_bits(self, a: Lanes) -> Lanes {
        a.map(|a| (a as f32).to_bits())
    }

    #[inline(always)]
    fn at_least(self, a: Lanes, b: Lanes) -> [bool; LANES] {
        std::array::from_fn(|i| a[i] >= b[i])
    }
    #[inline(always)]
    fn choose(self, truth: [bool; LANES], yes: Lanes, no: Lanes) -> Lanes {
        std::array::from_fn(|i| if truth[i] { yes[i] } else { no[i] })
    }

    #[inline(always)]
    fn look_up(self, table: &[u32], index: Lanes) -> Lanes {
        let last = last_index(table);
        index.map(|index| table[index.min(last) as usize])
    }

    #[inline(always)]
    fn refill(self, mut a: Lanes, words: &[[u8; 2]; LANES]) -> (Lanes, usize) {
        let mut used = 0;
        for lane in &mut a {
            if *lane < 1 << 16 {
                *lane = *lane << 16 | u32::from(u16::from_le_bytes(words[used]));
                used += 1;
            }
        }
        (a, used)
    }
}
