//! Links to upstreams: what the engine wants done with them, and what it is told of them. How bytes move is in `socket` and `child`.

mod child;
mod process;
mod socket;
mod stderr;
mod tls;

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
use crate::base::limits::{CHILD_DESCRIPTORS, LINK_FEED_BYTES_MAX, POOLED_BUFFER_BYTES_MAX};
use crate::base::metrics::{Counter, Gauge};
use crate::gateway::link::{Dial, Down, LinkEvent};
use child::Child;
use process::Process;
use socket::Socket;

pub(crate) use tls::Trust;

/// What a thread of the blocking pool found out for a link.
enum News {
    /// The addresses of a host, and how TLS is done there.
    Found(Result<Route, Down>),
    /// The process that was to be started.
    Started(Result<Process, Down>),
}

/// The way to a host.
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

/// Where a link stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// On its way to be up.
    Making,
    Up,
    /// Its end was told. It waits for the kernel, for the pool or for its process to end.
    Closed,
}

enum Kind {
    Socket(Box<Socket>),
    Child(Box<Child>),
}

struct Link {
    common: Common,
    kind: Kind,
}

/// What every link has.
struct Common {
    id: LinkId,
    dial: Arc<Dial>,
    stage: Stage,
    /// The pool works for it.
    is_awaited: bool,
    /// The engine wants no more of it.
    is_hung: bool,
    is_paused: bool,
    /// The other end sends no more.
    has_ended: bool,
    /// The engine knows that.
    end_told: bool,
    /// Something was fed since the engine was told that all of it is with the kernel.
    is_fed: bool,
    is_dirty: bool,
    is_timed: bool,
    /// When something is due, in ticks.
    due: u32,
    /// Fed and not yet on its way.
    fed: Queue,
    /// Received while it was paused.
    held: Vec<u8>,
}

impl Common {
    /// Whether what it receives is kept back for the time being.
    fn keeps_back(&self) -> bool {
        self.stage == Stage::Up && (self.is_paused || !self.held.is_empty())
    }
}

impl Link {
    fn new(id: LinkId, dial: Arc<Dial>) -> Self {
        let kind = match *dial {
            Dial::Tcp { .. } => Kind::Socket(Box::default()),
            Dial::Child(_) => Kind::Child(Box::new(Child::new())),
        };
        let common = Common {
            id,
            dial,
            stage: Stage::Making,
            is_awaited: false,
            is_hung: false,
            is_paused: false,
            has_ended: false,
            end_told: false,
            is_fed: false,
            is_dirty: false,
            is_timed: false,
            due: NEVER,
            fed: Queue::default(),
            held: Vec::new(),
        };
        Self { common, kind }
    }

    /// Bytes that were fed and are not known to be with the kernel.
    fn unsent(&self) -> usize {
        self.common.fed.len()
            + match &self.kind {
                Kind::Socket(socket) => socket.unsent(),
                Kind::Child(_) => 0,
            }
    }

    /// Whether somebody else still works with it: the kernel, the pool, or its process.
    fn is_held(&self) -> bool {
        self.common.is_awaited
            || match &self.kind {
                Kind::Socket(socket) => socket.is_held(),
                Kind::Child(child) => child.is_held(),
            }
    }
}

/// Descriptors that a link may have.
const fn weight(dial: &Dial) -> usize {
    match dial {
        Dial::Tcp { .. } => 1,
        Dial::Child(_) => CHILD_DESCRIPTORS,
    }
}

/// The links of one core.
pub(crate) struct Links {
    slots: Vec<Option<Link>>,
    free: Vec<u32>,
    count: usize,
    /// Generation and slot of each of the engine's names that is in use.
    names: Vec<Option<(u32, u32)>>,
    /// Links with something to send.
    dirty: Vec<u32>,
    /// Links that are to be read on.
    resumed: Vec<u32>,
    /// Links for which something is due some time.
    timed: Vec<(u32, LinkId)>,
    desk: Arc<Desk>,
    trust: Arc<Trust>,
    tls: Option<Arc<ClientConfig>>,
    /// Process groups of which there may be some left to reap, until that tick.
    strays: Vec<(i32, u32)>,
    /// What was just read or decrypted.
    scratch: Vec<u8>,
}

impl Links {
    pub(crate) fn new(core: usize, wakes: Arc<[Wake]>, trust: Arc<Trust>) -> Self {
        let desk = Arc::new(Desk { news: Mutex::default(), has_news: AtomicBool::new(false), wakes, core });
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            count: 0,
            names: Vec::new(),
            dirty: Vec::new(),
            resumed: Vec::new(),
            timed: Vec::new(),
            desk,
            trust,
            tls: None,
            strays: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// Whether there is something to do that no completion will announce.
    pub(crate) fn has_work(&self) -> bool {
        !self.dirty.is_empty() || !self.resumed.is_empty() || self.desk.has_news()
    }

    fn insert(&mut self, link: Link) -> u32 {
        let id = link.common.id;
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as u32 - 1
        });
        self.slots[index as usize] = Some(link);
        self.count += 1;
        let at = id.index as usize;
        if at >= self.names.len() {
            self.names.resize(at + 1, None);
        }
        debug_assert!(self.names[at].is_none(), "the last link of this name is not down");
        self.names[at] = Some((id.generation, index));
        index
    }

    fn remove(&mut self, index: u32) -> Option<Link> {
        let link = self.slots.get_mut(index as usize)?.take()?;
        self.free.push(index);
        self.count -= 1;
        Some(link)
    }

    fn get(&mut self, index: u32) -> Option<&mut Link> {
        self.slots.get_mut(index as usize)?.as_mut()
    }

    fn common(&mut self, index: u32) -> Option<&mut Common> {
        self.get(index).map(|link| &mut link.common)
    }

    fn socket(&mut self, index: u32) -> Option<(&mut Common, &mut Socket)> {
        match self.get(index)? {
            Link { common, kind: Kind::Socket(socket) } => Some((common, socket)),
            Link { kind: Kind::Child(_), .. } => None,
        }
    }

    fn child(&mut self, index: u32) -> Option<(&mut Common, &mut Child)> {
        match self.get(index)? {
            Link { common, kind: Kind::Child(child) } => Some((common, child)),
            Link { kind: Kind::Socket(_), .. } => None,
        }
    }

    /// The link in that slot, if it is this one and the engine hears of it.
    fn heard(&mut self, index: u32, id: LinkId) -> Option<&mut Common> {
        self.common(index).filter(|link| link.id == id && link.stage == Stage::Up && !link.is_hung)
    }

    fn find(&self, id: LinkId) -> Option<u32> {
        let (generation, index) = (*self.names.get(id.index as usize)?)?;
        (generation == id.generation).then_some(index)
    }

    fn forget(&mut self, id: LinkId) {
        if self.find(id).is_some() {
            self.names[id.index as usize] = None;
        }
    }

    /// Looks at the link again at that tick.
    fn set_due(&mut self, index: u32, due: u32) {
        let Some(link) = self.common(index) else { return };
        link.due = due;
        if !std::mem::replace(&mut link.is_timed, true) {
            let id = link.id;
            self.timed.push((index, id));
        }
    }

    /// Notes that there is something to send.
    fn mark(&mut self, index: u32) {
        let Some(link) = self.common(index) else { return };
        if !std::mem::replace(&mut link.is_dirty, true) {
            self.dirty.push(index);
        }
    }

    /// The kernel still reads what is in here, and nobody waits any longer: the processes are ended and the rest is left to the end of
    /// this process.
    pub(crate) fn abandon(&mut self) {
        for link in self.slots.iter_mut().flatten() {
            if let Kind::Child(child) = &mut link.kind {
                child.process = None;
            }
        }
        std::mem::forget(std::mem::take(&mut self.slots));
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
        if link.unsent() > fed_max {
            self.end_link(index, Down::TooMany);
        } else if link.common.stage == Stage::Up {
            self.links.mark(index);
        }
    }

    pub(in super::super) fn throttle(&mut self, id: LinkId, is_paused: bool) {
        let Some(index) = self.links.find(id) else { return };
        let Some(link) = self.links.common(index).filter(|link| !link.is_hung) else { return };
        if std::mem::replace(&mut link.is_paused, is_paused) == is_paused {
            return;
        }
        if !is_paused {
            self.links.resumed.push(index);
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
            Kind::Child(_) => self.hang_child(index),
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
        link.held = Vec::new();
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

    /// Goes on reading links that are no longer paused.
    pub(in super::super) fn resume_links(&mut self) {
        for index in std::mem::take(&mut self.links.resumed) {
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

/// Bytes that leave from the front.
#[derive(Default)]
struct Queue {
    bytes: Vec<u8>,
    /// How many of them have left.
    gone: usize,
}

impl Queue {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn len(&self) -> usize {
        self.bytes.len() - self.gone
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn rest(&self) -> &[u8] {
        &self.bytes[self.gone..]
    }

    /// So many bytes have left. What is moved for it is no more than what has left.
    fn advance(&mut self, count: usize) {
        self.gone += count;
        if self.is_empty() {
            self.bytes.clear();
            self.gone = 0;
            trim(&mut self.bytes);
        } else if self.gone > self.len() {
            self.bytes.drain(..std::mem::take(&mut self.gone));
        }
    }

    /// Everything leaves at once, into an empty buffer whose room stays here.
    fn move_into(&mut self, buffer: &mut Vec<u8>) {
        self.bytes.drain(..std::mem::take(&mut self.gone));
        std::mem::swap(&mut self.bytes, buffer);
    }
}

/// Frees a buffer that is empty and has grown too large to keep.
fn trim(buffer: &mut Vec<u8>) {
    if buffer.is_empty() && buffer.capacity() > POOLED_BUFFER_BYTES_MAX {
        *buffer = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_in_order_and_no_larger_than_twice_what_is_in_it() {
        let mut queue = Queue::default();
        let (mut next, mut expected) = (0u8, 0u8);
        for round in 0..1000 {
            for _ in 0..round % 7 {
                queue.push(&[next]);
                next = next.wrapping_add(1);
            }
            let count = queue.len().min(round % 5);
            for byte in &queue.rest()[..count] {
                assert_eq!(*byte, expected);
                expected = expected.wrapping_add(1);
            }
            queue.advance(count);
            assert!(queue.bytes.len() <= 2 * queue.len(), "{round}");
        }
        queue.push(b"end");
        let mut all = Vec::new();
        queue.move_into(&mut all);
        assert!(all.ends_with(b"end") && queue.is_empty() && queue.rest().is_empty());
    }

    #[test]
    fn a_stale_name_finds_nothing() {
        let wakes = Arc::from([Wake::new().expect("an eventfd")]);
        let mut links = Links::new(0, wakes, Arc::new(Trust::new(None)));
        let dial = Arc::new(Dial::Tcp { host: "a".into(), port: 1, tls: false });
        let (old, new) = (LinkId { index: 3, generation: 1 }, LinkId { index: 3, generation: 2 });
        let index = links.insert(Link::new(old, Arc::clone(&dial)));
        assert_eq!((links.find(old), links.find(new)), (Some(index), None));
        links.forget(new);
        assert_eq!(links.find(old), Some(index));
        links.forget(old);
        // The kernel may have the old one still.
        let second = links.insert(Link::new(new, dial));
        assert_ne!(second, index);
        assert_eq!((links.find(old), links.find(new)), (None, Some(second)));
        assert!(links.remove(index).is_some() && links.remove(index).is_none());
    }
}
