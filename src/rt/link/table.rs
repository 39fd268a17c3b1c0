//! The links of one core: what each holds, and by which names they are known.

use std::collections::VecDeque;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use rustls::ClientConfig;

use super::super::conn::NEVER;
use super::super::wake::Wake;
use super::child::Child;
use super::socket::Socket;
use super::tls::Trust;
use super::{Desk, Hands};
use crate::base::ids::LinkId;
use crate::base::limits::{CHILD_DESCRIPTORS, LINK_LONG_BYTES, LINK_TURN_BYTES_MAX, POOLED_BUFFER_BYTES_MAX};
use crate::base::time::Nanos;
use crate::gateway::link::Dial;

/// Where a link stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// On its way to be up.
    Making,
    Up,
    /// Its end was told. It waits for the kernel, for the pool or for its process to end.
    Closed,
}

pub(super) enum Kind {
    Socket(Box<Socket>),
    Child(Box<Child>),
}

pub(super) struct Link {
    pub(super) common: Common,
    pub(super) kind: Kind,
}

/// What every link has.
pub(super) struct Common {
    pub(super) id: LinkId,
    pub(super) dial: Arc<Dial>,
    pub(super) stage: Stage,
    /// The pool works for it.
    pub(super) is_awaited: bool,
    /// The engine wants no more of it.
    pub(super) is_hung: bool,
    pub(super) is_paused: bool,
    /// The other end sends no more.
    pub(super) has_ended: bool,
    /// The engine knows that.
    pub(super) end_told: bool,
    /// Something was fed since the engine was told that all of it is with the kernel.
    pub(super) is_fed: bool,
    pub(super) is_dirty: bool,
    pub(super) is_timed: bool,
    /// When something is due, in ticks.
    pub(super) due: u32,
    /// Fed and not yet on its way.
    pub(super) fed: Queue,
    /// Received while it was paused, or had had its share of a turn.
    pub(super) held: Queue,
    /// It has had its share of this turn,
    pub(super) is_sated: bool,
    /// which began then.
    pub(super) turn: Nanos,
    /// Bytes that were handed on in it.
    pub(super) taken: usize,
    /// Bytes that were handed on since something was fed last: of one answer, where one at a time is asked for.
    pub(super) answered: usize,
    /// It is among those that are read again.
    pub(super) is_resumed: bool,
}

impl Common {
    /// Whether what it receives is kept back for the time being.
    pub(super) fn keeps_back(&self) -> bool {
        self.stage == Stage::Up && (self.is_paused || self.is_sated || !self.held.is_empty())
    }
}

impl Common {
    /// So many bytes were handed on in the turn that began then. Whether it has had its share of it.
    pub(super) fn take_share(&mut self, turn: Nanos, count: usize) -> bool {
        if self.turn != turn {
            (self.turn, self.taken) = (turn, 0);
        }
        self.taken += count;
        self.answered = self.answered.saturating_add(count);
        self.is_sated = self.taken >= LINK_TURN_BYTES_MAX;
        self.is_sated
    }

    /// Whether what it receives is part of a long answer.
    pub(super) const fn is_long(&self) -> bool {
        self.answered >= LINK_LONG_BYTES
    }
}

impl Link {
    pub(super) fn new(id: LinkId, dial: Arc<Dial>) -> Self {
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
            held: Queue::default(),
            is_sated: false,
            turn: Nanos(0),
            taken: 0,
            answered: 0,
            is_resumed: false,
        };
        Self { common, kind }
    }

    /// Bytes that were fed and are not known to be with the kernel.
    pub(super) fn unsent(&self) -> usize {
        self.common.fed.len()
            + match &self.kind {
                Kind::Socket(socket) => socket.unsent(),
                Kind::Child(_) => 0,
            }
    }

    /// Bytes that wait in it, either way.
    fn buffered(&self) -> usize {
        self.unsent() + self.common.held.len()
    }

    /// Whether somebody else still works with it: the kernel, the pool, or its process.
    pub(super) fn is_held(&self) -> bool {
        self.common.is_awaited
            || match &self.kind {
                Kind::Socket(socket) => socket.is_held(),
                Kind::Child(child) => child.is_held(),
            }
    }
}

/// Descriptors that a link may have.
pub(super) const fn weight(dial: &Dial) -> usize {
    match dial {
        Dial::Tcp { .. } => 1,
        Dial::Child(_) => CHILD_DESCRIPTORS,
    }
}

/// The links of one core.
pub(crate) struct Links {
    pub(super) slots: Vec<Option<Link>>,
    pub(super) free: Vec<u32>,
    pub(super) count: usize,
    /// Generation and slot of each of the engine's names that is in use.
    pub(super) names: Vec<Option<(u32, u32)>>,
    /// Links with something to send.
    pub(super) dirty: Vec<u32>,
    /// Links that are to be read on.
    pub(super) resumed: Vec<u32>,
    /// Links that are to be read on from a moment on, the first of them first.
    pub(super) postponed: VecDeque<(Nanos, u32)>,
    /// Links for which something is due some time.
    pub(super) timed: Vec<(u32, LinkId)>,
    pub(super) desk: Arc<Desk>,
    pub(super) trust: Arc<Trust>,
    pub(super) hands: Hands,
    pub(super) tls: Option<Arc<ClientConfig>>,
    /// Process groups of which there may be some left to reap, until that tick.
    pub(super) strays: Vec<(i32, u32)>,
    /// What was just read or decrypted.
    pub(super) scratch: Vec<u8>,
}

impl Links {
    pub(crate) fn new(core: usize, wakes: Arc<[Wake]>, trust: Arc<Trust>, hands: Hands) -> Self {
        let desk = Arc::new(Desk { news: Mutex::default(), has_news: AtomicBool::new(false), wakes, core });
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            count: 0,
            names: Vec::new(),
            dirty: Vec::new(),
            resumed: Vec::new(),
            postponed: VecDeque::new(),
            timed: Vec::new(),
            desk,
            trust,
            hands,
            tls: None,
            strays: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// Bytes that wait in links, either way.
    pub(crate) fn buffered(&self) -> usize {
        if self.count == 0 { 0 } else { self.slots.iter().flatten().map(Link::buffered).sum() }
    }

    /// The link in which the most wait, and how many.
    pub(crate) fn fullest(&self) -> Option<(usize, u32)> {
        let live = (0..).zip(&self.slots).filter_map(|(index, link)| Some((index, link.as_ref()?)));
        let open = live.filter(|(_, link)| link.common.stage != Stage::Closed);
        open.map(|(index, link)| (link.buffered(), index)).max()
    }

    /// Whether there is something to do that no completion will announce.
    pub(crate) fn has_work(&self) -> bool {
        !self.dirty.is_empty() || !self.resumed.is_empty() || self.desk.has_news()
    }

    /// The link is read again when it is the turn of those that are.
    pub(super) fn resume(&mut self, index: u32) {
        if let Some(link) = self.common(index)
            && !std::mem::replace(&mut link.is_resumed, true)
        {
            self.resumed.push(index);
        }
    }

    /// The link is read again as soon as that moment has come. It is no earlier than that of any other that was postponed.
    pub(super) fn postpone(&mut self, index: u32, until: Nanos) {
        if let Some(link) = self.common(index)
            && !std::mem::replace(&mut link.is_resumed, true)
        {
            self.postponed.push_back((until, index));
        }
    }

    /// Takes note that it is `now`: what was postponed until then is read again.
    pub(super) fn recall(&mut self, now: Nanos) {
        while let Some((_, index)) = self.postponed.pop_front_if(|(until, _)| *until <= now) {
            self.resumed.push(index);
        }
    }

    /// When the next of those that were postponed is to be read.
    pub(crate) fn next_deadline(&self) -> Nanos {
        self.postponed.front().map_or(Nanos::NEVER, |(until, _)| *until)
    }

    pub(super) fn insert(&mut self, link: Link) -> u32 {
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

    pub(super) fn remove(&mut self, index: u32) -> Option<Link> {
        let link = self.slots.get_mut(index as usize)?.take()?;
        self.free.push(index);
        self.count -= 1;
        Some(link)
    }

    pub(super) fn get(&mut self, index: u32) -> Option<&mut Link> {
        self.slots.get_mut(index as usize)?.as_mut()
    }

    pub(super) fn common(&mut self, index: u32) -> Option<&mut Common> {
        self.get(index).map(|link| &mut link.common)
    }

    pub(super) fn socket(&mut self, index: u32) -> Option<(&mut Common, &mut Socket)> {
        match self.get(index)? {
            Link { common, kind: Kind::Socket(socket) } => Some((common, socket)),
            Link { kind: Kind::Child(_), .. } => None,
        }
    }

    pub(super) fn child(&mut self, index: u32) -> Option<(&mut Common, &mut Child)> {
        match self.get(index)? {
            Link { common, kind: Kind::Child(child) } => Some((common, child)),
            Link { kind: Kind::Socket(_), .. } => None,
        }
    }

    /// The link in that slot, if it is this one and the engine hears of it.
    pub(super) fn heard(&mut self, index: u32, id: LinkId) -> Option<&mut Common> {
        self.common(index).filter(|link| link.id == id && link.stage == Stage::Up && !link.is_hung)
    }

    pub(super) fn find(&self, id: LinkId) -> Option<u32> {
        let (generation, index) = (*self.names.get(id.index as usize)?)?;
        (generation == id.generation).then_some(index)
    }

    pub(super) fn forget(&mut self, id: LinkId) {
        if self.find(id).is_some() {
            self.names[id.index as usize] = None;
        }
    }

    /// Looks at the link again at that tick.
    pub(super) fn set_due(&mut self, index: u32, due: u32) {
        let Some(link) = self.common(index) else { return };
        link.due = due;
        if !std::mem::replace(&mut link.is_timed, true) {
            let id = link.id;
            self.timed.push((index, id));
        }
    }

    /// Notes that there is something to send.
    pub(super) fn mark(&mut self, index: u32) {
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

/// Bytes that leave from the front.
#[derive(Default)]
pub(super) struct Queue {
    bytes: Vec<u8>,
    /// How many of them have left.
    gone: usize,
}

impl Queue {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.gone
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes[self.gone..]
    }

    /// So many bytes have left. What is moved for it is no more than what has left.
    pub(super) fn advance(&mut self, count: usize) {
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
    pub(super) fn move_into(&mut self, buffer: &mut Vec<u8>) {
        self.bytes.drain(..std::mem::take(&mut self.gone));
        std::mem::swap(&mut self.bytes, buffer);
    }
}

/// Frees a buffer that is empty and has grown too large to keep.
pub(super) fn trim(buffer: &mut Vec<u8>) {
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
        let mut links = Links::new(0, wakes, Arc::new(Trust::new(None)), Hands::new());
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
