//! What an engine wants done: bytes for connections, frames for other cores, work for the blocking pool.
//!
//! The shell hands one [`Out`] to every call and drains it afterwards, in order. Nothing here does I/O.

use std::ops::Range;

use super::{admin, hop, roster};
use crate::base::ids::{ConnId, CoreId, LinkId};
use crate::gateway::link;
use crate::guard;
use crate::native::List;
use crate::registry;

pub use crate::base::ids::Lane;

/// A message between two cores. The shell never looks inside.
#[derive(Debug)]
pub enum Frame {
    /// The registry asks or answers.
    Registry(registry::Frame),
    /// The admin port asks or answers.
    Admin(Box<admin::Frame>),
    /// A call of a process that another core has.
    Relay(Box<hop::Frame>),
    /// The guards lend each other what is limited for the whole node.
    Guard(guard::Frame),
    /// Which upstreams there are.
    Roster(Box<roster::Frame>),
    /// Lists of a server changed: whoever listens for that is told. Frames for the same server merge while they wait.
    Changed {
        /// Index of the server.
        server: u32,
        /// Which lists.
        lists: Lists,
    },
    /// A resource of a server changed.
    Updated {
        /// Index of the server.
        server: u32,
        /// The resource's URI.
        uri: Box<str>,
    },
    /// So many resources of a server changed that every subscription to one of them is told.
    AllUpdated {
        /// Index of the server.
        server: u32,
    },
}

/// A set of lists: of tools, of prompts, of resources.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Lists(u8);

impl Lists {
    /// No list.
    pub const NONE: Self = Self(0);
    /// The list of tools.
    pub const TOOLS: Self = Self(1);
    /// The list of prompts.
    pub const PROMPTS: Self = Self(2);
    /// The lists of resources and of resource templates.
    pub const RESOURCES: Self = Self(4);
    /// Every single list, for iteration.
    pub const EACH: [Self; 3] = [Self::TOOLS, Self::PROMPTS, Self::RESOURCES];

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether all of `other` is in here.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether nothing is in here.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// What is in here, one list each.
    pub fn each(self) -> impl Iterator<Item = Self> {
        Self::EACH.into_iter().filter(move |list| self.has(*list))
    }

    /// The notification that says that this one list changed.
    #[must_use]
    pub const fn notification(self) -> &'static str {
        match self.0 {
            1 => "notifications/tools/list_changed",
            2 => "notifications/prompts/list_changed",
            _ => "notifications/resources/list_changed",
        }
    }
}

impl From<List> for Lists {
    fn from(list: List) -> Self {
        match list {
            List::Tools => Self::TOOLS,
            List::Prompts => Self::PROMPTS,
            List::Resources => Self::RESOURCES,
        }
    }
}

/// One thing for the shell to do.
pub enum Effect {
    /// Append these bytes of [`Out::bytes`] to the connection's outbound queue.
    Write {
        /// The connection.
        conn: ConnId,
        /// Where in [`Out::bytes`].
        range: Range<usize>,
    },
    /// The response on this connection is complete: take the next request, or close once everything is sent.
    End {
        /// The connection.
        conn: ConnId,
        /// Close, lingering, once the outbound queue is empty.
        close: bool,
    },
    /// Offer the parked request of this connection again.
    Resume {
        /// The connection.
        conn: ConnId,
    },
    /// Close the connection now; what is queued is dropped. Used when a response cannot be completed and must not look complete.
    Close {
        /// The connection.
        conn: ConnId,
    },
    /// Push a frame. When the lane is full the shell gives it back through [`super::Engine::on_unsent`].
    Send {
        /// The core it is for.
        to: CoreId,
        /// The lane.
        lane: Lane,
        /// The message.
        frame: Frame,
    },
    /// Run this on the blocking pool. It posts its own result to the core's inbox.
    Blocking(Box<dyn FnOnce() + Send>),
    /// Write this to the durable store, which answers through the core's inbox.
    Persist {
        /// Names the change.
        ticket: u64,
        /// What to write.
        record: registry::Record,
    },
    /// Do something about a link to an upstream; whatever becomes of it is told by [`super::Engine::on_link`]. What is fed is in [`Out::bytes`].
    Link(link::Effect),
}

impl std::fmt::Debug for Effect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Write { conn, range } => f.debug_struct("Write").field("conn", conn).field("range", range).finish(),
            Self::End { conn, close } => f.debug_struct("End").field("conn", conn).field("close", close).finish(),
            Self::Resume { conn } => f.debug_struct("Resume").field("conn", conn).finish(),
            Self::Close { conn } => f.debug_struct("Close").field("conn", conn).finish(),
            Self::Send { to, lane, frame } => f.debug_struct("Send").field("to", to).field("lane", lane).field("frame", frame).finish(),
            Self::Blocking(_) => f.write_str("Blocking(..)"),
            Self::Persist { ticket, record } => f.debug_struct("Persist").field("ticket", ticket).field("record", record).finish(),
            Self::Link(effect) => effect.fmt(f),
        }
    }
}

/// Reused by the shell from call to call: it drains `effects` in order, then clears both.
#[derive(Debug, Default)]
pub struct Out {
    /// What [`Effect::Write`] and [`link::Effect::Feed`] point into.
    pub bytes: Vec<u8>,
    /// What to do, in order.
    pub effects: Vec<Effect>,
}

impl Out {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.effects.is_empty()
    }

    /// Forgets everything and keeps the room.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.effects.clear();
    }

    /// Queues for `conn` what `write` appends. Consecutive writes to one connection become one effect.
    pub(crate) fn write(&mut self, conn: ConnId, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        write(&mut self.bytes);
        let end = self.bytes.len();
        if end == start {
            return;
        }
        if let Some(Effect::Write { conn: last, range }) = self.effects.last_mut()
            && *last == conn
            && range.end == start
        {
            range.end = end;
            return;
        }
        self.effects.push(Effect::Write { conn, range: start..end });
    }

    /// Queues for `link` what `write` appends. Consecutive feeds of one link become one effect.
    pub fn feed(&mut self, link: LinkId, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        write(&mut self.bytes);
        let end = self.bytes.len();
        if end == start {
            return;
        }
        if let Some(Effect::Link(link::Effect::Feed { link: last, range })) = self.effects.last_mut()
            && *last == link
            && range.end == start
        {
            range.end = end;
            return;
        }
        self.effects.push(Effect::Link(link::Effect::Feed { link, range: start..end }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ConnId = ConnId { index: 1, generation: 1 };
    const B: ConnId = ConnId { index: 2, generation: 1 };

    #[test]
    fn consecutive_writes_to_one_connection_merge() {
        let mut out = Out::default();
        out.write(A, |bytes| bytes.extend_from_slice(b"ab"));
        out.write(A, |bytes| bytes.extend_from_slice(b"c"));
        out.write(B, |_| ());
        out.write(B, |bytes| bytes.extend_from_slice(b"d"));
        out.write(A, |bytes| bytes.extend_from_slice(b"e"));
        let ranges: Vec<_> = out
            .effects
            .iter()
            .map(|effect| match effect {
                Effect::Write { conn, range } => (conn.index, range.clone()),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(ranges, [(1, 0..3), (2, 3..4), (1, 4..5)]);
    }

    #[test]
    fn consecutive_feeds_of_one_link_merge() {
        let link = LinkId { index: 1, generation: 1 };
        let mut out = Out::default();
        out.feed(link, |bytes| bytes.extend_from_slice(b"ab"));
        out.feed(link, |bytes| bytes.extend_from_slice(b"c"));
        out.write(A, |bytes| bytes.extend_from_slice(b"d"));
        out.feed(link, |bytes| bytes.extend_from_slice(b"e"));
        out.feed(LinkId { index: 1, generation: 2 }, |bytes| bytes.extend_from_slice(b"f"));
        let fed: Vec<_> = out
            .effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Link(link::Effect::Feed { link, range }) => Some((link.generation, range.clone())),
                _ => None,
            })
            .collect();
        assert_eq!(fed, [(1, 0..3), (1, 4..5), (2, 5..6)]);
    }

    #[test]
    fn sets_of_lists() {
        let both = Lists::TOOLS.with(Lists::RESOURCES);
        assert!(both.has(Lists::TOOLS) && !both.has(Lists::PROMPTS) && !both.is_empty());
        assert_eq!(both.and(Lists::PROMPTS), Lists::NONE);
        assert_eq!(Lists::PROMPTS.notification(), "notifications/prompts/list_changed");
    }
}
