//! The exit codes, and what is said on the way out. Nothing else decides either.

use crate::terminal;
use lagar_engine::EngineError;
use lagar_format::FormatError;
use lagar_press::PressError;
use std::fmt::{self, Display};
use std::io;
use std::process::ExitCode;

/// The work could not be done, though the request and the data were fine.
pub(crate) const FAILED: u8 = 1;
/// The request made no sense: an unknown option, a tier that the file does not hold.
pub(crate) const USAGE: u8 = 2;
/// A file or its contents cannot be used.
pub(crate) const BAD_INPUT: u8 = 3;
/// Ctrl-C or a request to terminate.
pub(crate) const INTERRUPTED: u8 = 130;

/// Whose fault an error is; attached to errors by the commands, read here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fault {
    Usage,
    Input,
    Interrupted,
}

impl Fault {
    fn code(self) -> u8 {
        match self {
            Self::Usage => USAGE,
            Self::Input => BAD_INPUT,
            Self::Interrupted => INTERRUPTED,
        }
    }
}

/// An error whose fault is known.
#[derive(Debug)]
struct Attributed {
    fault: Fault,
    error: anyhow::Error,
}

impl Display for Attributed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.error, f)
    }
}

impl std::error::Error for Attributed {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

/// Says whose fault an error is.
pub(crate) trait Blame<T> {
    fn blame(self, fault: Fault) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> Blame<T> for Result<T, E> {
    fn blame(self, fault: Fault) -> anyhow::Result<T> {
        self.map_err(|error| {
            anyhow::Error::new(Attributed {
                fault,
                error: error.into(),
            })
        })
    }
}

/// An error of the given fault from a message alone.
pub(crate) fn fault(fault: Fault, message: impl Display) -> anyhow::Error {
    anyhow::Error::new(Attributed {
        fault,
        error: anyhow::Error::msg(message.to_string()),
    })
}

/// Standard output went away; that is how a pipe into `head` ends, and no error.
#[derive(Debug)]
pub(crate) struct StdoutClosed;

impl Display for StdoutClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("standard output was closed")
    }
}

impl std::error::Error for StdoutClosed {}

/// Turns an error of writing to standard output into one that `report` knows.
pub(crate) fn stdout_error(error: io::Error) -> anyhow::Error {
    if error.kind() == io::ErrorKind::BrokenPipe {
        anyhow::Error::new(StdoutClosed)
    } else {
        anyhow::Error::new(error).context("cannot write to standard output")
    }
}

/// The code of the first cause whose fault is known: said by a command, or plain from the library's error.
fn code(error: &anyhow::Error) -> u8 {
    for cause in error.chain() {
        if cause.is::<StdoutClosed>() {
            return 0;
        }
        if let Some(attributed) = cause.downcast_ref::<Attributed>() {
            return attributed.fault.code();
        }
        if let Some(error) = cause.downcast_ref() {
            return press_code(error);
        }
        if let Some(error) = cause.downcast_ref() {
            return engine_code(error);
        }
        if let Some(error) = cause.downcast_ref() {
            return format_code(error);
        }
    }
    FAILED
}

fn press_code(error: &PressError) -> u8 {
    match error {
        PressError::Interrupted => INTERRUPTED,
        PressError::Bits { .. }
        | PressError::BelowFloor { .. }
        | PressError::AboveCeiling { .. }
        | PressError::AboveOriginal { .. }
        | PressError::NoExact { .. }
        | PressError::NoSuchTensor { .. }
        | PressError::Stages { .. }
        | PressError::Primary { .. }
        | PressError::Effort { .. }
        | PressError::Damping { .. }
        | PressError::OutputIsInput { .. } => USAGE,
        PressError::NotFinite { .. }
        | PressError::Hessian { .. }
        | PressError::TextTooShort { .. }
        | PressError::Mismatch { .. }
        | PressError::Damaged { .. }
        | PressError::Changed { .. }
        | PressError::UnknownExact { .. }
        | PressError::TooLarge { .. }
        | PressError::Logits { .. }
        | PressError::TaskLine { .. }
        | PressError::EmptyTask { .. }
        | PressError::Vocabulary { .. } => BAD_INPUT,
        PressError::Engine(error) => engine_code(error),
        PressError::Format(error) => format_code(error),
        _ => FAILED,
    }
}

/// The engine only reads: what it refuses is in its input.
fn engine_code(error: &EngineError) -> u8 {
    match error {
        EngineError::MissingTier { .. }
        | EngineError::SamplingOption { .. }
        | EngineError::EmptyPrompt => USAGE,
        _ => BAD_INPUT,
    }
}

/// Of a file that was to be written; commands that open one say that it is input.
fn format_code(error: &FormatError) -> u8 {
    if matches!(error.root(), FormatError::Interrupted) {
        INTERRUPTED
    } else if error.is_bad_input() {
        BAD_INPUT
    } else {
        FAILED
    }
}

/// The causes of an error on one line, each said once.
pub(crate) fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        if line.ends_with(&text) {
            continue;
        }
        if !line.is_empty() {
            line.push_str(": ");
        }
        line.push_str(&text);
    }
    terminal::escape(&line)
}

/// Prints what went wrong, as one line on stderr, and gives the exit code.
pub(crate) fn report(result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    let code = code(&error);
    if code != 0 {
        terminal::error_line(&one_line(&error));
    }
    ExitCode::from(code)
}

/// Prints help, version or what is wrong with the command line.
pub(crate) fn report_parse(error: &clap::Error) -> ExitCode {
    // A closed pipe is the only way in which this fails, and then nobody reads the reason.
    let _ = error.print();
    if error.use_stderr() {
        ExitCode::from(USAGE)
    } else {
        ExitCode::SUCCESS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn the_innermost_blame_under_any_context_decides() {
        assert_eq!(code(&anyhow::anyhow!("disk on fire")), FAILED);
        for (blamed, expected) in [
            (Fault::Usage, USAGE),
            (Fault::Input, BAD_INPUT),
            (Fault::Interrupted, INTERRUPTED),
        ] {
            let error = Err::<(), _>(fault(blamed, "x"))
                .context("outer")
                .context("outermost")
                .unwrap_err();
            assert_eq!(code(&error), expected);
        }
        let closed = stdout_error(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(code(&closed), 0);
        assert_eq!(
            code(&stdout_error(io::Error::from(io::ErrorKind::StorageFull))),
            FAILED
        );
    }

    #[test]
    fn a_message_is_one_line_and_says_each_cause_once() {
        let inner = io::Error::other("no\nsuch \x1b[31mthing");
        let error = Err::<(), _>(inner)
            .blame(Fault::Input)
            .context("cannot open a")
            .unwrap_err();
        assert_eq!(
            one_line(&error),
            "cannot open a: no\\nsuch \\u{1b}[31mthing"
        );
    }
}
