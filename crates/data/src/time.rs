//! Cells to epoch milliseconds, and dates for messages.

use serde::{Deserialize, Serialize};

/// 1990-01-01T00:00:00Z: earlier times are taken for a wrong unit.
pub const EARLIEST_MS: i64 = 631_152_000_000;
/// 2100-01-01T00:00:00Z: later times are taken for a wrong unit.
pub const LATEST_MS: i64 = 4_102_444_800_000;

const DAY_MS: i64 = 86_400_000;

/// What a time column counts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TimeUnit {
    /// Epoch seconds, with or without a fraction.
    S,
    /// Epoch milliseconds.
    #[default]
    Ms,
    /// Epoch microseconds.
    Us,
    /// RFC 3339, `YYYY-MM-DD HH:MM:SS` or `YYYY-MM-DD`; without an offset it is UTC.
    Iso,
}

impl TimeUnit {
    /// The name in a configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::S => "s",
            Self::Ms => "ms",
            Self::Us => "us",
            Self::Iso => "iso",
        }
    }

    fn millis_of(self, number: f64) -> f64 {
        match self {
            Self::S => number * 1e3,
            Self::Us => number / 1e3,
            Self::Ms | Self::Iso => number,
        }
    }

    /// The cell's time in epoch milliseconds, or one phrase that says what is wrong with it and, where
    /// another unit would give a plausible time, which.
    pub fn parse(self, cell: &str) -> Result<i64, String> {
        let text = cell.trim();
        if text.is_empty() {
            return Err("the time is missing".into());
        }
        let time = match self {
            Self::Iso => iso(text),
            _ => number(self, text),
        };
        match time {
            Some(ms) if plausible(ms) => Ok(ms),
            found => Err(self.wrong(text, found)),
        }
    }

    fn wrong(self, text: &str, found: Option<i64>) -> String {
        let shown = millstream_schema::parse::short(text);
        let better = [Self::S, Self::Ms, Self::Us, Self::Iso].into_iter().find_map(|unit| {
            let ms = if unit == Self::Iso { iso(text) } else { number(unit, text) };
            ms.filter(|&ms| unit != self && plausible(ms)).map(|ms| (unit, ms))
        });
        let hint = match better {
            Some((unit, ms)) => format!("; unit = \"{}\" would give {}", unit.as_str(), date(ms)),
            None => "; expected a time between 1990 and 2100".to_owned(),
        };
        match found {
            Some(ms) => format!("timestamp {shown} read as {} is {}{hint}", self.as_str(), date(ms)),
            None => format!("timestamp {shown} cannot be read as unit \"{}\"{hint}", self.as_str()),
        }
    }
}

fn plausible(ms: i64) -> bool {
    (EARLIEST_MS..LATEST_MS).contains(&ms)
}

fn number(unit: TimeUnit, text: &str) -> Option<i64> {
    // Whole numbers take the exact way; f64 holds milliseconds exactly as well, but is slower to parse.
    if let Ok(whole) = text.parse::<i64>() {
        return match unit {
            TimeUnit::S => whole.checked_mul(1000),
            TimeUnit::Us => Some(whole.div_euclid(1000)),
            _ => Some(whole),
        };
    }
    let ms = unit.millis_of(text.parse::<f64>().ok()?).round();
    (ms.abs() < 9e15).then_some(ms as i64)
}

/// `YYYY-MM-DD` of a time; the year may have more digits.
pub fn date(ms: i64) -> String {
    let (year, month, day) = civil(ms.div_euclid(DAY_MS));
    format!("{year:04}-{month:02}-{day:02}")
}

/// Days since 1970-01-01 to year, month, day (Hinnant, "chrono-compatible low-level date algorithms").
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + i64::from(month <= 2), month, doy - (153 * mp + 2) / 5 + 1)
}

/// The inverse of [`civil`].
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let mp = if month > 2 { month - 3 } else { month + 9 };
    let doe = yoe * 365 + yoe / 4 - yoe / 100 + (153 * mp + 2) / 5 + day - 1;
    era * 146_097 + doe - 719_468
}

/// RFC 3339, or the same with a space for `T`, without seconds' fraction, offset or time of day.
fn iso(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let (year, month, day) = (digits(bytes, 0, 4)?, digits(bytes, 5, 2)?, digits(bytes, 8, 2)?);
    let days = days_of(year, month, day);
    if bytes[4] != b'-' || bytes[7] != b'-' || civil(days) != (year, month, day) {
        return None;
    }
    let rest = &bytes[10..];
    if rest.is_empty() {
        return Some(days * DAY_MS);
    }
    if !matches!(rest[0], b'T' | b't' | b' ') {
        return None;
    }
    let (time_ms, rest) = time_of_day(&rest[1..])?;
    Some(days * DAY_MS + time_ms - offset_ms(rest)?)
}

/// `HH:MM[:SS[.fraction]]` in milliseconds, and what follows it.
fn time_of_day(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let (hour, minute) = (digits(bytes, 0, 2)?, digits(bytes, 3, 2)?);
    if bytes[2] != b':' || hour > 23 || minute > 59 {
        return None;
    }
    let mut ms = (hour * 60 + minute) * 60_000;
    let mut rest = &bytes[5..];
    if rest.first() == Some(&b':') {
        let second = digits(rest, 1, 2).filter(|&s| s <= 60)?;
        ms += second * 1000;
        rest = &rest[3..];
        if rest.first() == Some(&b'.') {
            let end = rest[1..].iter().position(|b| !b.is_ascii_digit()).map_or(rest.len(), |n| n + 1);
            if end == 1 {
                return None;
            }
            let scale = [100, 10, 1];
            ms += rest[1..end].iter().zip(scale).map(|(b, s)| i64::from(b - b'0') * s).sum::<i64>();
            rest = &rest[end..];
        }
    }
    Some((ms, rest))
}

/// Nothing, `Z`, `+HH:MM` or `+HHMM`, in milliseconds.
fn offset_ms(bytes: &[u8]) -> Option<i64> {
    let sign = match bytes {
        [] | [b'Z' | b'z'] => return Some(0),
        [b'+', ..] => 1,
        [b'-', ..] => -1,
        _ => return None,
    };
    let minutes_at = if bytes.get(3) == Some(&b':') { 4 } else { 3 };
    if bytes.len() != minutes_at + 2 {
        return None;
    }
    let (hours, minutes) = (digits(bytes, 1, 2)?, digits(bytes, minutes_at, 2)?);
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 60 + minutes) * 60_000)
}

fn digits(bytes: &[u8], at: usize, count: usize) -> Option<i64> {
    let slice = bytes.get(at..at + count)?;
    slice.iter().try_fold(0i64, |sum, b| b.is_ascii_digit().then(|| sum * 10 + i64::from(b - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_reads_the_same_moment() {
        let moment = 881_250_949_000;
        assert_eq!(TimeUnit::S.parse("881250949"), Ok(moment));
        assert_eq!(TimeUnit::S.parse("881250949.25"), Ok(moment + 250));
        assert_eq!(TimeUnit::S.parse("8.81250949e8"), Ok(moment));
        assert_eq!(TimeUnit::Ms.parse(" 881250949000 "), Ok(moment));
        assert_eq!(TimeUnit::Us.parse("881250949000000"), Ok(moment));
        for text in [
            "1997-12-04T15:55:49Z",
            "1997-12-04 15:55:49",
            "1997-12-04t15:55:49.000+00:00",
            "1997-12-04T16:55:49+01:00",
            "1997-12-04T14:25:49-0130",
        ] {
            assert_eq!(TimeUnit::Iso.parse(text), Ok(moment), "{text}");
        }
        assert_eq!(TimeUnit::Iso.parse("1997-12-04"), Ok(moment - (15 * 3600 + 55 * 60 + 49) * 1000));
        assert_eq!(TimeUnit::Iso.parse("1997-12-04T15:55:49.1239Z"), Ok(moment + 123));
    }

    #[test]
    fn a_wrong_unit_is_answered_with_the_right_one() {
        let message = TimeUnit::Ms.parse("881250949").unwrap_err();
        assert_eq!(
            message,
            "timestamp `881250949` read as ms is 1970-01-11; unit = \"s\" would give 1997-12-04"
        );
        let message = TimeUnit::S.parse("881250949000").unwrap_err();
        assert!(message.contains("unit = \"ms\" would give 1997-12-04"), "{message}");
        let message = TimeUnit::Ms.parse("2015-03-02T10:00:00Z").unwrap_err();
        assert!(message.contains("unit = \"iso\" would give 2015-03-02"), "{message}");
        let message = TimeUnit::Iso.parse("881250949").unwrap_err();
        assert!(message.contains("unit = \"s\" would give 1997-12-04"), "{message}");
    }

    #[test]
    fn what_is_no_time_is_said_to_be_none() {
        for text in ["", "soon", "NaN", "inf", "1e300"] {
            assert!(TimeUnit::S.parse(text).is_err(), "{text}");
        }
        for text in [
            "1997-13-01",
            "1997-02-30",
            "1997-12-04T25:00:00Z",
            "1997-12-04X",
            "1997-12-04T10:00:00.",
            "1997",
            "1997-12-04T10:00:00+1",
            "19é7-12-04",
        ] {
            assert!(TimeUnit::Iso.parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn dates_and_days_are_inverse() {
        for days in (-800_000..800_000).step_by(97) {
            let (y, m, d) = civil(days);
            assert_eq!(days_of(y, m, d), days);
        }
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(-1), "1969-12-31");
        assert_eq!(date(951_782_400_000), "2000-02-29");
    }
}
