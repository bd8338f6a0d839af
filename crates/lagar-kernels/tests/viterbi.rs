//! Every instruction set encodes to exactly the windows of the reference.

use lagar_codec::{Table, reference};
use lagar_kernels::{Encoder, Isa};
use proptest::prelude::*;

fn check(table: &Table, start: u8, targets: &[f32], row_weights: &[f32]) {
    let mut expected = vec![0; targets.len()];
    let end = reference::encode_block(table, start, targets, row_weights, &mut expected);
    for isa in Isa::available() {
        let mut encoder = Encoder::new(isa);
        for _ in 0..2 {
            let mut windows = vec![0; targets.len()];
            let found = encoder.encode_block(table, start, targets, row_weights, &mut windows);
            let (depth, bits) = (table.depth(), table.window());
            assert_eq!(windows, expected, "{isa}, depth {depth}, window {bits}");
            assert_eq!(found, end, "{isa}, depth {depth}, window {bits}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn every_isa_finds_the_windows_of_the_reference(
        depth in 1u8..=8,
        trellis in any::<bool>(),
        start in any::<u8>(),
        rows in 1usize..=40,
        // Few distinct values, so that equal costs occur.
        grid in prop_oneof![Just(0.0f32), Just(8.0)],
        levels in proptest::collection::vec(-127i8..=127, 256),
        trained in any::<bool>(),
        values in proptest::collection::vec(-140.0f32..140.0, 160),
        weights in proptest::collection::vec(
            prop_oneof![Just(1.0f32), Just(0.0), 1e-12f32..1e-10, 0.1f32..10.0], 40),
    ) {
        let window = if trellis { 8 } else { depth };
        let table = if trained {
            Table::trained(depth, window).clone()
        } else {
            let mut levels = levels;
            levels.truncate(1 << window);
            if grid > 0.0 {
                levels.iter_mut().for_each(|level| *level &= !15);
            }
            Table::from_levels(depth, window, levels).unwrap()
        };
        let targets: Vec<f32> = values[..rows * 4]
            .iter()
            .map(|&value| if grid > 0.0 { (value / grid).round() * grid } else { value })
            .collect();
        check(&table, start, &targets, &weights[..rows]);
    }
}

#[test]
fn whole_blocks_and_none_at_all() {
    for depth in 1..=8 {
        for window in [depth, 8] {
            let table = Table::trained(depth, window);
            let targets: Vec<f32> = (0..1024)
                .map(|t| (t as f32 * 12.9898).sin() * 2.0 * table.sigma())
                .collect();
            let weights: Vec<f32> = (0..256).map(|r| 1.0 + (r % 7) as f32).collect();
            check(table, 200, &targets, &weights);
            check(table, 7, &[], &[]);
        }
    }
}

#[test]
fn targets_out_of_reach_still_give_a_sequence_that_decodes() {
    for depth in 1..=7u8 {
        let table = Table::trained(depth, 8);
        for odd in [f32::NAN, f32::INFINITY, 1e30, -1e38] {
            let mut targets = vec![1.0; 64];
            targets[5] = odd;
            for isa in Isa::available() {
                let mut windows = vec![0; 64];
                Encoder::new(isa).encode_block(table, 9, &targets, &[1.0; 16], &mut windows);
                let mut previous = 9u8;
                for &window in &windows {
                    assert_eq!(window & (0xff >> depth), previous >> depth, "{isa}");
                    previous = window;
                }
            }
        }
    }
}
