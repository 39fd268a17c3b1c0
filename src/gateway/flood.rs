//! Streams of changes that tell more than anybody can look at: they are not read until what they told of was looked at.

use super::trip::Trip;
use super::{Effect, Gateway, link_key};
use crate::base::ids::LinkId;
use crate::base::limits::NEEDLESS_CHANGES_MAX;

impl Gateway {
    /// Stops reading a stream of changes that goes on telling of changes although it is known that there are some.
    pub(super) fn slow_down(&mut self, upstream: u32, link: LinkId) {
        let is_flood = self.scout(upstream).is_some_and(|scout| scout.needless >= NEEDLESS_CHANGES_MAX);
        self.pause(link, is_flood);
    }

    /// Reads it again.
    pub(super) fn read_on(&mut self, upstream: u32) {
        let listen = self.upstreams[upstream].scout.as_ref().and_then(|scout| scout.listen);
        if let Some(link) = listen.and_then(|key| self.trips.get(key)).and_then(Trip::link) {
            self.pause(link, false);
        }
    }

    pub(super) fn pause(&mut self, link: LinkId, is_paused: bool) {
        if let Some(state) = self.links.get_mut(link_key(link))
            && state.is_throttled != is_paused
        {
            state.is_throttled = is_paused;
            self.effects.push(Effect::Throttle { link, is_paused });
        }
    }
}
