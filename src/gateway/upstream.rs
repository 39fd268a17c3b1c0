//! One upstream as one core knows it: how it is reached, its links, who waits for one, and its sessions.

use std::collections::{BTreeMap, VecDeque};
use std::ops::{Index, IndexMut};
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;

use super::breaker::Breaker;
use super::flood::Chatter;
use super::instance::Tenancy;
use super::link::Dial;
use super::mend::Refresh;
use super::pipe::Pipe;
use super::roster::Roster;
use super::scout::Scout;
use super::slots::Key;
use super::trip::Verb;
use crate::base::ids::LinkId;
use crate::base::limits;
use crate::base::time::Nanos;
use crate::wire::http1::{Ask, AskStart, Method, Unsendable};
use crate::wire::mcp::{Era, Level, Version};

/// Which era of the protocol an upstream is spoken to in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Dialect {
    /// That which it turns out to speak.
    #[default]
    Auto,
    /// The handshake.
    Legacy,
    /// Metadata in each request.
    Modern,
}

/// How an upstream is reached and what it may take; the same on every core.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// The name it is registered by.
    pub name: Box<str>,
    /// What it is known by in the registry: its URL.
    pub url: Box<str>,
    /// Where links to it lead.
    pub dial: Arc<Dial>,
    /// How requests to it begin.
    pub starts: Starts,
    /// Its era.
    pub dialect: Dialect,
    /// How long making a link may take.
    pub connect_timeout: Duration,
    /// How long an answer may be in coming once the request is sent, and a request may wait for a link.
    pub first_byte_timeout: Duration,
    /// How long a stream may be silent.
    pub idle_timeout: Duration,
    /// How long a request may take altogether.
    pub total_timeout: Duration,
    /// Most requests of one core that are in work there at once.
    pub in_flight_max: usize,
    /// Most requests of one core that wait for one of those to end.
    pub queued_max: usize,
    /// Most idle links that one core keeps.
    pub idle_links_max: usize,
    /// Whether requests that change nothing are sent once more when the answer to the first was lost.
    pub retries: bool,
    /// What is not about how it is reached.
    pub options: super::config::Options,
}

/// How the heads of requests to an upstream begin: what is the same in all of them was checked once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Starts {
    post: AskStart,
    get: AskStart,
    delete: AskStart,
}

impl Starts {
    /// Of requests for `target` of `host`, with further header fields: credentials, for instance.
    ///
    /// # Errors
    /// What of it cannot be sent.
    pub fn new(target: &str, host: &str, fields: &[(Box<str>, Box<str>)]) -> Result<Self, Unsendable> {
        let start = |method, own: &[(&str, &str)]| {
            let mut out = Vec::new();
            let mut head = Ask::begin(&mut out, method, target, host)?;
            own.iter().try_for_each(|(name, value)| head.field(name, value.as_bytes()))?;
            fields.iter().try_for_each(|(name, value)| head.field(name, value.as_bytes()))?;
            Ok(head.into_start())
        };
        Ok(Self {
            post: start(Method::Post, &[("Accept", "application/json, text/event-stream"), ("Content-Type", "application/json")])?,
            get: start(Method::Get, &[("Accept", "text/event-stream")])?,
            delete: start(Method::Delete, &[])?,
        })
    }

    /// Begins a head.
    pub(super) fn begin<'o>(&self, out: &'o mut Vec<u8>, verb: Verb) -> Ask<'o> {
        Ask::begin_with(
            out,
            match verb {
                Verb::Post => &self.post,
                Verb::Get => &self.get,
                Verb::Delete => &self.delete,
            },
        )
    }
}

/// The upstreams of one core, by their numbers, which are the same on every core. A number is given once and never again.
#[derive(Debug, Default)]
pub(super) struct Upstreams {
    each: BTreeMap<u32, Box<Upstream>>,
    /// Those that take calls.
    by_name: HashMap<Box<str>, u32>,
    /// What those were called that are forgotten: what clients see may name them for a moment yet.
    forgotten: BTreeMap<u32, Box<str>>,
    /// The core's: each upstream gets one of its own.
    seed: u64,
}

impl Upstreams {
    /// `seed` is the core's.
    pub fn new(roster: &Roster, seed: u64) -> Self {
        let mut upstreams = Self { seed, ..Self::default() };
        roster.members().iter().for_each(|member| upstreams.add(member.number, &member.settings));
        upstreams
    }

    pub fn add(&mut self, number: u32, settings: &Arc<Settings>) {
        let seed = self.seed.wrapping_add(u64::from(number) << 32);
        self.by_name.insert(settings.name.clone(), number);
        self.each.insert(number, Box::new(Upstream::new(Arc::clone(settings), seed)));
    }

    /// A process of its own for an owner.
    pub fn add_instance(&mut self, number: u32, instance: Upstream) {
        self.each.insert(number, Box::new(instance));
    }

    /// It takes no more calls.
    pub fn retire(&mut self, number: u32, until: Nanos) {
        let Some(upstream) = self.each.get_mut(&number) else { return };
        upstream.retired = Some(until);
        if self.by_name.get(&*upstream.settings.name) == Some(&number) {
            self.by_name.remove(&*upstream.settings.name);
        }
    }

    /// It is no more. Nothing here may refer to it.
    pub fn forget(&mut self, number: u32) {
        if let Some(upstream) = self.each.remove(&number) {
            debug_assert!(upstream.links == 0, "nobody uses it");
            // Nobody but this core knew of an instance.
            if upstream.tenancy.is_some() {
                return;
            }
            self.forgotten.insert(number, upstream.settings.name.clone());
            if self.forgotten.len() > limits::UPSTREAMS_FORGOTTEN_KEPT {
                self.forgotten.pop_first();
            }
        }
    }

    /// The one that takes the calls of this one: itself, or the one that took its place.
    pub fn current(&self, number: u32) -> Option<u32> {
        let name = match self.each.get(&number) {
            Some(upstream) if upstream.retired.is_none() => return Some(number),
            Some(upstream) => &upstream.settings.name,
            None => self.forgotten.get(&number)?,
        };
        self.find(name)
    }

    /// The one of this name that takes calls.
    pub fn find(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    pub fn get(&self, number: u32) -> Option<&Upstream> {
        self.each.get(&number).map(|upstream| &**upstream)
    }

    pub fn get_mut(&mut self, number: u32) -> Option<&mut Upstream> {
        self.each.get_mut(&number).map(|upstream| &mut **upstream)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Upstream> {
        self.each.values().map(|upstream| &**upstream)
    }

    /// All of them, retired ones among them.
    pub fn numbers(&self) -> Vec<u32> {
        self.each.keys().copied().collect()
    }

    /// Those that take no more calls.
    pub fn retired(&self) -> Vec<u32> {
        self.each.iter().filter(|(_, upstream)| upstream.retired.is_some()).map(|(number, _)| *number).collect()
    }
}

impl Index<u32> for Upstreams {
    type Output = Upstream;

    fn index(&self, number: u32) -> &Upstream {
        &self.each[&number]
    }
}

impl IndexMut<u32> for Upstreams {
    fn index_mut(&mut self, number: u32) -> &mut Upstream {
        self.each.get_mut(&number).expect("an upstream is forgotten when nothing refers to it")
    }
}

/// A session of the legacy era.
#[derive(Debug, Default)]
pub(super) struct Session {
    pub state: State,
    /// Requests that wait until the upstream knows that the session has begun, and what its client wants to hear of.
    pub greeting: Vec<Key>,
    /// Sessions opened so far, one in the place of the other.
    pub opened: u32,
    /// The members of the parameters that it is opened with; empty for this gateway's own.
    pub members: Box<[u8]>,
}

/// How far a session is.
#[derive(Debug, Default)]
pub(super) enum State {
    /// There is none, and nobody has asked for one.
    #[default]
    None,
    /// `initialize` is under way; these wait for it.
    Opening { waiting: Vec<Key> },
    /// There is one.
    Open(Open),
}

/// What was agreed on.
#[derive(Clone, Debug)]
pub(super) struct Open {
    /// None: the upstream has no sessions.
    pub id: Option<Box<[u8]>>,
    pub version: Version,
    /// It logs.
    pub logs: bool,
    /// From which level on, as it was told.
    pub level: Option<Level>,
}

/// One upstream on one core.
#[derive(Debug)]
pub(super) struct Upstream {
    pub settings: Arc<Settings>,
    /// It takes no more calls; what is in work ends by this moment.
    pub retired: Option<Nanos>,
    pub breaker: Breaker,
    /// What it said on this core that answers nothing.
    pub chatter: Chatter,
    /// The session of this gateway's own, and of all that share it.
    pub session: Session,
    /// It gives its sessions no ids: one is as good as another.
    pub is_neutral: bool,
    /// Its `Implementation` object, as it was said last.
    pub info: Box<[u8]>,
    /// Requests of clients.
    pub calls: usize,
    /// Requests that wait for their session.
    pub unopened: usize,
    /// Sessions that it is to be told have ended.
    pub ends: VecDeque<Open>,
    /// Such messages on their way.
    pub ending: usize,
    /// Messages on their way that nobody answers.
    pub tells: usize,
    /// It is a process.
    pub pipe: Option<Pipe>,
    /// Links to it, idle and busy.
    pub links: usize,
    /// Of them, those that carry what is no client's request.
    pub own_links: usize,
    /// The idle ones; the last was used last.
    pub idle: Vec<LinkId>,
    /// Requests that wait for a link.
    pub queue: VecDeque<Key>,
    /// Decides on the jitter of waits.
    pub seed: u64,
    /// Whose process it is, if it is an instance.
    pub tenancy: Option<Tenancy>,
    /// What it turned out to speak when a request was sent to it in another era, as the registry had it: good until the registry knows.
    pub turned: Option<(Era, Version)>,
    /// Its tools, being read again.
    pub refresh: Option<Box<Refresh>>,
    /// On one core only.
    pub scout: Option<Scout>,
}

impl Session {
    /// Those that wait for it.
    pub fn take_waiting(&mut self) -> Vec<Key> {
        match &mut self.state {
            State::Opening { waiting } => std::mem::take(waiting),
            _ => Vec::new(),
        }
    }

    /// What was agreed on, if there is one.
    pub const fn open(&self) -> Option<&Open> {
        if let State::Open(open) = &self.state { Some(open) } else { None }
    }

    /// Lets go of it. Gives what was agreed on, if there was one.
    pub fn close(&mut self) -> Option<Open> {
        if !matches!(self.state, State::Open(_)) {
            return None;
        }
        match std::mem::take(&mut self.state) {
            State::Open(open) => Some(open),
            _ => None,
        }
    }

    /// A request does not wait any more.
    pub fn forget(&mut self, key: Key) {
        if let State::Opening { waiting } = &mut self.state {
            waiting.retain(|other| *other != key);
        }
        self.greeting.retain(|other| *other != key);
    }
}

impl Upstream {
    pub fn new(settings: Arc<Settings>, seed: u64) -> Self {
        let pipe = matches!(&*settings.dial, Dial::Child(_)).then(|| Pipe::new(settings.options.restart, seed));
        Self {
            settings,
            retired: None,
            breaker: Breaker::new(seed),
            chatter: Chatter::default(),
            session: Session::default(),
            is_neutral: false,
            info: (*b"{}").into(),
            calls: 0,
            unopened: 0,
            ends: VecDeque::new(),
            ending: 0,
            tells: 0,
            pipe,
            links: 0,
            own_links: 0,
            idle: Vec::new(),
            queue: VecDeque::new(),
            tenancy: None,
            turned: None,
            refresh: None,
            scout: None,
            seed,
        }
    }

    /// Whether each client has a process of its own.
    pub fn is_interactive(&self) -> bool {
        self.pipe.is_some() && self.settings.options.is_interactive
    }

    /// When a request that is sent now must have been answered.
    pub fn deadline(&self, now: Nanos) -> Nanos {
        now.after(self.settings.total_timeout)
    }
}
