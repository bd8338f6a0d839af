//! Encoding: the Viterbi search of [`lagar_codec::reference::encode_block`], bit for bit, with SIMD
//! across the 256 states.
//!
//! The cost of state `w` lies in vector `w & 15`, lane `w >> 4`. The `2^K` predecessors of a state
//! are neighbours, so up to `K = 4` the cheapest of them is found by a tournament between whole
//! vectors; for `K > 4` a tournament of all 16 vectors is followed by one between neighbouring lanes.
//! The comparison masks are the back pointers. A state's predecessors depend on its low `8 − K` bits
//! only, so each vector of new costs starts as one permutation of the tournament's result.

mod forward;
mod nearest;
mod traceback;

use lagar_codec::{BLOCK_COLS, Table};

use self::forward::{Forward, STATES};
use self::nearest::Nearest;
use crate::Isa;

/// Encodes blocks of weights with one instruction set; keeps the memory it needs between blocks.
#[derive(Clone, Debug)]
pub struct Encoder {
    isa: Isa,
    /// Comparison masks of every weight.
    masks: Vec<u16>,
}

impl Encoder {
    /// An encoder that uses `isa`.
    ///
    /// # Panics
    ///
    /// If the processor lacks the instruction set.
    pub fn new(isa: Isa) -> Self {
        assert!(isa.is_available(), "this processor cannot run {isa}");
        Self {
            isa,
            masks: Vec::new(),
        }
    }

    /// Finds the windows that code `targets` at the least weighted squared error, and returns the
    /// last one: [`lagar_codec::reference::encode_block`] says exactly what it does, and this returns
    /// the same windows for finite targets and weights.
    ///
    /// `targets` are one block in coding order (row by row, 4 columns each), in level units;
    /// `row_weights` has one non-negative weight per row. The sequence goes on from window `start`.
    ///
    /// # Panics
    ///
    /// If `targets` and `windows` do not have 4 values per row weight.
    pub fn encode_block(
        &mut self,
        table: &Table,
        start: u8,
        targets: &[f32],
        row_weights: &[f32],
        windows: &mut [u8],
    ) -> u8 {
        assert_eq!(targets.len(), BLOCK_COLS * row_weights.len());
        assert_eq!(windows.len(), targets.len());
        if windows.is_empty() {
            return start;
        }
        match table.depth() {
            depth if depth == table.window() => {
                let levels = table.levels();
                self.isa.dispatch(Nearest {
                    levels,
                    targets,
                    windows,
                });
                windows[windows.len() - 1]
            }
            depth => {
                let levels = table.levels();
                let levels = std::array::from_fn(|w| f32::from(levels[w]));
                self.encode_levels(depth, &levels, start, targets, row_weights, windows)
            }
        }
    }

    /// [`Encoder::encode_block`] with windows of 8 bits and levels that need not be bytes, as a table
    /// has them while it is trained.
    ///
    /// # Panics
    ///
    /// If `depth` is not 1 to 7, or `targets` and `windows` do not have 4 values per row weight.
    pub fn encode_levels(
        &mut self,
        depth: u8,
        levels: &[f32; STATES],
        start: u8,
        targets: &[f32],
        row_weights: &[f32],
        windows: &mut [u8],
    ) -> u8 {
        assert_eq!(targets.len(), BLOCK_COLS * row_weights.len());
        assert_eq!(windows.len(), targets.len());
        let search = match depth {
            1 => Self::search::<1>,
            2 => Self::search::<2>,
            3 => Self::search::<3>,
            4 => Self::search::<4>,
            5 => Self::search::<5>,
            6 => Self::search::<6>,
            7 => Self::search::<7>,
            _ => panic!("a trellis of 8-bit windows has depth 1 to 7, not {depth}"),
        };
        search(self, levels, start, targets, row_weights, windows)
    }

    fn search<const K: usize>(
        &mut self,
        levels: &[f32; STATES],
        start: u8,
        targets: &[f32],
        row_weights: &[f32],
        windows: &mut [u8],
    ) -> u8 {
        let len = targets.len() * forward::masks_per_weight(K);
        if self.masks.len() < len {
            self.masks.resize(len, 0);
        }
        let masks = &mut self.masks[..len];
        let end = self.isa.dispatch(Forward::<K> {
            levels,
            start,
            targets,
            row_weights,
            masks: &mut *masks,
        });
        traceback::windows::<K>(masks, start, end, windows)
    }
}
