//! Long work that says where it stands and can be told to stop.

use crate::FormatError;

/// Told the bytes done and the bytes in all; answers whether to go on.
pub type GoOn<'a> = &'a mut dyn FnMut(u64, u64) -> bool;

/// Work as its caller sees it.
pub(crate) struct Steps<'a> {
    done: u64,
    total: u64,
    go_on: GoOn<'a>,
}

impl<'a> Steps<'a> {
    pub(crate) fn new(total: u64, go_on: GoOn<'a>) -> Self {
        Self {
            done: 0,
            total,
            go_on,
        }
    }

    pub(crate) fn advance(&mut self, bytes: u64) -> Result<(), FormatError> {
        self.reach(self.done + bytes)
    }

    pub(crate) fn reach(&mut self, done: u64) -> Result<(), FormatError> {
        self.done = done.min(self.total);
        match (self.go_on)(self.done, self.total) {
            true => Ok(()),
            false => Err(FormatError::Interrupted),
        }
    }

    /// What was padding or is there twice counts as done.
    pub(crate) fn finish(&mut self) -> Result<(), FormatError> {
        self.reach(self.total)
    }
}
