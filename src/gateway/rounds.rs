//! Requests whose upstream asks something before it goes on (2026-07-28, basic, "Multi Round-Trip Requests"), for clients of the legacy era: the
//! request is kept until the answers are there, and goes again with them.

use super::owner::Owner;
use super::slots::Key;
use super::trip::{Stage, TripId, Who};
use super::write::{self, Forward};
use super::{Gateway, link_key};
use crate::base::time::Nanos;
use crate::wire::json;
use crate::wire::jsonrpc::Id;
use crate::wire::mcp::{ClientCapabilities, Era};

impl Gateway {
    /// The request waits for what its upstream asked; its link does not.
    pub(super) fn park(&mut self, key: Key) {
        self.part(key);
        let Some(trip) = self.trips.get_mut(key) else { return };
        // Whoever waits for it says when that is too long.
        (trip.stage, trip.due, trip.ends) = (Stage::Asking, Nanos::NEVER, Nanos::NEVER);
    }

    /// What the request was sent over expects nothing of it any more: it waits.
    pub(super) fn part(&mut self, key: Key) {
        let Some(trip) = self.trips.get_mut(key) else { return };
        let (link, was_piped) = (trip.link(), trip.stage == Stage::Piped);
        let (upstream, number) = (trip.upstream, trip.number);
        trip.stage = Stage::Waiting;
        if let Some(state) = link.and_then(|link| self.links.get_mut(link_key(link))) {
            state.part();
        }
        if was_piped {
            self.forget_number(upstream, number);
        }
    }

    /// Sends a request again, with what its upstream asked for: `members` are `inputResponses` and `requestState`.
    pub fn resume(&mut self, now: Nanos, trip: TripId, members: &[u8]) {
        let key = (trip.0, trip.1);
        let number = self.number();
        let mut body = self.buffer();
        let Some(trip) = self.trips.get_mut(key).filter(|trip| trip.stage == Stage::Asking) else { return };
        let Who::Call(core, call) = trip.who else { return };
        let forward = Forward {
            core,
            call,
            era: Era::Modern,
            method: trip.method,
            id: Id::Number(b"0"),
            params: json::get(&trip.body, "params").unwrap_or(b"{}"),
            renamed: None,
            name: "",
            exposed: "",
            progress_token: Some(trip.token.as_bytes()).filter(|token| !token.is_empty()),
            level: None,
            wanted: None,
            client_info: None,
            owner: Owner::Shared,
            speaks: trip.version,
            agrees: true,
            capabilities: ClientCapabilities::NONE,
            fields: &[],
        };
        write::again(&mut body, &forward, trip.version, number, members);
        std::mem::swap(&mut trip.body, &mut body);
        trip.number = Some(number);
        if !trip.head.is_empty() {
            write::set_length(&mut trip.head, trip.body.len());
        }
        (trip.is_retried, trip.is_renewed) = (false, false);
        trip.ends = self.upstreams[trip.upstream].deadline(now);
        self.give_back(body);
        self.dispatch(now, key);
    }
}
