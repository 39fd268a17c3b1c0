//! Time as a value. Nothing below the shell reads a clock: the shell (or the simulator) hands `Now` in.

use std::time::Duration;

/// Monotonic time in nanoseconds since an arbitrary origin of this process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, PartialOrd, Ord)]
pub struct Nanos(pub u64);

impl Nanos {
    /// Later than every other moment: "no deadline".
    pub const NEVER: Self = Self(u64::MAX);

    /// The moment `duration` later; saturates at [`Self::NEVER`].
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// Time since `earlier`; zero when `earlier` is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// The moment at which an event is handled: one reading per turn of the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Monotonic, for deadlines and durations.
    pub mono: Nanos,
    /// Wall clock, milliseconds since the Unix epoch, for what peers see and for seals that outlive the process.
    pub wall_ms: u64,
}

const MS_PER_DAY: i64 = 86_400_000;
/// Begin of the year 10000, which RFC 3339 cannot write: milliseconds since 1970.
const MS_MAX: u64 = 253_402_300_800_000;

/// The moment `ms` milliseconds after 1970 as RFC 3339 has it, in UTC with milliseconds: `2026-07-28T09:30:00.000Z`.
#[must_use]
pub fn rfc3339(ms: u64) -> String {
    let ms = ms.min(MS_MAX - 1).cast_signed();
    let (year, month, day) = civil(ms / MS_PER_DAY);
    let of_day = ms % MS_PER_DAY;
    let (seconds, millis) = (of_day / 1000, of_day % 1000);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{millis:03}Z", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// The date of the day `days` after 1970-01-01 in the Gregorian calendar. Years are counted from March here, so that a leap day is the last.
const fn civil(days: i64) -> (i64, i64, i64) {
    // Days since 0000-03-01; 400 years have 146 097 days.
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + if month <= 2 { 1 } else { 0 };
    (year, month, of_year - (153 * from_march + 2) / 5 + 1)
}

/// The reverse of [`civil`].
const fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let from_march = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * from_march + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Reads an RFC 3339 moment to milliseconds since 1970; moments before count as 1970. None when it is not one.
#[must_use]
pub fn from_rfc3339(text: &str) -> Option<u64> {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| {
        let digits = bytes.get(from..to)?;
        digits.iter().try_fold(0, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + i64::from(digit - b'0')))
    };
    let is = |at: usize, wanted: &[u8]| bytes.get(at).is_some_and(|byte| wanted.contains(byte));
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let is_shaped = is(4, b"-") && is(7, b"-") && is(10, b"Tt ") && is(13, b":") && is(16, b":");
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last_day = match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    if !is_shaped || !(1..=12).contains(&month) || !(1..=last_day).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let fraction = bytes.get(19..)?;
    let digits = if fraction.first() == Some(&b'.') { fraction.iter().skip(1).take_while(|byte| byte.is_ascii_digit()).count() } else { 0 };
    if fraction.first() == Some(&b'.') && digits == 0 {
        return None;
    }
    let zone_at = 19 + if digits > 0 { digits + 1 } else { 0 };
    let millis = (0..3).fold(0, |sum, at| sum * 10 + if at < digits { i64::from(bytes[20 + at] - b'0') } else { 0 });
    let offset_minutes = match bytes.get(zone_at)? {
        b'Z' | b'z' if bytes.len() == zone_at + 1 => 0,
        sign @ (b'+' | b'-') if bytes.len() == zone_at + 6 && is(zone_at + 3, b":") => {
            let (hours, minutes) = (number(zone_at + 1, zone_at + 3)?, number(zone_at + 4, zone_at + 6)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            (hours * 60 + minutes) * if *sign == b'-' { -1 } else { 1 }
        }
        _ => return None,
    };
    let seconds = hour * 3600 + minute * 60 + second - offset_minutes * 60;
    let ms = days(year, month, day) * MS_PER_DAY + seconds * 1000 + millis;
    Some(u64::try_from(ms).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_and_read_back() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_785_231_000_123, "2026-07-28T09:30:00.123Z"),
            (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (MS_MAX - 1, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(rfc3339(ms), text);
            assert_eq!(from_rfc3339(text), Some(ms), "{text}");
        }
        assert_eq!(rfc3339(u64::MAX), "9999-12-31T23:59:59.999Z");
        (0..40_000).for_each(|day| {
            let (year, month, of_month) = civil(day);
            assert_eq!(days(year, month, of_month), day);
        });
    }

    #[test]
    fn other_ways_to_write_a_moment_are_read() {
        assert_eq!(from_rfc3339("2026-07-28t11:30:00.1239999+02:00"), Some(1_785_231_000_123));
        assert_eq!(from_rfc3339("2026-07-28T09:30:00z"), Some(1_785_231_000_000));
        assert_eq!(from_rfc3339("1969-12-31T23:59:59Z"), Some(0));
        for bad in [
            "",
            "2026-07-28",
            "2026-07-28T09:30:00",
            "2026-07-28T09:30:00.Z",
            "2026-13-28T09:30:00Z",
            "2026-02-29T09:30:00Z",
            "2026-07-28T24:30:00Z",
            "2026-07-28T09:30:00+2:00",
            "2026-07-28T09:30:00Zx",
            "2026-07-28T09:30:0éZ",
            "+026-07-28T09:30:00Z",
        ] {
            assert_eq!(from_rfc3339(bad), None, "{bad}");
        }
    }
}
