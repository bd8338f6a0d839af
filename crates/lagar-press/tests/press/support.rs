//! Checkpoints, texts and shortcuts.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use lagar_kernels::{Cpu, Isa};
use lagar_press::{PressError, PressOptions, PressReport, Progress, Request, Silent, press};

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path)
}

/// A tiny random-weight checkpoint.
pub(crate) fn fixture(name: &str) -> PathBuf {
    repository("crates/lagar-engine/tests/fixtures").join(name)
}

/// The demo's model.
pub(crate) fn novels() -> PathBuf {
    repository("assets/novels4m")
}

pub(crate) fn calibration_text() -> String {
    std::fs::read_to_string(repository("assets/text/calibration.txt")).unwrap()
}

pub(crate) fn evaluation_text() -> String {
    std::fs::read_to_string(repository("assets/text/evaluation.txt")).unwrap()
}

pub(crate) fn cpu(threads: usize) -> Cpu {
    Cpu::new(Isa::best(), threads)
}

/// Calibration tokens of a quick press.
const QUICK_TOKENS: usize = 2048;

/// Settings of a quick press.
pub(crate) fn quick(bits: u8) -> PressOptions {
    let mut options = PressOptions::default().with_tiers(&[bits], false);
    options.tokens = QUICK_TOKENS;
    options
}

pub(crate) fn press_with(
    checkpoint: &Path,
    output: &Path,
    options: PressOptions,
    threads: usize,
    resume: bool,
    progress: &dyn Progress,
) -> Result<PressReport, PressError> {
    let mut text = calibration_text();
    if options.tokens <= QUICK_TOKENS {
        // Measuring reads what calibration leaves: not much.
        text = text.chars().take(16_000).collect();
    }
    let request = Request {
        checkpoint,
        text: &text,
        held_out: None,
        cost: None,
        output,
        options,
        resume,
    };
    press(&cpu(threads), &request, progress)
}

pub(crate) fn press_quietly(
    checkpoint: &Path,
    output: &Path,
    options: PressOptions,
) -> PressReport {
    press_with(checkpoint, output, options, 2, false, &Silent).unwrap()
}

/// Asks to stop at the given report of progress.
pub(crate) struct StopAfter {
    left: AtomicU64,
}

impl StopAfter {
    pub(crate) fn new(reports: u64) -> Self {
        Self {
            left: AtomicU64::new(reports),
        }
    }
}

impl Progress for StopAfter {
    fn phase(&self, _: &str, _: u64) {}
    fn advance(&self, _: u64) {
        let _ = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
    }
    fn note(&self, _: &str) {}
    fn cancelled(&self) -> bool {
        self.left.load(Ordering::Relaxed) == 0
    }
}
