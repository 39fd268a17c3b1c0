//! Tier 4: the node's breaker. Core 0 feeds it what all cores counted; what it decides every core is told.

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::limits::{NODE_BREAKER_OPEN_MS_FIRST, NODE_BREAKER_OPEN_MS_MAX, NODE_BREAKER_PROBES, NODE_BREAKER_RECENT_MS};
use crate::base::time::Nanos;

/// How often it is fed.
pub(super) const SAMPLE_EACH: Duration = Duration::from_millis(250);
/// Fewest messages of the recent past that say anything.
const MESSAGES_MIN: u64 = 100;
/// How long probes have to show how they end.
const PROBED: Duration = Duration::from_secs(1);

/// When it opens.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Threshold {
    /// Errors in a million messages. More than that is too many.
    pub per_million: u32,
    /// For how long there must have been too many.
    pub hold: Duration,
}

/// What a core does with messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Phase {
    /// It takes them.
    #[default]
    Closed,
    /// It refuses them.
    Open,
    /// It takes a few, to see how they end.
    Probing,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed { too_many_since: Option<Nanos> },
    Open { until: Nanos },
    Probing { from: Counts, enough_since: Option<Nanos> },
}

/// What was counted since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Messages that were admitted.
    pub messages: u64,
    /// Errors among them: 5xx that were no refusals, timeouts, truncated answers, internal errors.
    pub errors: u64,
}

impl Counts {
    const fn since(self, earlier: Self) -> Self {
        Self { messages: self.messages.saturating_sub(earlier.messages), errors: self.errors.saturating_sub(earlier.errors) }
    }
}

#[derive(Debug)]
pub(super) struct Breaker {
    threshold: Threshold,
    state: State,
    /// What was counted in the recent past, oldest first.
    samples: VecDeque<(Nanos, Counts)>,
    /// For how long it opens the next time.
    open_for: Duration,
}

impl Breaker {
    pub fn new(threshold: Threshold) -> Self {
        let state = State::Closed { too_many_since: None };
        Self { threshold, state, samples: VecDeque::new(), open_for: Duration::from_millis(NODE_BREAKER_OPEN_MS_FIRST) }
    }

    pub const fn phase(&self) -> Phase {
        match self.state {
            State::Closed { .. } => Phase::Closed,
            State::Open { .. } => Phase::Open,
            State::Probing { .. } => Phase::Probing,
        }
    }

    const fn is_too_many(&self, counts: Counts) -> bool {
        counts.errors as u128 * 1_000_000 > counts.messages as u128 * self.threshold.per_million as u128
    }

    /// Takes the counts of this moment; called every [`SAMPLE_EACH`]. Gives the phase when it is another one than before.
    pub fn on_sample(&mut self, now: Nanos, total: Counts) -> Option<Phase> {
        let before = self.phase();
        while self.samples.front().is_some_and(|(at, _)| now.since(*at) > Duration::from_millis(NODE_BREAKER_RECENT_MS)) {
            self.samples.pop_front();
        }
        self.samples.push_back((now, total));
        match &mut self.state {
            State::Closed { .. } => self.watch(now, total),
            State::Open { until } if now >= *until => self.state = State::Probing { from: total, enough_since: None },
            State::Open { .. } => {}
            State::Probing { .. } => self.judge(now, total),
        }
        Some(self.phase()).filter(|phase| *phase != before)
    }

    fn watch(&mut self, now: Nanos, total: Counts) {
        let recent = total.since(self.samples.front().map_or(total, |(_, counts)| *counts));
        let is_wrong = recent.messages >= MESSAGES_MIN && self.is_too_many(recent);
        let State::Closed { too_many_since } = &mut self.state else { return };
        if !is_wrong {
            *too_many_since = None;
        } else if now.since(*too_many_since.get_or_insert(now)) >= self.threshold.hold {
            self.open(now);
        }
    }

    fn open(&mut self, now: Nanos) {
        self.state = State::Open { until: now.after(self.open_for) };
        self.open_for = (self.open_for * 2).min(Duration::from_millis(NODE_BREAKER_OPEN_MS_MAX));
        self.samples.clear();
    }

    fn judge(&mut self, now: Nanos, total: Counts) {
        let State::Probing { from, enough_since } = &mut self.state else { return };
        let probed = total.since(*from);
        if probed.messages < u64::from(NODE_BREAKER_PROBES) {
            return;
        }
        let has_ended = now.since(*enough_since.get_or_insert(now)) >= PROBED;
        if self.is_too_many(probed) {
            self.open(now);
        } else if has_ended {
            self.state = State::Closed { too_many_since: None };
            self.open_for = Duration::from_millis(NODE_BREAKER_OPEN_MS_FIRST);
            self.samples.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THRESHOLD: Threshold = Threshold { per_million: 10_000, hold: Duration::from_secs(30) };

    /// Feeds the breaker for so many seconds; the phases it went through with the second of each change.
    struct Feed {
        breaker: Breaker,
        now: Nanos,
        total: Counts,
    }

    impl Feed {
        fn new() -> Self {
            Self { breaker: Breaker::new(THRESHOLD), now: Nanos(0), total: Counts::default() }
        }

        fn run(&mut self, seconds: f64, messages: u64, errors: u64) -> Vec<(f64, Phase)> {
            let mut changes = Vec::new();
            for _ in 0..(seconds * 4.0) as u64 {
                self.now = self.now.after(SAMPLE_EACH);
                self.total.messages += messages;
                self.total.errors += errors;
                if let Some(phase) = self.breaker.on_sample(self.now, self.total) {
                    changes.push((self.now.0 as f64 / 1e9, phase));
                }
            }
            changes
        }
    }

    #[test]
    fn exactly_one_percent_is_not_too_many_and_more_opens_after_it_has_held() {
        let mut feed = Feed::new();
        assert_eq!(feed.run(120.0, 1000, 10), []);
        let changes = feed.run(40.0, 1000, 11);
        assert!(matches!(changes[..], [(at, Phase::Open), (_, Phase::Probing), ..] if (150.0..157.0).contains(&at)), "{changes:?}");
    }

    #[test]
    fn a_pause_of_errors_begins_anew() {
        let mut feed = Feed::new();
        for _ in 0..5 {
            assert_eq!(feed.run(20.0, 1000, 500), []);
            assert_eq!(feed.run(20.0, 1000, 0), []);
        }
        assert_eq!(feed.run(60.0, 1, 1).len(), 0, "so few say nothing");
    }

    #[test]
    fn probes_that_go_well_close_it_and_one_that_fails_opens_it_for_twice_as_long() {
        let mut feed = Feed::new();
        let changes = feed.run(36.5, 1000, 1000);
        let opened = changes.first().expect("it opens").0;
        assert!(changes.iter().map(|(_, phase)| *phase).eq([Phase::Open, Phase::Probing, Phase::Open]), "{changes:?}");
        assert!((changes[1].0 - opened - 5.0).abs() < 0.3, "{changes:?}");
        let changes = feed.run(12.0, 0, 0);
        assert!(matches!(changes[..], [(_, Phase::Probing)]), "nothing is known without probes: {changes:?}");
        let changes = feed.run(3.0, 100, 0);
        assert!(matches!(changes[..], [(_, Phase::Closed)]), "{changes:?}");
    }
}
