//! What the products of four blocks at a time share, at 1 to 3 bits a weight with a split table, and at 5 and 6 with a bent one.
//!
//! At 2 bits a byte has the codes of a row's 4 weights in one block; at 1 bit it has those of a pair of rows, at 3 and 5 bits three and
//! five bytes have those, at 6 bits three bytes have a row's. Such bytes of one row, or pair, in four blocks are brought together before anything is looked up, as a lane of 32 bits. So each
//! look-up gives what is multiplied next, by values that lie 4 columns apart, and all products of 16 columns belong to the same rows. The older
//! bits of a byte's windows are in the byte before: that of the row or pair before, in the lane before.

use std::ops::RangeInclusive;

use lagar_codec::BLOCK_COLS;

use super::lookup::{Form, Lookup};

/// Blocks that are taken together.
pub(super) const BLOCKS: usize = 4;

/// The values of four blocks in the order of columns, and of blocks for each.
pub(super) const BY_COLUMN: [u8; BLOCKS * BLOCK_COLS] = {
    let mut order = [0; BLOCKS * BLOCK_COLS];
    let mut i = 0;
    while i < order.len() {
        order[i] = (i % BLOCKS * BLOCK_COLS + i / BLOCKS) as u8;
        i += 1;
    }
    order
};

/// Whether a table is split, and one of so many bits.
pub(super) fn take(lookup: &Lookup, depths: RangeInclusive<usize>) -> bool {
    depths.contains(&lookup.depth) && lookup.form == Form::Split
}
