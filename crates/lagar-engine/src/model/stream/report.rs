//! What streaming cost.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

/// What was read from the disk while a model ran, and what it was waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct StreamReport {
    /// Bytes read.
    pub bytes_read: u64,
    /// Tokens that were taken through all blocks.
    pub tokens: u64,
    /// Passes in which they were: each reads the weights once, for all of its tokens.
    pub passes: u64,
    /// Time in which passes waited for the disk.
    pub waited: Duration,
    /// Time of all passes, this included.
    pub computed: Duration,
    /// Memory of the window of weights read ahead, at most.
    pub window_bytes: u64,
    /// Memory for weights of tier `full` while they are used, for each pass that runs at the same
    /// time; 0 for other tiers.
    pub decoded_bytes: u64,
}

impl StreamReport {
    /// Bytes read for each token; 0 where there was none.
    pub fn bytes_per_token(&self) -> f64 {
        match self.tokens {
            0 => 0.0,
            tokens => self.bytes_read as f64 / tokens as f64,
        }
    }

    /// Which share of the time of all passes went into waiting: 0 to 1.
    pub fn share_waiting(&self) -> f64 {
        match self.computed.as_secs_f64() {
            0.0 => 0.0,
            computed => (self.waited.as_secs_f64() / computed).min(1.0),
        }
    }
}

/// The running report.
#[derive(Debug, Default)]
pub(in super::super) struct Counters(Mutex<StreamReport>);

impl Counters {
    fn add(&self, change: impl FnOnce(&mut StreamReport)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn read(&self, bytes: u64) {
        self.add(|report| report.bytes_read += bytes);
    }

    pub(super) fn waited(&self, time: Duration) {
        self.add(|report| report.waited += time);
    }

    /// A pass of so many tokens.
    pub(in super::super) fn pass(&self, tokens: usize) {
        self.add(|report| {
            report.passes += 1;
            report.tokens += tokens as u64;
        });
    }

    /// Time spent computing since `start`.
    pub(in super::super) fn computed(&self, start: Instant) {
        self.add(|report| report.computed += start.elapsed());
    }

    /// The counts so far.
    pub(in super::super) fn report(&self) -> StreamReport {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts again from zero.
    pub(in super::super) fn reset(&self) {
        self.add(|report| *report = StreamReport::default());
    }
}
