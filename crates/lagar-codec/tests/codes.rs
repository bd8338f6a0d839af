//! Codes and layouts: what is encoded decodes to the levels that were chosen.

use lagar_codec::{StageLayout, Table, pack_windows, reference};
use proptest::prelude::*;

fn tables() -> impl Strategy<Value = &'static Table> {
    (1u8..=8, any::<bool>())
        .prop_map(|(depth, trellis)| Table::trained(depth, if trellis { 8 } else { depth }))
}

proptest! {
    #[test]
    fn encoding_then_decoding_gives_the_chosen_levels(
        table in tables(),
        units in 1usize..=3,
        blocks in 1usize..=3,
        seed in proptest::collection::vec(-2.5f32..2.5, 16..64),
    ) {
        let (rows, cols, depth) = (units * 16, blocks * 4, usize::from(table.depth()));
        let targets: Vec<f32> = (0..rows * cols)
            .map(|t| (seed[t % seed.len()] + seed[(t / 7) % seed.len()]) * 0.7 * table.sigma())
            .collect();
        let mut stream = vec![0; 1 + rows * cols * depth / 8];
        let mut windows = vec![0; rows * 4];
        let mut expected = vec![0; rows * cols];
        let mut window = 0;
        for block in 0..blocks {
            let weights = vec![1.0; rows];
            let targets = &targets[block * rows * 4..][..rows * 4];
            window = reference::encode_block(table, window, targets, &weights, &mut windows);
            let bytes = rows * 4 * depth / 8;
            pack_windows(table.depth(), table.window(), &windows, &mut stream[1 + block * bytes..][..bytes]);
            for (t, &w) in windows.iter().enumerate() {
                expected[t / 4 * cols + block * 4 + t % 4] = table.levels()[usize::from(w)];
            }
        }
        let mut levels = vec![0; rows * cols];
        reference::decode_tile(table, &stream, rows, cols, &mut levels);
        prop_assert_eq!(levels, expected);
    }

    #[test]
    fn tiles_and_scales_cover_their_bytes_without_holes(
        rows in 1usize..1200,
        cols in 1usize..700,
        depths in proptest::collection::vec(0u8..=8, 6),
    ) {
        let layout = StageLayout::new(rows, cols, &depths[..cols.div_ceil(128)]).unwrap();
        let (mut codes, mut scales, mut covered_rows) = (0, 0, 0);
        for tr in 0..layout.tile_rows() {
            let height = layout.tile_height(tr);
            covered_rows += height;
            let mut covered_cols = 0;
            for g in 0..layout.groups() {
                let group = layout.group(g);
                prop_assert_eq!(group.first, covered_cols);
                covered_cols += group.cols;
                let stored = group.depth > 0;
                let len = usize::from(stored) + height * group.cols * usize::from(group.depth) / 8;
                prop_assert_eq!(layout.tile_range(tr, g), codes..codes + len);
                if stored {
                    let blocks = group.cols / 4;
                    for block in 0..blocks {
                        let range = layout.block_range(tr, g, block);
                        let before = if block == 0 { codes + 1 } else { layout.block_range(tr, g, block - 1).end };
                        prop_assert_eq!(range.start, before);
                    }
                    prop_assert_eq!(layout.block_range(tr, g, blocks - 1).end, codes + len);
                }
                codes += len;
                let len = if stored { height } else { 0 };
                prop_assert_eq!(layout.scales_range(tr, g), scales..scales + len);
                scales += len;
            }
            prop_assert_eq!(covered_cols, layout.padded_cols());
        }
        prop_assert_eq!(covered_rows, layout.padded_rows());
        prop_assert_eq!(codes + 64, layout.codes_len());
        prop_assert_eq!(scales, layout.scales_len());
    }
}
