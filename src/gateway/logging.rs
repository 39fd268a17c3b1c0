//! Log messages of upstreams of the legacy era, which are sent to a session.
//!
//! The level of a session that is shared is the most verbose that any client has asked for since it was opened, that of a client's own the one that this
//! client has set; each client gets of that what it wants. What is said on
//! the stream of a request is for whoever made it. What is said elsewhere (on the pipe of a process, or on the stream that the scout opened) is
//! taken to be about a request when exactly one is in work, and for its client alone. When none is, it is about the server itself, and goes to
//! the sessions of the legacy era that have asked for its level where this server is shown (2025-11-25, logging). When several are, nobody can
//! say whose it is, and it goes to nobody: what one client does is not told to another.

use super::owner::Seat;
use super::scout::{Errand, Finding, News};
use super::slots::Key;
use super::translate::Said;
use super::trip::{Heard, Stage, Trip, What, Who};
use super::upstream::State;
use super::{Gateway, Owned};
use crate::base::limits;
use crate::base::time::Nanos;
use crate::wire::json::write_str;
use crate::wire::jsonrpc::Notification;
use crate::wire::mcp::{Era, Level, Method};

/// Messages of one upstream that were passed on lately.
#[derive(Debug, Default)]
pub(super) struct Logged {
    second: u64,
    count: u32,
}

impl Logged {
    /// Whether one more may be passed on.
    const fn admits(&mut self, now: Nanos) -> bool {
        let second = now.0 / 1_000_000_000;
        if self.second != second {
            (self.second, self.count) = (second, 0);
        }
        self.count += 1;
        self.count <= limits::UPSTREAM_LOGS_PER_SECOND_MAX
    }
}

impl Gateway {
    /// Passes a notification on to whoever made this request, if it is to be told.
    pub(super) fn pass_notice(&mut self, key: Key, notice: &Notification<'_>, message: &[u8]) {
        let mut anew = self.buffer();
        let Some(trip) = self.trips.get(key) else { return };
        let Who::Call(core, call) = trip.who else { return };
        match trip.terms(b"{}").notice(notice, &mut anew) {
            Some(said) => {
                if said == Said::AsIs {
                    anew.extend_from_slice(message);
                }
                self.heard.push_back(Heard { core, call, what: What::Notice(anew.into()) });
            }
            None => self.give_back(anew),
        }
    }

    /// Whether the session is to be told of a more verbose level before this request is sent, which then waits until it knows.
    pub(super) fn raises_level(&mut self, now: Nanos, upstream: u32, key: Key, wanted: Option<Level>) -> bool {
        let (Some(wanted), Some(trip)) = (wanted, self.trips.get(key)) else { return false };
        let seat = trip.seat;
        let is_one_clients = self.is_one_clients(upstream, seat);
        let Some(session) = self.session_mut(upstream, seat) else { return false };
        let State::Open(open) = &mut session.state else { return false };
        let is_known = |level: Level| if is_one_clients { level == wanted } else { level <= wanted };
        if !open.logs || open.level.is_some_and(is_known) {
            return false;
        }
        open.level = Some(wanted);
        let version = open.version;
        session.greeting.push(key);
        self.waits_unopened(upstream, key);
        let mut members = br#""level":"#.to_vec();
        write_str(&mut members, wanted.as_str());
        self.ask_in(
            now,
            seat,
            Owned { upstream, errand: Errand::Level(seat), method: Method::LoggingSetLevel, version, members: &members },
        );
        true
    }

    /// A log message that is on no request's stream. `message` is the whole of it.
    pub(super) fn on_stray_log(&mut self, now: Nanos, upstream: u32, notice: &Notification<'_>, message: &[u8]) {
        if self.scout(upstream).is_some_and(|scout| !scout.logged.admits(now)) {
            return;
        }
        let is_in_work = |stage| matches!(stage, Stage::Sent(_) | Stage::Piped | Stage::Asking | Stage::Apart);
        let calls = {
            // A client's own session is another one.
            let is_here = |trip: &Trip| trip.upstream == upstream && trip.seat == Seat::Shared && is_in_work(trip.stage);
            let in_work = self.trips.iter().filter(|(_, trip)| is_here(trip));
            let mut calls = in_work.filter(|(_, trip)| matches!(trip.who, Who::Call(..))).map(|(key, _)| key);
            (calls.next(), calls.next())
        };
        match calls {
            // All calls of a client's own process are that client's.
            (Some(key), other) if other.is_none() || self.upstreams[upstream].tenancy.is_some() => {
                self.pass_notice(key, notice, message);
            }
            (Some(_), _) => {}
            (None, _) => {
                if self.scout(upstream).is_none_or(|scout| scout.version.era() == Era::Modern) {
                    return;
                }
                let level = notice.params.get("level").and_then(Level::from_raw);
                if let (Some(level), Some(params)) = (level, notice.params.raw) {
                    self.news.push(News { upstream, finding: Finding::Logged { level, params: params.into() } });
                }
            }
        }
    }
}
