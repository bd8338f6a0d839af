//! Numbers as people read them.

use std::time::Duration;

/// `1234567` as `1.23 MB`: decimal units, three digits.
pub(crate) fn bytes(n: u64) -> String {
    scaled(n, &["bytes", "kB", "MB", "GB", "TB", "PB"])
}

/// `1 thread`, `2 threads`.
pub(crate) fn counted(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// `1234567` as `1.23 M`.
pub(crate) fn count(n: u64) -> String {
    scaled(n, &["", "thousand", "million", "billion", "trillion"])
        .trim_end()
        .to_owned()
}

fn scaled(n: u64, units: &[&str]) -> String {
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 {
        return format!("{n} {}", units[0]);
    }
    let digits = if value < 9.995 {
        2
    } else {
        usize::from(value < 99.95)
    };
    format!("{value:.digits$} {}", units[unit])
}

/// `3 min 20 s`, `12 s`, `0.84 s`.
pub(crate) fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 9.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        for (n, text) in [
            (0, "0 bytes"),
            (999, "999 bytes"),
            (1000, "1.00 kB"),
            (9_994, "9.99 kB"),
            (9_996, "10.0 kB"),
            (99_960, "100 kB"),
            (999_600, "1.00 MB"),
            (8_923_592, "8.92 MB"),
            (u64::MAX, "18447 PB"),
        ] {
            assert_eq!(bytes(n), text);
        }
        assert_eq!(count(4_459_264), "4.46 million");
        assert_eq!(count(12), "12");
    }

    #[test]
    fn times_have_at_most_two_units() {
        for (milliseconds, text) in [
            (840, "0.8 s"),
            (12_000, "12 s"),
            (200_000, "3 min 20 s"),
            (7_260_000, "2 h 1 min"),
        ] {
            assert_eq!(duration(Duration::from_millis(milliseconds)), text);
        }
    }
}
