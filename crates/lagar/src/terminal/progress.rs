//! Progress on stderr: a bar on a terminal, a plain line now and then elsewhere, nothing when quiet.

use super::{duration, escape};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often a plain line appears where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(15);

/// Shows how far the work is. Work is reported stage by stage: `set("calibrating", 3, 10)`.
#[derive(Debug)]
pub(crate) struct Progress {
    display: Display,
    stage: String,
    started: Instant,
}

#[derive(Debug)]
enum Display {
    Silent,
    Lines { last: Instant },
    Bar(ProgressBar),
}

impl Progress {
    pub(super) fn new(quiet: bool) -> Self {
        let now = Instant::now();
        let display = if quiet {
            Display::Silent
        } else if std::io::stderr().is_terminal() {
            Display::Bar(ProgressBar::hidden())
        } else {
            Display::Lines { last: now }
        };
        Self { display, stage: String::new(), started: now }
    }

    /// `done` of `total` units of `stage` are finished; units may be of any kind.
    pub(crate) fn set(&mut self, stage: &str, done: u64, total: u64) {
        if stage != self.stage {
            self.stage.clear();
            self.stage.push_str(stage);
            self.started = Instant::now();
            if let Display::Bar(bar) = &mut self.display {
                bar.finish_and_clear();
                *bar = new_bar(stage, total);
            }
        }
        match &mut self.display {
            Display::Silent => {}
            Display::Bar(bar) => {
                bar.set_length(total);
                bar.set_position(done);
            }
            Display::Lines { last } => {
                if last.elapsed() >= LINE_EVERY {
                    *last = Instant::now();
                    // Progress that cannot be shown is no reason to stop the work.
                    let _ = writeln!(std::io::stderr(), "{}", line(stage, done, total, self.started.elapsed()));
                }
            }
        }
    }

    /// Takes the bar away, so that other output can follow.
    pub(crate) fn clear(&mut self) {
        self.stage.clear();
        if let Display::Bar(bar) = &self.display {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

fn new_bar(stage: &str, total: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:<14} {bar:32} {percent:>3} %  {eta} left")
        .expect("the template is a constant");
    let bar = ProgressBar::new(total).with_style(style).with_message(escape(stage));
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}

/// A line such as `encoding: 40 of 186, about 12 s left`.
fn line(stage: &str, done: u64, total: u64, elapsed: Duration) -> String {
    let mut line = format!("{}: {done} of {total}", escape(stage));
    if done > 0 && total > done {
        let left = elapsed.mul_f64((total - done) as f64 / done as f64);
        line.push_str(&format!(", about {} left", duration(left)));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_line_says_how_long_it_takes() {
        let minute = Duration::from_secs(60);
        assert_eq!(line("encoding", 40, 120, minute), "encoding: 40 of 120, about 2 min 0 s left");
        assert_eq!(line("encoding", 0, 120, minute), "encoding: 0 of 120");
        assert_eq!(line("encoding", 120, 120, minute), "encoding: 120 of 120");
    }
}
