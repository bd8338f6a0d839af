//! The date that a template may show.

use minijinja::{Error, ErrorKind};

/// A moment on somebody's calendar and clock.
///
/// The engine reads no clock: the caller passes what templates shall see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CalendarTime {
    /// Year of the Gregorian calendar.
    pub year: i32,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 59.
    pub second: u8,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

impl CalendarTime {
    /// The moment that lies `seconds` after 1970-01-01T00:00:00 (add the zone's offset for local
    /// time). Years beyond i32 saturate.
    pub fn from_unix_seconds(seconds: i64) -> Self {
        let (days, clock) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        // Hinnant, "chrono-compatible low-level date algorithms": civil_from_days.
        let shifted = days + 719_468;
        let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * day_of_year + 2) / 153;
        let month = if from_march < 10 {
            from_march + 3
        } else {
            from_march - 9
        };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        Self {
            year: i32::try_from(year).unwrap_or(if year < 0 { i32::MIN } else { i32::MAX }),
            month: month as u8,
            day: (day_of_year - (153 * from_march + 2) / 5 + 1) as u8,
            hour: (clock / 3600) as u8,
            minute: (clock / 60 % 60) as u8,
            second: (clock % 60) as u8,
        }
    }

    /// 0 for Sunday. Sakamoto's congruence.
    fn weekday(self) -> usize {
        const OFFSETS: [i64; 12] = [0, 3, 2, 5, 0, 3, 5, 1, 4, 6, 2, 4];
        let year = i64::from(self.year) - i64::from(self.month < 3);
        let leaps = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
        let month = OFFSETS[usize::from(self.month).clamp(1, 12) - 1];
        (year + leaps + month + i64::from(self.day)).rem_euclid(7) as usize
    }

    /// Python's `strftime`, with English names.
    pub(super) fn format(self, format: &str) -> Result<String, Error> {
        let month = MONTHS[usize::from(self.month).clamp(1, 12) - 1];
        let day = DAYS[self.weekday()];
        let mut out = String::new();
        let mut letters = format.chars();
        while let Some(letter) = letters.next() {
            if letter != '%' {
                out.push(letter);
                continue;
            }
            let code = letters.next();
            out += &match code {
                Some('Y') => self.year.to_string(),
                Some('y') => format!("{:02}", self.year.rem_euclid(100)),
                Some('m') => format!("{:02}", self.month),
                Some('d') => format!("{:02}", self.day),
                Some('B') => month.into(),
                Some('b') => month[..3].into(),
                Some('A') => day.into(),
                Some('a') => day[..3].into(),
                Some('H') => format!("{:02}", self.hour),
                Some('I') => format!("{:02}", (self.hour + 11) % 12 + 1),
                Some('p') => if self.hour < 12 { "AM" } else { "PM" }.into(),
                Some('M') => format!("{:02}", self.minute),
                Some('S') => format!("{:02}", self.second),
                Some('F') => self.format("%Y-%m-%d")?,
                Some('T') => self.format("%H:%M:%S")?,
                Some('%') => "%".into(),
                _ => {
                    let code: String = code.into_iter().collect();
                    let detail = format!("strftime_now knows no %{code}");
                    return Err(Error::new(ErrorKind::InvalidOperation, detail));
                }
            };
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(seconds: i64, expected: &str) {
        let time = CalendarTime::from_unix_seconds(seconds);
        assert_eq!(time.format("%a %A %d %b %B %Y %H:%M:%S").unwrap(), expected);
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        check(0, "Thu Thursday 01 Jan January 1970 00:00:00");
        check(-1, "Wed Wednesday 31 Dec December 1969 23:59:59");
        check(951_782_400, "Tue Tuesday 29 Feb February 2000 00:00:00");
        check(4_107_542_399, "Sun Sunday 28 Feb February 2100 23:59:59");
        check(4_107_542_400, "Mon Monday 01 Mar March 2100 00:00:00");
    }

    #[test]
    fn no_count_of_seconds_overflows() {
        for seconds in [i64::MIN, i64::MAX] {
            CalendarTime::from_unix_seconds(seconds)
                .format("%F %T %I%p %y")
                .unwrap();
        }
    }

    #[test]
    fn unknown_codes_are_refused() {
        let error = CalendarTime::from_unix_seconds(0).format("%Q").unwrap_err();
        assert!(error.to_string().contains("%Q"));
    }
}
