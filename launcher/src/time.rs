//! Times as people and logs write them: RFC 3339, in UTC.
//!
//! Must not know what is timed.

use crate::text::number;
use std::fmt;

const DAY: u64 = 86_400;

/// A moment: seconds since 1970, and nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64, pub u32);

/// `2026-01-31T13:00:00.123456789Z`, or without a fraction where only the second is known.
impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = date(self.0 / DAY);
        let second = self.0 % DAY;
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        if self.1 != 0 {
            write!(f, ".{:09}", self.1)?;
        }
        f.write_str("Z")
    }
}

/// Year, month and day, the `days`th after 1970-01-01, in years that begin in March, so that a leap day is their last.
fn date(days: u64) -> (u64, u64, u64) {
    const ERA: u64 = 146_097;
    let days = days + 719_468;
    let (era, day) = (days / ERA, days % ERA);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let of_month = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, of_month)
}

/// The inverse.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * month + 2) / 5 + day - 1;
    let of_era = year % 400 * 365 + year % 400 / 4 - year % 400 / 100 + of_year;
    (year / 400 * 146_097 + of_era).saturating_sub(719_468)
}

impl Moment {
    /// Reads what [`Display`](fmt::Display) writes; the time of day, its seconds and their parts may be left out, and
    /// the Z too. Instead of the Z there may be an offset, as `date -Iseconds` prints it.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_suffix('Z').unwrap_or(text);
        let (day, time) = text.split_once('T').unwrap_or((text, "00:00"));
        let (time, offset) = time.split_at(time.find(['+', '-']).unwrap_or(time.len()));
        let mut fields = day.splitn(3, '-').map(number);
        let (year, month, day) = (fields.next()??, fields.next()??, fields.next()??);
        let (time, nanoseconds) = split_fraction(time)?;
        let mut fields = time.splitn(3, ':').map(number);
        let (hour, minute, second) = (fields.next()??, fields.next()??, fields.next().unwrap_or(Some(0))?);
        let good = (1970..10_000).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
        if !good || hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        // February 30 would be a day of March.
        let days = Some(days(year, month, day)).filter(|days| date(*days) == (year, month, day))?;
        let local = days * DAY + hour * 3600 + minute * 60 + second;
        Some(Self(local.checked_add_signed(-seconds_of_offset(offset)?)?, nanoseconds))
    }

    /// Reads seconds since 1970, with or without a fraction. They have at least nine digits (since 1973), so that
    /// nothing shorter is taken for them.
    pub fn from_unix(text: &str) -> Option<Self> {
        let (seconds, nanoseconds) = split_fraction(text)?;
        Some(Self(number(seconds).filter(|_| seconds.len() >= 9)?, nanoseconds))
    }
}

/// What stands before the point, and the nanoseconds behind it.
fn split_fraction(text: &str) -> Option<(&str, u32)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = if fraction.is_empty() { 0 } else { number(fraction)? };
    let nanoseconds = digits.checked_mul(10u64.pow(9u32.checked_sub(fraction.len() as u32)?))?;
    Some((whole, nanoseconds as u32))
}

/// `+02:00` or `-0530`: how far a clock is ahead of UTC. Nothing is UTC.
fn seconds_of_offset(text: &str) -> Option<i64> {
    let Some(sign) = text.get(..1) else { return Some(0) };
    let digits = text.get(1..)?.replacen(':', "", 1);
    let digits = number(&digits).filter(|_| digits.len() == 4)?;
    let (hours, minutes) = ((digits / 100) as i64, (digits % 100) as i64);
    let seconds = hours * 3600 + minutes * 60;
    (hours < 24 && minutes < 60).then_some(if sign == "-" { -seconds } else { seconds })
}

/// How long something has lasted, in two units at most, as docker has it.
pub fn ago(seconds: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(DAY, "d"), (3600, "h"), (60, "m"), (1, "s")];
    let first = UNITS.iter().position(|(unit, _)| seconds >= *unit).unwrap_or(UNITS.len() - 1);
    let (unit, name) = UNITS[first];
    let mut text = format!("{}{name}", seconds / unit);
    if let Some((smaller, name)) = UNITS.get(first + 1).filter(|(smaller, _)| seconds % unit >= *smaller) {
        text += &format!("{}{name}", seconds % unit / smaller);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_and_read() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_764_072_061, "2025-11-25T12:01:01Z"),
            (4_102_444_799, "2099-12-31T23:59:59Z"),
        ] {
            assert_eq!(Moment(seconds, 0).to_string(), text);
            assert_eq!(Moment::parse(text), Some(Moment(seconds, 0)));
        }
        for day in (0..60_000).map(|day| day * DAY) {
            assert_eq!(Moment::parse(&Moment(day, 5).to_string()), Some(Moment(day, 5)));
        }
        assert_eq!(Moment::parse("2026-01-31T13:00"), Moment::parse("2026-01-31T13:00:00.0Z"));
        assert_eq!(Moment::parse("2026-01-31T13:00:00.5"), Some(Moment(1_769_864_400, 500_000_000)));
        for text in [
            "",
            "2026",
            "2026-01",
            "2026-13-01",
            "2026-00-01",
            "2026-01-00",
            "2026-01-32",
            "2026-02-30",
            "2025-02-29",
            "2026-04-31",
            "1969-12-31",
            "10000-01-01",
            "2026-01-01T",
            "2026-01-01T24:00",
            "2026-01-01T00:60",
            "2026-01-01T00:00:61",
            "2026-01-01T00:00:00.0000000001",
            "2026-01-01T00:00:00.x",
            "2026-01-01T00:00:00+",
            "2026-01-01T00:00:00+2",
            "2026-01-01T00:00:00+24:00",
            "2026-01-01T00:00:00+00:60",
            "2026-01-01T00:00:00+é",
            "2026-01-01T00:00:00+02:00+02:00",
            "1970-01-01T00:00:00+02:00",
            "2026-1-1-1",
            "yesterday",
            "2026-01-01 00:00",
        ] {
            assert_eq!(Moment::parse(text), None, "{text}");
        }
    }

    #[test]
    fn moments_may_have_an_offset_or_be_seconds() {
        let moment = Some(Moment(1_769_864_400, 0));
        for text in ["2026-01-31T13:00:00+00:00", "2026-01-31T15:00+02:00", "2026-01-31T07:30:00-0530"] {
            assert_eq!(Moment::parse(text), moment, "{text}");
        }
        assert_eq!(Moment::parse("2026-01-31T14:00:00.5+01:00"), Some(Moment(1_769_864_400, 500_000_000)));
        assert_eq!(Moment::from_unix("1769864400"), moment);
        assert_eq!(Moment::from_unix("1769864400.000000025"), Some(Moment(1_769_864_400, 25)));
        for text in ["", "10", "2026", "-1769864400", "1769864400.x", "1769864400.0000000001", "x"] {
            assert_eq!(Moment::from_unix(text), None, "{text}");
        }
    }

    #[test]
    fn durations_have_two_units_at_most() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (60, "1m"), (61, "1m1s"), (3600, "1h"), (90_061, "1d1h")] {
            assert_eq!(ago(seconds), text);
        }
    }
}
