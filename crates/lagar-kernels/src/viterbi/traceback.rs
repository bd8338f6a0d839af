//! The way back: from the cheapest final state to the windows.

use lagar_codec::{next_window, symbol};

use super::forward::{STATES, masks_per_weight, round_masks};

/// Follows the masks from the last window to the first and returns the last.
pub(super) fn windows<const K: usize>(masks: &[u16], start: u8, end: u8, windows: &mut [u8]) -> u8 {
    let mut state = usize::from(end);
    let steps = masks.chunks_exact(masks_per_weight(K));
    for (window, masks) in windows.iter_mut().zip(steps).rev() {
        *window = state as u8;
        state = predecessor::<K>(masks, state);
    }
    if state != usize::from(start) {
        // Only if no sequence has a finite cost: make the symbols found into windows from `start`.
        let mut previous = start;
        for window in windows.iter_mut() {
            previous = next_window(K as u8, 8, previous, symbol(K as u8, 8, *window));
            *window = previous;
        }
        return previous;
    }
    end
}

/// The state before `state` on the cheapest way to it.
#[inline(always)]
fn predecessor<const K: usize>(masks: &[u16], state: usize) -> usize {
    // The result that the state started from, as the tournament's last round numbers it.
    let result = state & ((STATES >> K) - 1);
    let (mut vector, mut lane) = if K <= 4 {
        (result & ((1 << (4 - K)) - 1), result >> (4 - K))
    } else {
        (0, result)
    };
    let mut round = K;
    while round > 4 {
        round -= 1;
        lane = 2 * lane + usize::from(masks[round_masks(round)] >> lane & 1);
    }
    while round > 0 {
        round -= 1;
        vector = 2 * vector + usize::from(masks[round_masks(round) + vector] >> lane & 1);
    }
    lane * 16 + vector
}
