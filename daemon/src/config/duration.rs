//! Durations in configuration files: `30s`, `1m30s`, `1.5h`, `500ms`, or whole seconds as a number.
//!
//! Use it as `#[serde(with = "causeway_daemon::config::duration")]`, for optional values with
//! `#[serde(with = "causeway_daemon::config::duration::option")]` (and `#[serde(default)]`), and [`parse`] as the
//! value parser of a command line flag.

use std::fmt::{self, Write};
use std::time::Duration;

use serde::de::{Error, Visitor};
use serde::{Deserializer, Serializer};

/// Why a text is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a duration: write it like 30s, 1m30s, 500ms or 2h")]
pub struct DurationError {
    text: String,
}

/// Reads what [`format`] writes and what Go's `ParseDuration` reads, without a sign; plus `d` for days and a bare
/// number for seconds.
///
/// # Errors
/// When the text is none, or more than a century.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let refuse = || DurationError { text: text.chars().take(40).collect() };
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(refuse());
    }
    if let Ok(seconds) = rest.parse::<u64>() {
        return Some(Duration::from_secs(seconds)).filter(|&it| it <= MAX).ok_or_else(refuse);
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(refuse)?;
        let (number, tail) = rest.split_at(digits);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let unit = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(refuse)?.1;
        let part = part(number, unit).ok_or_else(refuse)?;
        total = total.checked_add(part).filter(|&it| it <= MAX).ok_or_else(refuse)?;
        rest = tail;
    }
    Ok(total)
}

/// The shortest text that [`parse`] reads back as the same duration.
pub fn format(duration: Duration) -> String {
    let mut nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (name, unit) in WRITTEN {
        let count = nanos / unit.as_nanos();
        nanos %= unit.as_nanos();
        if count > 0 {
            write!(text, "{count}{name}").expect("a String takes everything");
        }
    }
    text
}

/// `number` has digits and at most one point; digits below a nanosecond are dropped.
fn part(number: &str, unit: Duration) -> Option<Duration> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let unit = unit.as_nanos();
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()?.into() };
    let mut nanos = whole.checked_mul(unit)?;
    let mut scale = unit;
    for digit in fraction.bytes() {
        // Whole days times 10^-n stay exact down to the nanosecond, since the remainder is carried in `scale`.
        scale /= 10;
        nanos += u128::from(digit - b'0') * scale;
    }
    Some(Duration::from_nanos(u64::try_from(nanos).ok()?))
}

const UNITS: [(&str, Duration); 8] = [
    ("ns", Duration::from_nanos(1)),
    ("us", Duration::from_micros(1)),
    ("µs", Duration::from_micros(1)),
    ("ms", Duration::from_millis(1)),
    ("s", Duration::from_secs(1)),
    ("m", Duration::from_secs(60)),
    ("h", Duration::from_secs(3600)),
    ("d", Duration::from_secs(86_400)),
];

/// The units of the written form, the largest first.
const WRITTEN: [(&str, Duration); 6] = [UNITS[6], UNITS[5], UNITS[4], UNITS[3], UNITS[1], UNITS[0]];

/// A century: timers and sums of timers stay far from every overflow.
const MAX: Duration = Duration::from_secs(100 * 366 * 86_400);

/// # Errors
/// As the deserializer.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    deserializer.deserialize_any(DurationVisitor)
}

/// # Errors
/// As the serializer.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format(*duration))
}

struct DurationVisitor;

impl Visitor<'_> for DurationVisitor {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration like 30s, 1m30s or 500ms, or a number of seconds")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
        parse(text).map_err(E::custom)
    }

    fn visit_u64<E: Error>(self, seconds: u64) -> Result<Duration, E> {
        parse(&seconds.to_string()).map_err(E::custom)
    }

    fn visit_i64<E: Error>(self, seconds: i64) -> Result<Duration, E> {
        parse(&seconds.to_string()).map_err(E::custom)
    }

    fn visit_f64<E: Error>(self, seconds: f64) -> Result<Duration, E> {
        parse(&format!("{seconds}s")).map_err(E::custom)
    }
}

/// The same for `Option<Duration>`: null and an absent key are `None`.
pub mod option {
    use std::fmt;
    use std::time::Duration;

    use serde::de::{Error, Visitor};
    use serde::{Deserializer, Serializer};

    /// # Errors
    /// As the deserializer.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        deserializer.deserialize_option(OptionVisitor)
    }

    /// # Errors
    /// As the serializer.
    pub fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => serializer.serialize_some(&super::format(*duration)),
            None => serializer.serialize_none(),
        }
    }

    struct OptionVisitor;

    impl<'de> Visitor<'de> for OptionVisitor {
        type Value = Option<Duration>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a duration like 30s, 1m30s or 500ms, or nothing")
        }

        fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
            super::deserialize(deserializer).map(Some)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::{any, proptest};

    use super::{MAX, format, parse};

    #[test]
    fn reads_every_form() {
        for (text, millis) in [
            ("30s", 30_000),
            ("30", 30_000),
            ("0", 0),
            ("1m30s", 90_000),
            ("1h", 3_600_000),
            ("1.5h", 5_400_000),
            (".5s", 500),
            ("500ms", 500),
            ("2d", 172_800_000),
            ("1h15m30.918s", 4_530_918),
            ("1000us", 1),
            ("1000µs", 1),
            (" 5s ", 5_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn refuses_everything_else_with_an_example() {
        for text in [
            "",
            " ",
            "s",
            "30 s",
            "30sec",
            "-1s",
            "-1",
            "1.2.3s",
            ".s",
            "1e3s",
            "1.5",
            "99999999999999999999s",
            "200000d",
            "5M",
            "١s",
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains("1m30s"), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(seconds in 0..MAX.as_secs(), nanos in 0u32..1_000_000_000) {
            let duration = Duration::new(seconds, nanos);
            assert_eq!(parse(&format(duration)), Ok(duration));
        }

        #[test]
        fn never_panics(text in any::<String>()) {
            let _ = parse(&text);
        }

        #[test]
        fn never_panics_on_near_misses(text in "[0-9.]{0,24}(ns|us|ms|s|m|h|d|µs|x)?[0-9.]{0,8}[smh]?") {
            if let Ok(duration) = parse(&text) {
                assert!(duration <= MAX);
            }
        }
    }
}
