//! What was counted and measured: one process's, or all processes' merged.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// What a message came to when it did not come to a right answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// 429: the server refused it, because of who asked or how often.
    Refused429,
    /// 503: the server refused it, because it has enough to do.
    Refused503,
    /// Another status of 500 and above.
    Http5xx,
    /// Any other status that is not 200.
    HttpOther,
    /// No answer in time.
    Timeout,
    /// The connection ended with the message unanswered.
    Reset,
    /// There was no connection to send it on.
    Connect,
    /// A JSON-RPC error.
    RpcError,
    /// An answer that is not what was asked for: no JSON-RPC, another id, no result, not the expected text.
    WrongContent,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Refused429,
        Self::Refused503,
        Self::Http5xx,
        Self::HttpOther,
        Self::Timeout,
        Self::Reset,
        Self::Connect,
        Self::RpcError,
        Self::WrongContent,
    ];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Refused429 => "refused 429",
            Self::Refused503 => "refused 503",
            Self::Http5xx => "other 5xx",
            Self::HttpOther => "other status",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::Connect => "no connection",
            Self::RpcError => "JSON-RPC error",
            Self::WrongContent => "wrong content",
        }
    }

    /// Whether the server said no on purpose: such is load that it sheds, and no error.
    #[must_use]
    pub const fn is_refusal(self) -> bool {
        matches!(self, Self::Refused429 | Self::Refused503)
    }

    /// The class of a status that is not 200.
    #[must_use]
    pub const fn of_status(status: u16) -> Self {
        match status {
            429 => Self::Refused429,
            503 => Self::Refused503,
            500.. => Self::Http5xx,
            _ => Self::HttpOther,
        }
    }
}

/// A count for each class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByClass([u64; Class::ALL.len()]);

impl ByClass {
    /// One more.
    pub const fn add(&mut self, class: Class) {
        self.0[class as usize] += 1;
    }

    /// How many of one class.
    #[must_use]
    pub const fn get(&self, class: Class) -> u64 {
        self.0[class as usize]
    }

    /// Those that are there, with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (Class, u64)> {
        Class::ALL.into_iter().map(|class| (class, self.get(class))).filter(|(_, count)| *count > 0)
    }

    /// How many were refused.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.iter().filter(|(class, _)| class.is_refusal()).map(|(_, count)| count).sum()
    }

    /// How many are errors: refusals are none.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.iter().filter(|(class, _)| !class.is_refusal()).map(|(_, count)| count).sum()
    }

    /// Adds other counts.
    pub fn merge(&mut self, other: &Self) {
        for (own, others) in self.0.iter_mut().zip(other.0) {
            *own += others;
        }
    }
}

/// What was counted. Each planned message is answered, or is in a class, or was not offered, or was cut off by the end:
/// see [`Self::adds_up`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Messages whose time came.
    pub planned: u64,
    /// Messages that were written to a connection.
    pub sent: u64,
    /// Right answers.
    pub answered: u64,
    /// What became of the others.
    pub failed: ByClass,
    /// Messages that this program was too late to send.
    pub not_offered: u64,
    /// Messages that were in work when the run was interrupted.
    pub cut: u64,
    /// Answers that came after their request had counted as timed out.
    pub late: u64,
    /// Refusals that did not say when to come again (Retry-After).
    pub refused_bare: u64,
    /// Connections that were opened.
    pub opened: u64,
    /// Connections that could not be opened, or not be used: refused, reset, or the handshake failed.
    pub unopened: ByClass,
    /// Connections that ended though nobody here ended them.
    pub dropped: u64,
    /// Bytes of requests.
    pub bytes_out: u64,
    /// Bytes of answers.
    pub bytes_in: u64,
}

impl Counts {
    /// Adds another count.
    pub fn merge(&mut self, other: &Self) {
        self.planned += other.planned;
        self.sent += other.sent;
        self.answered += other.answered;
        self.failed.merge(&other.failed);
        self.not_offered += other.not_offered;
        self.cut += other.cut;
        self.late += other.late;
        self.refused_bare += other.refused_bare;
        self.opened += other.opened;
        self.unopened.merge(&other.unopened);
        self.dropped += other.dropped;
        self.bytes_out += other.bytes_out;
        self.bytes_in += other.bytes_in;
    }

    /// Whether every planned message is accounted for; true only when the run is over.
    #[must_use]
    pub fn adds_up(&self) -> bool {
        self.planned == self.answered + self.failed.refused() + self.failed.errors() + self.not_offered + self.cut
    }
}

/// Longest time that is told from longer ones, nanoseconds.
const NS_MAX: u64 = 600_000_000_000;
/// Shortest time that is told from shorter ones.
const NS_MIN: u64 = 100;

/// Times, nanoseconds, to three significant digits.
#[derive(Clone, Debug)]
pub struct Times(Histogram<u64>);

impl Default for Times {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(NS_MIN, NS_MAX, 3).expect("the bounds are sound"))
    }
}

/// Each time that was recorded, with how often: how a histogram travels between processes.
pub type Recorded = Vec<(u64, u64)>;

impl Times {
    /// One more.
    pub fn record(&mut self, ns: u64) {
        self.0.saturating_record(ns);
    }

    /// Adds what another process recorded.
    pub fn add(&mut self, recorded: &Recorded) {
        for (ns, count) in recorded {
            self.0.saturating_record_n(*ns, *count);
        }
    }

    /// Adds another histogram's.
    pub fn merge(&mut self, other: &Self) {
        // All have the same bounds: it cannot fail.
        let _ = self.0.add(&other.0);
    }

    /// All that was recorded; it is empty then.
    pub fn take(&mut self) -> Recorded {
        if self.0.is_empty() {
            return Vec::new();
        }
        let recorded = self.0.iter_recorded().map(|value| (value.value_iterated_to(), value.count_at_value())).collect();
        self.0.reset();
        recorded
    }

    /// How many were recorded.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.0.len()
    }

    /// Whether none was.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The time that a share of all (0 to 1) is no longer than, nanoseconds; 0 when there is none.
    #[must_use]
    pub fn quantile(&self, share: f64) -> u64 {
        self.0.value_at_quantile(share)
    }

    /// What is told of them.
    #[must_use]
    pub fn summary(&self) -> Latency {
        let us = |share| self.quantile(share) as f64 / 1e3;
        Latency {
            count: self.len(),
            mean_us: self.0.mean() / 1e3,
            p50_us: us(0.5),
            p95_us: us(0.95),
            p99_us: us(0.99),
            p999_us: us(0.999),
            max_us: self.0.max() as f64 / 1e3,
        }
    }
}

/// Latencies as they are told, microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Of how many messages.
    pub count: u64,
    /// Their mean.
    pub mean_us: f64,
    /// Half of them were no slower.
    pub p50_us: f64,
    /// 95 % were no slower.
    pub p95_us: f64,
    /// 99 %.
    pub p99_us: f64,
    /// 99.9 %.
    pub p999_us: f64,
    /// The slowest.
    pub max_us: f64,
}

/// What one process reports at the end of each interval: what is new since the last one.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Tick {
    /// Number of the interval, from 0. What follows the last one counts to it.
    pub index: u32,
    /// What was counted.
    pub counts: Counts,
    /// Connections that can be used, at its end.
    pub open: u64,
    /// From the planned time to the right answer.
    pub answered: Recorded,
    /// From the planned time to the refusal.
    pub refused: Recorded,
    /// How late this program was to offer messages.
    pub lag: Recorded,
    /// CPU time of the process.
    pub cpu_ns: u64,
    /// Time that it did something else than wait for something to do.
    pub busy_ns: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_travel_and_merge_without_loss() {
        let (mut whole, mut left, mut right, mut merged) = (Times::default(), Times::default(), Times::default(), Times::default());
        for value in 0..100_000_u64 {
            let ns = value * value % 9_999_999_967;
            whole.record(ns);
            if value % 3 == 0 { left.record(ns) } else { right.record(ns) }
        }
        for part in [left.take(), right.take()] {
            let text = serde_json::to_string(&part).expect("it is written");
            merged.add(&serde_json::from_str(&text).expect("it is read"));
        }
        assert!(left.is_empty() && left.take().is_empty());
        assert_eq!(merged.len(), 100_000);
        for share in [0.0, 0.5, 0.95, 0.99, 0.999, 1.0] {
            assert_eq!(merged.quantile(share), whole.quantile(share), "{share}");
        }
        let mut twice = whole.clone();
        twice.merge(&merged);
        assert_eq!((twice.len(), twice.quantile(0.9)), (200_000, whole.quantile(0.9)));
    }

    #[test]
    fn times_are_true_to_three_digits() {
        let mut times = Times::default();
        for ns in [250_000, 20_000_000, 1_000_000_000, u64::MAX] {
            times.record(ns);
            let told = times.quantile(1.0);
            let expected = ns.min(NS_MAX);
            assert!((told as f64 / expected as f64 - 1.0).abs() < 0.001, "{ns} {told}");
        }
    }

    #[test]
    fn every_message_is_accounted_for_once() {
        let mut counts = Counts { planned: 12, answered: 1, not_offered: 1, cut: 1, ..Counts::default() };
        for class in Class::ALL {
            assert!(!counts.adds_up());
            counts.failed.add(class);
        }
        assert!(counts.adds_up());
        assert_eq!((counts.failed.refused(), counts.failed.errors()), (2, 7));
        let mut twice = counts;
        twice.merge(&counts);
        assert!(twice.adds_up() && twice.planned == 24 && twice.failed.get(Class::Reset) == 2);
    }

    #[test]
    fn statuses_have_their_class() {
        for (status, class) in [
            (429, Class::Refused429),
            (503, Class::Refused503),
            (500, Class::Http5xx),
            (502, Class::Http5xx),
            (404, Class::HttpOther),
            (202, Class::HttpOther),
        ] {
            assert_eq!(Class::of_status(status), class, "{status}");
        }
    }
}
