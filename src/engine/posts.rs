//! Responses of legacy POSTs that did not complete at once: which session and connection they belong to, whether they have become
//! a stream, and which replies they still owe.

use super::{batch::Gather, stream_log::StreamNo};
use crate::base::ids::{ConnId, SessionKey};

/// Names one pending response, with the generation of its slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct PostId {
    index: u32,
    generation: u32,
}

/// One pending response.
#[derive(Debug)]
pub(super) struct Post {
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
pub(super) struct Posts {
    slots: Vec<(u32, Option<Post>)>,
    free: Vec<u32>,
}

impl Posts {
    pub fn is_empty(&self) -> bool {
        self.slots.len() == self.free.len()
    }

    pub fn insert(&mut self, post: Post) -> PostId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push((0, None));
            (self.slots.len() - 1) as u32
        });
        let (generation, slot) = &mut self.slots[index as usize];
        *slot = Some(post);
        PostId { index, generation: *generation }
    }

    pub fn get_mut(&mut self, id: PostId) -> Option<&mut Post> {
        let (generation, post) = self.slots.get_mut(id.index as usize)?;
        if *generation == id.generation { post.as_mut() } else { None }
    }

    pub fn remove(&mut self, id: PostId) -> Option<Post> {
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

    fn post(index: u32) -> Post {
        Post { session: SessionKey { index, generation: 0 }, conn: None, stream: None, gather: None, waiting: 1 }
    }

    #[test]
    fn a_stale_id_names_nothing() {
        let mut posts = Posts::default();
        let first = posts.insert(post(1));
        assert!(posts.remove(first).is_some());
        let second = posts.insert(post(2));
        assert!(posts.get_mut(first).is_none() && posts.remove(first).is_none());
        assert_eq!(posts.get_mut(second).map(|post| post.session.index), Some(2));
        assert!(posts.remove(second).is_some());
        assert!(posts.is_empty());
    }
}
