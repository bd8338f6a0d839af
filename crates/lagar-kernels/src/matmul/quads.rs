//! What the products of four blocks at a time share, at 2 bits a weight and with a split table.
//!
//! A byte has the codes of a row's 4 weights in one block. The bytes of one row in four blocks are brought together before anything is looked
//! up, as a lane of 32 bits. So each look-up gives what is multiplied next, by values that lie 4 columns apart, and all products of 16
//! columns belong to the same rows. The older bits of a byte's windows are in the byte before, which is that of the row before, in the lane
//! before.

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

/// Whether a table is one that this is for.
pub(super) fn take(lookup: &Lookup) -> bool {
    lookup.depth == 2 && lookup.form == Form::Split
}
