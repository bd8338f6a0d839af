//! Panics: defects of the program, which end it with one line as any other failure does.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};
use std::sync::Mutex;

/// What the last panic said. Kept, not printed: some are caught where they happen, such as those of a
/// library that reads a malformed file, and then another message follows.
static LAST: Mutex<Option<(String, Backtrace)>> = Mutex::new(None);

/// Runs the program; a panic that nothing inside it catches becomes an error that says where it
/// happened, and with `RUST_BACKTRACE` how it came to it.
pub(crate) fn caught(run: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    set_hook(Box::new(|panic| {
        let mut last = LAST.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        *last = Some((panic.to_string(), Backtrace::capture()));
    }));
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| {
        let mut last = LAST.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let (what, trace) = last.take().unzip();
        if let Some(trace) = trace.filter(|t| t.status() == BacktraceStatus::Captured) {
            // Where stderr is gone, nobody reads it.
            let _ = writeln!(std::io::stderr(), "{trace}");
        }
        Err(anyhow::anyhow!(
            "a defect of lagar, please report it: {}",
            what.unwrap_or_default()
        ))
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_panic_becomes_an_error_that_says_where() {
        let error = super::caught(|| panic!("no such {}", "thing")).unwrap_err();
        let message = error.to_string();
        assert!(message.contains("no such thing"), "{message}");
        assert!(message.contains("defect.rs"), "{message}");
        let _ = std::panic::take_hook();
        assert!(super::caught(|| Ok(())).is_ok());
    }
}
