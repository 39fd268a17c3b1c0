//! Changes: what may be asked for, what is refused and why, and what an entry is after a change.

use std::num::NonZeroU64;
use std::sync::Arc;

use super::entry::{Endpoint, Server, ServerId, ServerSpec, Source};
use crate::base::limits;

/// The two kinds of entries. Their names do not meet: a server may be called what an endpoint is called.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// Servers, by name.
    Server,
    /// Endpoints, by path.
    Endpoint,
}

/// A change of one entry. `if_version` names the version that the entry must have (If-Match); without it any will do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// A new server. [`Refusal::Taken`] when its name is.
    Register(Box<ServerSpec>),
    /// A server said anew, whole.
    Update {
        /// What is said of it now.
        spec: Box<ServerSpec>,
        /// The version it must have.
        if_version: Option<NonZeroU64>,
    },
    /// What this process found out of a server that it fronts and that was registered: said of the version it was found out of. What was said of
    /// how it is reached stays.
    Report {
        /// What is said of it now.
        spec: Box<ServerSpec>,
        /// The version it must have.
        version: u64,
    },
    /// A server of the configuration no more. Nothing changes when there is none.
    Withdraw {
        /// The server's name.
        name: Box<str>,
    },
    /// A server no more. Endpoints keep its name, and see it again should it be registered again.
    Unregister {
        /// The server's name.
        name: Box<str>,
        /// The version it must have.
        if_version: Option<NonZeroU64>,
    },
    /// A new endpoint. The servers need not be registered yet.
    Create {
        /// Its path.
        path: Box<str>,
        /// Names of the servers bound to it.
        servers: Box<[Box<str>]>,
    },
    /// An endpoint no more.
    Delete {
        /// Its path.
        path: Box<str>,
        /// The version it must have.
        if_version: Option<NonZeroU64>,
    },
    /// What the configuration says of an endpoint, and said before; nothing where it names it not. What was changed there since stays so: then
    /// only the difference is made.
    Configure {
        /// Its path.
        path: Box<str>,
        /// What is said of it, and was.
        said: Box<Configured>,
    },
    /// One more server at an endpoint, behind the others. Nothing changes when it is bound already.
    Bind {
        /// The endpoint's path.
        path: Box<str>,
        /// The server's name; it need not be registered yet.
        server: Box<str>,
        /// The version the endpoint must have.
        if_version: Option<NonZeroU64>,
    },
    /// One server fewer at an endpoint. [`Refusal::Absent`] when it is not bound there.
    Unbind {
        /// The endpoint's path.
        path: Box<str>,
        /// The server's name.
        server: Box<str>,
        /// The version the endpoint must have.
        if_version: Option<NonZeroU64>,
    },
    /// All servers of an endpoint said anew.
    Rebind {
        /// The endpoint's path.
        path: Box<str>,
        /// Names of the servers bound to it.
        servers: Box<[Box<str>]>,
        /// The version the endpoint must have.
        if_version: Option<NonZeroU64>,
    },
}

/// What a configuration says of an endpoint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Configured {
    /// Names of the servers that were bound to it.
    pub before: Option<Box<[Box<str>]>>,
    /// Names of the servers that are to be.
    pub servers: Option<Box<[Box<str>]>>,
}

/// Why a change was not made. It was then not made at all, with [`Self::Unknown`] as the one exception.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// There is an entry of that name.
    Taken,
    /// There is no entry of that name, or no such server is bound.
    Absent,
    /// A lane or a table is full, a core that knows the entry did not answer in time, the same entry is being changed by too many, or
    /// shards are alarmed: try again later.
    Overloaded,
    /// The entry is not to be changed this way: a native server is what the program says it is, a configured one what the configuration says.
    NotPermitted,
    /// The entry has another version than the one named.
    VersionMismatch {
        /// The version it has.
        current: u64,
    },
    /// The change makes no sense; says what is wrong with it.
    Invalid(&'static str),
    /// The change could not be written to the durable store.
    NotStored,
    /// The durable store stands still: the change was not handed to it. Try again later.
    StoreStuck,
    /// The durable store failed while it wrote the change. It is not made in this process, and may be there after a restart.
    Unknown,
    /// There are as many entries of the kind as there may be, as far as the core goes that would have this one.
    Full,
}

/// What an entry is after its change; of an entry that was removed, what it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Changed {
    /// The entry's id.
    pub id: ServerId,
    /// Its version.
    pub version: u64,
    /// When it was changed, milliseconds since 1970.
    pub updated_ms: u64,
}

/// What a durable store is to keep of a change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Record {
    /// This server, in place of any of the same name.
    Server(Arc<Server>),
    /// This endpoint, in place of any of the same path.
    Endpoint(Arc<Endpoint>),
    /// No entry of this name.
    Removed {
        /// What it was.
        kind: Kind,
        /// Its name or path.
        name: Box<str>,
        /// Its id. With the version, to be told to [`super::Registry::raise`] after a restart, so that neither is given out again.
        id: ServerId,
        /// Its version.
        version: u64,
    },
}

/// What is wrong with the name of a server; `None` when it is a good one.
#[must_use]
pub fn problem_with_name(name: &str) -> Option<&'static str> {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'/' | b'-');
    if name.is_empty() || name.len() > limits::SERVER_NAME_BYTES_MAX {
        return Some("a server's name has 1 to 200 characters");
    }
    (!name.bytes().all(is_legal)).then_some("a server's name consists of A-Z a-z 0-9 . _ / -")
}

/// What is wrong with the path of an endpoint that is created by a change; `None` when it is a good one.
#[must_use]
pub fn problem_with_path(path: &str) -> Option<&'static str> {
    let Some(rest) = path.strip_prefix("/mcp") else { return Some("an endpoint's path is /mcp, or /mcp/ and a name") };
    if rest.is_empty() {
        return None;
    }
    match rest.strip_prefix('/') {
        Some(name) => problem_with_name(name).map(|_| "an endpoint's name has 1 to 200 characters of A-Z a-z 0-9 . _ / -"),
        None => Some("an endpoint's path is /mcp, or /mcp/ and a name"),
    }
}

fn problem_with_servers(servers: &[Box<str>]) -> Option<&'static str> {
    if servers.len() > limits::SERVERS_PER_ENDPOINT_MAX {
        return Some("too many servers at one endpoint");
    }
    if (1..servers.len()).any(|at| servers[..at].contains(&servers[at])) {
        return Some("a server is bound to an endpoint once");
    }
    servers.iter().find_map(|name| problem_with_name(name))
}

impl ServerSpec {
    /// What is wrong with it; `None` when nothing is.
    #[must_use]
    pub fn problem(&self) -> Option<&'static str> {
        let texts = [&self.title, &self.description, &self.software_version];
        if texts.iter().any(|text| text.len() > limits::SERVER_TEXT_BYTES_MAX) {
            return Some("a title, a description or a version is too long");
        }
        if let Source::Upstream(target) = &self.source
            && target.len() > limits::TARGET_BYTES_MAX
        {
            return Some("the target is too long");
        }
        if self.front.as_ref().is_some_and(|front| front.len() > limits::ITEM_BYTES_MAX) {
            return Some("what is said of how it is reached is too long");
        }
        if self.catalog.items().any(|item| item.json.len() > limits::ITEM_BYTES_MAX) {
            return Some("the definition of a tool, a prompt, a resource or a template is too long");
        }
        if self.catalog.bytes() > limits::CATALOG_BYTES_MAX {
            return Some("the catalog is too large");
        }
        problem_with_name(&self.name)
    }
}

impl Change {
    /// The kind of entry it is about.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Register(_) | Self::Update { .. } | Self::Report { .. } | Self::Withdraw { .. } | Self::Unregister { .. } => Kind::Server,
            _ => Kind::Endpoint,
        }
    }

    /// The name or path of the entry it is about.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Register(spec) | Self::Update { spec, .. } | Self::Report { spec, .. } => &spec.name,
            Self::Unregister { name, .. } | Self::Withdraw { name } => name,
            Self::Create { path, .. }
            | Self::Configure { path, .. }
            | Self::Delete { path, .. }
            | Self::Bind { path, .. }
            | Self::Unbind { path, .. }
            | Self::Rebind { path, .. } => path,
        }
    }

    /// Whether it adds an entry: what is refused first when shards are alarmed.
    #[must_use]
    pub const fn is_registration(&self) -> bool {
        matches!(self, Self::Register(_) | Self::Create { .. })
    }

    /// What can be refused without looking at the entry.
    pub(super) fn problem(&self) -> Option<Refusal> {
        let invalid = match self {
            Self::Register(spec) | Self::Update { spec, .. } | Self::Report { spec, .. } => {
                if matches!(spec.source, Source::Native(_)) {
                    return Some(Refusal::NotPermitted);
                }
                spec.problem()
            }
            Self::Create { path, servers } => problem_with_path(path).or_else(|| problem_with_servers(servers)),
            Self::Rebind { servers, .. } => problem_with_servers(servers),
            Self::Configure { path, said } => {
                problem_with_path(path).or_else(|| said.servers.as_ref().and_then(|servers| problem_with_servers(servers)))
            }
            Self::Bind { server, .. } => problem_with_name(server),
            Self::Unregister { .. } | Self::Withdraw { .. } | Self::Delete { .. } | Self::Unbind { .. } => None,
        };
        invalid.map(Refusal::Invalid)
    }
}
