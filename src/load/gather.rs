//! From what processes tell at the end of each interval to a report.

use super::profile::{Mark, Profile, Shape, Stage};
use super::report::{Peak, Rates, Recovery, Report, Row, Server, named};
use super::tally::{Counts, Tick, Times};
use super::watch::Seen;

/// Latency counts as it was before the peak when p95 is no more than so many times what it was, …
const BASELINE_TIMES: f64 = 1.25;
/// … or no more than so much above it, microseconds: on a quiet server a few microseconds are a quarter of it.
const BASELINE_SLACK_US: f64 = 200.0;
/// Of a run up to its peak, the first part in which little was asked.
const CALM_PART: f64 = 0.1;
/// p99 up to which a rate counts as sustained unless a threshold says otherwise, microseconds.
pub const SUSTAINED_P99_US: f64 = 5_000.0;

/// A part of the run, all processes together.
#[derive(Debug, Default)]
struct Part {
    counts: Counts,
    answered: Times,
    refused: Times,
    lag: Times,
    open: u64,
    cpu_ns: u64,
    busy_ns: u64,
    server: Option<Seen>,
}

impl Part {
    fn add(&mut self, tick: &Tick) {
        self.counts.merge(&tick.counts);
        self.answered.add(&tick.answered);
        self.refused.add(&tick.refused);
        self.lag.add(&tick.lag);
        self.open += tick.open;
        self.cpu_ns += tick.cpu_ns;
        self.busy_ns += tick.busy_ns;
    }

    /// Adds a later part.
    fn extend(&mut self, later: &Self) {
        self.counts.merge(&later.counts);
        self.answered.merge(&later.answered);
        self.refused.merge(&later.refused);
        self.lag.merge(&later.lag);
        self.open = later.open;
        self.cpu_ns += later.cpu_ns;
        self.busy_ns += later.busy_ns;
        self.server = later.server.or(self.server);
    }

    /// What is told of it. `before` is how the server was when it began.
    fn row(&self, label: String, from_s: f64, to_s: f64, before: Option<Seen>, processes: usize) -> Row {
        let seconds = (to_s - from_s).max(1e-9);
        let rate = |count: u64| count as f64 / seconds;
        let us = |times: &Times, share| times.quantile(share) as f64 / 1e3;
        let server = self.server.unwrap_or_default();
        Row {
            label,
            from_s,
            to_s,
            open: self.open,
            planned: rate(self.counts.planned),
            offered: rate(self.counts.planned - self.counts.not_offered),
            answered: rate(self.counts.answered),
            refused: rate(self.counts.failed.refused()),
            errors: self.counts.failed.errors(),
            p50_us: us(&self.answered, 0.5),
            p95_us: us(&self.answered, 0.95),
            p99_us: us(&self.answered, 0.99),
            p999_us: us(&self.answered, 0.999),
            refused_p99_us: us(&self.refused, 0.99),
            lag_p99_us: us(&self.lag, 0.99),
            rss_bytes: server.rss_bytes,
            cpu_percent: before.map_or(0.0, |before| server.cpu_percent_since(&before)),
            files: server.files,
            mbit_out: rate(self.counts.bytes_out) * 8.0 / 1e6,
            mbit_in: rate(self.counts.bytes_in) * 8.0 / 1e6,
            load_cpu_percent: self.cpu_ns as f64 / 1e7 / seconds / processes as f64,
            failed: named(&self.counts.failed),
        }
    }
}

/// What is shown while it goes on.
#[derive(Clone, Debug)]
pub struct Progress {
    /// Seconds since the beginning.
    pub at_s: f64,
    /// Seconds that it takes.
    pub seconds: f64,
    /// The last interval.
    pub row: Row,
    /// Errors so far.
    pub errors: u64,
}

/// All that came so far.
#[derive(Debug)]
pub struct Gather {
    profile: Profile,
    shape: Shape,
    interval_s: f64,
    processes: usize,
    /// The intervals that not all processes have told of, from `next` on.
    pending: Vec<Part>,
    next: u32,
    /// The first interval that each process has yet to tell of.
    reached: Vec<u32>,
    total: Part,
    /// Before the peak, while little was asked.
    calm: Times,
    marks: Vec<(Mark, Part, Option<Seen>)>,
    rows: Vec<Row>,
    first: Option<Seen>,
    last: Option<Seen>,
    rss_bytes_max: u64,
    open_max: u64,
}

impl Gather {
    /// For a run of this shape, whose server is now so.
    #[must_use]
    pub fn new(profile: Profile, shape: &Shape, interval_s: f64, processes: usize, server: Option<Seen>) -> Self {
        Self {
            profile,
            shape: shape.clone(),
            interval_s,
            processes,
            pending: Vec::new(),
            next: 0,
            reached: vec![0; processes],
            total: Part::default(),
            calm: Times::default(),
            marks: shape.marks.iter().map(|mark| (mark.clone(), Part::default(), None)).collect(),
            rows: Vec::new(),
            first: server,
            last: server,
            rss_bytes_max: server.map_or(0, |seen| seen.rss_bytes),
            open_max: 0,
        }
    }

    /// What a process told.
    pub fn add(&mut self, process: usize, tick: &Tick) {
        let at = tick.index.saturating_sub(self.next) as usize;
        if self.pending.len() <= at {
            self.pending.resize_with(at + 1, Part::default);
        }
        self.pending[at].add(tick);
        self.reached[process] = tick.index + 1;
    }

    /// A process has nothing more to tell.
    pub fn end(&mut self, process: usize) {
        self.reached[process] = u32::MAX;
    }

    /// Whether an interval is complete: then it is time to look at the server.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        !self.pending.is_empty() && self.reached.iter().all(|reached| *reached > self.next)
    }

    /// Takes the intervals that are complete. `server` is how the server is now.
    pub fn settle(&mut self, server: Option<Seen>) -> Option<Progress> {
        let mut progress = None;
        while self.is_complete() {
            let mut part = self.pending.remove(0);
            part.server = server;
            progress = Some(self.take(&part));
            self.next += 1;
        }
        progress
    }

    fn take(&mut self, part: &Part) -> Progress {
        let from_s = f64::from(self.next) * self.interval_s;
        let to_s = from_s + self.interval_s;
        let row = part.row(String::new(), from_s, to_s, self.last, self.processes);
        let middle = from_s + self.interval_s / 2.0;
        let belongs = |mark: &Mark| mark.from_s <= middle && middle < mark.to_s;
        // What comes after the end belongs to the last row.
        let at = self.marks.iter().position(|(mark, ..)| belongs(mark)).unwrap_or(self.marks.len().saturating_sub(1));
        if let Some((_, whole, before)) = self.marks.get_mut(at) {
            *before = before.or(self.last);
            whole.extend(part);
        }
        if self.is_calm(middle) {
            self.calm.merge(&part.answered);
        }
        self.total.extend(part);
        self.rss_bytes_max = self.rss_bytes_max.max(part.server.map_or(0, |seen| seen.rss_bytes));
        self.open_max = self.open_max.max(part.open);
        self.last = part.server.or(self.last);
        self.rows.push(row.clone());
        Progress { at_s: to_s, seconds: self.shape.seconds(), row, errors: self.total.counts.failed.errors() }
    }

    fn is_calm(&self, at_s: f64) -> bool {
        let phase = self.shape.phase_at(at_s);
        let first = &self.shape.phases[0];
        match phase.stage {
            // The very first messages find everything cold.
            Stage::Warm => at_s > first.seconds * CALM_PART,
            Stage::Rise => at_s < first.seconds * CALM_PART,
            _ => false,
        }
    }

    /// The report but for what only the one who asked for the run knows.
    #[must_use]
    pub fn report(mut self, pids: Vec<u32>, limit_p99_us: f64) -> Report {
        // Processes that failed have left intervals that never became complete.
        for process in 0..self.processes {
            self.end(process);
        }
        let _ = self.settle(self.last);
        let total = std::mem::take(&mut self.total);
        let table: Vec<_> = self
            .marks
            .iter()
            .filter(|(_, part, _)| part.counts.planned > 0 || part.open > 0)
            .map(|(mark, part, before)| part.row(mark.label.clone(), mark.from_s, mark.to_s.min(self.end_s()), *before, self.processes))
            .collect();
        let seconds = self.end_s().min(self.shape.seconds()).max(1e-9);
        let rate = |count: u64| count as f64 / seconds;
        let spent_s = self.end_s().max(1e-9) * self.processes as f64;
        Report {
            counts: total.counts,
            failed: named(&total.counts.failed),
            rates: Rates {
                planned: rate(total.counts.planned),
                offered: rate(total.counts.planned - total.counts.not_offered),
                answered: rate(total.counts.answered),
                refused: rate(total.counts.failed.refused()),
            },
            latency: total.answered.summary(),
            refused_latency: total.refused.summary(),
            lag: total.lag.summary(),
            load_cpu_percent: total.cpu_ns as f64 / 1e7 / spent_s,
            load_busy_percent: total.busy_ns as f64 / 1e7 / spent_s,
            connections_max: self.open_max,
            server: self.server(pids, &total.counts),
            recovery: self.recovery(),
            peak: (self.profile == Profile::Ramp).then(|| peak(&table, limit_p99_us)),
            table,
            rows: self.rows,
            ..Report::default()
        }
    }

    fn end_s(&self) -> f64 {
        f64::from(self.next) * self.interval_s
    }

    fn server(&self, pids: Vec<u32>, counts: &Counts) -> Option<Server> {
        let (first, last) = (self.first?, self.last?);
        let cpu_ns = last.cpu_ns.saturating_sub(first.cpu_ns) as f64;
        let messages = counts.answered + counts.failed.refused();
        Some(Server {
            pids,
            rss_bytes_first: first.rss_bytes,
            rss_bytes_max: self.rss_bytes_max,
            rss_bytes_last: last.rss_bytes,
            rss_growth_percent: self.rss_growth_percent(),
            cpu_percent: last.cpu_percent_since(&first),
            cpu_us_per_message: cpu_ns / 1e3 / messages.max(1) as f64,
            files_first: first.files,
            files_last: last.files,
        })
    }

    /// How resident memory grew from a tenth of the peak (30 s of the original's bombing) to its end.
    fn rss_growth_percent(&self) -> Option<f64> {
        let (start, phase) = self.shape.starts().find(|(_, phase)| phase.stage == Stage::Peak)?;
        let at = |seconds: f64| {
            self.rows.iter().rfind(|row| row.to_s <= seconds + 1e-9).map(|row| row.rss_bytes as f64).filter(|bytes| *bytes > 0.0)
        };
        let (early, late) = (at(start + phase.seconds * 0.1)?, at(start + phase.seconds)?);
        (self.end_s() >= start + phase.seconds * 0.9).then_some((late / early - 1.0) * 100.0)
    }

    fn recovery(&self) -> Option<Recovery> {
        let (start, _) = self.shape.starts().find(|(_, phase)| phase.stage == Stage::Cool)?;
        if self.calm.is_empty() || self.end_s() <= start {
            return None;
        }
        let baseline_p95_us = self.calm.quantile(0.95) as f64 / 1e3;
        let within_us = (baseline_p95_us * BASELINE_TIMES).max(baseline_p95_us + BASELINE_SLACK_US);
        let is_over = |row: &&Row| row.from_s >= start - 1e-9 && row.answered > 0.0 && row.p95_us <= within_us;
        let after_s = self.rows.iter().find(is_over).map(|row| row.to_s - start);
        Some(Recovery { baseline_p95_us, within_us, after_s })
    }
}

/// Where a ramp's peak is. The last row that is sustained has none before it that is not.
fn peak(table: &[Row], limit_p99_us: f64) -> Peak {
    let is_sustained = |row: &&Row| row.answered >= 0.99 * row.planned && row.p99_us <= limit_p99_us;
    Peak {
        answered: table.iter().map(|row| row.answered).fold(0.0, f64::max),
        sustained: table.iter().take_while(is_sustained).last().map_or(0.0, |row| row.answered),
        limit_p99_us,
    }
}

#[cfg(test)]
mod tests {
    use super::super::profile::Wishes;
    use super::super::tally::Class;
    use super::*;

    const WISHES: Wishes = Wishes { rate: None, connections: None, seconds: None, time_scale: 0.1 };

    fn tick(index: u32, answered: u64, latency_ns: u64) -> Tick {
        let counts = Counts { planned: answered, answered, ..Counts::default() };
        Tick { index, counts, open: 2, answered: vec![(latency_ns, answered)], ..Tick::default() }
    }

    /// A bombing in virtual time: 3 s warm, 30 s of bombing, 9 s of cooling, in intervals of 100 ms.
    fn bombed(recovers_after: u32, processes: usize) -> Report {
        let shape = Shape::of(Profile::Bomb, &WISHES);
        let seen = |rss_bytes, at_ms: u64| Some(Seen { rss_bytes, cpu_ns: at_ms * 500_000, at_ns: at_ms * 1_000_000, files: 10 });
        let mut gather = Gather::new(Profile::Bomb, &shape, 0.1, processes, seen(1_000, 0));
        for index in 0..420_u32 {
            let ns = if (30..330 + recovers_after).contains(&index) { 5_000_000 } else { 100_000 };
            for process in 0..processes {
                assert!(!gather.is_complete());
                gather.add(process, &tick(index, 10, ns));
            }
            assert!(gather.is_complete());
            let rss = if index < 60 { 1_000 } else { 1_050 };
            let progress = gather.settle(seen(rss, u64::from(index + 1) * 100)).expect("an interval");
            assert!((progress.at_s - f64::from(index + 1) * 0.1).abs() < 1e-9);
        }
        gather.report(vec![7], SUSTAINED_P99_US)
    }

    #[test]
    fn recovery_is_the_end_of_the_first_interval_that_is_as_before() {
        for (intervals, expected) in [(0, 0.1), (7, 0.8)] {
            let report = bombed(intervals, 1);
            let recovery = report.recovery.expect("there was a peak");
            assert!((recovery.baseline_p95_us - 100.0).abs() < 1.0, "{recovery:?}");
            assert!((recovery.after_s.expect("it recovered") - expected).abs() < 1e-6, "{recovery:?}");
        }
        assert_eq!(bombed(1000, 1).recovery.expect("there was a peak").after_s, None);
    }

    #[test]
    fn rows_add_up_to_the_whole() {
        let report = bombed(0, 3);
        assert_eq!((report.counts.planned, report.latency.count, report.rows.len()), (12_600, 12_600, 420));
        assert_eq!(report.connections_max, 6);
        let warm = &report.table[0];
        assert_eq!((warm.label.as_str(), warm.open), ("warm", 6));
        assert!((warm.answered - 300.0).abs() < 1e-6 && (warm.p99_us - 100.0).abs() < 1.0, "{warm:?}");
        assert!(report.table.iter().all(|row| (row.cpu_percent - 50.0).abs() < 5.0), "{:?}", report.table);
        let server = report.server.expect("it was watched");
        assert_eq!((server.rss_bytes_first, server.rss_bytes_max, server.rss_bytes_last), (1_000, 1_050, 1_050));
        assert!((server.cpu_percent - 50.0).abs() < 0.1, "{server:?}");
        assert!((server.rss_growth_percent.expect("there was a peak") - 5.0).abs() < 1e-6, "{server:?}");
    }

    #[test]
    fn a_process_that_ended_or_skipped_an_interval_holds_nobody_up() {
        let shape = Shape::of(Profile::Bomb, &WISHES);
        let mut gather = Gather::new(Profile::Bomb, &shape, 0.1, 2, None);
        gather.add(0, &tick(0, 10, 1_000));
        gather.add(1, &tick(2, 10, 1_000));
        assert!(gather.is_complete());
        assert!(gather.settle(None).is_some() && gather.rows.len() == 1);
        gather.end(0);
        assert!(gather.settle(None).is_some() && gather.rows.len() == 3);
        let report = gather.report(Vec::new(), SUSTAINED_P99_US);
        assert!(report.counts.planned == 20 && report.server.is_none(), "{report:?}");
    }

    #[test]
    fn the_peak_of_a_ramp_is_where_answers_no_longer_follow() {
        let row = |planned: f64, answered: f64, p99_us: f64| Row { planned, answered, p99_us, ..Row::default() };
        let table =
            [row(100.0, 100.0, 50.0), row(200.0, 199.0, 60.0), row(300.0, 290.0, 70.0), row(400.0, 400.0, 9_000.0), row(500.0, 250.0, 1.0)];
        let peak = peak(&table, 5_000.0);
        assert!((peak.answered - 400.0).abs() < 1e-9 && (peak.sustained - 199.0).abs() < 1e-9, "{peak:?}");
    }

    #[test]
    fn classes_stay_apart() {
        let shape = Shape::of(Profile::Mixed, &WISHES);
        let mut gather = Gather::new(Profile::Mixed, &shape, 1.0, 1, None);
        let mut counts = Counts { planned: 2, ..Counts::default() };
        counts.failed.add(Class::Refused429);
        counts.failed.add(Class::Timeout);
        gather.add(0, &Tick { counts, ..Tick::default() });
        let report = gather.report(Vec::new(), SUSTAINED_P99_US);
        assert_eq!(report.failed, [("refused 429".to_owned(), 1), ("timeout".to_owned(), 1)]);
        assert!(report.counts.adds_up() && report.table[0].errors == 1 && report.recovery.is_none());
    }
}
