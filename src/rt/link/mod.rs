//! Links to upstreams: what the engine wants done with them, and what it is told of them. How bytes move is in `socket` and `child`.

mod child;
mod chores;
mod process;
mod socket;
mod stderr;
mod table;
mod tls;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::ClientConfig;

use super::conn::NEVER;
use super::core::Core;
use super::ring::{Completion, Op};
use super::wake::Wake;
use super::wheel::{tick_after, ticks};
use crate::base::ids::LinkId;
use crate::base::limits::LINK_FEED_BYTES_MAX;
use crate::base::metrics::{Counter, Gauge};
use crate::gateway::link::{Dial, Down, LinkEvent};
use chores::{Chore, Chores};
use process::Process;
use table::{Common, Kind, Link, Queue, Stage, trim, weight};

pub(crate) use table::Links;
pub(crate) use tls::{Trust, problem_with_authorities};

/// What a thread of the blocking pool found out for a link.
enum News {
    /// The addresses of a host, and how TLS is done there.
    Found(Result<Route, Down>),
    /// The process that was to be started.
    Started(Result<Process, Down>),
}

/// What the pool is asked to do for a link.
enum Wish {
    /// Find the way to its host.
    Find { index: u32, dial: Arc<Dial>, desk: Arc<Desk>, trust: Arc<Trust> },
    /// Start its process, if that is still wanted.
    Start { index: u32, dial: Arc<Dial>, desk: Arc<Desk>, is_wanted: Arc<AtomicBool> },
}

impl Chore for Wish {
    fn about(&self) -> String {
        let (Self::Find { dial, .. } | Self::Start { dial, .. }) = self;
        match &**dial {
            Dial::Tcp { host, port, tls } => format!("{tls} {port} {host}"),
            Dial::Child(command) => format!("start {}", command.name),
        }
    }

    fn run(waiting: &mut VecDeque<Self>) {
        match waiting.pop_front() {
            Some(Self::Find { index, dial, desk, trust }) => {
                let found = socket::find_route(&dial, &trust);
                for other in waiting.drain(..) {
                    if let Self::Find { index, desk, .. } = other {
                        desk.put(index, News::Found(found.clone()));
                    }
                }
                desk.put(index, News::Found(found));
            }
            Some(Self::Start { index, dial, desk, is_wanted }) => {
                let started = match &*dial {
                    Dial::Child(command) if is_wanted.load(Ordering::Relaxed) => Process::start(command),
                    _ => Err(Down::Hung),
                };
                desk.put(index, News::Started(started));
            }
            None => (),
        }
    }
}

/// Threads that do what links of all cores wish for.
#[derive(Clone)]
pub(crate) struct Hands(Arc<Chores<Wish>>);

impl Hands {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Chores::new()))
    }

    /// Drops what has not begun. The threads end with the process at the latest.
    pub(crate) fn close(&self) {
        self.0.close();
    }
}

/// The way to a host.
#[derive(Clone)]
struct Route {
    addresses: Vec<SocketAddr>,
    tls: Option<Arc<ClientConfig>>,
}

/// Where a core's news waits for it.
pub(crate) struct Desk {
    news: Mutex<Vec<(u32, News)>>,
    has_news: AtomicBool,
    wakes: Arc<[Wake]>,
    core: usize,
}

impl Desk {
    fn put(&self, index: u32, news: News) {
        self.news.lock().unwrap_or_else(PoisonError::into_inner).push((index, news));
        self.has_news.store(true, Ordering::Release);
        self.wakes[self.core].poke();
    }

    fn has_news(&self) -> bool {
        self.has_news.load(Ordering::Acquire)
    }

    fn take(&self) -> Vec<(u32, News)> {
        self.has_news.store(false, Ordering::Release);
        std::mem::take(&mut *self.news.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What the engine wants done.
impl Core {
    pub(in super::super) fn dial(&mut self, id: LinkId, dial: Arc<Dial>, timeout: Duration) {
        self.metrics.count(Counter::LinksDialled);
        if !self.node.links.take_many(weight(&dial)) {
            self.metrics.count(Counter::LinksFailed);
            return self.tell(id, LinkEvent::Down(Down::TooMany));
        }
        let index = self.links.insert(Link::new(id, Arc::clone(&dial)));
        self.links.set_due(index, tick_after(self.tick, ticks(timeout)));
        match &*dial {
            Dial::Tcp { .. } => self.look_up(index),
            Dial::Child(_) => self.start_child(index),
        }
    }

    pub(in super::super) fn feed(&mut self, id: LinkId, bytes: &[u8]) {
        let Some(index) = self.links.find(id) else { return };
        let fed_max = LINK_FEED_BYTES_MAX.saturating_add(self.config.http.body_bytes_max);
        let Some(link) = self.links.get(index).filter(|link| !link.common.is_hung) else { return };
        link.common.fed.push(bytes);
        link.common.is_fed = true;
        link.common.answered = 0;
        self.ledger.links_due = true;
        if link.unsent() > fed_max {
            self.end_link(index, Down::TooMany);
        } else if link.common.stage == Stage::Up {
            self.links.mark(index);
        }
    }

    /// Ends the link: there is no memory for what it is to be told.
    pub(in super::super) fn cut_link(&mut self, index: u32) {
        self.end_link(index, Down::TooMany);
    }

    pub(in super::super) fn throttle(&mut self, id: LinkId, is_paused: bool) {
        let Some(index) = self.links.find(id) else { return };
        let Some(link) = self.links.common(index).filter(|link| !link.is_hung) else { return };
        if std::mem::replace(&mut link.is_paused, is_paused) == is_paused {
            return;
        }
        if !is_paused {
            self.links.resume(index);
        } else if let Some((_, socket)) = self.links.socket(index)
            && socket.receiving
        {
            self.ring.cancel(Op::LinkRecv, index);
        }
    }

    pub(in super::super) fn hang(&mut self, id: LinkId) {
        let Some(index) = self.links.find(id) else { return };
        let Some(link) = self.links.get(index).filter(|link| !link.common.is_hung) else { return };
        link.common.is_hung = true;
        match link.kind {
            Kind::Socket(_) => {
                self.say_farewell(index);
                self.end_link(index, Down::Hung);
            }
            Kind::Child(_) => {
                // The engine may give its name to the next before it has ended.
                self.links.forget(id);
                self.hang_child(index);
            }
        }
    }
}

/// What the engine is told, and how links go on and end.
impl Core {
    fn tell(&mut self, id: LinkId, event: LinkEvent<'_>) {
        self.engine.on_link(self.now, id, event, &mut self.out);
    }

    /// The link is made.
    fn lift(&mut self, index: u32) {
        let Some(link) = self.links.common(index) else { return };
        link.stage = Stage::Up;
        link.due = NEVER;
        let id = link.id;
        if !link.fed.is_empty() {
            self.links.mark(index);
        }
        self.tell(id, LinkEvent::Up);
    }

    /// The link is of no use any more: tells the engine why, and lets go of it as soon as everybody else has.
    fn end_link(&mut self, index: u32, why: Down) {
        let Some(link) = self.links.common(index).filter(|link| link.stage != Stage::Closed) else { return };
        if link.stage == Stage::Making && !link.is_hung {
            self.metrics.count(Counter::LinksFailed);
        }
        link.stage = Stage::Closed;
        link.due = NEVER;
        link.fed = Queue::default();
        link.held = Queue::default();
        let id = link.id;
        let why = if link.is_hung { Down::Hung } else { why };
        self.links.forget(id);
        match self.links.get(index).map(|link| &link.kind) {
            Some(Kind::Socket(_)) => self.cancel_socket(index),
            Some(Kind::Child(_)) => self.end_child(index),
            None => (),
        }
        self.tell(id, LinkEvent::Down(why));
        self.release_link(index);
    }

    /// Lets go of a closed link, once everybody else has.
    fn release_link(&mut self, index: u32) {
        if self.links.get(index).is_some_and(|link| link.common.stage == Stage::Closed && !link.is_held())
            && let Some(link) = self.links.remove(index)
        {
            let weight = weight(&link.common.dial);
            // The descriptors first: whoever takes their place finds them free.
            drop(link);
            self.node.links.give_many(weight);
        }
    }

    /// Tells the engine that the other end sends no more, after everything that it has sent.
    fn tell_link_end(&mut self, index: u32) {
        let Some(link) = self.links.common(index).filter(|link| link.has_ended && !link.keeps_back()) else { return };
        if link.stage == Stage::Up && !link.is_hung && !std::mem::replace(&mut link.end_told, true) {
            let id = link.id;
            self.tell(id, LinkEvent::End);
        }
    }

    /// Everything that was fed is with the kernel.
    fn tell_drained(&mut self, index: u32) {
        let Some(link) = self.links.common(index) else { return };
        if link.stage == Stage::Up && !link.is_hung && std::mem::take(&mut link.is_fed) {
            let id = link.id;
            self.tell(id, LinkEvent::Drained);
        }
    }

    pub(in super::super) fn on_link_completion(&mut self, op: Op, completion: &Completion) {
        match op {
            Op::Connect => self.on_connected(completion),
            Op::LinkRecv => self.on_link_received(completion),
            Op::LinkSend => self.on_link_sent(completion),
            _ => self.on_child_watched(op, completion),
        }
    }

    /// Takes what the pool has found out.
    pub(in super::super) fn take_link_news(&mut self) {
        if !self.links.desk.has_news() {
            return;
        }
        for (index, news) in self.links.desk.take() {
            if let Some(link) = self.links.common(index) {
                link.is_awaited = false;
            }
            match news {
                News::Found(found) => self.on_found(index, found),
                News::Started(started) => self.on_started(index, started),
            }
            self.release_link(index);
            self.apply();
        }
    }

    /// Goes on reading links that are no longer paused, had had their share of another turn, or were postponed until now.
    pub(in super::super) fn resume_links(&mut self) {
        self.links.recall(self.now.mono);
        for index in std::mem::take(&mut self.links.resumed) {
            if let Some(link) = self.links.common(index) {
                link.is_resumed = false;
            }
            match self.links.get(index).map(|link| &link.kind) {
                Some(Kind::Socket(_)) => self.resume_socket(index),
                Some(Kind::Child(_)) => self.read_child(index),
                None => (),
            }
            self.apply();
        }
    }

    /// Sends what was fed, once per link and turn.
    pub(in super::super) fn send_links(&mut self) {
        let mut dirty = std::mem::take(&mut self.links.dirty);
        for index in dirty.drain(..) {
            let Some(link) = self.links.get(index) else { continue };
            if std::mem::take(&mut link.common.is_dirty) {
                match link.kind {
                    Kind::Socket(_) => self.send_socket(index),
                    Kind::Child(_) => self.write_child(index),
                }
                self.apply();
            }
        }
        if self.links.dirty.is_empty() {
            self.links.dirty = dirty;
        }
    }

    /// What a tick does for links.
    pub(in super::super) fn tick_links(&mut self) {
        let mut timed = std::mem::take(&mut self.links.timed);
        timed.retain(|(index, id)| {
            let (index, id) = (*index, *id);
            let Some(link) = self.links.common(index).filter(|link| link.id == id) else { return false };
            if link.due <= self.tick {
                link.due = NEVER;
                match self.links.get(index).map(|link| &link.kind) {
                    Some(Kind::Socket(_)) => self.on_socket_due(index),
                    Some(Kind::Child(_)) => self.on_child_due(index),
                    None => (),
                }
                self.apply();
            }
            let Some(link) = self.links.common(index).filter(|link| link.id == id) else { return false };
            link.is_timed = link.due != NEVER;
            link.is_timed
        });
        self.links.timed.append(&mut timed);
        self.links.strays.retain(|(group, until)| {
            process::reap_group(*group);
            self.tick < *until
        });
        self.metrics.set(Gauge::Links, self.links.count as u64);
    }

    /// The process ends: sockets are closed, children are told to end.
    pub(in super::super) fn hang_all_links(&mut self) {
        for index in 0..self.links.slots.len() as u32 {
            let Some(link) = self.links.get(index) else { continue };
            link.common.is_hung = true;
            link.common.fed = Queue::default();
            match link.kind {
                Kind::Socket(_) => self.end_link(index, Down::Hung),
                Kind::Child(_) => self.hang_child(index),
            }
        }
        self.send_links();
    }

    /// Sends all children that live a signal.
    pub(in super::super) fn signal_children(&self, signal: i32) {
        for link in self.links.slots.iter().flatten() {
            if let Kind::Child(child) = &link.kind
                && let Some(process) = &child.process
            {
                process.signal(signal);
            }
        }
    }
}
