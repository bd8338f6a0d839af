//! The text that gradients are taken on: windows, and in each the positions whose predictions count.

use std::ops::Range;

use lagar_engine::gradient::Loss;
use lagar_kernels::Cpu;

use crate::evaluate::{Example, Windows};

/// Positions of a window of text, at most: many passages say more than long ones.
const CONTEXT: usize = 512;
/// Share of the windows that is held out, and tokens of it that are used at most.
const HELD_OUT: usize = 8;
const MOST_HELD_OUT: usize = 4096;

/// Windows to learn from, and some that are held out.
#[derive(Debug)]
pub(crate) struct Sample {
    windows: Vec<Window>,
    held_out: Range<usize>,
}

/// A run of tokens.
#[derive(Debug, Clone)]
pub(crate) struct Window {
    pub(crate) tokens: Vec<u32>,
    /// Positions whose predictions count.
    pub(crate) scored: Range<usize>,
}

impl Sample {
    /// Windows of text, all positions of which count. `None` where there is too little to learn from one and
    /// hold out another.
    pub(crate) fn of_text(text: &Windows) -> Option<Self> {
        let windows = text.recut(CONTEXT);
        let windows = windows.iter().map(|tokens| Window {
            scored: 0..tokens.len(),
            tokens,
        });
        Self::new(windows.collect())
    }

    /// Examples, of which the predictions of the continuation count: at most `context` tokens of each, the end
    /// of its context and the beginning of its continuation.
    pub(crate) fn of_examples(examples: &[Example], context: usize) -> Option<Self> {
        Self::new(examples.iter().map(|e| window_of(e, context)).collect())
    }

    fn new(windows: Vec<Window>) -> Option<Self> {
        let held_out = windows.len().div_ceil(HELD_OUT);
        let learned = windows.len() - held_out;
        if learned == 0 {
            return None;
        }
        let tokens = windows[learned..].iter().scan(0, |sum, window| {
            *sum += window.tokens.len();
            Some(*sum)
        });
        let fitting = tokens.take_while(|sum| *sum <= MOST_HELD_OUT).count();
        let held_out = learned..learned + fitting.max(1);
        Some(Self { windows, held_out })
    }

    pub(crate) fn window(&self, window: usize) -> &Window {
        &self.windows[window]
    }

    /// The windows to learn from.
    pub(crate) fn learned(&self) -> Range<usize> {
        0..self.held_out.start
    }

    /// The windows that tell whether learning helped.
    pub(crate) fn held_out(&self) -> Range<usize> {
        self.held_out.clone()
    }
}

/// The tokens of an example, without the last, which predicts nothing.
pub(crate) fn window_of(example: &Example, context: usize) -> Window {
    let scored = example.continuation.len().min(context);
    let before = &example.context[..];
    let kept = before.len().min(context + 1 - scored);
    let mut tokens = before[before.len() - kept..].to_vec();
    tokens.extend(&example.continuation[..scored - 1]);
    Window {
        scored: tokens.len() - scored..tokens.len(),
        tokens,
    }
}

/// A loss of some positions alone.
pub(crate) struct Within<L> {
    pub(crate) loss: L,
    pub(crate) positions: Range<usize>,
}

impl<L: Loss> Loss for Within<L> {
    fn gradient(&mut self, cpu: &Cpu, first: usize, logits: &mut [f32], vocabulary: usize) -> f64 {
        let n = logits.len() / vocabulary;
        let from = self.positions.start.clamp(first, first + n) - first;
        let to = self.positions.end.clamp(first, first + n) - first;
        let (before, rest) = logits.split_at_mut(from * vocabulary);
        let (scored, after) = rest.split_at_mut((to - from) * vocabulary);
        before.fill(0.0);
        after.fill(0.0);
        match scored.is_empty() {
            true => 0.0,
            false => self.loss.gradient(cpu, first + from, scored, vocabulary),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(context: u32, continuation: u32) -> Example {
        Example {
            context: (0..context).collect(),
            continuation: (100..100 + continuation).collect(),
        }
    }

    /// Every scored position predicts a token of the continuation: the one behind it.
    #[test]
    fn scored_positions_are_those_before_the_continuation() {
        for (context, continuation, room) in [(5, 3, 64), (5, 1, 64), (50, 3, 16), (1, 40, 16)] {
            let example = example(context, continuation);
            let window = window_of(&example, room);
            assert!(window.tokens.len() <= room);
            assert_eq!(window.scored.end, window.tokens.len());
            let all = [&example.context[..], &example.continuation].concat();
            let start = all.iter().position(|t| *t == window.tokens[0]).unwrap();
            for position in window.scored.clone() {
                assert!(all[start + position + 1] >= 100);
                assert_eq!(all[start + position], window.tokens[position]);
            }
            let scored = window.scored.len();
            assert_eq!(scored, (continuation as usize).min(room));
        }
    }

    #[test]
    fn windows_are_held_out_where_there_are_two() {
        let sample = |count| Sample::of_examples(&vec![example(4, 2); count], 64);
        assert!(sample(1).is_none());
        for count in [2, 8, 100] {
            let sample = sample(count).unwrap();
            assert!(!sample.learned().is_empty() && !sample.held_out().is_empty());
            assert_eq!(sample.learned().end, sample.held_out().start);
        }
    }
}
