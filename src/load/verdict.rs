//! Thresholds, and whether a run kept to them.

use serde::{Deserialize, Serialize};

use super::report::Report;

/// What a run must keep to; what is not given is not judged.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Thresholds {
    /// Latency of right answers from the planned time: half of them, microseconds.
    pub p50_us: Option<f64>,
    /// 95 %.
    pub p95_us: Option<f64>,
    /// 99 %.
    pub p99_us: Option<f64>,
    /// 99.9 %.
    pub p999_us: Option<f64>,
    /// 99 % of the refusals.
    pub refused_p99_us: Option<f64>,
    /// Errors.
    pub errors: Option<Amount>,
    /// Refusals.
    pub refused: Option<Amount>,
    /// Right answers in a second, at least.
    pub rate_min: Option<f64>,
    /// Most resident memory of the server, bytes.
    pub rss_bytes: Option<u64>,
    /// How much resident memory may grow during the peak, percent: from a tenth of it, which is 30 s of bombing, to its end.
    pub rss_growth_percent: Option<f64>,
    /// Time until latency is as it was before the peak, seconds.
    pub recovery_s: Option<f64>,
    /// Share of the planned messages that were not offered, percent.
    pub not_offered_percent: Option<f64>,
}

/// So many, or so many of a hundred.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Amount {
    /// So many.
    Count(u64),
    /// A share of all planned messages, percent.
    Percent(f64),
}

/// One threshold, judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// What was judged.
    pub what: String,
    /// What was measured.
    pub measured: String,
    /// What it had to be.
    pub wanted: String,
    /// Whether it was.
    pub is_kept: bool,
}

impl Thresholds {
    /// Judges a run. What could not be measured was not kept to.
    #[must_use]
    pub fn judge(&self, report: &Report) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        let mut most = |what: &str, measured: Option<f64>, limit: Option<f64>, show: fn(f64) -> String| {
            let Some(limit) = limit else { return };
            verdicts.push(Verdict {
                what: what.to_owned(),
                measured: measured.map_or_else(|| "not measured".to_owned(), show),
                wanted: format!("at most {}", show(limit)),
                is_kept: measured.is_some_and(|measured| measured <= limit),
            });
        };
        let (answered, refused) = (&report.latency, &report.refused_latency);
        let of = |latency: &super::tally::Latency, value: f64| (latency.count > 0).then_some(value);
        most("p50", of(answered, answered.p50_us), self.p50_us, show_us);
        most("p95", of(answered, answered.p95_us), self.p95_us, show_us);
        most("p99", of(answered, answered.p99_us), self.p99_us, show_us);
        most("p99.9", of(answered, answered.p999_us), self.p999_us, show_us);
        // Where nothing was refused, no refusal took too long.
        most("p99 of refusals", Some(refused.p99_us), self.refused_p99_us, show_us);
        let planned = report.counts.planned.max(1) as f64;
        for (what, count, limit) in
            [("errors", report.counts.failed.errors(), self.errors), ("refusals", report.counts.failed.refused(), self.refused)]
        {
            match limit {
                None => {}
                Some(Amount::Count(limit)) => most(what, Some(count as f64), Some(limit as f64), |count| format!("{count}")),
                Some(Amount::Percent(limit)) => most(what, Some(count as f64 * 100.0 / planned), Some(limit), show_percent),
            }
        }
        let server = report.server.as_ref();
        most(
            "most memory of the server",
            server.map(|server| server.rss_bytes_max as f64),
            self.rss_bytes.map(|bytes| bytes as f64),
            show_bytes,
        );
        most(
            "growth of its memory at the peak",
            server.and_then(|server| server.rss_growth_percent),
            self.rss_growth_percent,
            show_percent,
        );
        most("recovery", report.recovery.as_ref().and_then(|recovery| recovery.after_s), self.recovery_s, |s| format!("{s:.2} s"));
        most("not offered", Some(report.counts.not_offered as f64 * 100.0 / planned), self.not_offered_percent, show_percent);
        if let Some(limit) = self.rate_min {
            verdicts.push(Verdict {
                what: "answers in a second".to_owned(),
                measured: format!("{:.0}", report.rates.answered),
                wanted: format!("at least {limit:.0}"),
                is_kept: report.rates.answered >= limit,
            });
        }
        verdicts
    }
}

/// A time in the unit that fits it.
#[must_use]
pub fn show_us(us: f64) -> String {
    match us {
        us if us < 1e3 => format!("{us:.0} us"),
        us if us < 1e4 => format!("{:.2} ms", us / 1e3),
        us if us < 1e6 => format!("{:.1} ms", us / 1e3),
        us => format!("{:.2} s", us / 1e6),
    }
}

/// An amount of memory.
#[must_use]
pub fn show_bytes(bytes: f64) -> String {
    format!("{:.1} MB", bytes / 1e6)
}

fn show_percent(percent: f64) -> String {
    format!("{percent:.3} %")
}

/// Reads `5ms`, `250us`, `1.5s`, `2m`, `1h`, or seconds without a unit: in seconds.
///
/// # Errors
/// What is wrong with it.
pub fn parse_seconds(text: &str) -> Result<f64, String> {
    let at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let unit = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" | "" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return Err("write a time as 250us, 5ms, 1.5s, 2m, 1h or 1d".to_owned()),
    };
    let number: f64 = number.trim().parse().map_err(|_| "write a time as 5ms or 1.5s".to_owned())?;
    if number.is_finite() && number >= 0.0 { Ok(number * unit) } else { Err("a time is a number that is not negative".to_owned()) }
}

/// Reads `64MB`, `64MiB`, `1GB` or bytes without a unit.
///
/// # Errors
/// What is wrong with it.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let unit = match unit {
        "" | "B" => 1.0,
        "kB" | "KB" | "K" => 1e3,
        "KiB" => 1024.0,
        "MB" | "M" => 1e6,
        "MiB" => 1024.0 * 1024.0,
        "GB" | "G" => 1e9,
        "GiB" => 1024.0 * 1024.0 * 1024.0,
        _ => return Err("write an amount as 64MB, 64MiB or 1GB".to_owned()),
    };
    let number: f64 = number.trim().parse().map_err(|_| "write an amount as 64MB".to_owned())?;
    if number.is_finite() && number >= 0.0 { Ok((number * unit) as u64) } else { Err("an amount is not negative".to_owned()) }
}

/// Reads `0`, `25` or `0.05%`.
///
/// # Errors
/// What is wrong with it.
pub fn parse_amount(text: &str) -> Result<Amount, String> {
    match text.strip_suffix('%') {
        Some(percent) => parse_percent(percent).map(Amount::Percent),
        None => text.parse().map(Amount::Count).map_err(|_| "write how many as 0, 25 or 0.05%".to_owned()),
    }
}

/// Reads `5%` or `5`.
///
/// # Errors
/// What is wrong with it.
pub fn parse_percent(text: &str) -> Result<f64, String> {
    let number: f64 = text.trim_end_matches('%').trim().parse().map_err(|_| "write a share as 5%".to_owned())?;
    if number.is_finite() && number >= 0.0 { Ok(number) } else { Err("a share is not negative".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::super::report::{Recovery, Server};
    use super::super::tally::{Class, Latency};
    use super::*;

    #[test]
    fn thresholds_are_read() {
        for (text, seconds) in [("5ms", 0.005), ("250us", 0.000_25), ("1.5s", 1.5), ("2m", 120.0), ("1h", 3600.0), ("7", 7.0), ("0", 0.0)] {
            assert!((parse_seconds(text).expect(text) - seconds).abs() < 1e-12, "{text}");
        }
        for (text, bytes) in [("64MB", 64_000_000), ("64MiB", 67_108_864), ("1GB", 1_000_000_000), ("12", 12)] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        assert_eq!((parse_amount("0"), parse_amount("0.05%")), (Ok(Amount::Count(0)), Ok(Amount::Percent(0.05))));
        for bad in ["", "ms", "-1s", "5 parsecs", "NaN"] {
            assert!(parse_seconds(bad).is_err() && parse_bytes(bad).is_err() && parse_amount(bad).is_err(), "{bad}");
        }
    }

    fn report() -> Report {
        let latency = Latency { count: 1000, mean_us: 100.0, p50_us: 100.0, p95_us: 400.0, p99_us: 900.0, p999_us: 5000.0, max_us: 9000.0 };
        let mut report = Report { latency, ..Report::default() };
        report.counts.planned = 1000;
        report.counts.failed.add(Class::Reset);
        report.counts.failed.add(Class::Refused429);
        report.rates.answered = 500.0;
        report.recovery = Some(Recovery { baseline_p95_us: 1.0, within_us: 2.0, after_s: Some(0.5) });
        report.server = Some(Server { rss_bytes_max: 64_000_000, rss_growth_percent: Some(4.0), ..Server::default() });
        report
    }

    #[test]
    fn each_threshold_is_judged_at_its_bound() {
        let all = Thresholds {
            p50_us: Some(100.0),
            p95_us: Some(400.0),
            p99_us: Some(900.0),
            p999_us: Some(5000.0),
            refused_p99_us: Some(1.0),
            errors: Some(Amount::Count(1)),
            refused: Some(Amount::Percent(0.1)),
            rate_min: Some(500.0),
            rss_bytes: Some(64_000_000),
            rss_growth_percent: Some(4.0),
            recovery_s: Some(0.5),
            not_offered_percent: Some(0.0),
        };
        let kept = all.judge(&report());
        assert_eq!((kept.len(), kept.iter().filter(|verdict| verdict.is_kept).count()), (12, 12), "{kept:#?}");
        let less = Thresholds {
            p50_us: Some(99.0),
            p95_us: Some(399.0),
            p99_us: Some(899.0),
            p999_us: Some(4999.0),
            refused_p99_us: None,
            errors: Some(Amount::Percent(0.09)),
            refused: Some(Amount::Count(0)),
            rate_min: Some(501.0),
            rss_bytes: Some(63_999_999),
            rss_growth_percent: Some(3.9),
            recovery_s: Some(0.4),
            not_offered_percent: None,
        };
        let broken = less.judge(&report());
        assert_eq!((broken.len(), broken.iter().filter(|verdict| verdict.is_kept).count()), (10, 0), "{broken:#?}");
    }

    #[test]
    fn what_was_not_measured_is_not_kept() {
        let bare = Report { server: None, recovery: None, latency: Latency::default(), ..report() };
        let verdicts =
            Thresholds { p99_us: Some(1e9), rss_bytes: Some(u64::MAX), recovery_s: Some(1e9), ..Thresholds::default() }.judge(&bare);
        assert!(
            verdicts.len() == 3 && verdicts.iter().all(|verdict| !verdict.is_kept && verdict.measured == "not measured"),
            "{verdicts:#?}"
        );
    }

    #[test]
    fn times_are_shown_in_the_unit_that_fits() {
        assert_eq!([12.0, 1234.0, 12_345.0, 1_234_567.0].map(show_us), ["12 us", "1.23 ms", "12.3 ms", "1.23 s"]);
    }
}
