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
    let (first, mut lane) = if K <= 4 {
        (result & ((1 << (4 - K)) - 1), result >> (4 - K))
    } else {
        (0, result)
    };
    let mut round = K;
    while round > 4 {
        round -= 1;
        lane = 2 * lane + usize::from(masks[round_masks(round)] >> lane & 1);
    }
    // The masks that a round may need are neighbours: their addresses depend on the result alone and
    // not on the rounds before, so that all loads start at once.
    let mut below = 0;
    while round > 0 {
        round -= 1;
        let count = 1 << (K.min(4) - 1 - round);
        let mask = round_masks(round) + first * count;
        let word = match count {
            1 => u64::from(masks[mask]),
            2 => u64::from(masks[mask]) | u64::from(masks[mask + 1]) << 16,
            4 => four(masks, mask),
            _ if below < 4 => four(masks, mask),
            _ => four(masks, mask + 4),
        };
        let word = word >> (16 * (below & 3));
        below = 2 * below + (word >> lane & 1) as usize;
    }
    lane * 16 + (first << K.min(4)) + below
}

/// Four masks, the first in the lowest bits.
#[inline(always)]
fn four(masks: &[u16], first: usize) -> u64 {
    let masks = &masks[first..first + 4];
    u64::from(masks[0])
        | u64::from(masks[1]) << 16
        | u64::from(masks[2]) << 32
        | u64::from(masks[3]) << 48
}
