use half::f16;
use proptest::prelude::*;

use super::{Kernel, LANES, Simd};
use crate::Isa;

/// Every operation, one after the other, on the same operands.
#[derive(Clone, Copy)]
struct Everything<'a> {
    a: &'a [f32; LANES],
    b: &'a [f32; LANES],
    c: &'a [f32; LANES],
    bytes: &'a [u8; 64],
    bits: u16,
}

impl Kernel for Everything<'_> {
    type Output = Vec<u32>;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Vec<u32> {
        let mut out = Vec::new();
        let (a, b, c) = (s.load(self.a), s.load(self.b), s.load(self.c));
        let half: &[u8; 32] = self.bytes[..32].try_into().unwrap();
        let signed: [i8; LANES] = std::array::from_fn(|i| self.bytes[i] as i8);
        // 1 to 2.
        let scalable = self
            .a
            .map(|a| f32::from_bits(a.to_bits() & 0x7f_ffff | 0x3f80_0000));
        let powers: [f32; LANES] =
            std::array::from_fn(|i| f32::from(self.bytes[i]) * 1.9 - 240.0).map(f32::trunc);
        let mask = s.mask_from_bits(self.bits);
        let columns = s.load_i8_columns(self.bytes, self.bits as u8);
        let halves = std::array::from_fn(|i| self.bytes[i + 32]);
        let levels = s.load_levels(&halves, &signed);
        let results = [
            levels[0],
            levels[1],
            columns[0],
            columns[1],
            columns[2],
            columns[3],
            s.splat(self.a[3]),
            s.load_f32_bytes(self.bytes),
            s.load_f16(half),
            s.load_bf16(half),
            s.load_i8(&signed),
            s.add(a, b),
            s.sub(a, b),
            s.mul(a, b),
            s.div(a, b),
            s.fma(a, b, c),
            s.fnma(a, b, c),
            s.min(a, b),
            s.max(a, b),
            s.abs(a),
            s.round(a),
            s.scale_by_power_of_two(s.load(&scalable), s.load(&powers)),
            s.select(mask, a, b),
            s.select(s.less(a, b), a, b),
            s.swap::<1>(a),
            s.swap::<2>(a),
            s.swap::<4>(a),
            s.swap::<8>(a),
            s.splat(s.sum(a)),
            s.load_partial(&self.a[..usize::from(self.bits % 17)]),
        ];
        for v in results {
            let mut lanes = [0.0; LANES];
            s.store(v, &mut lanes);
            // NaN is NaN, whatever its payload.
            out.extend(lanes.map(|x| if x.is_nan() { f32::NAN } else { x }.to_bits()));
        }
        out.push(s.mask_bits(mask).into());
        out.push(s.mask_bits(s.less(a, b)).into());
        let mut halves = [0; 32];
        s.store_f16(a, &mut halves);
        out.extend(halves.as_chunks::<2>().0.iter().map(|&half| {
            let half = f16::from_le_bytes(half);
            if half.is_nan() {
                u32::MAX
            } else {
                half.to_bits().into()
            }
        }));
        let (mut low, mut high) = ([0i8; LANES], [0u8; LANES]);
        s.store_i8(s.load_i8(&signed), &mut low);
        assert_eq!(low, signed);
        let unsigned: [u8; LANES] = std::array::from_fn(|i| self.bytes[i]);
        s.store_u8(s.load(&unsigned.map(f32::from)), &mut high);
        assert_eq!(high, unsigned);
        let mut partial = [0.5; LANES];
        s.store_partial(a, &mut partial[..usize::from(self.bits % 17)]);
        out.extend(partial.map(|x| if x.is_nan() { f32::NAN } else { x }.to_bits()));
        out
    }
}

/// Ordinary numbers, and all bit patterns.
fn lanes() -> impl Strategy<Value = [f32; LANES]> {
    let any_bits = any::<u32>().prop_map(f32::from_bits);
    let special = prop::sample::select(vec![
        0.0,
        -0.0,
        1.0,
        -2.5,
        0.5,
        1.5,
        f32::INFINITY,
        f32::NAN,
        1e-40,
    ]);
    prop::array::uniform16(prop_oneof![-100.0f32..100.0, any_bits, special])
}

proptest! {
    #[test]
    fn every_operation_has_the_bits_of_the_portable_path(
        a in lanes(), b in lanes(), c in lanes(), bits: u16,
        bytes in prop::collection::vec(any::<u8>(), 64),
    ) {
        let bytes: &[u8; 64] = bytes.as_slice().try_into().unwrap();
        let everything = Everything { a: &a, b: &b, c: &c, bytes, bits };
        let expected = Isa::Portable.dispatch(everything);
        for isa in Isa::available() {
            let result = isa.dispatch(everything);
            for (i, (expected, result)) in expected.iter().zip(&result).enumerate() {
                prop_assert_eq!(expected, result, "{} operation {} lane {}", isa, i / LANES, i % LANES);
            }
        }
    }

    #[test]
    fn rows_are_the_transpose_of_columns(
        bits in prop::collection::vec(any::<u32>(), 3 * LANES * LANES),
        count in 0usize..4,
        more in 0usize..20,
    ) {
        struct Rows<'a>(&'a [[f32; LANES]], usize);
        impl Kernel for Rows<'_> {
            type Output = Vec<f32>;
            #[inline(always)]
            fn run<S: Simd>(self, s: S) -> Vec<f32> {
                let mut to = vec![0.5; 15 * self.1 + self.0.len()];
                s.store_rows(self.0, &mut to, self.1);
                to
            }
        }
        let values: Vec<f32> = bits.into_iter().map(f32::from_bits).collect();
        let columns = &values.as_chunks::<LANES>().0[..count * LANES];
        let stride = columns.len() + more;
        for isa in Isa::available() {
            let to = isa.dispatch(Rows(columns, stride));
            for (i, to) in to.into_iter().enumerate() {
                let (r, c) = (i / stride, i % stride);
                let expected = columns.get(c).map_or(0.5, |column| column[r]);
                prop_assert_eq!(to.to_bits(), expected.to_bits(), "{} row {} column {}", isa, r, c);
            }
        }
    }

    #[test]
    fn the_largest_lane_is_the_maximum(a in prop::array::uniform16(-1e30f32..1e30)) {
        struct Largest([f32; LANES]);
        impl Kernel for Largest {
            type Output = f32;
            #[inline(always)]
            fn run<S: Simd>(self, s: S) -> f32 {
                s.largest(s.load(&self.0))
            }
        }
        for isa in Isa::available() {
            prop_assert_eq!(isa.dispatch(Largest(a)), a.into_iter().fold(f32::MIN, f32::max));
        }
    }
}
