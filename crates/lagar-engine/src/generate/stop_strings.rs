//! Texts that end a generation.

/// Looks for stop strings in a text that comes in pieces.
///
/// The text ends before the stop string that is complete first (of those complete at the same
/// character, the longest). What might be the beginning of one is withheld until that is decided,
/// so the result does not depend on how the text is cut into pieces.
#[derive(Clone, Debug)]
pub struct StopStrings {
    stops: Vec<String>,
    withheld: String,
    stopped: bool,
}

impl StopStrings {
    /// Stops at any of `stops`; empty ones stop nothing.
    pub fn new(stops: &[String]) -> Self {
        Self {
            stops: stops
                .iter()
                .filter(|stop| !stop.is_empty())
                .cloned()
                .collect(),
            withheld: String::new(),
            stopped: false,
        }
    }

    /// Takes a piece and returns the text that is certain to be shown, which may be none.
    pub fn push(&mut self, piece: &str) -> String {
        if self.stopped {
            return String::new();
        }
        self.withheld.push_str(piece);
        let first = self
            .stops
            .iter()
            .filter_map(|stop| {
                let start = self.withheld.find(stop.as_str())?;
                Some((start + stop.len(), start))
            })
            .min();
        if let Some((_, start)) = first {
            self.stopped = true;
            self.withheld.truncate(start);
            return std::mem::take(&mut self.withheld);
        }
        let begun = self
            .stops
            .iter()
            .map(|stop| begun(&self.withheld, stop))
            .max();
        let rest = self
            .withheld
            .split_off(self.withheld.len() - begun.unwrap_or(0));
        std::mem::replace(&mut self.withheld, rest)
    }

    /// Whether a stop string was found.
    pub fn stopped(&self) -> bool {
        self.stopped
    }

    /// Returns what was withheld, once it is clear that no more text comes.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.withheld)
    }
}

/// Length of the longest end of `text` that begins `stop` without completing it.
fn begun(text: &str, stop: &str) -> usize {
    let longest = text.len().min(stop.len() - 1);
    (1..=longest)
        .rev()
        .find(|&length| stop.is_char_boundary(length) && text.ends_with(&stop[..length]))
        .unwrap_or(0)
}
