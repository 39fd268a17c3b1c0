//! Floor 3: one core's whole state as a value. Requests, frames and time go in; bytes and effects come out.
//!
//! Nothing here does I/O, reads a clock or waits. The shell (or the simulator) hands in one moment per call and carries out what
//! [`Out`] says, in order.

mod awaited;
pub mod config;
pub mod directory;
pub mod out;
pub mod seal;
pub mod stream_log;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::base::fault;
use crate::base::ids::{ConnId, CoreId, NodeId, SessionKey};
use crate::base::limits::SESSION_ID_BYTES_MAX;
use crate::base::metrics::CoreMetrics;
use crate::base::time::{Nanos, Now};
use seal::NONCE_PREFIX_BYTES;

pub use awaited::{Factory, Inbox, Request};
pub use config::{Endpoint, EngineConfig, Eras};
pub use directory::SessionDirectory;
pub use out::{Effect, Frame, Lane, Lists, Out};

/// What the cores of one process share. Made once, before the first core starts, and never freed.
#[derive(Debug)]
pub struct Shared {
    node: NodeId,
    boot: [u8; NONCE_PREFIX_BYTES],
    metrics: Box<[CoreMetrics]>,
    sessions: SessionDirectory,
    is_ready: AtomicBool,
}

impl Shared {
    /// For `cores` cores of the process `node`, with room for `sessions_max` legacy sessions of each core. `boot` is random and drawn
    /// anew for every start of the process: seals depend on it.
    #[must_use]
    pub fn new(node: NodeId, cores: u16, sessions_max: usize, boot: [u8; NONCE_PREFIX_BYTES]) -> Self {
        let metrics = (0..cores).map(|_| CoreMetrics::default()).collect();
        let sessions = SessionDirectory::new(sessions_max.saturating_mul(usize::from(cores)));
        Self { node, boot, metrics, sessions, is_ready: AtomicBool::new(false) }
    }

    /// The counters of every core.
    #[must_use]
    pub fn metrics(&self) -> &[CoreMetrics] {
        &self.metrics
    }

    /// The process.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        self.node
    }

    /// Tells this run of the process from every other.
    #[must_use]
    pub const fn boot(&self) -> &[u8; NONCE_PREFIX_BYTES] {
        &self.boot
    }

    /// The legacy sessions of all cores.
    #[must_use]
    pub const fn sessions(&self) -> &SessionDirectory {
        &self.sessions
    }

    /// Says whether the process should be sent requests: what `/health/ready` answers.
    pub fn set_ready(&self, is_ready: bool) {
        self.is_ready.store(is_ready, Relaxed);
    }

    /// Whether the process should be sent requests.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.is_ready.load(Relaxed)
    }
}

/// What a listener is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// MCP.
    Public,
    /// Health and metrics.
    Admin,
}

/// One whole request of a connection that has no response pending.
#[derive(Debug)]
pub struct Inbound<'a> {
    /// The connection.
    pub conn: ConnId,
    /// Its other end.
    pub peer: IpAddr,
    /// The listener that accepted it.
    pub role: Role,
    /// The request.
    pub request: &'a Request<'a>,
    /// What the connection remembers from request to request. Moves with it.
    pub memo: &'a mut ConnMemo,
}

/// The last session id that came over a connection and what it stands for, so that a warm request opens no seal.
#[derive(Clone, Debug)]
pub struct ConnMemo {
    id: [u8; SESSION_ID_BYTES_MAX],
    id_bytes: u8,
    key: SessionKey,
}

impl Default for ConnMemo {
    fn default() -> Self {
        Self { id: [0; SESSION_ID_BYTES_MAX], id_bytes: 0, key: SessionKey { index: 0, generation: 0 } }
    }
}

const _: () = assert!(size_of::<ConnMemo>() <= 128, "every connection holds one");

/// What became of a request. What the engine appended to `reply` is sent in the first two cases, and is empty in the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The whole response is in `reply`.
    Answered {
        /// Close, lingering, once it is sent.
        close: bool,
    },
    /// The response, or the rest of it, comes through [`Out`]. Until [`Effect::End`] or [`Effect::Close`] the connection takes no request.
    Later,
    /// Keep the request and offer it again after [`Effect::Resume`].
    Park,
    /// Move the connection to that core and offer the same request again there.
    Move(CoreId),
}

/// One core's whole state. Not `Send`: it lives and dies on its core.
pub struct Engine {
    _core: CoreId,
}

impl Engine {
    /// An engine for one of `cores` cores. Every server is built anew by its factory.
    #[must_use]
    pub fn new(
        core: CoreId,
        cores: u16,
        config: &EngineConfig,
        servers: &[Arc<Factory>],
        shared: &'static Shared,
        inbox: Arc<Inbox>,
    ) -> Self {
        let _ = (cores, config, servers, shared, inbox);
        Self { _core: core }
    }

    /// Takes one whole request. The response is appended to `reply`, or comes later through `out`.
    pub fn on_request(&mut self, now: Now, inbound: Inbound<'_>, reply: &mut Vec<u8>, out: &mut Out) -> Verdict {
        let _ = (now, inbound, reply, out);
        Verdict::Answered { close: true }
    }

    /// The framing of the connection's input is broken: appends the whole answer, which says `Connection: close`.
    pub fn on_reject(&mut self, now: Now, kind: fault::Kind, reply: &mut Vec<u8>) {
        let _ = (now, kind, reply);
    }

    /// The peer will send no more, and a response is pending.
    pub fn on_half_close(&mut self, now: Now, conn: ConnId, out: &mut Out) {
        let _ = (now, conn, out);
    }

    /// The connection is no more, or nothing can be sent on it: reset, write error, slow reader cut, closed. Nothing is written to it again.
    pub fn on_gone(&mut self, now: Now, conn: ConnId, out: &mut Out) {
        let _ = (now, conn, out);
    }

    /// Takes a frame of another core.
    pub fn on_frame(&mut self, now: Now, from: CoreId, frame: Frame, out: &mut Out) {
        let _ = (now, from, frame, out);
    }

    /// Takes back a frame for which the lane had no room. It is counted, merged with its like and sent again on a later tick.
    pub fn on_unsent(&mut self, now: Now, to: CoreId, lane: Lane, frame: Frame) {
        let _ = (now, to, lane, frame);
    }

    /// Time passes: called at least every 100 ms and at [`Self::next_deadline`].
    pub fn on_tick(&mut self, now: Now, out: &mut Out) {
        let _ = (now, out);
    }

    /// Polls the tasks that are ready and takes what other threads left in the inbox. Called once per turn while [`Self::has_ready`].
    pub fn on_wake(&mut self, now: Now, out: &mut Out) {
        let _ = (now, out);
    }

    /// Whether [`Self::on_wake`] has something to do.
    #[must_use]
    pub fn has_ready(&self) -> bool {
        false
    }

    /// When [`Self::on_tick`] is due next. [`Nanos::NEVER`] when nothing waits for time.
    #[must_use]
    pub fn next_deadline(&self) -> Nanos {
        Nanos::NEVER
    }

    /// The process is to end: listens and other open-ended streams end gracefully, and every later answer says `Connection: close`.
    pub fn on_drain(&mut self, now: Now, out: &mut Out) {
        let _ = (now, out);
    }

    /// Whether nothing is in work: no call, no stream.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        true
    }
}
