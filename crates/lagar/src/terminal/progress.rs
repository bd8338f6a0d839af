//! Progress on stderr: a bar on a terminal, a plain line now and then elsewhere, nothing when quiet.

use super::{duration, escape};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often a plain line appears where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(15);

/// Shows how far the work is: phase by phase, each of so many steps of any kind.
#[derive(Debug)]
pub(crate) struct Progress {
    display: Display,
    phase: String,
    done: u64,
    total: u64,
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
        Self {
            display,
            phase: String::new(),
            done: 0,
            total: 0,
            started: now,
        }
    }

    /// Begins a phase of `total` steps.
    pub(crate) fn phase(&mut self, name: &str, total: u64) {
        self.clear();
        (self.phase, self.done, self.total) = (escape(name), 0, total);
        self.started = Instant::now();
        if let Display::Bar(bar) = &mut self.display {
            *bar = new_bar(&self.phase, total);
        }
    }

    /// So many more steps of the phase are done.
    pub(crate) fn advance(&mut self, steps: u64) {
        self.done = self.done.saturating_add(steps).min(self.total);
        match &mut self.display {
            Display::Silent => {}
            Display::Bar(bar) => bar.set_position(self.done),
            Display::Lines { last } if last.elapsed() >= LINE_EVERY => {
                *last = Instant::now();
                // Progress that cannot be shown is no reason to stop the work.
                let _ = writeln!(
                    std::io::stderr(),
                    "{}",
                    line(&self.phase, self.done, self.total, self.started.elapsed())
                );
            }
            Display::Lines { .. } => {}
        }
    }

    /// Writes something else to the terminal without disturbing the bar.
    pub(crate) fn aside(&self, write: impl FnOnce()) {
        match &self.display {
            Display::Bar(bar) => bar.suspend(write),
            _ => write(),
        }
    }

    /// Takes the bar away, so that other output can follow.
    pub(crate) fn clear(&mut self) {
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

fn new_bar(phase: &str, total: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {bar:32} {percent:>3} %  {eta} left")
        .expect("the template is a constant");
    let bar = ProgressBar::new(total)
        .with_style(style)
        .with_message(phase.to_owned());
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}

/// A line such as `Pressing: 40 %, about 12 s left`.
fn line(phase: &str, done: u64, total: u64, elapsed: Duration) -> String {
    let share = if total == 0 {
        1.0
    } else {
        done as f64 / total as f64
    };
    let mut line = format!("{phase}: {:.0} %", 100.0 * share);
    if share > 0.0 && share < 1.0 {
        let left = elapsed.mul_f64((1.0 - share) / share);
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
        assert_eq!(
            line("Pressing", 40, 120, minute),
            "Pressing: 33 %, about 2 min 0 s left"
        );
        assert_eq!(line("Pressing", 0, 120, minute), "Pressing: 0 %");
        assert_eq!(line("Pressing", 120, 120, minute), "Pressing: 100 %");
        assert_eq!(line("Pressing", 0, 0, minute), "Pressing: 100 %");
    }
}
