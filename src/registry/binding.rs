//! What the registry holds: endpoints and what is bound to them.

use crate::base::ids::NodeId;

/// Names a server across nodes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ServerId {
    /// The node that hosts or fronts it.
    pub node: NodeId,
    /// Its number there: for a native server, its place in the list of factories.
    pub number: u32,
}

impl ServerId {
    /// The native server of this node with the given place in the list of factories.
    #[must_use]
    pub const fn native(number: u32) -> Self {
        Self { node: NodeId(0), number }
    }
}

/// A path that clients connect to, as it is registered.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Absolute path, such as `/mcp`.
    pub path: Box<str>,
    /// The servers a client sees there.
    pub servers: Box<[ServerId]>,
}

/// An endpoint's entry in its shard.
#[derive(Clone, Debug)]
pub struct Binding {
    /// The servers a client sees there.
    pub servers: Box<[ServerId]>,
    /// Counts the changes of this entry; the first is 1.
    pub version: u64,
}
