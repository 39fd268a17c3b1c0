//! Responses of legacy POSTs that did not complete at once: which session and connection they belong to, whether they have become
//! a stream, and which replies they still owe.

use super::{batch::Gather, stream_log::StreamNo};
use crate::base::ids::{ConnId, SessionKey};

/// Names one pending response, with the generation of its slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct PendingId {
    index: u32,
    generation: u32,
}

/// One pending response.
#[derive(Debug)]
pub(super) struct Pending {
    /// The session it belongs to.
    pub session: SessionKey,
    /// The connection that waits for it, while it does.
    pub conn: Option<ConnId>,
    /// The stream it has become.
    pub stream: Option<StreamNo>,
    /// For a batch: the replies that have not been sent.
    pub gather: Option<Gather>,
    /// Replies owed.
    pub waiting: u32,
}

/// The pending responses of one core.
#[derive(Debug, Default)]
pub(super) struct Pendings {
    slots: Vec<(u32, Option<Pending>)>,
    free: Vec<u32>,
}

impl Pendings {
    /// For tests: nothing may be left behind.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.slots.len() == self.free.len()
    }

    /// The id that the next response gets. Most never need it: they complete at once.
    pub fn next_id(&mut self) -> PendingId {
        if self.free.is_empty() {
            self.free.push(self.slots.len() as u32);
            self.slots.push((0, None));
        }
        let index = self.free[self.free.len() - 1];
        PendingId { index, generation: self.slots[index as usize].0 }
    }

    pub fn insert(&mut self, post: Pending) -> PendingId {
        let id = self.next_id();
        self.free.pop();
        self.slots[id.index as usize].1 = Some(post);
        id
    }

    pub fn get_mut(&mut self, id: PendingId) -> Option<&mut Pending> {
        let (generation, post) = self.slots.get_mut(id.index as usize)?;
        if *generation == id.generation { post.as_mut() } else { None }
    }

    pub fn remove(&mut self, id: PendingId) -> Option<Pending> {
        let (generation, post) = self.slots.get_mut(id.index as usize)?;
        if *generation != id.generation {
            return None;
        }
        let post = post.take()?;
        *generation = generation.wrapping_add(1);
        self.free.push(id.index);
        Some(post)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(index: u32) -> Pending {
        Pending { session: SessionKey { index, generation: 0 }, conn: None, stream: None, gather: None, waiting: 1 }
    }

    #[test]
    fn a_stale_id_names_nothing() {
        let mut pendings = Pendings::default();
        let first = pendings.insert(pending(1));
        assert!(pendings.remove(first).is_some());
        let named = pendings.next_id();
        assert!(pendings.get_mut(named).is_none() && pendings.is_empty(), "naming takes nothing");
        let second = pendings.insert(pending(2));
        assert_eq!(second, named);
        assert!(pendings.get_mut(first).is_none() && pendings.remove(first).is_none());
        assert_eq!(pendings.get_mut(second).map(|pending| pending.session.index), Some(2));
        assert!(pendings.remove(second).is_some());
        assert!(pendings.is_empty());
    }
}
