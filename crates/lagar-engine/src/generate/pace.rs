//! How many tokens a draft guesses at a time.

use std::time::Duration;

/// The most tokens that are guessed at a time. The logits of all of them are in memory at once.
const MOST: usize = 32;

/// How many tokens a draft guesses before the target judges them. It changes speed only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DraftLength {
    /// As many as the measured times and the share of right guesses make the fastest.
    #[default]
    Adaptive,
    /// As many as the list says, round after round and from its beginning again, at most 32; for
    /// measurements and tests.
    Scheduled(Vec<usize>),
}

/// Decides the number of guesses of each round.
#[derive(Debug)]
pub(super) enum Pace {
    Adaptive(Adaptive),
    Scheduled { lengths: Vec<usize>, round: usize },
}

impl From<DraftLength> for Pace {
    fn from(length: DraftLength) -> Self {
        match length {
            DraftLength::Adaptive => Self::Adaptive(Adaptive::default()),
            DraftLength::Scheduled(lengths) => Self::Scheduled { lengths, round: 0 },
        }
    }
}

impl Pace {
    /// The number of guesses of the next round, at most `most`.
    pub(super) fn next(&mut self, most: usize) -> usize {
        let wanted = match self {
            Self::Adaptive(adaptive) => adaptive.next(),
            Self::Scheduled { lengths, round } => {
                let length = lengths.get(*round % lengths.len().max(1));
                *round += 1;
                length.copied().unwrap_or(0)
            }
        };
        wanted.min(MOST).min(most)
    }

    /// Takes note of the time for one guess.
    pub(super) fn proposed(&mut self, time: Duration) {
        if let Self::Adaptive(adaptive) = self {
            adaptive.proposed(time.as_secs_f64());
        }
    }

    /// Takes note of a pass of the target over `proposed` tokens and the one before them, of which
    /// it accepted so many.
    pub(super) fn judged(&mut self, proposed: usize, accepted: usize, pass: Duration) {
        if let Self::Adaptive(adaptive) = self {
            adaptive.judged(proposed, accepted, pass.as_secs_f64());
        }
    }
}

/// What a round without measurements guesses.
const FIRST: usize = 4;
/// Where guessing does not pay, as many are made after so many rounds, to see whether it does now,
/// and then after ever more: the draft has to catch up for it.
const PROBE: u32 = 16;
/// How much longer it takes to the next one each time.
const PROBE_GROWTH: u32 = 4;
/// What remains of a judgement's weight after one more: about the last 50 count.
const REMAINS: f64 = 0.98;
/// The same for times, which change when weights come into memory or go out of it.
const TIMES_REMAIN: f64 = 0.9;
/// Guesses that count as made before the first, and how many of them as right.
const PRIOR: (f64, f64) = (4.0, 3.0);

/// Maximises tokens per second, as measured so far.
///
/// Of k guesses, each right with probability a if all before it were, a round makes
/// (1 − a^(k+1)) / (1 − a) tokens on average (arXiv 2211.17192, equation 1). It takes k steps of
/// the draft and a pass of the target over k + 1 tokens.
#[derive(Debug)]
pub(super) struct Adaptive {
    /// Decaying numbers of guesses that were judged and of those that were right.
    judged: f64,
    right: f64,
    step: Line,
    pass: Line,
    /// Rounds since the last guess, and after how many the next one is made.
    idle: u32,
    probe: u32,
}

impl Default for Adaptive {
    fn default() -> Self {
        let (judged, right) = PRIOR;
        Self {
            judged,
            right,
            step: Line::default(),
            pass: Line::default(),
            idle: 0,
            probe: PROBE,
        }
    }
}

impl Adaptive {
    fn next(&mut self) -> usize {
        let best = self.best();
        if best > 0 {
            self.idle = 0;
            self.probe = PROBE;
            return best;
        }
        self.idle += 1;
        if self.idle < self.probe {
            return 0;
        }
        self.idle = 0;
        self.probe = self.probe.saturating_mul(PROBE_GROWTH);
        FIRST
    }

    fn best(&self) -> usize {
        let (Some(step), Some(_)) = (self.step.at(1.0), self.pass.at(1.0)) else {
            return FIRST;
        };
        let right = self.right / self.judged;
        let (mut best, mut most) = (0, 0.0);
        let (mut tokens, mut all_right) = (0.0, 1.0);
        for guesses in 0..=MOST {
            tokens += all_right;
            all_right *= right;
            let pass = self.pass.at((guesses + 1) as f64).unwrap_or(0.0);
            let rate = tokens / (guesses as f64 * step + pass);
            if rate > most {
                (best, most) = (guesses, rate);
            }
        }
        best
    }

    fn proposed(&mut self, seconds: f64) {
        self.step.add(1.0, seconds);
    }

    fn judged(&mut self, proposed: usize, accepted: usize, seconds: f64) {
        self.pass.add((proposed + 1) as f64, seconds);
        // Guesses after the first wrong one say nothing.
        let judged = proposed.min(accepted + 1);
        for guess in 0..judged {
            self.judged = self.judged * REMAINS + 1.0;
            self.right = self.right * REMAINS + f64::from(u8::from(guess < accepted));
        }
    }
}

/// A straight line through measurements, the newer ones weighing more.
#[derive(Debug, Default)]
struct Line {
    weight: f64,
    /// Weighted sums.
    x: f64,
    y: f64,
    xx: f64,
    xy: f64,
    /// The last slope that could be told.
    slope: f64,
}

impl Line {
    fn add(&mut self, x: f64, y: f64) {
        // A time may be far off because the machine did something else meanwhile. If it is the new
        // truth, the line gets there soon.
        let y = match self.at(x) {
            Some(expected) if self.weight > 3.0 => y.min(1.5 * expected),
            _ => y,
        };
        for (sum, term) in [
            (&mut self.weight, 1.0),
            (&mut self.x, x),
            (&mut self.y, y),
            (&mut self.xx, x * x),
            (&mut self.xy, x * y),
        ] {
            *sum = *sum * TIMES_REMAIN + term;
        }
        // Where all measurements lie at one x, they say nothing of a slope.
        let variance = self.weight * self.xx - self.x * self.x;
        if variance > 0.1 * self.weight * self.weight {
            let covariance = self.weight * self.xy - self.x * self.y;
            self.slope = (covariance / variance).max(0.0);
        }
    }

    /// The line's value, if there is any measurement; no less than a tenth of the average, which
    /// only noise could go below.
    fn at(&self, x: f64) -> Option<f64> {
        if self.weight == 0.0 {
            return None;
        }
        let (mean_x, mean_y) = (self.x / self.weight, self.y / self.weight);
        Some((mean_y + self.slope * (x - mean_x)).max(0.1 * mean_y))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs rounds on a simulated pair of models; returns tokens per second of the last half.
    fn simulate(
        mut length: impl FnMut(&mut Adaptive) -> usize,
        right: f64,
        step: f64,
        pass: impl Fn(usize) -> f64,
    ) -> f64 {
        const ROUNDS: u32 = 4000;
        let mut adaptive = Adaptive::default();
        let (mut state, mut tokens, mut seconds) = (1_u64, 0, 0.0);
        let mut chance = || {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (state >> 11) as f64 / (1_u64 << 53) as f64
        };
        for round in 0..ROUNDS {
            let guesses = length(&mut adaptive);
            let accepted = (0..guesses).take_while(|_| chance() < right).count();
            // Times scatter, and now and then something else runs.
            let noise = 1.0 + 0.2 * chance() + if chance() < 0.02 { 5.0 } else { 0.0 };
            let time = pass(guesses + 1);
            (0..guesses).for_each(|_| adaptive.proposed(step * noise));
            adaptive.judged(guesses, accepted, time * noise);
            if round >= ROUNDS / 2 {
                tokens += accepted + 1;
                seconds += time + step * guesses as f64;
            }
        }
        tokens as f64 / seconds
    }

    #[test]
    fn it_is_nearly_as_fast_as_the_best_fixed_length() {
        for right in [0.1, 0.5, 0.7, 0.9, 0.97] {
            for step in [0.02, 0.1, 0.3, 0.9] {
                // A pass that costs the same for any number of tokens, as from a disk; one that
                // grows slowly; one that grows nearly with their number.
                for slope in [0.0, 0.05, 0.6] {
                    let pass = |n: usize| 1.0 + slope * (n - 1) as f64;
                    let fixed = (0..=MOST).map(|k| simulate(|_| k, right, step, pass));
                    let best = fixed.fold(0.0, f64::max);
                    let adaptive = simulate(Adaptive::next, right, step, pass);
                    assert!(
                        adaptive > 0.93 * best,
                        "right {right}, step {step}, slope {slope}: {adaptive} of {best}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_free_draft_of_a_slow_target_guesses_far_ahead() {
        let mut adaptive = Adaptive::default();
        assert_eq!(adaptive.next(), FIRST);
        for _ in 0..50 {
            adaptive.proposed(0.001);
            adaptive.judged(FIRST, FIRST, 1.0);
        }
        assert_eq!(adaptive.next(), MOST);
        // The machine has read the target's weights into memory, and guesses go wrong.
        for _ in 0..50 {
            adaptive.proposed(0.001);
            adaptive.judged(1, 0, 0.001);
        }
        assert_eq!(adaptive.next(), 0);
        let guesses = |adaptive: &mut Adaptive, rounds| -> usize {
            (0..rounds).map(|_| adaptive.next()).sum()
        };
        let rounds = [PROBE - 2, 1, 4 * PROBE - 1, 1, 16 * PROBE - 1, 1];
        let made = rounds.map(|rounds| guesses(&mut adaptive, rounds));
        assert_eq!(
            made,
            [0, FIRST, 0, FIRST, 0, FIRST],
            "probes, fewer and fewer"
        );
    }

    #[test]
    fn a_schedule_repeats_and_is_bounded() {
        let mut pace = Pace::from(DraftLength::Scheduled(vec![3, 0, 99]));
        let lengths: Vec<usize> = (0..5).map(|_| pace.next(1000)).collect();
        assert_eq!(lengths, [3, 0, MOST, 3, 0]);
        assert_eq!(pace.next(7), 7);
        assert_eq!(Pace::from(DraftLength::Scheduled(Vec::new())).next(9), 0);
    }
}
