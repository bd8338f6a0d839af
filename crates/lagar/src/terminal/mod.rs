//! Everything a person sees: colours, tables, progress, numbers in words.

mod escape;
mod number;
mod progress;
mod reporter;
mod table;

pub(crate) use escape::{Streamed, escape};
pub(crate) use number::{bytes, count, counted, duration};
pub(crate) use reporter::Reporter;
pub(crate) use table::{Align, Table};

use crate::exit;
use anstyle::{AnsiColor, Style};
use progress::Progress;
use std::io::Write;

const ERROR: Style = AnsiColor::Red.on_default().bold();
const HEADING: Style = Style::new().bold();
const FAINT: Style = Style::new().dimmed();

/// Prints `error: message` on stderr. A stderr that cannot be written leaves nothing to say it on.
pub(crate) fn error_line(message: &str) {
    let _ = writeln!(anstream::stderr(), "{ERROR}error:{ERROR:#} {message}");
}

/// Messages to the person at the keyboard: on stderr, never among the results.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Messages {
    quiet: bool,
    verbose: bool,
}

impl Messages {
    pub(crate) fn new(quiet: bool, verbose: bool) -> Self {
        Self { quiet, verbose }
    }

    /// Says something unless `--quiet`.
    pub(crate) fn say(&self, message: &str) {
        if !self.quiet {
            let _ = writeln!(anstream::stderr(), "{}", escape(message));
        }
    }

    /// Says something with `-v` only.
    pub(crate) fn detail(&self, message: &str) {
        if self.verbose {
            let _ = writeln!(anstream::stderr(), "{FAINT}{}{FAINT:#}", escape(message));
        }
    }
}

/// Writes a table or message to stdout, with its colours only where that is a terminal.
pub(crate) fn print_styled(text: &str) -> anyhow::Result<()> {
    let mut stdout = anstream::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(exit::stdout_error)
}

/// Writes text to stdout exactly as it is.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(exit::stdout_error)
}

/// Writes one JSON object to stdout.
pub(crate) fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    print(&text)
}

/// `text` as a heading, in bold.
pub(crate) fn heading(text: &str) -> String {
    format!("{HEADING}{text}{HEADING:#}")
}
