//! The life of an upstream's process: when it counts as hung and is ended, and when one that is lazy sleeps and wakes.
//!
//! # Hung
//!
//! A process that answers is well, whatever it answers. One that leaves checks unanswered is ended with its process group and started again, like
//! one that crashed; so is one that does not answer while it is greeted or asked for its lists. Many servers do one thing at a time: as
//! long as a client's request has time left, and no other ran out of it since the process said something, it may be busy with that, and a check that
//! goes unanswered counts for nothing.
//!
//! # Lazy
//!
//! A lazy process is started once, so that its lists are known, and ended at once. Its entry stays as it is: it sleeps, which is no failure. The
//! next request of a client starts it; then it is watched like any other, its lists are looked at again, and it sleeps once nobody has needed
//! it for a while. One that sleeps by itself, with exit code 0 and nothing in work, is taken at its word.

use std::time::Duration;

use super::failure::Failure;
use super::link::Down;
use super::scout::{Errand, Scout, Stage};
use super::slots::Key;
use super::trip::Who;
use super::{Effect, Gateway, link_key};
use crate::base::limits::{CHILD_CHECKS_MISSED_MAX, CHILD_EOF_MS_MAX, CHILD_TERM_MS_MAX};
use crate::base::time::Nanos;

/// A lazy process that runs is looked at so often.
const LOOK: Duration = Duration::from_secs(1);

/// What is known of how a process fares.
#[derive(Debug)]
pub(super) struct Pulse {
    /// When it answered last.
    heard: Nanos,
    /// Checks that it left unanswered since.
    missed: u32,
    /// A client's request has run out of time since.
    is_late: bool,
    /// When a client's request last needed it, since it was started.
    used: Option<Nanos>,
    /// When a lazy one is looked at.
    pub look: Nanos,
}

impl Pulse {
    /// Of a process that does not run.
    pub const fn new() -> Self {
        Self { heard: Nanos(0), missed: 0, is_late: false, used: None, look: Nanos::NEVER }
    }

    /// It has answered something.
    pub const fn beat(&mut self, now: Nanos) {
        (self.heard, self.missed, self.is_late) = (now, 0, false);
    }

    /// A client's request was sent to it.
    pub const fn use_at(&mut self, now: Nanos) {
        self.used = Some(now);
    }
}

impl Gateway {
    /// The process runs.
    pub(super) fn on_started(&mut self, now: Nanos, upstream: u32) {
        let up = &mut self.upstreams[upstream];
        let Some(pipe) = &mut up.pipe else { return };
        pipe.pulse.beat(now);
        if up.settings.options.is_lazy {
            pipe.pulse.look = now.after(LOOK.min(up.settings.options.reap_after));
            let due = pipe.pulse.look;
            self.expect(due);
        }
        self.wake_scout(now, upstream);
    }

    /// Whether the process has a client's request to answer.
    fn is_at_work(&self, upstream: u32) -> bool {
        let is_clients = |key: &Key| self.trips.get(*key).is_some_and(|trip| matches!(trip.who, Who::Call(..)));
        self.upstreams[upstream].pipe.as_ref().is_some_and(|pipe| pipe.trips.values().any(is_clients))
    }

    /// Whether a client's request waits for the process.
    fn is_needed(&self, upstream: u32) -> bool {
        let up = &self.upstreams[upstream];
        self.is_at_work(upstream) || !up.queue.is_empty() || up.unopened > 0
    }

    /// A client's request was not answered by the process in time.
    pub(super) fn on_late(&mut self, now: Nanos, upstream: u32) {
        if let Some(pipe) = &mut self.upstreams[upstream].pipe {
            pipe.pulse.is_late = true;
            self.check_soon(now, upstream);
        }
    }

    /// A request of this gateway's own, sent at that moment, was not answered by the process in time. Whether the process is well all the same, as
    /// far as is known; if it is not, it is ended.
    pub(super) fn is_alive_unanswered(&mut self, now: Nanos, upstream: u32, errand: Errand, sent: Nanos) -> bool {
        let is_at_work = self.is_at_work(upstream);
        let Some(pipe) = &mut self.upstreams[upstream].pipe else { return true };
        if pipe.pulse.heard > sent || (is_at_work && !pipe.pulse.is_late) {
            return true;
        }
        pipe.pulse.missed += 1;
        // One that does not answer its greeting never answered anything.
        if !matches!(errand, Errand::Initialize(_)) && pipe.pulse.missed < CHILD_CHECKS_MISSED_MAX {
            return true;
        }
        tracing::warn!(upstream = &*self.upstreams[upstream].settings.name, "a process answers nothing and is ended");
        self.lose_pipe(now, upstream, &Failure::Silent, true);
        // It may take until it is killed: the next is not started beside it.
        let ended = now.after(Duration::from_millis(CHILD_EOF_MS_MAX + CHILD_TERM_MS_MAX));
        if let Some(pipe) = &mut self.upstreams[upstream].pipe {
            pipe.rest_until(ended);
        }
        self.delay_scout(upstream, ended);
        false
    }

    /// Ends a lazy process that nobody has needed for long enough.
    pub(super) fn look_at_lazy(&mut self, now: Nanos, upstream: u32) {
        let is_needed = self.is_needed(upstream);
        let may_sleep = self.may_sleep(upstream);
        let up = &mut self.upstreams[upstream];
        let Some(pipe) = up.pipe.as_mut().filter(|pipe| pipe.pulse.look <= now) else { return };
        let kept = up.settings.options.reap_after;
        pipe.pulse.look = now.after(LOOK.min(kept));
        if is_needed {
            pipe.pulse.used = Some(now);
        }
        let is_idle = pipe.pulse.used.is_none_or(|used| now.since(used) >= kept);
        let due = pipe.pulse.look;
        if is_idle && !is_needed && may_sleep {
            return self.sleep(now, upstream);
        }
        self.expect(due);
    }

    /// A lazy process has ended by itself. Whether that is as good as being ended.
    pub(super) fn has_gone_to_sleep(&mut self, now: Nanos, upstream: u32, failure: &Failure) -> bool {
        let is_good = matches!(failure, Failure::Down(Down::Exited { code: Some(0) }));
        let is_asleep = is_good && self.may_sleep(upstream) && !self.is_needed(upstream);
        if is_asleep {
            self.fall_asleep(now, upstream);
        }
        is_asleep
    }

    /// Whether it is lazy, and everything is known that is to be known of it.
    fn may_sleep(&self, upstream: u32) -> bool {
        let up = &self.upstreams[upstream];
        up.settings.options.is_lazy && up.scout.as_ref().is_some_and(Scout::is_content)
    }

    /// Ends the process, and does not hold that against it.
    pub(super) fn sleep(&mut self, now: Nanos, upstream: u32) {
        let link = self.upstreams[upstream].pipe.as_ref().and_then(|pipe| pipe.link);
        self.fall_asleep(now, upstream);
        if let Some(link) = link {
            tracing::debug!(upstream = &*self.upstreams[upstream].settings.name, "a process that nobody needs is ended");
            self.effects.push(Effect::Hang { link });
        }
    }

    fn fall_asleep(&mut self, now: Nanos, upstream: u32) {
        self.sleep_scout(upstream);
        let up = &mut self.upstreams[upstream];
        let Some(pipe) = &mut up.pipe else { return };
        let (link, own) = (pipe.link.take(), std::mem::take(&mut pipe.trips));
        self.held -= pipe.stop();
        // A process is greeted anew.
        up.session.close();
        if let Some(link) = link
            && self.links.remove(link_key(link)).is_some()
        {
            self.upstreams[upstream].links -= 1;
        }
        for key in own.into_values() {
            self.drop_trip(now, key);
        }
    }

    /// A process runs that slept: what it has may have changed.
    fn wake_scout(&mut self, now: Nanos, upstream: u32) {
        if let Some(scout) = self.scout(upstream).filter(|scout| scout.stage == Stage::Sleeping) {
            (scout.stage, scout.due, scout.is_woken) = (Stage::Waiting, now, true);
            self.expect(now);
        }
    }

    /// A process sleeps: nothing is asked until it runs again.
    fn sleep_scout(&mut self, upstream: u32) {
        if let Some(scout) = self.scout(upstream) {
            (scout.stage, scout.due, scout.listen) = (Stage::Sleeping, Nanos::NEVER, None);
        }
    }

    /// Does not begin anew before that moment.
    fn delay_scout(&mut self, upstream: u32, until: Nanos) {
        if let Some(scout) = self.scout(upstream).filter(|scout| scout.stage == Stage::Waiting) {
            scout.due = scout.due.max(until);
        }
    }

    /// There is reason to doubt that it is well.
    pub(super) fn check_soon(&mut self, now: Nanos, upstream: u32) {
        let is_being_asked = self.scout(upstream).is_some_and(|scout| scout.due == Nanos::NEVER);
        if !is_being_asked {
            self.check_again(now, upstream);
        }
    }

    /// The process may be busy.
    pub(super) fn check_again(&mut self, now: Nanos, upstream: u32) {
        if let Some(scout) = self.scout(upstream).filter(|scout| scout.stage == Stage::Watching) {
            (scout.due, scout.is_doubted) = (now, true);
            self.expect(now);
        }
    }
}
