//! Instants in files. The only caller of `jiff`.

use jiff::{civil::Date, tz::TimeZone};
use std::{fmt, time::SystemTime};

/// An instant, in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(jiff::Timestamp);

impl Timestamp {
    /// Reads `2026-12-31` (to the end of that day, UTC) or `2026-12-31T18:00:00Z` (RFC 3339, with a zone). What it must
    /// look like is in the error.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const FORMS: &str = "a date such as 2026-12-31, or a time with a zone such as 2026-12-31T18:00:00Z";
        let is_date = text.len() == 10 && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
        if is_date {
            let date: Date = text.parse().map_err(|_| FORMS)?;
            let next = date.tomorrow().map_err(|_| FORMS)?;
            let end = next.to_zoned_datetime(TimeZone::UTC).map_err(|_| FORMS)?;
            return Ok(Self(end.timestamp()));
        }
        // RFC 3339 only: no spaces, no local times, no week dates.
        let bytes = text.as_bytes();
        let rfc = bytes.get(4) == Some(&b'-') && bytes.get(10) == Some(&b'T') && !text.contains('[');
        let time: jiff::Timestamp = text.parse().map_err(|_| FORMS)?;
        if rfc { Ok(Self::whole(time)) } else { Err(FORMS) }
    }

    /// The clock's time.
    #[must_use]
    pub fn of(time: SystemTime) -> Self {
        // The clock of a machine is between the years -9999 and 9999.
        Self::whole(jiff::Timestamp::try_from(time).unwrap_or(jiff::Timestamp::MAX))
    }

    fn whole(time: jiff::Timestamp) -> Self {
        Self(jiff::Timestamp::from_second(time.as_second()).unwrap_or(time))
    }

    /// As the clock tells it.
    #[must_use]
    pub fn system_time(self) -> SystemTime {
        self.0.try_into().unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// So many days later, at most at the end of time.
    #[must_use]
    pub fn plus_days(self, days: i64) -> Self {
        let span = jiff::SignedDuration::from_hours(days.saturating_mul(24));
        Self(self.0.checked_add(span).unwrap_or(jiff::Timestamp::MAX))
    }
}

/// RFC 3339 in UTC.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_end_with_the_day_and_times_need_a_zone() {
        for (text, expected) in [
            ("2026-12-31", "2027-01-01T00:00:00Z"),
            ("2026-12-31T18:00:00Z", "2026-12-31T18:00:00Z"),
            ("2026-12-31T18:00:00+02:00", "2026-12-31T16:00:00Z"),
        ] {
            assert_eq!(Timestamp::parse(text).unwrap().to_string(), expected);
        }
        for wrong in [
            "",
            "2026-13-01",
            "2026-02-30",
            "2026-12-31T18:00:00",
            "31.12.2026",
            "2026-12-31 18:00:00Z",
            "tomorrow",
            "20261231T180000Z",
            "9999-12-31",
        ] {
            assert!(Timestamp::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_clock_is_a_timestamp() {
        let time = Timestamp::parse("2026-12-31T18:00:00Z").unwrap();
        assert_eq!(Timestamp::of(time.system_time()), time);
        assert_eq!(time.plus_days(1).to_string(), "2027-01-01T18:00:00Z");
    }
}
