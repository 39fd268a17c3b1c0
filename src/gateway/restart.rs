//! When a child process that has ended is started again, and when it is not.

use std::time::Duration;

use super::backoff::Backoff;
use crate::base::limits::{CHILD_CRASHES_MAX, CHILD_LOOPING_MS, CHILD_RESTART_MS_FIRST, CHILD_RESTART_MS_MAX, CHILD_STABLE_MS};
use crate::base::time::Nanos;

/// When a child is started again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum RestartPolicy {
    /// Whenever it has ended.
    #[default]
    Always,
    /// When it ended with an exit code other than 0, by a signal, or could not be started.
    OnFailure,
    /// Never.
    Never,
}

/// What is to be done about a child that has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Restart {
    /// Start it at this moment.
    At(Nanos),
    /// It has ended soon after its start, too often: leave it alone until this moment, then start it. Who asks for it meanwhile is told so.
    LoopingUntil(Nanos),
    /// Leave it.
    Never,
}

/// The starts and ends of one child.
#[derive(Debug)]
pub struct Restarts {
    policy: RestartPolicy,
    started: Option<Nanos>,
    /// Ends soon after a start, one behind the other.
    crashes: u32,
    backoff: Backoff,
}

impl Restarts {
    /// Of a child that was never started. The seed decides on the jitter of its waits.
    #[must_use]
    pub const fn new(policy: RestartPolicy, seed: u64) -> Self {
        let (first, cap) = (Duration::from_millis(CHILD_RESTART_MS_FIRST), Duration::from_millis(CHILD_RESTART_MS_MAX));
        Self { policy, started: None, crashes: 0, backoff: Backoff::new(first, cap, seed) }
    }

    /// From now on it is started again by this.
    pub const fn set_policy(&mut self, policy: RestartPolicy) {
        self.policy = policy;
    }

    /// It runs.
    pub const fn on_started(&mut self, now: Nanos) {
        self.started = Some(now);
    }

    /// It has ended of itself, or could not be started. `code` is its exit code, if it has one.
    pub fn on_ended(&mut self, now: Nanos, code: Option<i32>) -> Restart {
        let was_stable = self.started.take().is_some_and(|started| now.since(started) >= Duration::from_millis(CHILD_STABLE_MS));
        if was_stable {
            self.crashes = 0;
            self.backoff.reset();
        }
        let is_wanted = match self.policy {
            RestartPolicy::Always => true,
            RestartPolicy::OnFailure => code != Some(0),
            RestartPolicy::Never => false,
        };
        if !is_wanted {
            return Restart::Never;
        }
        self.crashes = self.crashes.saturating_add(1);
        if self.crashes > CHILD_CRASHES_MAX {
            return Restart::LoopingUntil(now.after(self.backoff.jittered(Duration::from_millis(CHILD_LOOPING_MS))));
        }
        Restart::At(now.after(self.backoff.next_wait()))
    }

    /// It was stopped on purpose: what comes is a fresh start.
    pub const fn on_stopped(&mut self) {
        self.started = None;
        self.crashes = 0;
        self.backoff.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn wait(restart: Restart, now: Nanos) -> Duration {
        match restart {
            Restart::At(at) | Restart::LoopingUntil(at) => at.since(now),
            Restart::Never => panic!("it is to be started again"),
        }
    }

    #[test]
    fn one_that_keeps_crashing_is_left_alone_for_a_while() {
        for seed in 0..100 {
            let mut restarts = Restarts::new(RestartPolicy::Always, seed);
            let (mut now, mut longest) = (Nanos(0), CHILD_RESTART_MS_FIRST);
            for _ in 0..CHILD_CRASHES_MAX {
                restarts.on_started(now);
                now = Nanos(now.0 + MS);
                let restart = restarts.on_ended(now, Some(1));
                let ms = wait(restart, now).as_millis() as u64;
                assert!(matches!(restart, Restart::At(_)) && longest / 2 <= ms && ms <= longest, "{restart:?}");
                longest = (longest * 2).min(CHILD_RESTART_MS_MAX);
            }
            for _ in 0..3 {
                let restart = restarts.on_ended(now, None);
                assert!(matches!(restart, Restart::LoopingUntil(_)));
                assert!(wait(restart, now) >= Duration::from_millis(CHILD_LOOPING_MS / 2));
                assert!(wait(restart, now) <= Duration::from_millis(CHILD_LOOPING_MS));
            }
            restarts.on_started(now);
            now = now.after(Duration::from_millis(CHILD_STABLE_MS));
            let restart = restarts.on_ended(now, Some(1));
            assert!(matches!(restart, Restart::At(_)) && wait(restart, now) <= Duration::from_millis(CHILD_RESTART_MS_FIRST));
        }
    }

    #[test]
    fn the_policy_decides_whether_it_is_started_again() {
        let restart = |policy, code| Restarts::new(policy, 1).on_ended(Nanos(0), code) != Restart::Never;
        for (code, always, on_failure) in [(Some(0), true, false), (Some(3), true, true), (None, true, true)] {
            assert_eq!((restart(RestartPolicy::Always, code), restart(RestartPolicy::OnFailure, code)), (always, on_failure), "{code:?}");
            assert!(!restart(RestartPolicy::Never, code));
        }
    }

    #[test]
    fn one_that_was_stopped_begins_anew() {
        let mut restarts = Restarts::new(RestartPolicy::Always, 1);
        for _ in 0..2 * CHILD_CRASHES_MAX {
            restarts.on_ended(Nanos(0), Some(1));
        }
        restarts.on_stopped();
        assert!(matches!(restarts.on_ended(Nanos(0), Some(1)), Restart::At(_)));
    }
}
