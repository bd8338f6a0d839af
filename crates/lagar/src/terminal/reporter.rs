//! What long work in the libraries talks to: the progress on the terminal, and Ctrl-C.

use super::{Messages, Progress};
use crate::interrupt::Interrupt;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Shows the progress of a library's work, and tells it when to stop.
#[derive(Debug)]
pub(crate) struct Reporter<'a> {
    progress: Mutex<Progress>,
    messages: Messages,
    interrupt: &'a Interrupt,
}

impl<'a> Reporter<'a> {
    pub(crate) fn new(messages: Messages, interrupt: &'a Interrupt) -> Self {
        Self {
            progress: Mutex::new(Progress::new(messages.quiet)),
            messages,
            interrupt,
        }
    }

    /// Says something with `-v` only, without disturbing the bar.
    pub(crate) fn detail(&self, message: &str) {
        self.progress().aside(|| self.messages.detail(message));
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        // A panic while drawing leaves nothing inconsistent.
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl lagar_press::Progress for Reporter<'_> {
    fn phase(&self, name: &str, total: u64) {
        self.progress().phase(name, total);
    }

    fn advance(&self, steps: u64) {
        self.progress().advance(steps);
    }

    fn note(&self, message: &str) {
        self.progress().aside(|| self.messages.say(message));
    }

    fn cancelled(&self) -> bool {
        self.interrupt.raised()
    }
}
