//! What crosses between cores, and what a registry wants done.

use std::ops::Deref;
use std::sync::Arc;

use compact_str::CompactString;

use super::change::{Change, Changed, Kind, Record, Refusal};
use super::entry::{Endpoint, Server, ServerId};
use super::list::{Page, Query};
use crate::base::ids::{CoreId, Lane, ShardId};
use crate::base::prefetch;
use crate::base::time::Nanos;

/// Names who waits for an answer. The registry gives it back and makes nothing of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct Waiter(pub u64);

/// An entry as it crosses cores; `None` where there is none.
#[derive(Clone, Debug)]
pub enum Answer {
    /// A server.
    Server(Option<Arc<Server>>),
    /// An endpoint.
    Endpoint(Option<Arc<Endpoint>>),
}

impl Answer {
    pub(super) const fn kind(&self) -> Kind {
        match self {
            Self::Server(_) => Kind::Server,
            Self::Endpoint(_) => Kind::Endpoint,
        }
    }

    pub(super) const fn is_absent(&self) -> bool {
        matches!(self, Self::Server(None) | Self::Endpoint(None))
    }
}

/// The name of an entry, which it shares with the entry.
#[derive(Clone, Debug)]
pub enum Name {
    /// A server's.
    Server(Arc<Server>),
    /// An endpoint's: its path.
    Endpoint(Arc<Endpoint>),
}

impl Name {
    /// The kind of entry it names.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Server(_) => Kind::Server,
            Self::Endpoint(_) => Kind::Endpoint,
        }
    }
}

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Server(server) => &server.spec.name,
            Self::Endpoint(endpoint) => &endpoint.path,
        }
    }
}

/// Core-to-core frames of the registry.
#[derive(Debug)]
pub enum Frame {
    /// Ask: what is `name`?
    Find {
        /// Comes back with the reply.
        ticket: u64,
        /// Which of the two.
        kind: Kind,
        /// When it was asked.
        sent: Nanos,
        /// Hash of the name, which every core computes alike.
        hash: u64,
        /// Its name or path. Short ones travel in the frame itself: a pointer would cost the owner one more line of the asker's cache.
        name: CompactString,
    },
    /// Reply to [`Frame::Find`].
    Found {
        /// The ticket of the Ask.
        ticket: u64,
        /// Whether it may be kept: not while the entry is being changed.
        is_lasting: bool,
        /// The shard's change number when this was looked up.
        number: u64,
        /// What it is.
        answer: Answer,
    },
    /// Ask: make this change.
    Change {
        /// Comes back with the reply.
        ticket: u64,
        /// When it was asked.
        sent: Nanos,
        /// The change.
        change: Change,
    },
    /// Reply to [`Frame::Change`].
    Done {
        /// The ticket of the Ask.
        ticket: u64,
        /// How it went.
        result: Result<Changed, Refusal>,
    },
    /// Ask, from the owner to who may hold an entry: hold it no longer.
    Invalidate {
        /// Comes back with the reply.
        ticket: u64,
        /// The shard.
        shard: ShardId,
        /// The shard's change number: nothing that was looked up before it may be kept from now on.
        number: u64,
        /// Whether the entry is about to be. Then no absent name of the shard may be held either: the owner does not tell them apart.
        is_new: bool,
        /// The entry.
        name: Name,
    },
    /// Reply to [`Frame::Invalidate`].
    Invalidated {
        /// The ticket of the Ask.
        ticket: u64,
    },
    /// Told on the Ask lane after a change was made, to who held the entry or looked at it meanwhile.
    Changed {
        /// The entry. Its [`Name::kind`] says which of the two.
        name: Name,
    },
    /// Told to every core on the Ask lane after an endpoint was removed, whether or not it held the entry: it may have sessions there.
    Gone {
        /// The endpoint's id, which no other endpoint will have.
        endpoint: ServerId,
    },
    /// Told in place of more [`Frame::Changed`] and [`Frame::Gone`] than could be kept: any entry may have changed.
    AllChanged,
    /// Ask: your part of a list.
    List {
        /// Comes back with the reply.
        ticket: u64,
        /// When to give up.
        deadline: Nanos,
        /// What is asked for.
        query: Arc<Query>,
    },
    /// Reply to [`Frame::List`].
    Listed {
        /// The ticket of the Ask.
        ticket: u64,
        /// The part, in order; `None` when it could not be made.
        part: Option<Vec<Name>>,
    },
    /// Told on the Ask lane: how many shards at home there are alarmed.
    Alarmed {
        /// The number.
        shards: u16,
    },
}

impl Frame {
    /// Asks the processor for what the frame points to. For who took several frames and comes to this one soon.
    #[inline]
    pub fn prefetch(&self) {
        match self {
            Self::Found { answer: Answer::Server(Some(entry)), .. } => prefetch::line(Arc::as_ptr(entry)),
            Self::Found { answer: Answer::Endpoint(Some(entry)), .. } => prefetch::line(Arc::as_ptr(entry)),
            Self::Change { change: Change::Register(spec) | Change::Update { spec, .. }, .. } => prefetch::whole(&**spec),
            _ => {}
        }
    }

    /// The lane it travels in.
    #[must_use]
    pub const fn lane(&self) -> Lane {
        match self {
            Self::Found { .. } | Self::Done { .. } | Self::Invalidated { .. } | Self::Listed { .. } => Lane::Reply,
            _ => Lane::Ask,
        }
    }
}

/// One thing to do for a registry.
#[derive(Debug)]
pub enum Effect {
    /// Send this frame; when its lane has no room, give it back through [`super::Registry::on_unsent`].
    Send {
        /// The core it is for.
        to: CoreId,
        /// The lane.
        lane: Lane,
        /// The frame.
        frame: Frame,
    },
    /// The lookup of this waiter is decided: look again, with the same waiter, in this turn.
    Resume {
        /// Who waits.
        waiter: Waiter,
    },
    /// The lookup of this waiter could not be asked for: its lane is full. Answer that this node is overloaded.
    Unasked {
        /// Who waits.
        waiter: Waiter,
    },
    /// The change of this waiter was made or refused.
    Done {
        /// Who waits.
        waiter: Waiter,
        /// How it went.
        result: Result<Changed, Refusal>,
    },
    /// The list that this waiter asked for.
    Listed {
        /// Who waits.
        waiter: Waiter,
        /// The page, or why there is none.
        result: Result<Page, Refusal>,
    },
    /// An entry is about to change: whatever this core derived from it (a view, a page) must not be used any more. It may be made anew
    /// from a new lookup at once; what [`super::Lookup::Once`] gives is not to be kept.
    Invalidated {
        /// The entry. Its [`Name::kind`] says which of the two.
        name: Name,
    },
    /// An entry of this kind and shard is about to be, be its name known here or not: whatever this core derived from the absence of any
    /// such name must not be used any more. It may be derived anew at once.
    AbsencesInvalidated {
        /// The kind.
        kind: Kind,
        /// The shard; [`super::Placement`] says which names are in it.
        shard: ShardId,
    },
    /// An entry was changed: derive anew, and tell who listens. Comes on the owner's core and on every core that held the entry or looked at
    /// it during the change. On the owner's core nothing came before it.
    Changed {
        /// The entry. Its [`Name::kind`] says which of the two.
        name: Name,
    },
    /// An endpoint was removed: whatever was opened there is over. Comes on every core.
    Gone {
        /// The endpoint's id, which no other endpoint will have.
        endpoint: ServerId,
    },
    /// More entries changed, or are gone, than could be told one by one: derive everything anew, and tell who listens to anything.
    AllChanged,
    /// Write this to the durable store, then call [`super::Registry::on_persisted`].
    Persist {
        /// Names the change.
        ticket: u64,
        /// What to write.
        record: Record,
    },
}

/// What a call wants done, in order. The caller drains it.
pub type Effects = Vec<Effect>;
