//! Legacy sessions of one core, their home. A session is one slot of a slab; what only busy sessions need is boxed, so that an
//! idle one stays small.

mod closing;
mod glance;
mod subscriptions;

use std::{rc::Rc, time::Duration};

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use super::{
    directory::{SEEN_STEP_S, SessionDirectory},
    seal::Sealer,
    session_id::{ConnMemo, Ticket},
    session_state::{Ended, Session},
    stream_log::EventLog,
};
use crate::{
    base::{
        ids::{CoreId, SessionKey},
        limits::CLIENT_INFO_BYTES_MAX,
        time::Nanos,
    },
    wire::mcp::{ClientCapabilities, Version},
};

use closing::Closing;

pub use glance::Glance;

const NONE: u32 = u32::MAX;
/// Sessions ended in one turn for one reason: the end of very many must not make a turn long.
const ENDED_PER_TURN_MAX: usize = 256;

/// Whose session an id names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// One of this core.
    Here(SessionKey),
    /// One of that core, alive when looked at.
    Elsewhere(CoreId),
    /// None: forged, of another process, terminated or expired.
    Dead,
}

/// What `initialize` says about a session.
#[derive(Clone, Copy, Debug)]
pub struct Opening<'a> {
    /// Number of the endpoint it was sent to; the session is good there alone.
    pub endpoint: u64,
    /// The version agreed on.
    pub version: Version,
    /// What the client declared.
    pub capabilities: ClientCapabilities,
    /// Its `clientInfo`, as it stood in the message.
    pub client_info: Option<&'a [u8]>,
}

/// The limit of sessions is reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

struct Slot {
    generation: u32,
    /// Neighbours in the order of use, oldest first.
    prev: u32,
    next: u32,
    /// When the session was last used, to within the step.
    seen: Nanos,
    session: Option<Session>,
}

const _: () = assert!(size_of::<Slot>() <= 128, "an idle session is to cost little");

/// All sessions at home on one core.
pub struct Sessions {
    core: CoreId,
    boot: u64,
    directory: &'static SessionDirectory,
    sessions_max: usize,
    idle: Duration,
    /// How exactly uses are noted.
    step: Duration,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Least and most recently used.
    oldest: u32,
    newest: u32,
    log: EventLog,
    /// Sessions that have opened their standalone stream, and the number of their endpoint.
    listening: HashMap<SessionKey, u64>,
    /// Subscriptions that came and went since that was asked last: the endpoint, the resource, and whether it came.
    moved: Vec<(u64, Rc<[u8]>, bool)>,
    /// Who subscribed to what.
    subscribers: HashMap<Rc<[u8]>, Vec<SessionKey>>,
    /// How many sessions each endpoint has, by its number.
    at: HashMap<u64, u32>,
    closing: Closing,
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sessions").field("core", &self.core).field("open", &self.len()).finish_non_exhaustive()
    }
}

impl Sessions {
    /// No session yet. `boot` tells this process from earlier ones; a session that is idle for `idle` ends.
    #[must_use]
    pub fn new(core: CoreId, boot: u64, directory: &'static SessionDirectory, sessions_max: usize, idle: Duration) -> Self {
        Self {
            core,
            boot,
            directory,
            sessions_max,
            idle,
            step: (idle / 8).min(Duration::from_secs(u64::from(SEEN_STEP_S))),
            slots: Vec::new(),
            free: Vec::new(),
            oldest: NONE,
            newest: NONE,
            log: EventLog::default(),
            listening: HashMap::new(),
            moved: Vec::new(),
            subscribers: HashMap::new(),
            at: HashMap::new(),
            closing: Closing::default(),
        }
    }

    /// Sessions open.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether no session is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// For tests: nothing of any session may be left behind.
    #[cfg(test)]
    pub fn holds_nothing(&self) -> bool {
        self.is_empty() && self.log.is_empty() && self.at.is_empty() && self.listening.is_empty() && self.subscribers.is_empty()
    }

    /// Opens a session.
    ///
    /// # Errors
    /// When this core, or the process, has as many as it may.
    pub fn open(&mut self, now: Nanos, opening: &Opening<'_>) -> Result<SessionKey, Full> {
        if self.len() >= self.sessions_max {
            return Err(Full);
        }
        let index = self.vacant();
        let key = SessionKey { index, generation: self.slots[index as usize].generation };
        let Some(at) = self.directory.open(self.core, key, seconds(now)) else {
            self.free.push(index);
            return Err(Full);
        };
        let info = opening.client_info.filter(|info| info.len() <= CLIENT_INFO_BYTES_MAX);
        self.slots[index as usize].session = Some(Session::new(opening, info.map(Into::into), at));
        self.link(index, now);
        *self.at.entry(opening.endpoint).or_default() += 1;
        Ok(key)
    }

    /// Appends the session's id, sealed. Two ids of one session differ and both are good.
    pub fn write_id(&self, key: SessionKey, sealer: &mut Sealer, out: &mut Vec<u8>) {
        let Some(session) = self.get(key) else { return };
        Ticket { home: self.core, key, at: session.directory_key() }.write(self.boot, sealer, out);
    }

    /// Whose session the id names. A conn that named it before needs no cryptography; a dead session of another core is known
    /// as such without asking that core.
    pub fn find(&self, sealer: &mut Sealer, memo: &mut ConnMemo, text: &[u8]) -> Found {
        let ticket = match memo.recall(text) {
            Some(ticket) => ticket,
            None => match Ticket::read(self.boot, sealer, text) {
                Some(ticket) => {
                    memo.remember(text, ticket);
                    ticket
                }
                None => return Found::Dead,
            },
        };
        if ticket.home == self.core {
            return if self.get(ticket.key).is_some() { Found::Here(ticket.key) } else { Found::Dead };
        }
        match self.directory.look(ticket.at, ticket.key) {
            Some(glimpse) => Found::Elsewhere(glimpse.home),
            None => Found::Dead,
        }
    }

    /// The session, if it is open.
    #[must_use]
    pub fn get(&self, key: SessionKey) -> Option<&Session> {
        let slot = self.slots.get(key.index as usize)?;
        if slot.generation == key.generation { slot.session.as_ref() } else { None }
    }

    /// The session, if it is open.
    #[must_use]
    pub fn get_mut(&mut self, key: SessionKey) -> Option<&mut Session> {
        self.with_log(key).map(|(session, _)| session)
    }

    /// The session and the log that its streams write to.
    #[must_use]
    pub fn with_log(&mut self, key: SessionKey) -> Option<(&mut Session, &mut EventLog)> {
        let slot = self.slots.get_mut(key.index as usize)?;
        let session = if slot.generation == key.generation { slot.session.as_mut() } else { None };
        session.map(|session| (session, &mut self.log))
    }

    /// The session is in use now.
    pub fn touch(&mut self, key: SessionKey, now: Nanos) {
        let Some(slot) = self.slots.get(key.index as usize) else { return };
        if slot.generation != key.generation || slot.session.is_none() || now.since(slot.seen) < self.step {
            return;
        }
        self.unlink(key.index);
        self.link(key.index, now);
        if let Some(session) = self.get(key) {
            self.directory.set_seen(session.directory_key(), seconds(now));
        }
    }

    /// The client has sent `notifications/initialized`.
    pub fn set_ready(&mut self, key: SessionKey) {
        let Some(session) = self.get_mut(key) else { return };
        if !session.ready {
            session.ready = true;
            let at = session.directory_key();
            self.directory.set_ready(at);
        }
    }

    /// Ends a session: from now on its id is dead on every core. Gives what must be ended with it.
    pub fn end(&mut self, key: SessionKey) -> Option<Ended> {
        self.get(key)?;
        self.unlink(key.index);
        let slot = &mut self.slots[key.index as usize];
        slot.generation = slot.generation.wrapping_add(1);
        let mut session = slot.session.take()?;
        self.free.push(key.index);
        self.directory.close(session.directory_key());
        self.listening.remove(&key);
        if let Entry::Occupied(mut count) = self.at.entry(session.endpoint) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        for uri in session.take_subscriptions() {
            self.forget_subscriber(&uri, key);
            self.moved.push((session.endpoint, uri, false));
        }
        Some(session.end(&mut self.log))
    }

    /// Ends sessions that were idle for too long, and lets go of events that are too old or too many. A session with an open
    /// stream or a call in work is not idle. At most a few hundred sessions per call.
    pub fn tick(&mut self, now: Nanos, mut ended: impl FnMut(SessionKey, Ended)) {
        for _ in 0..ENDED_PER_TURN_MAX {
            let Some(slot) = self.slots.get(self.oldest as usize) else { break };
            // A use is noted up to one step late: never end a session before its time.
            if now.since(slot.seen) < self.idle.saturating_add(self.step) {
                break;
            }
            let key = SessionKey { index: self.oldest, generation: slot.generation };
            if slot.session.as_ref().is_some_and(Session::is_busy) {
                self.touch(key, now);
            } else if let Some(end) = self.end(key) {
                ended(key, end);
            }
        }
        self.trim_log(now);
    }

    /// When [`Self::tick`] has something to do, or sessions are still to be ended with their endpoint.
    #[must_use]
    pub fn next_deadline(&self) -> Nanos {
        if !self.closing.is_idle() {
            return Nanos(0);
        }
        let slot = self.slots.get(self.oldest as usize);
        slot.map_or(Nanos::NEVER, |slot| slot.seen.after(self.idle.saturating_add(self.step)))
    }

    /// The core's log of events.
    pub const fn log(&mut self) -> &mut EventLog {
        &mut self.log
    }

    /// Holds the core's log to its bounds.
    pub fn trim_log(&mut self, now: Nanos) {
        while let Some(key) = self.log.overdue(now) {
            let Some((session, log)) = self.with_log(key) else { break };
            if !session.forget_oldest_event(log) {
                break;
            }
        }
    }

    /// The session's standalone stream is open (or was): it hears of changes.
    pub fn set_listening(&mut self, key: SessionKey) {
        if let Some(session) = self.get(key) {
            let endpoint = session.endpoint;
            self.listening.insert(key, endpoint);
        }
    }

    /// Sessions that hear of changes, through their standalone stream, and the number of their endpoint.
    pub fn listening(&self) -> impl Iterator<Item = (SessionKey, u64)> {
        self.listening.iter().map(|(&key, &endpoint)| (key, endpoint))
    }

    fn vacant(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 1, prev: NONE, next: NONE, seen: Nanos(0), session: None });
            (self.slots.len() - 1) as u32
        })
    }

    /// Puts the slot at the end of the order of use.
    fn link(&mut self, index: u32, now: Nanos) {
        let prev = self.newest;
        if let Some(slot) = self.slots.get_mut(index as usize) {
            (slot.prev, slot.next, slot.seen) = (prev, NONE, now);
        }
        match self.slots.get_mut(prev as usize) {
            Some(slot) => slot.next = index,
            None => self.oldest = index,
        }
        self.newest = index;
    }

    fn unlink(&mut self, index: u32) {
        let Some(slot) = self.slots.get(index as usize) else { return };
        let (prev, next) = (slot.prev, slot.next);
        match self.slots.get_mut(prev as usize) {
            Some(slot) => slot.next = next,
            None => self.oldest = next,
        }
        match self.slots.get_mut(next as usize) {
            Some(slot) => slot.prev = prev,
            None => self.newest = prev,
        }
    }
}

fn seconds(now: Nanos) -> u32 {
    u32::try_from(now.0 / 1_000_000_000).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::{
            ids::{CallId, ConnId},
            limits::{SESSION_ID_BYTES_MAX, SUBSCRIPTION_BYTES_MAX, SUBSCRIPTIONS_MAX},
        },
        engine::seal::{KeyPair, NONCE_PREFIX_BYTES, SealKeys},
    };

    const IDLE: Duration = Duration::from_secs(1800);

    fn directory() -> &'static SessionDirectory {
        Box::leak(Box::new(SessionDirectory::new(1000)))
    }

    fn sessions(core: u16, directory: &'static SessionDirectory) -> Sessions {
        Sessions::new(CoreId(core), 77, directory, 100, IDLE)
    }

    fn sealer() -> Sealer {
        Sealer::new(&SealKeys::new(KeyPair::single([3; 32])), [core_prefix(); NONCE_PREFIX_BYTES])
    }

    fn core_prefix() -> u8 {
        use std::sync::atomic::{AtomicU8, Ordering};
        static NEXT: AtomicU8 = AtomicU8::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed)
    }

    /// With room for so many.
    pub(super) fn many(sessions_max: usize) -> Sessions {
        let directory = Box::leak(Box::new(SessionDirectory::new(sessions_max)));
        Sessions::new(CoreId(0), 77, directory, sessions_max, IDLE)
    }

    fn opening() -> Opening<'static> {
        opening_at(0)
    }

    pub(super) fn opening_at(endpoint: u64) -> Opening<'static> {
        let capabilities = ClientCapabilities::default();
        Opening { endpoint, version: Version::V2025_11_25, capabilities, client_info: Some(br#"{"name":"x","version":"1"}"#) }
    }

    fn id_of(sessions: &Sessions, key: SessionKey, sealer: &mut Sealer) -> Vec<u8> {
        let mut id = Vec::new();
        sessions.write_id(key, sealer, &mut id);
        id
    }

    #[test]
    fn an_id_finds_its_session_with_and_without_the_memo() {
        let mut sessions = sessions(0, directory());
        let (mut sealer, mut memo) = (sealer(), ConnMemo::default());
        let key = sessions.open(Nanos(0), &opening()).unwrap();
        let id = id_of(&sessions, key, &mut sealer);
        assert!(id.len() <= SESSION_ID_BYTES_MAX && id.iter().all(u8::is_ascii_graphic));
        assert_eq!(sessions.find(&mut sealer, &mut memo, &id), Found::Here(key));
        let mut keyless = Sealer::new(&SealKeys::new(KeyPair::single([4; 32])), [0; NONCE_PREFIX_BYTES]);
        assert_eq!(sessions.find(&mut keyless, &mut memo, &id), Found::Here(key), "the memo needs no key");
        assert_eq!(sessions.find(&mut keyless, &mut ConnMemo::default(), &id), Found::Dead);
        for bad in [b"".as_slice(), b"nonsense", &id[1..], &[b'x'; 4096]] {
            assert_eq!(sessions.find(&mut sealer, &mut memo, bad), Found::Dead);
        }
    }

    #[test]
    fn an_ended_session_is_dead_on_every_core_and_needs_no_hop() {
        let directory = directory();
        let (mut home, other) = (sessions(0, directory), sessions(1, directory));
        let (mut sealer, mut memo) = (sealer(), ConnMemo::default());
        let key = home.open(Nanos(0), &opening()).unwrap();
        let id = id_of(&home, key, &mut sealer);
        assert_eq!(other.find(&mut sealer, &mut memo, &id), Found::Elsewhere(CoreId(0)));
        assert!(home.end(key).is_some());
        assert_eq!(home.end(key), None);
        assert_eq!(other.find(&mut sealer, &mut memo, &id), Found::Dead);
        assert_eq!(home.find(&mut sealer, &mut memo, &id), Found::Dead);
        let reused = home.open(Nanos(0), &opening()).unwrap();
        assert_eq!(reused.index, key.index);
        assert_eq!(home.find(&mut sealer, &mut memo, &id), Found::Dead, "the slot has another tenant");
        assert_eq!(other.find(&mut sealer, &mut ConnMemo::default(), &id), Found::Dead);
    }

    #[test]
    fn another_process_s_session_is_dead_here() {
        let mut earlier = Sessions::new(CoreId(0), 76, directory(), 100, IDLE);
        let mut now = sessions(0, directory());
        let mut sealer = sealer();
        let key = earlier.open(Nanos(0), &opening()).unwrap();
        assert_eq!(now.open(Nanos(0), &opening()), Ok(key));
        let id = id_of(&earlier, key, &mut sealer);
        assert_eq!(now.find(&mut sealer, &mut ConnMemo::default(), &id), Found::Dead);
    }

    #[test]
    fn the_cap_of_the_core_and_of_the_process_hold() {
        let directory = Box::leak(Box::new(SessionDirectory::new(3)));
        let mut one = Sessions::new(CoreId(0), 1, directory, 2, IDLE);
        let mut two = Sessions::new(CoreId(1), 1, directory, 2, IDLE);
        let first = one.open(Nanos(0), &opening()).unwrap();
        one.open(Nanos(0), &opening()).unwrap();
        assert_eq!(one.open(Nanos(0), &opening()), Err(Full));
        two.open(Nanos(0), &opening()).unwrap();
        assert_eq!(two.open(Nanos(0), &opening()), Err(Full));
        assert_eq!(two.len(), 1, "a refused session leaves nothing behind");
        one.end(first).unwrap();
        assert!(two.open(Nanos(0), &opening()).is_ok());
    }

    #[test]
    fn an_idle_session_expires_and_a_used_or_busy_one_does_not() {
        let mut sessions = sessions(0, directory());
        let keys: Vec<_> = (0..3).map(|_| sessions.open(Nanos(0), &opening()).unwrap()).collect();
        let call = CallId { index: 1, generation: 1 };
        sessions.get_mut(keys[1]).unwrap().begin(b"1", call);
        let later = Nanos(0).after(IDLE);
        sessions.touch(keys[2], later);
        let mut ended = Vec::new();
        sessions.tick(later, |key, _| ended.push(key));
        assert_eq!(ended, [], "never before its time");
        sessions.tick(later.after(Duration::from_secs(60)), |key, _| ended.push(key));
        assert_eq!(ended, [keys[0]]);
        sessions.get_mut(keys[1]).unwrap().finish(b"1", call);
        let last = later.after(IDLE * 3);
        assert!(sessions.next_deadline() < last);
        sessions.tick(last, |key, _| ended.push(key));
        assert_eq!(ended.len(), 3);
        assert!(sessions.is_empty());
        assert_eq!(sessions.next_deadline(), Nanos::NEVER);
    }

    #[test]
    fn a_session_gives_up_what_it_held() {
        let mut sessions = sessions(0, directory());
        let key = sessions.open(Nanos(0), &opening()).unwrap();
        let (call, conn) = (CallId { index: 1, generation: 1 }, ConnId { index: 2, generation: 2 });
        let (session, log) = sessions.with_log(key).unwrap();
        session.begin(b"1", call);
        let stream = session.open_stream(Some(conn));
        session.streams_mut().event(log, key, stream, b"{}", Nanos(0)).unwrap();
        sessions.subscribe(key, b"test://a").unwrap();
        sessions.set_listening(key);
        assert_eq!(sessions.end(key), Some(Ended { calls: vec![call], conns: vec![conn] }));
        assert!(sessions.log.is_empty() && sessions.subscribers.is_empty() && sessions.listening.is_empty());
    }

    #[test]
    fn subscriptions_are_counted_once_and_bounded() {
        let mut sessions = sessions(0, directory());
        let one = sessions.open(Nanos(0), &opening()).unwrap();
        let two = sessions.open(Nanos(0), &opening()).unwrap();
        sessions.subscribe(one, b"test://a").unwrap();
        sessions.subscribe(one, b"test://a").unwrap();
        sessions.subscribe(two, b"test://a").unwrap();
        assert_eq!(sessions.subscribers(b"test://a"), [one, two]);
        sessions.unsubscribe(one, b"test://a");
        sessions.unsubscribe(one, b"test://a");
        assert_eq!(sessions.subscribers(b"test://a"), [two]);
        for index in 0..SUBSCRIPTIONS_MAX {
            sessions.subscribe(one, format!("test://{index}").as_bytes()).unwrap();
        }
        assert_eq!(sessions.subscribe(one, b"test://more"), Err(Full));
        assert_eq!(sessions.subscribe(two, &vec![b'x'; SUBSCRIPTION_BYTES_MAX]), Err(Full));
        sessions.end(one).unwrap();
        sessions.end(two).unwrap();
        assert!(sessions.subscribers.is_empty());
    }

    #[test]
    fn the_log_is_held_to_its_age() {
        let mut sessions = sessions(0, directory());
        let key = sessions.open(Nanos(0), &opening()).unwrap();
        let (session, log) = sessions.with_log(key).unwrap();
        let stream = session.open_stream(None);
        session.streams_mut().event(log, key, stream, b"{}", Nanos(0)).unwrap();
        session.streams_mut().finish(stream);
        sessions.trim_log(Nanos(0).after(Duration::from_secs(1)));
        assert_eq!(sessions.log.len(), 1);
        sessions.trim_log(Nanos(0).after(Duration::from_secs(3600)));
        assert!(sessions.log.is_empty());
        assert!(sessions.get(key).unwrap().streams().is_none(), "an idle session is small again");
    }
}
