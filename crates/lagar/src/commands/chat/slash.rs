//! What can be done besides talking: lines that start with `/`.

use std::path::PathBuf;

pub(super) const HELP: &str = "\
/help          this list
/reset         forget the conversation
/system TEXT   start anew with this instruction; without TEXT, with none
/save FILE     write the conversation as JSON
/tier T        go on at quality level T of the file; without T, say which there are
/quit          leave, as Ctrl-D does
Ctrl-C         stop the answer
//TEXT         say something that starts with a slash";

/// One line of input.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Line<'a> {
    Nothing,
    Say(&'a str),
    Help,
    Reset,
    System(Option<&'a str>),
    Save(PathBuf),
    Tier(Option<&'a str>),
    Quit,
    /// Not understood, and why.
    Wrong(String),
}

impl<'a> Line<'a> {
    pub(super) fn parse(line: &'a str) -> Self {
        let line = line.trim();
        let Some(command) = line.strip_prefix('/') else {
            return if line.is_empty() {
                Self::Nothing
            } else {
                Self::Say(line)
            };
        };
        if command.starts_with('/') {
            return Self::Say(command);
        }
        let (name, rest) = command
            .split_once(char::is_whitespace)
            .unwrap_or((command, ""));
        let rest = Some(rest.trim()).filter(|rest| !rest.is_empty());
        match (name, rest) {
            ("help", None) => Self::Help,
            ("reset", None) => Self::Reset,
            ("system", text) => Self::System(text),
            ("save", Some(file)) => Self::Save(file.into()),
            ("save", None) => Self::Wrong("/save needs the name of a file".to_owned()),
            ("tier", tier) => Self::Tier(tier),
            ("quit" | "exit", None) => Self::Quit,
            ("help" | "reset" | "quit" | "exit", Some(_)) => {
                Self::Wrong(format!("/{name} takes nothing more"))
            }
            _ => Self::Wrong(format!("there is no /{name}; /help lists what there is")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_said_or_obeyed() {
        for (line, expected) in [
            ("  \t", Line::Nothing),
            (" How are you? ", Line::Say("How are you?")),
            ("//etc/passwd", Line::Say("/etc/passwd")),
            ("/help", Line::Help),
            ("/reset ", Line::Reset),
            ("/system Be brief.", Line::System(Some("Be brief."))),
            ("/system", Line::System(None)),
            ("/save a b.json", Line::Save("a b.json".into())),
            ("/tier RGB", Line::Tier(Some("RGB"))),
            ("/tier", Line::Tier(None)),
            ("/quit", Line::Quit),
        ] {
            assert_eq!(Line::parse(line), expected, "{line:?}");
        }
        for wrong in ["/save", "/frobnicate", "/", "/reset now"] {
            assert!(matches!(Line::parse(wrong), Line::Wrong(_)), "{wrong}");
        }
    }
}
