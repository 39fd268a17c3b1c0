//! What a run came to: as JSON for programs, as text for a terminal.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::tally::{ByClass, Class, Counts, Latency};
use super::verdict::{Verdict, show_bytes, show_us};

/// A run. Read and written as JSON; what a later version adds is left out by an earlier one.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// When it began, RFC 3339.
    pub began: String,
    /// What was done, and to whom.
    pub setting: Setting,
    /// Whether it was ended early.
    pub is_interrupted: bool,
    /// What was counted.
    pub counts: Counts,
    /// The classes of what failed, by name.
    pub failed: Vec<(String, u64)>,
    /// Messages a second, from the beginning until the plan's end.
    pub rates: Rates,
    /// From the planned time to the right answer.
    pub latency: Latency,
    /// From the planned time to the refusal.
    pub refused_latency: Latency,
    /// How late the load itself was to offer messages: part of the latencies above.
    pub lag: Latency,
    /// CPU time of the load's processes, percent of one CPU each, on average.
    pub load_cpu_percent: f64,
    /// Time that they did something else than wait, percent, on average.
    pub load_busy_percent: f64,
    /// Most connections that could be used at once, at the end of an interval.
    pub connections_max: u64,
    /// The server's processes, when they are on this host.
    pub server: Option<Server>,
    /// How long it took after the peak until latency was as it was before.
    pub recovery: Option<Recovery>,
    /// Where the peak is.
    pub peak: Option<Peak>,
    /// The timeline table.
    pub table: Vec<Row>,
    /// The timeline, interval by interval.
    pub rows: Vec<Row>,
    /// Thresholds, judged.
    pub verdicts: Vec<Verdict>,
    /// What a reader should know.
    pub notes: Vec<String>,
}

/// What was done.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Setting {
    /// The profile.
    pub profile: String,
    /// Where the server is.
    pub url: String,
    /// What it calls itself.
    pub server: String,
    /// The protocol's version.
    pub version: String,
    /// What was sent.
    pub kinds: Vec<String>,
    /// Connections at the most.
    pub connections: usize,
    /// Messages a second at the most, as planned.
    pub rate: f64,
    /// How long it was to take, seconds.
    pub seconds: f64,
    /// By which durations were multiplied.
    pub time_scale: f64,
    /// Requests of one connection on their way at once, at the most.
    pub pipeline: usize,
    /// Each connection waited for its answer.
    pub is_closed_loop: bool,
    /// Time until a message counts as timed out, seconds.
    pub timeout_s: f64,
    /// What the rest follows from.
    pub seed: u64,
    /// Processes that loaded.
    pub processes: usize,
    /// The CPUs they were pinned to.
    pub cpus: Vec<usize>,
    /// Addresses they came from.
    pub sources: usize,
}

/// Messages a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rates {
    /// Whose time came.
    pub planned: f64,
    /// That were offered.
    pub offered: f64,
    /// That were rightly answered.
    pub answered: f64,
    /// That were refused.
    pub refused: f64,
}

/// The server's processes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Server {
    /// Their ids.
    pub pids: Vec<u32>,
    /// Resident memory when the load's first connections were there, bytes.
    pub rss_bytes_first: u64,
    /// At the most.
    pub rss_bytes_max: u64,
    /// At the end.
    pub rss_bytes_last: u64,
    /// From a tenth of the peak to its end.
    pub rss_growth_percent: Option<f64>,
    /// CPU time, percent of one CPU, on average.
    pub cpu_percent: f64,
    /// CPU time for each message that was answered or refused, microseconds.
    pub cpu_us_per_message: f64,
    /// Open descriptors at the beginning.
    pub files_first: u64,
    /// At the end.
    pub files_last: u64,
}

/// How long it took until latency was as before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Recovery {
    /// p95 before the peak, microseconds.
    pub baseline_p95_us: f64,
    /// Up to which it counts as that.
    pub within_us: f64,
    /// From the peak's end to the end of the first interval that was so, seconds; `None` when none was.
    pub after_s: Option<f64>,
}

/// Where the peak is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Peak {
    /// Most right answers in a second, of any row of the table.
    pub answered: f64,
    /// The highest rate at which, and up to which, 99 % were answered within the limit.
    pub sustained: f64,
    /// That limit: p99, microseconds.
    pub limit_p99_us: f64,
}

/// A part of the timeline.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Row {
    /// Its name, in the table.
    pub label: String,
    /// Where it begins, seconds.
    pub from_s: f64,
    /// Where it ends.
    pub to_s: f64,
    /// Connections that could be used, at its end.
    pub open: u64,
    /// Planned messages a second.
    pub planned: f64,
    /// Offered messages a second.
    pub offered: f64,
    /// Right answers a second.
    pub answered: f64,
    /// Refusals a second.
    pub refused: f64,
    /// Errors, how many.
    pub errors: u64,
    /// Latency of right answers.
    pub p50_us: f64,
    /// Of 95 %.
    pub p95_us: f64,
    /// Of 99 %.
    pub p99_us: f64,
    /// Of 99.9 %.
    pub p999_us: f64,
    /// Of 99 % of the refusals.
    pub refused_p99_us: f64,
    /// 99 % of messages were offered no later than this, microseconds.
    pub lag_p99_us: f64,
    /// Resident memory of the server at its end, bytes.
    pub rss_bytes: u64,
    /// CPU of the server, percent of one CPU.
    pub cpu_percent: f64,
    /// Descriptors of the server.
    pub files: u64,
    /// Requests, Mbit/s of their bytes.
    pub mbit_out: f64,
    /// Answers, Mbit/s of their bytes.
    pub mbit_in: f64,
    /// CPU of the load, percent of one CPU for each process.
    pub load_cpu_percent: f64,
    /// The classes of its errors and refusals, by name.
    pub failed: Vec<(String, u64)>,
}

/// The counts of classes by their names.
#[must_use]
pub fn named(classes: &ByClass) -> Vec<(String, u64)> {
    classes.iter().map(|(class, count)| (class.name().to_owned(), count)).collect()
}

impl Report {
    /// Reads one that was written as JSON.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let report: Self = serde_json::from_str(text).map_err(|error| format!("it is no report of a load: {error}"))?;
        if report.setting.profile.is_empty() { Err("it is no report of a load".to_owned()) } else { Ok(report) }
    }

    /// As JSON, one value to a line where that is readable.
    #[must_use]
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// Whether all thresholds were kept.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.verdicts.iter().all(|verdict| verdict.is_kept)
    }

    /// What was done, in lines of a name and a value.
    #[must_use]
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        let setting = &self.setting;
        let loop_kind =
            if setting.is_closed_loop { "closed: latency counts from the sending" } else { "open: latency counts from the planned time" };
        let cpus = setting.cpus.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let mut facts = vec![
            ("target", format!("{} ({}), {}", setting.url, setting.server, setting.version)),
            ("sends", setting.kinds.join(", ")),
            ("shape", format!("{} connections at most, {:.1} s (time scale {})", setting.connections, setting.seconds, setting.time_scale)),
            ("loop", format!("{loop_kind}; up to {} requests of a connection on their way", setting.pipeline)),
            (
                "load",
                format!(
                    "{} process(es){}, seed {}",
                    setting.processes,
                    if cpus.is_empty() { ", not pinned".to_owned() } else { format!(" on CPU {cpus}") },
                    setting.seed
                ),
            ),
            ("planned", format!("{} messages, {:.0}/s on average", self.counts.planned, self.rates.planned)),
            ("offered", self.offered_text()),
            ("answered", format!("{} rightly, {:.0}/s", self.counts.answered, self.rates.answered)),
        ];
        let failed = self.failed.iter().map(|(name, count)| format!("{count} {name}")).collect::<Vec<_>>();
        facts.push(("failed", if failed.is_empty() { "none".to_owned() } else { failed.join(", ") }));
        facts.push(("connections", self.connections_text()));
        facts.push(("latency", latency_text(&self.latency)));
        if self.refused_latency.count > 0 {
            facts.push(("refusals", latency_text(&self.refused_latency)));
        }
        if let Some(server) = &self.server {
            facts.push((
                "server",
                format!(
                    "pid {}, CPU {:.1} %, {:.2} us a message; memory {} at first, {} at most, {} at the end{}; descriptors {} to {}",
                    server.pids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
                    server.cpu_percent,
                    server.cpu_us_per_message,
                    show_bytes(server.rss_bytes_first as f64),
                    show_bytes(server.rss_bytes_max as f64),
                    show_bytes(server.rss_bytes_last as f64),
                    server.rss_growth_percent.map_or_else(String::new, |percent| format!(" ({percent:+.1} % over the peak)")),
                    server.files_first,
                    server.files_last,
                ),
            ));
        }
        if let Some(recovery) = &self.recovery {
            let after = recovery.after_s.map_or_else(|| "not within the run".to_owned(), |s| format!("{s:.2} s after the peak"));
            facts.push((
                "recovery",
                format!("{after} (p95 {} before, as before up to {})", show_us(recovery.baseline_p95_us), show_us(recovery.within_us)),
            ));
        }
        if let Some(peak) = &self.peak {
            facts.push((
                "peak",
                format!(
                    "{:.0} answers/s; up to {:.0}/s 99 % were answered with p99 within {}",
                    peak.answered,
                    peak.sustained,
                    show_us(peak.limit_p99_us)
                ),
            ));
        }
        facts
    }

    /// Whether the load could keep to its plan, and what it cost.
    fn offered_text(&self) -> String {
        let cost = format!(
            "{:.0}/s; the load was late by {} (p99), {} at most; its CPU {:.0} %, at work {:.0} % of the time",
            self.rates.offered,
            show_us(self.lag.p99_us),
            show_us(self.lag.max_us),
            self.load_cpu_percent,
            self.load_busy_percent
        );
        if self.counts.not_offered == 0 {
            return cost;
        }
        let short = self.counts.not_offered as f64 * 100.0 / self.counts.planned.max(1) as f64;
        format!("{cost}; {} messages ({short:.2} % of the plan) could NOT be offered", self.counts.not_offered)
    }

    fn connections_text(&self) -> String {
        let mut text = format!("{} opened, {} at once at most", self.counts.opened, self.connections_max);
        for (class, count) in self.counts.unopened.iter() {
            let _ = write!(text, ", {count} of no use ({})", class.name());
        }
        if self.counts.dropped > 0 {
            let _ = write!(text, ", {} ended by the server", self.counts.dropped);
        }
        text
    }

    /// As text for a terminal.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text =
            format!("ringhub load {}, {}{}\n\n", self.setting.profile, self.began, if self.is_interrupted { ", ended early" } else { "" });
        for (name, value) in self.facts() {
            let _ = writeln!(text, "  {name:<12}{value}");
        }
        let late = self.counts.late;
        if late > 0 {
            let _ = writeln!(text, "  {:<12}{late} answers came after their request had timed out", "late");
        }
        if self.counts.refused_bare > 0 {
            let _ = writeln!(text, "  {:<12}{} refusals did not say when to come again (Retry-After)", "", self.counts.refused_bare);
        }
        if self.counts.cut > 0 {
            let _ = writeln!(text, "  {:<12}{} messages were in work when the run was ended", "cut", self.counts.cut);
        }
        for note in &self.notes {
            let _ = writeln!(text, "  {:<12}{note}", "note");
        }
        text.push('\n');
        text.push_str(&table(&self.table));
        if !self.verdicts.is_empty() {
            text.push('\n');
        }
        for verdict in &self.verdicts {
            let kept = if verdict.is_kept { "kept  " } else { "BROKEN" };
            let _ = writeln!(text, "{kept} {}: {}, {}", verdict.what, verdict.measured, verdict.wanted);
        }
        text
    }
}

fn latency_text(latency: &Latency) -> String {
    format!(
        "p50 {}, p95 {}, p99 {}, p99.9 {}, max {}",
        show_us(latency.p50_us),
        show_us(latency.p95_us),
        show_us(latency.p99_us),
        show_us(latency.p999_us),
        show_us(latency.max_us)
    )
}

/// Titles of the timeline table.
pub const COLUMNS: [&str; 13] =
    ["", "conns", "offered/s", "answered/s", "refused/s", "errors", "p50", "p95", "p99", "p99.9", "RSS", "CPU", "Mbit/s out, in"];

/// One row of it.
#[must_use]
pub fn cells(row: &Row) -> [String; 13] {
    let time = |us: f64| if us > 0.0 { show_us(us) } else { "-".to_owned() };
    let of_server = |text: String| if row.rss_bytes > 0 { text } else { "-".to_owned() };
    [
        row.label.clone(),
        row.open.to_string(),
        format!("{:.0}", row.offered),
        format!("{:.0}", row.answered),
        format!("{:.0}", row.refused),
        row.errors.to_string(),
        time(row.p50_us),
        time(row.p95_us),
        time(row.p99_us),
        time(row.p999_us),
        of_server(show_bytes(row.rss_bytes as f64)),
        of_server(format!("{:.0} %", row.cpu_percent)),
        format!("{:.1}, {:.1}", row.mbit_out, row.mbit_in),
    ]
}

fn table(rows: &[Row]) -> String {
    let lines: Vec<_> = std::iter::once(COLUMNS.map(str::to_owned)).chain(rows.iter().map(cells)).collect();
    let widths: Vec<_> = (0..COLUMNS.len()).map(|column| lines.iter().map(|line| line[column].len()).max().unwrap_or_default()).collect();
    let mut text = String::new();
    for line in &lines {
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let _ = if column == 0 { write!(text, "  {cell:<width$}") } else { write!(text, "  {cell:>width$}") };
        }
        text.push('\n');
    }
    text
}

/// Whether a class is told as an error; refusals have a column of their own.
#[must_use]
pub const fn is_error(class: Class) -> bool {
    !class.is_refusal()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_survives_json() {
        let mut report = Report { began: "2026-11-24T00:00:00.000Z".into(), ..Report::default() };
        report.setting.profile = "bomb".into();
        report.counts.failed.add(Class::Timeout);
        report.failed = named(&report.counts.failed);
        report.table.push(Row { label: "warm".into(), p99_us: 12.5, ..Row::default() });
        let again = Report::parse(&report.json()).expect("it is one");
        assert_eq!(again.json(), report.json());
        assert!(Report::parse("{}").is_err() && Report::parse("[").is_err());
    }

    #[test]
    fn the_text_says_what_matters() {
        let mut report = Report::default();
        report.setting.profile = "bomb".into();
        (report.counts.planned, report.counts.not_offered, report.rates.offered) = (1000, 100, 900.0);
        report.counts.unopened.add(Class::Refused503);
        report.table.push(Row { label: "warm".into(), p99_us: 1500.0, ..Row::default() });
        report.verdicts.push(Verdict { what: "p99".into(), measured: "6 ms".into(), wanted: "at most 5 ms".into(), is_kept: false });
        let text = report.text();
        for part in
            ["10.00 % of the plan", "could NOT be offered", "BROKEN p99: 6 ms, at most 5 ms", "1.50 ms", "1 of no use (refused 503)"]
        {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert!(!report.is_kept());
    }
}
