//! How much work a refinement may be.

use super::sample::Sample;
use crate::evaluate::Windows;
use crate::random::Random;

/// The largest effort that can be asked for.
pub const MOST_EFFORT: u8 = 3;

/// Tokens of a step.
const BATCH: usize = 1024;
/// Times that the held-out text is looked at.
const CHECKS: usize = 8;

/// What a refinement reads, and how often.
#[derive(Debug)]
pub(super) struct Plan {
    sample: Sample,
    /// Windows of each step.
    batches: Vec<Vec<usize>>,
}

impl Plan {
    /// The plan of an effort; `None` where there is nothing to do, or too little text to tell whether it
    /// helps: a window to learn from and another.
    ///
    /// Steps are bounded by the calibration text: they read a quarter of its tokens with effort 1, as many
    /// as it has with 2, four times as many with 3. A token costs about four times what it does to calibrate.
    pub(super) fn new(effort: u8, seed: u64, text: &Windows) -> Option<Self> {
        let tokens = match effort {
            0 => return None,
            1 => text.text_tokens() / 4,
            2 => text.text_tokens(),
            _ => 4 * text.text_tokens(),
        };
        let sample = Sample::of_text(text)?;
        let learned = sample.learned().len();
        let mut order = Order::new(seed, learned);
        let (mut batches, mut read) = (Vec::new(), 0);
        while read < tokens.max(BATCH) {
            let (mut batch, mut size) = (Vec::new(), 0);
            while size < BATCH.min(tokens.max(1)) {
                let window = order.next();
                size += sample.window(window).tokens.len();
                batch.push(window);
            }
            read += size;
            batches.push(batch);
        }
        Some(Self { sample, batches })
    }

    pub(super) fn steps(&self) -> usize {
        self.batches.len()
    }

    /// Tokens of all steps.
    pub(super) fn tokens(&self) -> usize {
        let windows = self.batches.iter().flatten();
        windows
            .map(|&window| self.sample.window(window).tokens.len())
            .sum()
    }

    /// The windows of each step.
    pub(super) fn batches(&self) -> impl Iterator<Item = Vec<usize>> {
        self.batches.iter().cloned()
    }

    /// What is read.
    pub(super) fn sample(&self) -> &Sample {
        &self.sample
    }

    /// Whether the held-out text is looked at after a step.
    pub(super) fn is_checked(&self, step: usize) -> bool {
        let before = step * CHECKS / self.steps();
        let after = (step + 1) * CHECKS / self.steps();
        after > before
    }
}

/// All windows in random order, over and over.
struct Order {
    random: Random,
    windows: Vec<usize>,
    at: usize,
}

/// The stream of random numbers for the order.
const STREAM: u64 = u64::MAX - 1;

impl Order {
    fn new(seed: u64, windows: usize) -> Self {
        Self {
            random: Random::new(seed, STREAM),
            windows: (0..windows).collect(),
            at: windows,
        }
    }

    fn next(&mut self) -> usize {
        if self.at == self.windows.len() {
            self.at = 0;
            // Fisher and Yates.
            for i in (1..self.windows.len()).rev() {
                self.windows.swap(i, self.random.below(i + 1));
            }
        }
        self.at += 1;
        self.windows[self.at - 1]
    }
}
