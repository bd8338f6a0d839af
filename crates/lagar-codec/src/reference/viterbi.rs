//! The search for the cheapest sequence of windows.

use crate::{BLOCK_COLS, Table, next_window, symbol};

/// Weights between two renormalisations of the costs.
pub const RENORMALIZE: usize = 64;

/// Finds the windows that code `targets` at the least weighted squared error, and returns the last.
///
/// `targets` are one block in coding order (row by row, 4 columns each), in level units;
/// `row_weights` has one non-negative weight per row; `windows` receives one window per target. The
/// sequence goes on from window `start` and may end in any window.
///
/// In f32, nothing fused: `s = √row_weight`, `d = s · target − s · level`, `cost(w) = min over the
/// predecessors + d · d`; equal costs go to the smaller predecessor, at the end to the smaller window.
/// After every 64 weights the least cost is subtracted from all, if it is finite: so costs stay within
/// those of about 64 weights, rounding (2⁻²⁴ of them) is far below the cost of one weight, and rows of
/// small weight after rows of large weight are still coded well.
///
/// With `L = K` there is no trellis: each target goes to the nearest level, of equally near ones to
/// that of the smallest window, whatever the weights.
///
/// Any targets and weights give a sequence that a decoder reproduces; if some are not finite it is
/// not specified which.
///
/// # Panics
///
/// If `targets` and `windows` do not have 4 values per row weight.
pub fn encode_block(
    table: &Table,
    start: u8,
    targets: &[f32],
    row_weights: &[f32],
    windows: &mut [u8],
) -> u8 {
    assert_eq!(targets.len(), BLOCK_COLS * row_weights.len());
    assert_eq!(windows.len(), targets.len());
    let (depth, bits) = (table.depth(), table.window());
    if depth == bits {
        for (window, &target) in windows.iter_mut().zip(targets) {
            *window = nearest(table.levels(), target);
        }
        return windows.last().copied().unwrap_or(start);
    }
    let states = table.levels().len();
    // Predecessors of a window: its bits moved back by one symbol, with any lowest bits.
    let choices = 1usize << depth;
    let first_predecessor = |w: usize| (w * choices) % states;

    let mut costs = vec![f32::INFINITY; states];
    costs[usize::from(start)] = 0.0;
    let mut back = vec![0u8; targets.len() * states];
    for (t, &target) in targets.iter().enumerate() {
        let s = row_weights[t / BLOCK_COLS].sqrt();
        let previous = costs.clone();
        let (chosen, chosen_cost) = (&mut back[t * states..][..states], &mut costs);
        for w in 0..states {
            let first = first_predecessor(w);
            let mut best = first;
            for p in first..first + choices {
                if previous[p] < previous[best] {
                    best = p;
                }
            }
            let d = s * target - s * f32::from(table.levels()[w]);
            chosen_cost[w] = previous[best] + d * d;
            chosen[w] = best as u8;
        }
        if (t + 1) % RENORMALIZE == 0 {
            let least = costs.iter().copied().fold(f32::INFINITY, f32::min);
            if least.is_finite() {
                costs.iter_mut().for_each(|cost| *cost -= least);
            }
        }
    }
    let mut window = 0;
    for w in 1..states {
        if costs[w] < costs[window] {
            window = w;
        }
    }
    for t in (0..targets.len()).rev() {
        windows[t] = window as u8;
        window = usize::from(back[t * states + window]);
    }
    // Rebuild the windows from their symbols: the same, unless no path from `start` has a finite cost.
    let mut window = start;
    for w in windows.iter_mut() {
        window = next_window(depth, bits, window, symbol(depth, bits, *w));
        *w = window;
    }
    window
}

/// The window of the level nearest to `target`; of equally near ones the smallest.
fn nearest(levels: &[i8], target: f32) -> u8 {
    let distance = |w: usize| (target - f32::from(levels[w])).abs();
    let mut best = 0;
    for w in 1..levels.len() {
        if distance(w) < distance(best) {
            best = w;
        }
    }
    best as u8
}
