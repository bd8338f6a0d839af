//! Memory for decoded weights, used again from block to block.

use std::sync::{Mutex, PoisonError};

/// Vectors that are not in use. Blocks are alike, so that those of one block fit the next; what does
/// not fit is let go of before more memory is taken.
#[derive(Debug, Default)]
pub(crate) struct Spare(Mutex<Vec<Vec<u8>>>);

impl Spare {
    /// A vector of this length, of any content.
    pub(crate) fn take(&self, len: usize) -> Vec<u8> {
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match spare.iter().position(|vector| vector.len() == len) {
            Some(at) => spare.swap_remove(at),
            None => {
                spare.clear();
                vec![0; len]
            }
        }
    }

    /// Gives a vector back.
    pub(crate) fn put(&self, vector: Vec<u8>) {
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        spare.push(vector);
    }
}
