//! Descriptions from outside are checked: what is accepted can be used, what is not says why.

use lagar_codec::{
    CodecError, SparseLayout, Split, StageLayout, Table, Transform, hadamard_blocks, pack_sparse,
};
use proptest::prelude::*;

proptest! {
    #[test]
    fn any_accepted_layout_has_lengths_that_fit(
        rows in prop_oneof![0usize..2000, any::<usize>()],
        cols in prop_oneof![0usize..2000, any::<usize>()],
        depths in proptest::collection::vec(0u8..=9, 0..16),
    ) {
        if let Ok(layout) = StageLayout::new(rows, cols, &depths) {
            let bound = layout.padded_rows() as u128 * (layout.padded_cols() + layout.groups()) as u128;
            prop_assert!(layout.codes_len() as u128 <= bound + 64);
            prop_assert!(layout.scales_len() as u128 <= bound);
            let (tr, g) = (layout.tile_rows() - 1, layout.groups() - 1);
            prop_assert_eq!(layout.tile_range(tr, g).end + 64, layout.codes_len());
            prop_assert_eq!(layout.scales_range(tr, g).end, layout.scales_len());
        }
    }

    #[test]
    fn strips_of_tile_rows_have_the_places_that_they_have_in_the_whole(
        rows in 1usize..1500,
        cols in 1usize..400,
        depths in proptest::collection::vec(0u8..=8, 4),
        (start, len) in (0usize..6, 1usize..6),
    ) {
        let depths = &depths[..cols.next_multiple_of(4).div_ceil(128)];
        let whole = StageLayout::new(rows, cols, depths).unwrap();
        let start = start % whole.tile_rows();
        let end = whole.tile_rows().min(start + len);
        let (strip, [codes, scales, row_scales]) =
            whole.strip(256 * start..rows.min(256 * end));
        prop_assert_eq!(strip.tile_rows(), end - start);
        prop_assert_eq!(codes.len(), strip.codes_len());
        prop_assert!(codes.end <= whole.codes_len());
        prop_assert_eq!(scales.len(), strip.scales_len());
        prop_assert_eq!(row_scales, 512 * start..2 * whole.padded_rows().min(256 * end));
        for tr in start..end {
            for g in 0..whole.groups() {
                let moved = strip.tile_range(tr - start, g);
                let moved = moved.start + codes.start..moved.end + codes.start;
                prop_assert_eq!(moved, whole.tile_range(tr, g));
                let moved = strip.scales_range(tr - start, g);
                let moved = moved.start + scales.start..moved.end + scales.start;
                prop_assert_eq!(moved, whole.scales_range(tr, g));
            }
        }
        if end == whole.tile_rows() && start == 0 {
            prop_assert_eq!(&strip, &whole);
        }
    }

    #[test]
    fn transposing_inverts_the_transform_and_keeps_the_norm(
        (values, order, signs) in (1usize..400).prop_flat_map(|width| (
            proptest::collection::vec(-4.0f32..4.0, width),
            Just((0..width as u32).collect::<Vec<_>>()).prop_shuffle(),
            proptest::collection::vec(any::<bool>(), width),
        )),
    ) {
        let transform = Transform::new(values.len(), order, signs).unwrap();
        let mut there = vec![f32::NAN; transform.padded_width()];
        transform.apply(&values, &mut there);
        let mut back = vec![f32::NAN; values.len()];
        transform.apply_transpose(&there, &mut back);
        for (value, back) in values.iter().zip(&back) {
            prop_assert!((value - back).abs() < 1e-5);
        }
        let norm = |x: &[f32]| x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>();
        prop_assert!((norm(&values) - norm(&there)).abs() < 1e-5 * norm(&values).max(1.0));
    }

    #[test]
    fn hadamard_blocks_are_descending_powers_of_two_that_cover_the_width(units in 0usize..200) {
        let (mut end, mut last) = (0, 128);
        for block in hadamard_blocks(4 * units) {
            prop_assert_eq!(block.start, end);
            prop_assert!(block.len().is_power_of_two() && block.len() <= last && block.len() >= 4);
            (end, last) = (block.end, block.len());
        }
        prop_assert_eq!(end, 4 * units);
    }

    #[test]
    fn split_tables_are_accepted_exactly_if_their_levels_fit(
        a in proptest::array::uniform16(-70i8..=70),
        b in proptest::array::uniform16(-40i8..=40),
        shrink in 1i8..=4,
        a_sign_bit in 3u8..=8,
        b_sign_bit in 0u8..=4,
    ) {
        let split = Split { a: a.map(|x| x / shrink), b: b.map(|x| x / shrink), a_sign_bit, b_sign_bit };
        let valid = (4..8).contains(&a_sign_bit) && b_sign_bit < 4
            && (0..=255).all(|w| split.level(w).abs() <= 63);
        match Table::from_split(2, split) {
            Ok(table) => {
                prop_assert!(valid);
                for w in 0..=255u8 {
                    prop_assert_eq!(i16::from(table.levels()[usize::from(w)]), split.level(w));
                }
            }
            Err(_) => prop_assert!(!valid),
        }
    }
}

#[test]
fn the_width_of_stories_is_cut_as_documented() {
    let blocks: Vec<_> = hadamard_blocks(172).collect();
    assert_eq!(blocks, [0..128, 128..160, 160..168, 168..172]);
}

#[test]
fn hostile_sizes_and_depths_are_refused() {
    let refused = |rows, cols, depths: &[u8]| StageLayout::new(rows, cols, depths).unwrap_err();
    assert_eq!(
        refused(0, 4, &[2]),
        CodecError::EmptyShape { rows: 0, cols: 4 }
    );
    assert_eq!(
        refused(4, 0, &[]),
        CodecError::EmptyShape { rows: 4, cols: 0 }
    );
    let rows = usize::MAX - 3;
    assert_eq!(
        refused(rows, 4, &[1]),
        CodecError::TooLarge { rows, cols: 4 }
    );
    let rows = usize::MAX / 64;
    assert_eq!(
        refused(rows, 128, &[8]),
        CodecError::TooLarge { rows, cols: 128 }
    );
    let cols = usize::MAX;
    assert_eq!(
        refused(4, cols, &[1]),
        CodecError::TooLarge { rows: 4, cols }
    );
    assert_eq!(
        refused(4, 4, &[9]),
        CodecError::GroupDepth { group: 0, depth: 9 }
    );
    let count = CodecError::DepthCount {
        cols: 129,
        expected: 2,
        found: 1,
    };
    assert_eq!(refused(4, 129, &[2]), count);
}

#[test]
fn malformed_transforms_and_tables_are_refused() {
    let transform = |perm: &[u32], signs: usize| {
        Transform::new(3, perm.to_vec(), vec![false; signs]).unwrap_err()
    };
    let repeat = CodecError::PermutationRepeat {
        position: 2,
        column: 0,
    };
    assert_eq!(transform(&[0, 1, 0], 3), repeat);
    let range = CodecError::PermutationRange {
        position: 1,
        column: 3,
        width: 3,
    };
    assert_eq!(transform(&[0, 3, 1], 3), range);
    let length = |what, found| CodecError::TransformLength {
        what,
        width: 3,
        found,
    };
    assert_eq!(transform(&[0, 1], 3), length("permutation", 2));
    assert_eq!(transform(&[0, 1, 2], 4), length("signs", 4));
    assert!(Transform::identity(0).is_err());

    let table = |depth, window, len| Table::from_levels(depth, window, vec![0; len]).unwrap_err();
    assert_eq!(table(0, 8, 256), CodecError::TableDepth { depth: 0 });
    assert_eq!(table(9, 8, 256), CodecError::TableDepth { depth: 9 });
    assert_eq!(
        table(2, 4, 16),
        CodecError::TableWindow {
            depth: 2,
            window: 4
        }
    );
    assert_eq!(
        table(2, 8, 255),
        CodecError::TableLength {
            window: 8,
            found: 255
        }
    );
    let levels = Table::from_levels(1, 1, vec![-1, 1]).unwrap();
    assert!(levels.with_sigma(f32::NAN).is_err());
}

#[test]
fn every_trained_table_loads_and_low_depths_are_split() {
    for depth in 1..=8 {
        for window in [depth, 8] {
            let table = Table::trained(depth, window);
            assert_eq!((table.depth(), table.window()), (depth, window));
            assert_eq!(table.split().is_some(), depth <= 4 && window == 8);
            assert!(table.sigma() > 1.0);
        }
    }
    let bytes: Vec<i8> = (0..=255u8).map(|w| w as i8).collect();
    assert_eq!(Table::trained(8, 8).levels(), bytes);
}

#[test]
fn lead_bytes_and_padding_must_be_zero() {
    let layout = StageLayout::new(300, 300, &[2, 0, 3]).unwrap();
    let mut codes = vec![0xffu8; layout.codes_len()];
    let padding = codes.len() - 64..codes.len();
    let tiles = [(0, 0), (0, 2), (1, 0), (1, 2)].map(|(tr, g)| layout.tile_range(tr, g).start);
    for at in tiles.into_iter().chain(padding) {
        let error = layout.check_codes(&codes).unwrap_err();
        assert_eq!(
            error,
            CodecError::NotZero {
                offset: at,
                found: 255
            }
        );
        codes[at] = 0;
    }
    layout.check_codes(&codes).unwrap();
}

proptest! {
    #[test]
    fn strips_of_sparse_rows_are_those_of_the_whole(
        rows in 1usize..900,
        cols in 1usize..3000,
        seed in any::<u64>(),
        (start, len) in (0usize..4, 1usize..4),
    ) {
        let mut state = seed | 1;
        let mut below = |n: u64| {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            (state >> 33) % n
        };
        let entries: Vec<Vec<(u32, u16)>> = (0..rows)
            .map(|_| {
                let mut columns: Vec<u32> = (0..below(5)).map(|_| below(cols as u64) as u32).collect();
                columns.sort_unstable();
                columns.dedup();
                columns.into_iter().map(|c| (c, 0x3c00)).collect()
            })
            .collect();
        let packed = pack_sparse(&entries).unwrap();
        let whole = SparseLayout::new(rows, cols, packed.gap_bytes, &packed.counts).unwrap();
        prop_assert_eq!(packed.gaps.len(), whole.gaps_len());
        prop_assert_eq!(packed.values.len(), whole.values_len());
        whole.check(0..whole.bands(), &packed.gaps, &packed.values).unwrap();
        let tile_rows = rows.div_ceil(256);
        let start = start % tile_rows;
        let range = 256 * start..rows.min(256 * (start + len));
        let (strip, [gaps, values]) = whole.strip(range.clone());
        let (gaps, values) = (&packed.gaps[gaps], &packed.values[values]);
        strip.check(0..strip.bands(), gaps, values).unwrap();
        let mut found = vec![Vec::new(); range.len()];
        for band in 0..strip.bands() {
            strip.for_each(band, gaps, values, |row, column, value| {
                if value != 0 {
                    found[16 * band + row].push((column as u32, value));
                }
                true
            });
        }
        prop_assert_eq!(&found[..], &entries[range]);
    }
}

#[test]
fn sparse_stages_that_contradict_themselves_are_refused() {
    let counts = |counts: &[u16]| -> Vec<u8> {
        let mut all = [0u16; 16];
        all[..counts.len()].copy_from_slice(counts);
        all.iter().flat_map(|count| count.to_le_bytes()).collect()
    };
    let new = |cols, gap_bytes, counts: &[u8]| SparseLayout::new(3, cols, gap_bytes, counts);
    assert!(matches!(
        new(0, 1, &counts(&[])),
        Err(CodecError::EmptyShape { .. })
    ));
    assert!(matches!(
        new(9, 3, &counts(&[])),
        Err(CodecError::GapBytes { gap_bytes: 3 })
    ));
    assert!(matches!(
        new(9, 1, &[0; 6]),
        Err(CodecError::CountsLength { expected: 32, .. })
    ));
    assert!(matches!(
        new(9, 1, &counts(&[0, 10])),
        Err(CodecError::RowEntries {
            row: 1,
            count: 10,
            most: 9
        })
    ));
    assert!(matches!(
        new(9, 1, &counts(&[0, 1, 2, 1])),
        Err(CodecError::RowEntries {
            row: 3,
            most: 0,
            ..
        })
    ));
    assert!(matches!(
        SparseLayout::new(usize::MAX - 40, 9, 1, &[]),
        Err(CodecError::TooLarge { .. })
    ));
    let layout = new(9, 1, &counts(&[1, 2])).unwrap();
    // The first entries of rows 0 and 1, then the second of row 1.
    assert_eq!(layout.check(0..1, &[8, 3, 4], &[0; 6]), Ok(()));
    assert_eq!(
        layout.check(0..1, &[8, 3, 5], &[0; 6]),
        Err(CodecError::EntryColumn {
            row: 1,
            column: 9,
            cols: 9
        })
    );
    assert_eq!(
        layout.check(0..1, &[8, 3, 4], &[0, 0, 0, 0xfc, 0, 0]),
        Err(CodecError::EntryValue {
            row: 1,
            column: 3,
            value: 0xfc00
        })
    );
}
