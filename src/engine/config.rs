//! What can be set about an engine.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::admin::Token;
use super::reload::Reader;
use super::seal::SealKeys;
use crate::base::limits;
use crate::base::time::Nanos;
use crate::gateway;
use crate::guard;
use crate::registry::{self, Record};

/// Which eras of the protocol an engine serves.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Eras {
    /// The `initialize` handshake only: revisions up to 2025-11-25.
    Legacy,
    /// Per-request metadata only: 2026-07-28.
    Modern,
    /// Both on every endpoint.
    #[default]
    Both,
}

impl Eras {
    /// Whether the legacy era is served.
    #[must_use]
    pub const fn legacy(self) -> bool {
        matches!(self, Self::Legacy | Self::Both)
    }

    /// Whether the modern era is served.
    #[must_use]
    pub const fn modern(self) -> bool {
        matches!(self, Self::Modern | Self::Both)
    }
}

/// What stands between a server's name and that of a tool or prompt, where several servers are bound to an endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Separator {
    /// `server.tool`
    #[default]
    Dot,
    /// `server_tool`
    Underscore,
    /// `server-tool`
    Dash,
}

impl Separator {
    /// The character.
    #[must_use]
    pub const fn as_char(self) -> char {
        match self {
            Self::Dot => '.',
            Self::Underscore => '_',
            Self::Dash => '-',
        }
    }
}

/// An endpoint that is there from the start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    /// Absolute path, such as `/mcp`.
    pub path: Box<str>,
    /// The native servers that a client sees there: their places in the list of factories.
    pub servers: Box<[u32]>,
    /// The upstreams that it sees behind those: their names.
    pub upstreams: Box<[Box<str>]>,
}

/// Settings of an engine; the same on every core of a process.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Which eras are served.
    pub era: Eras,
    /// Paths and the servers bound to them. `/mcp` leads to the first server unless told otherwise.
    pub endpoints: Vec<Endpoint>,
    /// What a durable store kept.
    pub kept: Arc<[Record]>,
    /// When the process started, milliseconds since 1970.
    pub started_ms: u64,
    /// The token that writing to the admin port needs. None: nothing can be written there.
    pub admin_token: Option<Token>,
    /// The URL below which clients reach endpoints, when it is another than the address that is served: what is told to clients of the MCP
    /// Registry API.
    pub public_url: Option<String>,
    /// Where MCP is served; known once the port is taken.
    pub public_address: Option<SocketAddr>,
    /// The registry that endpoints are found in.
    pub registry: registry::Config,
    /// The servers that are fronted.
    pub upstreams: Arc<[gateway::Settings]>,
    /// What is refused early.
    pub guard: guard::Config,
    /// Ceiling of what buffers hold, bytes. None: only each of them is limited.
    pub memory_max: Option<usize>,
    /// Reads the configuration again. None: it cannot be.
    pub reader: Option<Reader>,
    /// Whether the control API may register servers that are started by a command.
    pub stdio_api: bool,
    /// What names of tools and prompts are joined with.
    pub name_separator: Separator,
    /// How long a request may be in work before it is answered with an error and its handler is dropped.
    pub request_timeout: Duration,
    /// Origins that browsers may call from, besides those of this host. `*` allows every one.
    pub allowed_origins: Vec<String>,
    /// Names that a Host field may carry, besides those of this host. `*` allows every one.
    pub allowed_hosts: Vec<String>,
    /// Whether the listener is bound to this host alone: then Host is checked even when `allowed_hosts` is empty (DNS rebinding).
    pub local_only: bool,
    /// Keys of the seals, shared by all cores.
    pub seal_keys: Arc<SealKeys>,
    /// How long a client may take to answer what it was asked: the life of a sealed `requestState`.
    pub request_state_ttl: Duration,
    /// How long an unused legacy session lives.
    pub session_idle_timeout: Duration,
    /// Most legacy sessions of one core.
    pub sessions_max: usize,
    /// A comment is written on a stream that was silent for this long, so that proxies keep it and a vanished peer is noticed.
    pub keepalive_comment: Duration,
    /// Most messages of one JSON-RPC batch.
    pub batch_messages_max: usize,
    /// Reads the clock that [`crate::base::time::Now::mono`] comes from, to name handlers that hold the core up. None: nobody is named.
    pub clock: Option<fn() -> Nanos>,
    /// Reads a clock that is cheaper than `clock` and moves on at least every 5 ms: while it stands still no handler can have held the core
    /// up, and `clock` need not be read. None: `clock` is read after every turn of a handler.
    pub coarse_clock: Option<fn() -> Nanos>,
}

impl EngineConfig {
    /// The defaults, with the given keys.
    #[must_use]
    pub fn new(seal_keys: Arc<SealKeys>) -> Self {
        Self {
            era: Eras::Both,
            endpoints: vec![Endpoint { path: "/mcp".into(), servers: [0].into(), upstreams: Box::default() }],
            upstreams: Arc::new([]),
            guard: guard::Config::default(),
            memory_max: None,
            reader: None,
            stdio_api: false,
            kept: Arc::new([]),
            started_ms: 0,
            admin_token: None,
            public_url: None,
            public_address: None,
            registry: registry::Config::default(),
            name_separator: Separator::default(),
            request_timeout: Duration::from_mins(1),
            allowed_origins: Vec::new(),
            allowed_hosts: Vec::new(),
            local_only: true,
            seal_keys,
            request_state_ttl: Duration::from_mins(15),
            session_idle_timeout: Duration::from_mins(30),
            sessions_max: limits::SESSIONS_PER_CORE_DEFAULT,
            keepalive_comment: Duration::from_secs(15),
            batch_messages_max: limits::BATCH_MESSAGES_MAX,
            clock: None,
            coarse_clock: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_eras_by_default() {
        assert!(Eras::default().legacy() && Eras::default().modern());
        assert!(!Eras::Legacy.modern() && !Eras::Modern.legacy());
    }
}
