//! One shard: the names whose hash falls into it. Its owner is its only writer.

use super::binding::{Binding, ServerId};
use hashbrown::HashMap;
use std::rc::Rc;

/// The entries of one shard.
#[derive(Debug, Default)]
pub(super) struct Shard {
    endpoints: HashMap<Box<str>, Rc<Binding>>,
}

impl Shard {
    /// What is bound at `path`.
    pub(super) fn find(&self, path: &str) -> Option<&Rc<Binding>> {
        self.endpoints.get(path)
    }

    /// Binds `servers` at `path`, in place of what was bound there.
    pub(super) fn bind(&mut self, path: &str, servers: &[ServerId]) {
        let version = self.endpoints.get(path).map_or(1, |old| old.version + 1);
        self.endpoints.insert(path.into(), Rc::new(Binding { servers: servers.into(), version }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binding_again_replaces_and_counts() {
        let mut shard = Shard::default();
        shard.bind("/mcp", &[ServerId::native(0)]);
        shard.bind("/mcp", &[ServerId::native(1)]);
        let found = shard.find("/mcp").expect("it was bound");
        assert_eq!((found.version, found.servers.as_ref()), (2, [ServerId::native(1)].as_slice()));
        assert!(shard.find("/other").is_none());
    }
}
