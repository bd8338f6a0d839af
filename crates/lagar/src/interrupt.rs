//! Ctrl-C: a flag that the libraries look at between units of work.

use crate::exit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// What a second Ctrl-C does while the first is still being obeyed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Second {
    /// Leaves at once.
    Exits,
    /// Nothing more: the program goes on after the work that was stopped.
    Ignored,
}

/// A flag that Ctrl-C and SIGTERM raise.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt {
    flag: Arc<AtomicBool>,
}

impl Interrupt {
    /// Catches Ctrl-C from now on. Called once in the life of the program.
    pub(crate) fn catch(second: Second) -> anyhow::Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        let raised = Arc::clone(&flag);
        let times = AtomicU32::new(0);
        ctrlc::set_handler(move || {
            raised.store(true, Ordering::SeqCst);
            if times.fetch_add(1, Ordering::SeqCst) > 0 && second == Second::Exits {
                std::process::exit(exit::INTERRUPTED.into());
            }
        })?;
        Ok(Self { flag })
    }

    /// The flag, for libraries that poll one.
    pub(crate) fn flag(&self) -> &AtomicBool {
        &self.flag
    }

    pub(crate) fn raised(&self) -> bool {
        self.flag.load(Ordering::SeqCst)
    }

    /// Lowers the flag: what was to stop has stopped.
    pub(crate) fn reset(&self) {
        self.flag.store(false, Ordering::SeqCst);
    }

    /// An error if Ctrl-C was pressed.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        if self.raised() {
            Err(exit::fault(exit::Fault::Interrupted, "interrupted"))
        } else {
            Ok(())
        }
    }
}
