//! Text from files and models may hold control characters; none of them reaches a terminal.

use std::fmt::Write;

/// True for what could move the cursor, change colours, or reorder what is read.
fn dangerous(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// `text` on one line, its control characters written as escapes.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if dangerous(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// Generated text on its way to stdout: as it is into a file or pipe, harmless on a terminal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Streamed {
    terminal: bool,
}

impl Streamed {
    pub(crate) fn new(terminal: bool) -> Self {
        Self { terminal }
    }

    /// The form of `piece` to be written.
    pub(crate) fn show(self, piece: &str) -> String {
        if !self.terminal {
            return piece.to_owned();
        }
        let mut out = String::with_capacity(piece.len());
        for c in piece.chars() {
            match c {
                '\n' | '\t' => out.push(c),
                // Line ends of Windows: the line feed follows.
                '\r' => {}
                c if dangerous(c) => {
                    // Writing to a string does not fail.
                    let _ = write!(out, "{}", c.escape_default());
                }
                c => out.push(c),
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_written_out() {
        assert_eq!(
            escape("a\x1b[2Jb\r\n\u{202e}ü"),
            "a\\u{1b}[2Jb\\r\\n\\u{202e}ü"
        );
    }

    #[test]
    fn only_a_terminal_needs_harmless_text() {
        let text = "line\r\n\x1b]0;title\x07\tend";
        assert_eq!(Streamed::new(false).show(text), text);
        assert_eq!(
            Streamed::new(true).show(text),
            "line\n\\u{1b}]0;title\\u{7}\tend"
        );
    }
}
