//! Lines from the person: editing and history on a terminal, plain lines otherwise.

use crate::terminal::Messages;
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::PathBuf;

/// Lines of history that are kept.
const HISTORY: usize = 1000;

/// What came from the keyboard.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Input {
    Line(String),
    /// Ctrl-C on the input line.
    Interrupted,
    /// Ctrl-D, or the end of stdin.
    End,
}

/// Reads lines, and remembers them across conversations.
pub(super) struct Lines {
    editor: DefaultEditor,
    history: Option<PathBuf>,
    messages: Messages,
}

impl Lines {
    pub(super) fn new(messages: Messages) -> anyhow::Result<Self> {
        let config = rustyline::Config::builder()
            .max_history_size(HISTORY)?
            .auto_add_history(false)
            .build();
        let mut editor = DefaultEditor::with_config(config)?;
        let history = if std::io::stdin().is_terminal() {
            history_file(|name| std::env::var_os(name))
        } else {
            None
        };
        if let Some(path) = &history {
            // The first conversation has no history yet.
            let _ = editor.load_history(path);
        }
        Ok(Self {
            editor,
            history,
            messages,
        })
    }

    pub(super) fn read(&mut self) -> anyhow::Result<Input> {
        match self.editor.readline("> ") {
            Ok(line) => {
                if self.history.is_some() && !line.trim().is_empty() {
                    self.editor.add_history_entry(&line)?;
                }
                Ok(Input::Line(line))
            }
            Err(ReadlineError::Interrupted) => Ok(Input::Interrupted),
            Err(ReadlineError::Eof) => Ok(Input::End),
            Err(error) => Err(error.into()),
        }
    }

    /// Saves the history. That it cannot be saved spoils no conversation.
    pub(super) fn close(mut self) {
        let Some(path) = &self.history else { return };
        let saved = path
            .parent()
            .map_or(Ok(()), std::fs::create_dir_all)
            .map_err(ReadlineError::from)
            .and_then(|()| self.editor.save_history(path));
        if let Err(error) = saved {
            self.messages.detail(&format!(
                "the history was not saved in {}: {error}",
                path.display()
            ));
        }
    }
}

/// Where the history lies, given the environment: the state folder of the XDG base directory
/// specification, or its counterpart on Windows.
fn history_file(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let absolute = |name: &str| {
        variable(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let state = absolute("XDG_STATE_HOME")
        .or_else(|| absolute("LOCALAPPDATA"))
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))?;
    Some(state.join("lagar/chat_history"))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn the_history_lies_in_the_state_folder() {
        let with = |pairs: &'static [(&str, &str)]| {
            history_file(|name| {
                pairs
                    .iter()
                    .find(|p| p.0 == name)
                    .map(|p| OsString::from(p.1))
            })
        };
        assert_eq!(
            with(&[("HOME", "/home/ana")]).unwrap(),
            PathBuf::from("/home/ana/.local/state/lagar/chat_history")
        );
        assert_eq!(
            with(&[("HOME", "/h"), ("XDG_STATE_HOME", "/state")]).unwrap(),
            PathBuf::from("/state/lagar/chat_history")
        );
        // The specification ignores relative paths.
        assert_eq!(
            with(&[("HOME", "/h"), ("XDG_STATE_HOME", "state")]).unwrap(),
            PathBuf::from("/h/.local/state/lagar/chat_history")
        );
        assert_eq!(with(&[]), None);
    }
}
