//! Calls of upstreams that are processes, from cores that do not have the process: the request goes there in a frame, and so does what is heard
//! of it. What finds its lane full is sent again on a later tick; a request that does is turned away.

use std::ops::Range;

use compact_str::CompactString;
use hashbrown::HashMap;

use super::out::{self, Effect, Lane, Out};
use super::{Engine, legacy_stream};
use crate::base::ids::{CallId, CoreId};
use crate::base::limits::LANE_FRAMES_MAX;
use crate::base::time::Now;
use crate::gateway::breaker::Said;
use crate::gateway::{Doubt, Failure, Forward, Heard, Owner, TripId, What};
use crate::wire::jsonrpc::Id;
use crate::wire::mcp::{ClientCapabilities, Era, Level, Method, Version};

/// What crosses.
#[derive(Debug)]
pub enum Frame {
    /// A request for an upstream.
    Ask(Request),
    /// It goes to its upstream again, with these members of its parameters.
    Resume(CallId, Vec<u8>),
    /// Nobody waits for it any more.
    Cancel(CallId),
    /// Its client has answered this question of its upstream: with a result, or an error object.
    Answer(CallId, Box<str>, Result<Box<[u8]>, Box<[u8]>>),
    /// Its client waits for it with another request: the raw id of that, and its raw progress token.
    Readdress(CallId, CompactString, Option<CompactString>),
    /// Something was heard of it.
    Told(CallId, Told),
    /// Clients here want to hear when a resource of an upstream changes, or no longer do.
    Watch {
        /// The upstream.
        upstream: u32,
        /// What it calls the resource.
        uri: Box<str>,
        /// Whether they do.
        is_wanted: bool,
    },
    /// An upstream has logged something about itself.
    Logged {
        /// The upstream.
        upstream: u32,
        /// The level.
        level: Level,
        /// The parameters of the notification.
        params: Box<[u8]>,
    },
    /// It has changed.
    Updated {
        /// The upstream.
        upstream: u32,
        /// What it calls the resource.
        uri: Box<str>,
    },
    /// An upstream is not as its scout found it.
    Doubt(u32, Doubt),
    /// A core's breaker says something of an upstream.
    Breaker(u32, Said),
}

/// A request as it crosses.
#[derive(Debug)]
pub struct Request {
    call: CallId,
    /// Of the roster by which it was sent.
    edition: u64,
    upstream: u32,
    version: Version,
    era: Era,
    method: Method,
    id: CompactString,
    params: Box<[u8]>,
    /// Where in the parameters the upstream's name is to stand.
    renamed: Option<Range<usize>>,
    name: Box<str>,
    exposed: Box<str>,
    token: Option<Range<usize>>,
    level: Option<Level>,
    wanted: Option<Level>,
    client_info: Option<Box<[u8]>>,
    capabilities: ClientCapabilities,
    owner: Owner,
    speaks: Version,
}

/// See [`What`].
#[derive(Debug)]
pub enum Told {
    /// A notification.
    Notice(Vec<u8>),
    /// The response, and its HTTP status.
    Answer(u16, Vec<u8>),
    /// The response that asks something first.
    Asks(Vec<u8>),
    /// The upstream asks something: the id of the question, what it asks for, and its parameters.
    Question(Box<str>, Box<str>, Box<[u8]>),
    /// There will be none.
    Failed(Failure),
}

/// Requests of other cores, and what is still to be said to them.
#[derive(Debug, Default)]
pub(super) struct Hops {
    /// Those that the gateway room has in work.
    trips: HashMap<(CoreId, CallId), TripId>,
    owed: Vec<(CoreId, Box<Frame>)>,
    /// Requests by a roster that this core has not heard of yet. Their callers say when that takes too long.
    early: Vec<(CoreId, Request)>,
}

impl Hops {
    /// Whether something is still to be said.
    pub fn is_owing(&self) -> bool {
        !self.owed.is_empty()
    }
}

/// Where in `outer` its slice `part` is.
fn range_in(outer: &[u8], part: &[u8]) -> Option<Range<usize>> {
    let at = (part.as_ptr() as usize).wrapping_sub(outer.as_ptr() as usize);
    (at <= outer.len() && part.len() <= outer.len() - at).then(|| at..at + part.len())
}

impl Request {
    pub(super) fn new(edition: u64, upstream: u32, version: Version, forward: &Forward<'_>) -> Self {
        let range = |part: &[u8]| range_in(forward.params, part);
        Self {
            call: forward.call,
            edition,
            upstream,
            version,
            era: forward.era,
            method: forward.method,
            id: CompactString::from_utf8_lossy(forward.id.raw()),
            params: forward.params.into(),
            renamed: forward.renamed.and_then(range),
            name: forward.name.into(),
            exposed: forward.exposed.into(),
            token: forward.progress_token.and_then(range),
            level: forward.level,
            wanted: forward.wanted,
            client_info: forward.client_info.map(Into::into),
            capabilities: forward.capabilities,
            owner: forward.owner,
            speaks: forward.speaks,
        }
    }

    fn forward(&self, core: CoreId) -> Option<Forward<'_>> {
        let part = |range: &Range<usize>| self.params.get(range.clone());
        Some(Forward {
            core,
            call: self.call,
            era: self.era,
            method: self.method,
            id: Id::from_raw(self.id.as_bytes())?,
            params: &self.params,
            renamed: self.renamed.as_ref().and_then(part),
            name: &self.name,
            exposed: &self.exposed,
            progress_token: self.token.as_ref().and_then(part),
            level: self.level,
            wanted: self.wanted,
            client_info: self.client_info.as_deref(),
            capabilities: self.capabilities,
            owner: self.owner,
            speaks: self.speaks,
            agrees: true,
            fields: &[],
        })
    }
}

impl Engine {
    /// The core that has an upstream's process, if it is another one: the process of a session is on that session's own, that of a principal on
    /// one that the principal decides, and one that all share on that of its scout.
    pub(super) fn process_core(&mut self, upstream: u32, owner: Owner) -> Option<CoreId> {
        if !self.gateway.is_process(upstream) {
            return None;
        }
        match owner {
            Owner::Session(_) if self.gateway.is_interactive(upstream) => return None,
            Owner::Principal(principal) if self.gateway.is_interactive(upstream) => {
                let core = CoreId(principal.place(self.shared.metrics().len()) as u16);
                return Some(core).filter(|core| *core != self.core);
            }
            _ => {}
        }
        self.scout_core(upstream).filter(|owner| *owner != self.core)
    }

    /// The core that has an upstream's scout.
    pub(super) fn scout_core(&mut self, upstream: u32) -> Option<CoreId> {
        let name = &self.gateway.settings(upstream)?.name;
        let placement = self.routes.registry().placement();
        Some(placement.owners().owner(placement.shard(placement.hash(name))))
    }

    /// Says something that must arrive, behind what is owed to that core already.
    pub(super) fn send_in_order(&mut self, to: CoreId, frame: Frame, out: &mut Out) {
        if self.hops.owed.iter().any(|(core, _)| *core == to) {
            self.hops.owed.push((to, Box::new(frame)));
        } else {
            Self::send_hop(to, Box::new(frame), out);
        }
    }

    pub(super) fn send_hop(to: CoreId, frame: Box<Frame>, out: &mut Out) {
        let lane = if matches!(*frame, Frame::Told(..)) { Lane::Reply } else { Lane::Ask };
        out.effects.push(Effect::Send { to, lane, frame: out::Frame::Relay(frame) });
    }

    /// Another core asks, or tells.
    pub(super) fn on_hop(&mut self, now: Now, from: CoreId, frame: Frame, out: &mut Out) {
        match frame {
            Frame::Ask(request) if request.edition > self.gateway.edition() => self.hold_early(from, request, out),
            Frame::Ask(request) => {
                let Some(forward) = request.forward(from) else { return };
                match self.gateway.relay(now.mono, request.upstream, request.version, &forward) {
                    Ok(trip) => {
                        self.hops.trips.insert((from, request.call), trip);
                    }
                    Err(failure) => Self::send_hop(from, Box::new(Frame::Told(request.call, Told::Failed(failure))), out),
                }
            }
            Frame::Resume(call, members) => {
                if let Some(trip) = self.hops.trips.get(&(from, call)) {
                    self.gateway.resume(now.mono, *trip, &members);
                }
            }
            Frame::Cancel(call) => {
                self.hops.early.retain(|(core, request)| (*core, request.call) != (from, call));
                if let Some(trip) = self.hops.trips.remove(&(from, call)) {
                    self.gateway.cancel(now.mono, trip);
                }
            }
            Frame::Answer(call, question, reply) => {
                if let Some(trip) = self.hops.trips.get(&(from, call)) {
                    self.gateway.answer(now.mono, *trip, &question, reply.as_deref().map_err(|error| &**error));
                }
            }
            Frame::Readdress(call, id, token) => {
                if let (Some(trip), Some(id)) = (self.hops.trips.get(&(from, call)), Id::from_raw(id.as_bytes())) {
                    self.gateway.readdress(*trip, id, token.as_ref().map(|token| token.as_bytes()));
                }
            }
            Frame::Watch { upstream, uri, is_wanted } => self.gateway.want_updates(now.mono, upstream, from, &uri, is_wanted),
            Frame::Updated { upstream, uri } => self.watches.updated(upstream, &uri),
            Frame::Logged { upstream, level, params } => legacy_stream::tell_logged(self, now, upstream, level, &params, out),
            Frame::Doubt(upstream, doubt) => self.gateway.doubt(now.mono, upstream, doubt),
            Frame::Breaker(upstream, said) => self.gateway.hear(now.mono, upstream, said),
            Frame::Told(call, told) => {
                let what = match told {
                    Told::Notice(message) => What::Notice(message.into()),
                    Told::Answer(status, message) => What::Answer { status, message: message.into() },
                    Told::Asks(response) => What::Asks(response.into()),
                    Told::Question(id, method, params) => What::Question { id, method, params },
                    Told::Failed(failure) => What::Failed(failure),
                };
                self.on_heard(now, Heard { core: self.core, call, what }, out);
            }
        }
    }

    /// Keeps a request until this core has heard of the roster by which it was sent.
    fn hold_early(&mut self, from: CoreId, request: Request, out: &mut Out) {
        if self.hops.early.len() < LANE_FRAMES_MAX {
            return self.hops.early.push((from, request));
        }
        Self::send_hop(from, Box::new(Frame::Told(request.call, Told::Failed(Failure::Busy))), out);
    }

    /// This core has heard of a roster: requests may have waited for that.
    pub(super) fn take_early(&mut self, now: Now, out: &mut Out) {
        for (from, request) in std::mem::take(&mut self.hops.early) {
            self.on_hop(now, from, Frame::Ask(request), out);
        }
    }

    /// The client of a call has answered a question of its upstream, which waits for it wherever it is.
    pub(super) fn answer_upstream(&mut self, now: Now, id: CallId, question: &str, reply: Result<&[u8], &[u8]>, out: &mut Out) {
        let Some(call) = self.calls.get(id) else { return };
        if let Some(trip) = call.trip() {
            self.gateway.answer(now.mono, trip, question, reply);
        } else if let Some(core) = call.elsewhere() {
            let reply = reply.map(Into::into).map_err(Into::into);
            Self::send_hop(core, Box::new(Frame::Answer(id, question.into(), reply)), out);
        }
    }

    /// The client of a call waits for it with another request.
    pub(super) fn readdress(&mut self, id: CallId, rpc_id: Id<'_>, token: Option<&[u8]>, out: &mut Out) {
        let Some(call) = self.calls.get(id) else { return };
        if let Some(trip) = call.trip() {
            self.gateway.readdress(trip, rpc_id, token);
        } else if let Some(core) = call.elsewhere() {
            let token = token.map(CompactString::from_utf8_lossy);
            let frame = Frame::Readdress(id, CompactString::from_utf8_lossy(rpc_id.raw()), token);
            Self::send_hop(core, Box::new(frame), out);
        }
    }

    /// Something was heard of another core's request.
    pub(super) fn tell_hop(&mut self, heard: Heard<'_>, out: &mut Out) {
        let told = match heard.what {
            What::Notice(message) => Told::Notice(message.into_owned()),
            What::Answer { status, message } => Told::Answer(status, message.into_owned()),
            What::Asks(response) => Told::Asks(response.into_owned()),
            What::Question { id, method, params } => Told::Question(id, method, params),
            // A pipe is one stream for all.
            What::Apart { .. } => return,
            What::Failed(failure) => Told::Failed(failure),
        };
        let is_last = !matches!(told, Told::Notice(_) | Told::Asks(_) | Told::Question(..));
        let is_wanted = match is_last {
            true => self.hops.trips.remove(&(heard.core, heard.call)).is_some(),
            false => self.hops.trips.contains_key(&(heard.core, heard.call)),
        };
        if is_wanted {
            let frame = Box::new(Frame::Told(heard.call, told));
            // What was said first is heard first.
            if self.hops.owed.iter().any(|(to, _)| *to == heard.core) {
                self.hops.owed.push((heard.core, frame));
            } else {
                Self::send_hop(heard.core, frame, out);
            }
        }
    }

    /// Tells all other cores what this core's breaker says.
    pub(super) fn tell_breaker(&self, upstream: u32, said: Said, out: &mut Out) {
        let cores = (0..self.shared.metrics().len() as u16).map(CoreId);
        cores.filter(|core| *core != self.core).for_each(|core| Self::send_hop(core, Box::new(Frame::Breaker(upstream, said)), out));
    }

    /// The scout of an upstream is to know that this is not as it found it.
    pub(super) fn tell_doubt(&mut self, now: Now, upstream: u32, doubt: Doubt, out: &mut Out) {
        match self.scout_core(upstream) {
            Some(core) if core != self.core => Self::send_hop(core, Box::new(Frame::Doubt(upstream, doubt)), out),
            Some(_) => self.gateway.doubt(now.mono, upstream, doubt),
            None => {}
        }
    }

    /// A frame found no room.
    pub(super) fn on_hop_unsent(&mut self, to: CoreId, frame: Box<Frame>) {
        match *frame {
            // Its caller is turned away at the next tick, as if the other core had done so.
            Frame::Ask(request) => self.hops.owed.push((self.core, Box::new(Frame::Told(request.call, Told::Failed(Failure::Busy))))),
            // Progress is worth less than the room that it would take.
            Frame::Told(_, Told::Notice(_)) if self.hops.owed.len() >= LANE_FRAMES_MAX => {}
            // There are more of them, and whoever calls next may find it out as well.
            Frame::Logged { .. } | Frame::Doubt(..) => {}
            Frame::Updated { upstream, ref uri } => {
                // Twice is as good as once.
                let is_same = |other: &Frame| matches!(other, Frame::Updated { upstream: at, uri: of } if *at == upstream && of == uri);
                if !self.hops.owed.iter().any(|(core, other)| *core == to && is_same(other)) {
                    self.hops.owed.push((to, frame));
                }
            }
            // The last word counts.
            Frame::Breaker(upstream, said) => {
                let is_old =
                    |(core, frame): &(CoreId, Box<Frame>)| *core == to && matches!(**frame, Frame::Breaker(other, _) if other == upstream);
                self.hops.owed.retain(|owed| !is_old(owed));
                self.hops.owed.push((to, Box::new(Frame::Breaker(upstream, said))));
            }
            Frame::Cancel(_) | Frame::Resume(..) | Frame::Answer(..) | Frame::Readdress(..) | Frame::Told(..) | Frame::Watch { .. } => {
                self.hops.owed.push((to, frame));
            }
        }
    }

    /// Says again what found no room.
    pub(super) fn resend_hops(&mut self, now: Now, out: &mut Out) {
        for (to, frame) in std::mem::take(&mut self.hops.owed) {
            if to == self.core {
                self.on_hop(now, to, *frame, out);
            } else {
                Self::send_hop(to, frame, out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Eras;
    use crate::engine::tests::upstream::{Pair, settings};
    use crate::gateway::Roster;

    fn ask(edition: u64, index: u32) -> Frame {
        let forward = Forward {
            core: CoreId(1),
            call: CallId { index, generation: 1 },
            era: Era::Modern,
            method: Method::ToolsCall,
            id: Id::Number(b"1"),
            params: br#"{"name":"t"}"#,
            renamed: None,
            name: "t",
            exposed: "t",
            progress_token: None,
            level: None,
            wanted: None,
            client_info: None,
            capabilities: ClientCapabilities::NONE,
            owner: Owner::Shared,
            speaks: Version::V2026_07_28,
            agrees: true,
            fields: &[],
        };
        Frame::Ask(Request::new(edition, 1, Version::V2026_07_28, &forward))
    }

    fn told(out: &Out) -> Vec<&Told> {
        let told = |effect| match effect {
            &Effect::Send { frame: out::Frame::Relay(ref frame), .. } => match &**frame {
                Frame::Told(_, told) => Some(told),
                _ => None,
            },
            _ => None,
        };
        out.effects.iter().filter_map(told).collect()
    }

    #[test]
    fn a_request_waits_for_the_roster_by_which_it_was_sent() {
        let mut pair = Pair::with(2, vec![settings("u")], Eras::Both);
        let now = pair.front.now;
        let engine = &mut pair.front.engines[0];
        let mut next = Roster::new([settings("u")]).next_edition();
        next.put(settings("v"));
        let mut out = Out::default();
        engine.on_hop(now, CoreId(1), ask(next.edition(), 1), &mut out);
        engine.on_hop(now, CoreId(1), ask(next.edition(), 2), &mut out);
        engine.on_hop(now, CoreId(1), Frame::Cancel(CallId { index: 2, generation: 1 }), &mut out);
        assert!(told(&out).is_empty() && engine.hops.early.len() == 1, "one waits");
        engine.on_roster(now, CoreId(1), crate::engine::roster::Frame::Follow(next.into()), &mut out);
        assert!(told(&out).is_empty() && engine.hops.early.is_empty());
        assert_eq!(engine.hops.trips.len(), 1, "it is on its way");
        // By the roster that is followed there is no such upstream.
        let mut out = Out::default();
        engine.on_hop(now, CoreId(1), Frame::Ask(Request { upstream: 7, ..request(0) }), &mut out);
        assert!(matches!(told(&out)[..], [Told::Failed(Failure::Gone)]));
        // No more wait than may.
        let mut out = Out::default();
        for index in 0..=LANE_FRAMES_MAX as u32 {
            engine.on_hop(now, CoreId(1), ask(9, index), &mut out);
        }
        assert!(matches!(told(&out)[..], [Told::Failed(Failure::Busy)]));
        assert_eq!(engine.hops.early.len(), LANE_FRAMES_MAX);
    }

    fn request(edition: u64) -> Request {
        let Frame::Ask(request) = ask(edition, 3) else { unreachable!("it is one") };
        request
    }
}
