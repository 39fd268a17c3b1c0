//! Whom a session with an upstream of the legacy era, or a process of its own, belongs to.
//!
//! What an upstream keeps per session is its client's alone, so clients do not share one: each session of the legacy era gets one of its own with
//! its first request that leads there, and each principal of the modern era one on each core. What the gateway asks itself goes in a shared one,
//! and so does everything for an upstream that gives its sessions no ids, since it keeps nothing by them, and for one that is configured so.
//!
//! A session ends with its owner; one of a principal, which never says that it is done, when it was not used for a while. See `ends`.

use std::fmt;
use std::time::Duration;

use super::Gateway;
use super::failure::Failure;
use super::session::RELAYED;
use super::slots::{Key, Slots};
use super::trip::Who;
use super::upstream::{Session, State, Upstream};
use super::write::{self, Forward};
use crate::base::ids::SessionKey;
use crate::base::limits::{UPSTREAM_OWNER_IDLE_MS_MAX, UPSTREAM_OWNER_LOOK_MS, UPSTREAM_PRINCIPALS_MAX};
use crate::base::time::Nanos;
use crate::wire::mcp::{Era, Version};

/// Who calls, as far as it matters to what is kept for it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Owner {
    /// Nobody in particular.
    #[default]
    Shared,
    /// A session of the legacy era that is at home on this core.
    Session(SessionKey),
    /// A principal of the modern era.
    Principal(Digest),
}

/// Equal for the same principal.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; Digest::BYTES]);

impl Digest {
    const BYTES: usize = 33;

    /// Of bytes that name a principal, at most 33 of them.
    #[must_use]
    pub fn new(principal: &[u8]) -> Self {
        let mut digest = Self([0; Self::BYTES]);
        let len = principal.len().min(Self::BYTES);
        digest.0[..len].copy_from_slice(&principal[..len]);
        digest
    }

    /// One of `count` places, always the same one.
    #[must_use]
    pub fn place(&self, count: usize) -> usize {
        let hash = self.0.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
        ((hash >> 32) % (count.max(1) as u64)) as usize
    }
}

/// A digest of a token is nobody's to see.
impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest")
    }
}

/// Which session of an upstream a request goes in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Seat {
    /// The shared one.
    Shared,
    /// An owner's.
    Own(Key),
}

/// An owner's session.
#[derive(Debug)]
pub(super) struct OwnSession {
    upstream: u32,
    owner: Owner,
    pub session: Session,
    /// Its owner's requests.
    pub calls: usize,
    used: Nanos,
    /// Its owner is no more, or has another.
    is_over: bool,
}

/// Owners and what is theirs.
#[derive(Debug, Default)]
pub(super) struct Owners {
    sessions: Slots<Box<OwnSession>>,
    by_owner: hashbrown::HashMap<(u32, Owner), Key>,
    /// Those of principals.
    principals: Vec<Key>,
    /// When idle ones are looked for.
    pub due: Nanos,
}

impl Owners {
    pub fn get(&self, key: Key) -> Option<&OwnSession> {
        self.sessions.get(key).map(|own| &**own)
    }

    pub fn get_mut(&mut self, key: Key) -> Option<&mut OwnSession> {
        self.sessions.get_mut(key).map(|own| &mut **own)
    }

    /// How many sessions there are.
    #[cfg(test)]
    pub const fn len(&self) -> usize {
        self.sessions.len()
    }

    /// When idle ones are to be looked for.
    pub fn next_due(&self) -> Nanos {
        if self.principals.is_empty() { Nanos::NEVER } else { self.due }
    }
}

/// The session of this seat.
pub(super) fn session_at<'a>(up: &'a Upstream, owners: &'a Owners, seat: Seat) -> Option<&'a Session> {
    match seat {
        Seat::Shared => Some(&up.session),
        Seat::Own(key) => owners.get(key).map(|own| &own.session),
    }
}

/// How long a principal's may be idle.
pub(super) const IDLE: Duration = Duration::from_millis(UPSTREAM_OWNER_IDLE_MS_MAX);
/// How often it is looked whether one is.
pub(super) const LOOK: Duration = Duration::from_millis(UPSTREAM_OWNER_LOOK_MS);

impl Gateway {
    pub(super) fn session(&self, upstream: u32, seat: Seat) -> Option<&Session> {
        session_at(self.upstreams.get(upstream)?, &self.owners, seat)
    }

    pub(super) fn session_mut(&mut self, upstream: u32, seat: Seat) -> Option<&mut Session> {
        match seat {
            Seat::Shared => self.upstreams.get_mut(upstream).map(|up| &mut up.session),
            Seat::Own(key) => self.owners.get_mut(key).map(|own| &mut own.session),
        }
    }

    /// The session that a request to an upstream of the legacy era goes in.
    ///
    /// # Errors
    /// There are too many.
    pub(super) fn seat(&mut self, now: Nanos, upstream: u32, ask: &Forward<'_>) -> Result<Seat, Failure> {
        let up = &self.upstreams[upstream];
        let is_shared = up.pipe.is_some() || up.is_neutral || up.settings.options.shares_sessions;
        if is_shared || ask.owner == Owner::Shared {
            return Ok(Seat::Shared);
        }
        let key = match self.owners.by_owner.get(&(upstream, ask.owner)) {
            Some(key) => *key,
            None => self.new_session(now, upstream, ask)?,
        };
        if let Some(own) = self.owners.get_mut(key) {
            own.used = now;
        }
        Ok(Seat::Own(key))
    }

    fn new_session(&mut self, now: Nanos, upstream: u32, ask: &Forward<'_>) -> Result<Key, Failure> {
        let is_principal = matches!(ask.owner, Owner::Principal(_));
        if is_principal && self.owners.principals.len() >= UPSTREAM_PRINCIPALS_MAX {
            let idle = self.owners.principals.iter().filter(|key| self.owners.get(**key).is_some_and(|own| own.calls == 0));
            let oldest = idle.min_by_key(|key| self.owners.get(**key).map(|own| own.used)).copied().ok_or(Failure::Sessions)?;
            self.end_session(oldest);
        }
        let session = Session { members: opening(ask), ..Session::default() };
        let own = OwnSession { upstream, owner: ask.owner, session, calls: 0, used: now, is_over: false };
        let key = self.owners.sessions.insert(Box::new(own));
        self.owners.by_owner.insert((upstream, ask.owner), key);
        if is_principal {
            if self.owners.principals.is_empty() {
                self.owners.due = now.after(LOOK);
            }
            self.owners.principals.push(key);
            let due = self.owners.due;
            self.expect(due);
        }
        Ok(key)
    }

    /// An owner is no more: so are its sessions and its processes.
    pub fn end_owner(&mut self, now: Nanos, owner: Owner) {
        if self.owners.by_owner.is_empty() && self.instances.is_empty() {
            return;
        }
        for upstream in self.upstreams.numbers() {
            if let Some(key) = self.owners.by_owner.get(&(upstream, owner)) {
                self.end_session(*key);
            }
        }
        for instance in self.instances.of(owner) {
            self.end_instance(now, instance);
        }
    }

    /// A session is not used any more: its upstream is told so when nothing is in work there.
    pub(super) fn end_session(&mut self, key: Key) {
        let Some(own) = self.owners.get_mut(key) else { return };
        own.is_over = true;
        let named = (own.upstream, own.owner);
        if self.owners.by_owner.get(&named) == Some(&key) {
            self.owners.by_owner.remove(&named);
        }
        if matches!(named.1, Owner::Principal(_)) {
            self.owners.principals.retain(|other| *other != key);
        }
        self.close_if_over(key);
    }

    /// Lets go of a session that is over when nothing is in work there. One that is being opened is waited for: its upstream may have it already.
    pub(super) fn close_if_over(&mut self, key: Key) {
        let Some(own) = self.owners.get(key) else { return };
        if !own.is_over || own.calls > 0 || matches!(own.session.state, State::Opening { .. }) {
            return;
        }
        let Some(mut own) = self.owners.sessions.remove(key) else { return };
        if let Some(open) = own.session.close() {
            self.end_later(own.upstream, open);
        }
        // What very many have left behind is given back.
        let by_owner = &mut self.owners.by_owner;
        if by_owner.capacity() > 1024 && by_owner.len() < by_owner.capacity() / 8 {
            by_owner.shrink_to_fit();
        }
    }

    /// Another session is to take the place of the shared one. What is in work in this one goes on there.
    pub(super) fn retire_shared(&mut self, upstream: u32) {
        let up = &mut self.upstreams[upstream];
        // One that is being opened is as good as another.
        if up.session.open().is_none() {
            return;
        }
        if up.calls == 0 {
            return self.end_shared(upstream);
        }
        let opened = up.session.opened;
        let session = std::mem::replace(&mut up.session, Session { opened, ..Session::default() });
        let own = OwnSession { upstream, owner: Owner::Shared, session, calls: 0, used: Nanos(0), is_over: true };
        let key = self.owners.sessions.insert(Box::new(own));
        let mut calls = 0;
        for (_, trip) in self.trips.iter_mut() {
            let is_in_it = trip.upstream == upstream && trip.seat == Seat::Shared && trip.version.era() == Era::Legacy;
            if is_in_it && matches!(trip.who, Who::Call(..)) {
                trip.seat = Seat::Own(key);
                calls += 1;
            }
        }
        if let Some(own) = self.owners.get_mut(key) {
            own.calls = calls;
        }
        self.close_if_over(key);
    }

    /// A request of a client is over.
    pub(super) fn call_over(&mut self, upstream: u32, seat: Seat) {
        match seat {
            Seat::Own(key) => {
                if let Some(own) = self.owners.get_mut(key) {
                    own.calls -= 1;
                    if own.calls == 0 && (own.is_over || self.is_draining) {
                        self.end_session(key);
                    }
                }
            }
            Seat::Shared => {
                if self.is_draining && self.upstreams[upstream].calls == 0 {
                    self.end_shared(upstream);
                }
            }
        }
    }

    /// The sessions of this upstream's owners are not used any more.
    pub(super) fn end_sessions_of(&mut self, upstream: u32) {
        let of_it = self.owners.sessions.iter().filter(|(_, own)| own.upstream == upstream);
        let keys: Vec<Key> = of_it.map(|(key, _)| key).collect();
        for key in keys {
            self.end_session(key);
        }
    }

    /// Whether anything is left of the sessions of this upstream.
    pub(super) fn has_sessions(&self, upstream: u32) -> bool {
        let is_open = |up: &Upstream| !up.ends.is_empty() || up.session.open().is_some_and(|open| open.id.is_some());
        self.upstreams.get(upstream).is_some_and(is_open) || self.owners.sessions.iter().any(|(_, own)| own.upstream == upstream)
    }

    /// Whether a session is one client's alone.
    pub(super) fn is_one_clients(&self, upstream: u32, seat: Seat) -> bool {
        match seat {
            Seat::Own(key) => self.owners.get(key).is_some_and(|own| matches!(own.owner, Owner::Session(_))),
            Seat::Shared => self.upstreams.get(upstream).and_then(|up| up.tenancy).is_some_and(|tenancy| tenancy.is_sessions()),
        }
    }

    /// No session is used any more.
    pub(super) fn end_sessions(&mut self) {
        let keys: Vec<Key> = self.owners.sessions.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.end_session(key);
        }
        for upstream in self.upstreams.numbers() {
            if self.upstreams[upstream].calls == 0 {
                self.end_shared(upstream);
            }
        }
    }

    /// Ends what principals have not used for long.
    pub(super) fn end_idle(&mut self, now: Nanos) {
        if now < self.owners.due {
            return;
        }
        self.owners.due = now.after(LOOK);
        let mut idle = Vec::new();
        for key in &self.owners.principals {
            let Some(own) = self.owners.sessions.get_mut(*key) else { continue };
            if own.calls > 0 {
                own.used = now;
            } else if now.since(own.used) >= IDLE {
                idle.push(*key);
            }
        }
        for key in idle {
            self.end_session(key);
        }
    }
}

/// The members of the parameters of `initialize` for the session of this request's owner. A principal's is for whatever client it has: what one
/// of them cannot be asked is answered for it when it is asked.
pub(super) fn opening(ask: &Forward<'_>) -> Box<[u8]> {
    match ask.owner {
        Owner::Session(_) => write::initialize_members(ask.speaks, ask.capabilities.within(RELAYED), ask.client_info).into_boxed_slice(),
        Owner::Principal(_) | Owner::Shared => write::initialize_members(Version::LEGACY_NEWEST, RELAYED, None).into_boxed_slice(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_tells_principals_apart_and_has_one_place() {
        let (one, other) = (Digest::new(b"\x01one"), Digest::new(b"\x01other"));
        assert!(one == Digest::new(b"\x01one") && one != other);
        assert_eq!(format!("{:?}", Owner::Principal(one)), "Principal(Digest)");
        let places: Vec<usize> = (0..64_u8).map(|n| Digest::new(&[1, n]).place(4)).collect();
        assert!((0..4).all(|place| places.contains(&place)) && places.iter().all(|place| *place < 4));
        assert_eq!(one.place(0), 0);
    }
}
