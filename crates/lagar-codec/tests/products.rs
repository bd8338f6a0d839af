//! The reference products agree with plain products of the dequantized weights.

use lagar_codec::{Activations, StageLayout, Table, reference, scale_value};
use proptest::prelude::*;

/// Bytes that look random.
fn bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        (state >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn products_are_those_of_the_dequantized_weights(
        rows in 1usize..300,
        cols in 1usize..300,
        n in 1usize..3,
        depth in 1u8..=8,
        trellis in any::<bool>(),
        skip in 0usize..4,
        seed in any::<u64>(),
    ) {
        let groups = cols.next_multiple_of(4).div_ceil(128);
        let depths: Vec<u8> = (0..groups).map(|g| if g == skip { 0 } else { depth }).collect();
        let layout = StageLayout::new(rows, cols, &depths).unwrap();
        let mut codes = bytes(layout.codes_len(), seed);
        for tr in 0..layout.tile_rows() {
            for g in 0..groups {
                if let Some(lead) = codes[layout.tile_range(tr, g)].first_mut() {
                    *lead = 0;
                }
            }
        }
        let scales: Vec<u8> = bytes(layout.scales_len(), seed ^ 1).iter().map(|b| b % 64).collect();
        let row_scales: Vec<u8> = (0..layout.padded_rows())
            .flat_map(|r| (0x3f00u16 + (r % 128) as u16).to_le_bytes())
            .collect();
        let stage = reference::Stage {
            layout: &layout,
            table: Table::trained(depth, if trellis { 8 } else { depth }),
            codes: &codes,
            scales: &scales,
            row_scales: &row_scales,
        };
        let weights = reference::dequantize(&stage);
        let width = layout.padded_cols();
        let x: Vec<f32> = bytes(n * width, seed ^ 2).iter().map(|&b| f32::from(b) / 64.0 - 2.0).collect();

        let mut y = vec![1.0; n * rows];
        reference::matmul_f32(&stage, &x, n, &mut y, true);
        let mut activations = Activations::default();
        reference::quantize_activations(&x, n, width, &mut activations);
        let mut fast = vec![f32::NAN; n * rows];
        reference::matmul_int8(&stage, &activations, &mut fast, false);
        for v in 0..n {
            for r in 0..rows {
                let row = &weights[r * width..][..width];
                let terms = row.iter().zip(&x[v * width..]).map(|(&w, &x)| f64::from(w) * f64::from(x));
                let (sum, size) = terms.fold((0.0, 0.0), |(s, a), t| (s + t, a + t.abs()));
                let found = f64::from(y[v * rows + r]);
                prop_assert!((found - 1.0 - sum).abs() <= 1e-5 * (size + 1.0), "{found} {sum}");
                // Each activation is off by half a step of 2/127 at most.
                let found = f64::from(fast[v * rows + r]);
                let bound: f64 = row.iter().map(|w| f64::from(w.abs())).sum::<f64>() / 126.0;
                prop_assert!((found - sum).abs() <= bound + 1e-5 * size, "{found} {sum}");
            }
        }
    }
}

#[test]
fn rounding_of_activations_covers_its_edges() {
    let mut x = vec![0.0f32; 4 * 132];
    x[0] = 127.0;
    x[1] = 0.5;
    x[2] = 1.5;
    x[3] = -126.5;
    x[128] = f32::MIN_POSITIVE / 64.0;
    x[132] = f32::NAN;
    x[133] = 3.0;
    x[264] = f32::NEG_INFINITY;
    x[265] = 3.0;
    let mut out = Activations::default();
    reference::quantize_activations(&x, 4, 132, &mut out);
    assert_eq!(out.q[..4], [127, 0, 2, -126]);
    assert_eq!((out.scale[0], out.sum[0]), (1.0, 3));
    assert_eq!((out.q[128], out.scale[4]), (0, 0.0));
    for v in [1, 2] {
        assert!(out.scale[v].is_nan());
        assert!(out.q[132 * v..][..132].iter().all(|&q| q == 0));
        assert_eq!(out.scale[4 + v], 0.0);
    }
    assert_eq!(scale_value(0), 1.0);
}
