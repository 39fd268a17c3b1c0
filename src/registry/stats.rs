//! What the shards have to do: how long what is asked of them waits, how long it takes, and whether that is too long.

use crate::base::ids::ShardId;
use crate::base::limits;
use crate::base::time::Nanos;

/// Averages are of the current window and the one before. Without anything to do, a shard has an average of nothing two windows later.
const WINDOW_NS: u64 = 1_000_000_000;

/// How a shard stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub enum Level {
    /// Nothing to say.
    Calm,
    /// On average something takes 100 us or more, waiting included.
    Warn,
    /// On average something takes 100 ms or more, waiting included.
    Alarm,
}

/// Figures of one shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ShardStats {
    /// The shard.
    pub shard: ShardId,
    /// Servers in it.
    pub servers: usize,
    /// Endpoints in it.
    pub endpoints: usize,
    /// Lookups that it answered so far, from any core. Hits of near caches are not among them.
    pub reads: u64,
    /// Changes made of it so far.
    pub writes: u64,
    /// Time between the asking and the handling, average of the last one to two seconds, nanoseconds.
    pub wait_ns: u64,
    /// Time of the handling itself, average of the last one to two seconds, nanoseconds.
    pub handling_ns: u64,
    /// What that amounts to.
    pub level: Level,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    count: u64,
    ns: u64,
}

impl Sum {
    const fn add(&mut self, ns: u64) {
        self.count += 1;
        self.ns = self.ns.saturating_add(ns);
    }

    const fn mean(self, before: Self) -> u64 {
        match self.count + before.count {
            0 => 0,
            count => self.ns.saturating_add(before.ns) / count,
        }
    }
}

/// One window's sums.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    wait: Sum,
    handling: Sum,
}

/// What one shard has to do.
#[derive(Debug, Default)]
pub(super) struct Load {
    pub reads: u64,
    pub writes: u64,
    window: u64,
    current: Window,
    before: Window,
}

impl Load {
    /// Opens the window that `now` lies in.
    fn turn_to(&mut self, now: Nanos) {
        let window = now.0 / WINDOW_NS;
        if window == self.window {
            return;
        }
        self.before = if window == self.window + 1 { self.current } else { Window::default() };
        (self.window, self.current) = (window, Window::default());
    }

    /// Something asked for at `sent` is handled now.
    pub(super) fn waited(&mut self, sent: Nanos, now: Nanos) {
        self.turn_to(now);
        self.current.wait.add(now.0.saturating_sub(sent.0));
    }

    /// The handling of something took so long.
    pub(super) fn handled(&mut self, now: Nanos, took_ns: u64) {
        self.turn_to(now);
        self.current.handling.add(took_ns);
    }

    /// Averages: waiting, handling.
    pub(super) fn averages(&mut self, now: Nanos) -> (u64, u64) {
        self.turn_to(now);
        (self.current.wait.mean(self.before.wait), self.current.handling.mean(self.before.handling))
    }

    pub(super) fn level(&mut self, now: Nanos) -> Level {
        let (wait, handling) = self.averages(now);
        let us = (wait + handling) / 1000;
        match us {
            limits::SHARD_ALARM_US.. => Level::Alarm,
            limits::SHARD_WARN_US.. => Level::Warn,
            _ => Level::Calm,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = WINDOW_NS;

    #[test]
    fn levels_begin_at_their_thresholds_and_end_with_the_load() {
        let mut load = Load::default();
        let at = |second: u64| Nanos(1000 * SECOND + second * SECOND);
        assert_eq!(load.level(at(0)), Level::Calm);
        load.waited(Nanos(at(0).0 - 60_000), at(0));
        load.handled(at(0), 40_000);
        assert_eq!((load.level(at(0)), load.averages(at(0))), (Level::Warn, (60_000, 40_000)));
        load.handled(at(1), 199_960_000);
        assert_eq!(load.level(at(1)), Level::Alarm, "the window before counts too");
        assert_eq!(load.level(at(2)), Level::Alarm);
        assert_eq!((load.level(at(3)), load.averages(at(3))), (Level::Calm, (0, 0)));
        load.handled(at(3), 99_999);
        assert_eq!(load.level(at(3)), Level::Calm);
    }
}
