//! An earlier run beside this one.

use std::fmt::Write as _;

use super::report::Report;
use super::verdict::{show_bytes, show_us};

/// One figure of two runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// What it is.
    pub what: &'static str,
    /// What it was.
    pub before: String,
    /// What it is now.
    pub now: String,
    /// By how much it changed, percent; `None` where there was nothing before.
    pub percent: Option<f64>,
}

/// What differs between two runs. What neither has is left out.
#[must_use]
pub fn differences(before: &Report, now: &Report) -> Vec<Difference> {
    let plain = |value: f64| format!("{value:.0}");
    let percent = |value: f64| format!("{value:.1} %");
    let server = |report: &Report, of: fn(&super::report::Server) -> f64| report.server.as_ref().map(of);
    let recovery = |report: &Report| report.recovery.and_then(|recovery| recovery.after_s);
    type Show = fn(f64) -> String;
    let figures: Vec<(&'static str, Option<f64>, Option<f64>, Show)> = vec![
        ("offered/s", Some(before.rates.offered), Some(now.rates.offered), plain),
        ("answered/s", Some(before.rates.answered), Some(now.rates.answered), plain),
        ("refused/s", Some(before.rates.refused), Some(now.rates.refused), plain),
        ("errors", Some(before.counts.failed.errors() as f64), Some(now.counts.failed.errors() as f64), plain),
        ("p50", Some(before.latency.p50_us), Some(now.latency.p50_us), show_us),
        ("p95", Some(before.latency.p95_us), Some(now.latency.p95_us), show_us),
        ("p99", Some(before.latency.p99_us), Some(now.latency.p99_us), show_us),
        ("p99.9", Some(before.latency.p999_us), Some(now.latency.p999_us), show_us),
        ("max", Some(before.latency.max_us), Some(now.latency.max_us), show_us),
        ("p99 of refusals", Some(before.refused_latency.p99_us), Some(now.refused_latency.p99_us), show_us),
        ("server CPU", server(before, |s| s.cpu_percent), server(now, |s| s.cpu_percent), percent),
        ("server CPU a message", server(before, |s| s.cpu_us_per_message), server(now, |s| s.cpu_us_per_message), |us| {
            format!("{us:.2} us")
        }),
        ("server memory at most", server(before, |s| s.rss_bytes_max as f64), server(now, |s| s.rss_bytes_max as f64), show_bytes),
        ("recovery", recovery(before), recovery(now), |s| format!("{s:.2} s")),
        ("load CPU", Some(before.load_cpu_percent), Some(now.load_cpu_percent), percent),
    ];
    let is_there = |value: &Option<f64>| value.is_some_and(|value| value != 0.0);
    let show = |value: Option<f64>, show: Show| value.map_or_else(|| "-".to_owned(), show);
    figures
        .into_iter()
        .filter(|(_, before, now, _)| is_there(before) || is_there(now))
        .map(|(what, before, now, shown)| Difference {
            what,
            before: show(before, shown),
            now: show(now, shown),
            percent: before.zip(now).filter(|(before, _)| *before != 0.0).map(|(before, now)| (now / before - 1.0) * 100.0),
        })
        .collect()
}

/// How a change is shown.
#[must_use]
pub fn change(difference: &Difference) -> String {
    difference.percent.map_or_else(|| "-".to_owned(), |percent| format!("{percent:+.1} %"))
}

/// As text for a terminal. A comparison of unlike runs says so.
#[must_use]
pub fn text(before: &Report, now: &Report) -> String {
    let mut text = format!("compared with the run of {}\n", before.began);
    for (what, was, is) in unlike(before, now) {
        let _ = writeln!(text, "  NOT ALIKE: {what} was {was}, is {is}");
    }
    for difference in differences(before, now) {
        let _ = writeln!(text, "  {:<24}{:>14}{:>14}{:>12}", difference.what, difference.before, difference.now, change(&difference));
    }
    text
}

/// What was set differently.
#[must_use]
pub fn unlike(before: &Report, now: &Report) -> Vec<(&'static str, String, String)> {
    let (was, is) = (&before.setting, &now.setting);
    let all = [
        ("the profile", was.profile.clone(), is.profile.clone()),
        ("what was sent", was.kinds.join(", "), is.kinds.join(", ")),
        ("the version", was.version.clone(), is.version.clone()),
        ("connections", was.connections.to_string(), is.connections.to_string()),
        ("the rate", format!("{:.0}", was.rate), format!("{:.0}", is.rate)),
        ("the duration", format!("{:.1} s", was.seconds), format!("{:.1} s", is.seconds)),
        ("the pipeline", was.pipeline.to_string(), is.pipeline.to_string()),
        ("the loop's being closed", was.is_closed_loop.to_string(), is.is_closed_loop.to_string()),
        ("whether it was ended early", before.is_interrupted.to_string(), now.is_interrupted.to_string()),
    ];
    all.into_iter().filter(|(_, was, is)| was != is).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_stand_beside_each_other_with_their_change() {
        let (mut before, mut now) = (Report::default(), Report::default());
        (before.latency.p99_us, now.latency.p99_us) = (1_000.0, 1_500.0);
        now.rates.answered = 10.0;
        let all = differences(&before, &now);
        let of = |what| all.iter().find(|difference| difference.what == what).map(change);
        assert_eq!((of("p99").as_deref(), of("answered/s").as_deref(), of("recovery")), (Some("+50.0 %"), Some("-"), None));
        assert!(text(&before, &now).contains("1.50 ms"), "{}", text(&before, &now));
    }

    #[test]
    fn unlike_runs_are_said_to_be_so() {
        let (before, mut now) = (Report::default(), Report::default());
        assert!(unlike(&before, &now).is_empty());
        now.setting.connections = 5;
        assert!(text(&before, &now).contains("NOT ALIKE: connections was 0, is 5"));
    }
}
