//! Floor 3: one core's whole state as a value. Requests, frames and time go in; bytes and effects come out.
//!
//! Nothing here does I/O, reads a clock or waits. The shell (or the simulator) hands in one moment per call and carries out what
//! [`Out`] says, in order.

pub mod admin;
mod admit;
mod batch;
mod bridge;
mod call;
mod calls;
mod changes;
pub mod config;
pub mod directory;
mod dispatch;
mod exchange;
mod gate;
mod handshake;
mod hop;
mod hosted;
mod ladder;
mod lap;
mod legacy;
mod legacy_method;
mod legacy_stream;
mod listen;
mod modern;
mod mrtr;
mod news;
pub mod out;
mod params;
mod park;
mod pending;
mod principal;
mod publish;
mod relay;
pub mod reload;
mod reply;
mod roster;
mod route;
pub mod seal;
mod server_request;
pub mod session;
pub mod session_id;
pub mod session_state;
pub mod stream_log;
mod tasks;
#[cfg(test)]
mod tests;
pub mod upstream;
mod view;
mod views;
mod watches;

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use crate::base::fault;
use crate::base::ids::{ConnId, CoreId, NodeId};
use crate::base::limits::{LOG_BYTES_PER_CORE_MAX, MEMORY_LOG_SHARE};
use crate::base::metrics::{CoreMetrics, Counter};
use crate::base::time::{Nanos, Now};
use crate::gateway::Gateway;
use crate::guard::Guard;
use crate::native::host::{Effect as Wish, Host};
use crate::native::inbox::Event;
use crate::native::{BuildError, Factory, Inbox};
use crate::wire::http1::{DateCache, Request};
use crate::wire::json::Decoder;
use crate::wire::jsonrpc::LastRequest;
use admin::Admin;
use calls::Calls;
use changes::Changes;
use exchange::{Exchanges, Owner};
use gate::Gate;
use hop::Hops;
use hosted::Hosted;
use lap::Laps;
use legacy::Legacy;
use listen::Listens;
use publish::Publications;
use reload::Reload;
use reply::{Date, Terms};
use roster::Rosters;
use route::Routes;
use seal::{NONCE_PREFIX_BYTES, Sealer};
use tasks::Tasks;
use view::Signature;
use watches::Watches;

pub use config::{Endpoint, EngineConfig, Eras, Separator};
pub use directory::SessionDirectory;
pub use hosted::registered_name;
pub use out::{Effect, Frame, Lane, Lists, Out};
pub use session_id::ConnMemo;

/// What the cores of one process share. Made once, before the first core starts, and never freed.
#[derive(Debug)]
pub struct Shared {
    node: NodeId,
    boot: [u8; NONCE_PREFIX_BYTES],
    metrics: Box<[CoreMetrics]>,
    sessions: SessionDirectory,
    is_ready: AtomicBool,
    /// Upstreams without which the process is not ready, and that were not seen yet.
    upstreams_missing: AtomicUsize,
    change_listeners: AtomicUsize,
    /// Messages that the cores may have in work.
    pending: AtomicUsize,
}

impl Shared {
    /// For `cores` cores of the process `node`, with room for `sessions_max` legacy sessions of each core. `boot` is random and drawn
    /// anew for every start of the process: seals depend on it.
    #[must_use]
    pub fn new(node: NodeId, cores: u16, sessions_max: usize, boot: [u8; NONCE_PREFIX_BYTES]) -> Self {
        let metrics = (0..cores).map(|_| CoreMetrics::default()).collect();
        let sessions = SessionDirectory::new(sessions_max.saturating_mul(usize::from(cores)));
        Self {
            node,
            boot,
            metrics,
            sessions,
            is_ready: AtomicBool::new(false),
            upstreams_missing: AtomicUsize::new(0),
            change_listeners: AtomicUsize::new(0),
            pending: AtomicUsize::new(0),
        }
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

    /// Says how many listen to the changes of the registry at the admin port.
    pub(super) fn set_change_listeners(&self, listeners: usize) {
        self.change_listeners.store(listeners, Relaxed);
    }

    /// How many do.
    fn change_listeners(&self) -> usize {
        self.change_listeners.load(Relaxed)
    }

    /// Says whether the process should be sent requests: what `/health/ready` answers.
    pub fn set_ready(&self, is_ready: bool) {
        self.is_ready.store(is_ready, Relaxed);
    }

    /// Whether the process should be sent requests.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.is_ready.load(Relaxed) && self.upstreams_missing.load(Relaxed) == 0
    }

    /// The process is not ready before one more upstream was seen.
    fn upstream_required(&self) {
        self.upstreams_missing.fetch_add(1, Relaxed);
    }

    /// One of those was seen.
    fn upstream_seen(&self) {
        self.upstreams_missing.fetch_sub(1, Relaxed);
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

/// Buffers that are reused from request to request.
#[derive(Default)]
struct Scratch {
    /// A message before its length is known.
    body: Vec<u8>,
    /// A message that goes out before the one that is being made.
    message: Vec<u8>,
    /// The members of a result.
    members: Vec<u8>,
    decoder: Decoder,
    wishes: Vec<Wish>,
    events: Vec<Event>,
    woken: Vec<u32>,
}

/// One core's whole state. Not `Send`: it lives and dies on its core.
pub struct Engine {
    core: CoreId,
    config: EngineConfig,
    shared: &'static Shared,
    metrics: &'static CoreMetrics,
    gate: Gate,
    guard: Guard,
    routes: Routes,
    admin: Admin,
    hosted: Vec<Hosted>,
    /// What stands in the results of endpoints that are not one server.
    signature: Signature,
    host: Rc<Host>,
    gateway: Gateway,
    publications: Publications,
    rosters: Rosters,
    reload: Reload,
    hops: Hops,
    tasks: Tasks,
    calls: Calls,
    exchanges: Exchanges,
    listens: Listens,
    changes: Changes,
    watches: Watches,
    legacy: Legacy,
    sealer: Sealer,
    date: DateCache,
    scratch: Scratch,
    /// The request that came last.
    last_request: LastRequest,
    laps: Laps,
    is_draining: bool,
    /// The next request has waited too long.
    is_late: bool,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("core", &self.core).field("calls", &self.calls.len()).finish_non_exhaustive()
    }
}

impl Engine {
    /// An engine for one of `cores` cores. Every server is built anew by its factory, in this core's thread.
    ///
    /// # Errors
    /// What is wrong with a server.
    pub fn new(
        core: CoreId,
        cores: u16,
        config: &EngineConfig,
        servers: &[Arc<Factory>],
        shared: &'static Shared,
        inbox: Arc<Inbox>,
    ) -> Result<Self, BuildError> {
        let mut nonce_prefix = *shared.boot();
        // Every core seals with the same keys: its number keeps its nonces apart from the others'.
        nonce_prefix.iter_mut().zip(core.0.to_le_bytes()).for_each(|(byte, own)| *byte ^= own);
        let host = Host::new(Arc::clone(&inbox), Now { mono: Nanos(0), wall_ms: 0 });
        let mut hosted = Vec::with_capacity(servers.len());
        for (number, factory) in (0..).zip(servers) {
            let server = factory()?;
            server.attach(&host, number);
            hosted.push(Hosted::new(server));
        }
        let metrics = &shared.metrics()[core.index()];
        let mut routes = Routes::new(core, cores, shared.node(), config, &hosted);
        let roster = Arc::new(roster::first(core, config, &hosted));
        let mut gateway = Gateway::new(&roster, u64::from_le_bytes(*nonce_prefix.first_chunk().expect("sixteen bytes")), metrics);
        let mut publications = Publications::new();
        for member in roster.members().iter().filter(|member| routes.registry().is_at_home(&member.settings.name)) {
            gateway.watch(Nanos(0), member.number);
            let is_required = member.settings.options.is_required;
            publications.begin(&member.settings.name, member.number, is_required);
            if is_required {
                shared.upstream_required();
            }
        }
        let mut legacy = Legacy::new(core, config, shared);
        if let Some(bytes) = config.memory_max {
            let share = bytes / (MEMORY_LOG_SHARE * usize::from(cores).max(1));
            legacy.sessions.log().set_bytes_max(share.min(LOG_BYTES_PER_CORE_MAX));
        }
        Ok(Self {
            core,
            config: config.clone(),
            shared,
            metrics,
            gate: Gate::new(config),
            guard: Guard::new(core, cores, config.guard),
            routes,
            admin: Admin::new(config),
            hosted,
            signature: Signature::of_node(),
            host,
            gateway,
            publications,
            rosters: Rosters::new(roster, cores),
            reload: Reload::new(config),
            hops: Hops::default(),
            tasks: Tasks::new(inbox),
            calls: Calls::default(),
            exchanges: Exchanges::default(),
            listens: Listens::default(),
            changes: Changes::new(core, cores),
            watches: Watches::new(cores),
            legacy,
            sealer: Sealer::new(&config.seal_keys, nonce_prefix),
            date: DateCache::default(),
            scratch: Scratch::default(),
            last_request: LastRequest::default(),
            laps: Laps::new(config),
            is_draining: false,
            is_late: false,
        })
    }

    /// Takes one whole request. The response is appended to `reply`, or comes later through `out`.
    pub fn on_request(&mut self, now: Now, inbound: Inbound<'_>, reply: &mut Vec<u8>, out: &mut Out) -> Verdict {
        self.metrics.count(Counter::Requests);
        self.turn(now, out, |engine, out| match inbound.role {
            Role::Public => engine.on_public(now, inbound, reply, out),
            Role::Admin => engine.on_admin(now, &inbound, reply, out),
        })
    }

    /// The framing of the connection's input is broken: appends the whole answer, which says `Connection: close`.
    pub fn on_reject(&mut self, now: Now, role: Role, kind: fault::Kind, reply: &mut Vec<u8>) {
        let terms = Terms { minor: 1, close: true, is_head: false, json: true, sse: false, origin: None };
        match role {
            Role::Public => {
                self.refuse_kind(now, &terms, kind, reply);
            }
            Role::Admin => self.admin_reject(now, kind, &terms, reply),
        }
    }

    /// The peer will send no more, and a response is pending. It may be gone altogether: what can become a stream becomes one, so that a
    /// peer that is gone shows itself by a reset. Any other response stays pending until it is there or its deadline passes.
    pub fn on_half_close(&mut self, now: Now, conn: ConnId, out: &mut Out) {
        let Some(exchange) = self.exchanges.get(conn) else { return };
        if let Owner::Legacy(carried) = exchange.owner {
            return self.turn(now, out, |engine, out| legacy::on_half_close(engine, now, conn, carried, out));
        }
        let date = self.date_at(now);
        if self.exchanges.commit(conn, &date, &[], now.mono, out) {
            self.exchanges.part(conn, now.mono, out, crate::wire::sse::comment);
        }
    }

    /// The connection is no more, or nothing can be sent on it: reset, write error, slow reader cut, closed. Nothing is written to it again.
    /// In the modern era that calls off what it asked for; in the legacy era it does not.
    pub fn on_gone(&mut self, now: Now, conn: ConnId, out: &mut Out) {
        self.routes.forget(conn);
        if self.on_admin_gone(conn) {
            return;
        }
        let Some(exchange) = self.exchanges.remove(conn) else { return };
        self.turn(now, out, |engine, out| match exchange.owner {
            Owner::Call(call) => engine.call_off(now, call, out),
            Owner::Listen => {
                engine.listens.remove(conn, &mut engine.watches);
                engine.count_listens();
            }
            Owner::Legacy(carried) => {
                // What goes on without a client is not held up by one.
                if exchange.is_choked {
                    engine.choke_relays(exchange.owner, false);
                }
                legacy::on_gone(engine, now, conn, carried, out);
            }
        });
    }

    /// Takes a frame of another core.
    pub fn on_frame(&mut self, now: Now, from: CoreId, frame: Frame, out: &mut Out) {
        debug_assert_ne!(from, self.core, "a core does not write to itself");
        match frame {
            Frame::Registry(frame) => self.turn(now, out, |engine, out| engine.on_registry_frame(now, from, frame, out)),
            Frame::Admin(frame) => self.turn(now, out, |engine, out| engine.on_admin_frame(now, from, *frame, out)),
            Frame::Relay(frame) => self.turn(now, out, |engine, out| engine.on_hop(now, from, *frame, out)),
            Frame::Guard(frame) => self.turn(now, out, |engine, _| engine.on_guard_frame(now, from, frame)),
            Frame::Roster(frame) => self.turn(now, out, |engine, out| engine.on_roster(now, from, *frame, out)),
            frame => self.turn(now, out, |engine, _| engine.changes.hear(frame)),
        }
    }

    /// Takes back a frame for which the lane had no room; the shell counts it. What it said is said later, or whoever waits for it is
    /// turned away.
    pub fn on_unsent(&mut self, to: CoreId, _lane: Lane, frame: Frame) {
        match frame {
            Frame::Registry(frame) => self.routes.on_unsent(to, frame),
            Frame::Admin(frame) => self.on_admin_unsent(to, frame),
            Frame::Relay(frame) => self.on_hop_unsent(to, frame),
            Frame::Guard(frame) => self.guard.on_unsent(self.host.now().mono, to, frame),
            Frame::Roster(frame) => self.on_roster_unsent(to, &frame),
            frame => self.changes.owe(to, frame),
        }
    }

    /// Time passes: called at least every 100 ms and at [`Self::next_deadline`].
    pub fn on_tick(&mut self, now: Now, out: &mut Out) {
        self.turn(now, out, |engine, out| {
            engine.host.fire_timers(now.mono);
            engine.expire_calls(now, out);
            engine.exchanges.comment(now.mono, engine.config.keepalive_comment, out);
            engine.changes.resend(out);
            engine.tell_roster(out);
            engine.gateway.on_tick(now.mono);
            engine.forget_upstreams();
            engine.publish_again(now, out);
            engine.tick_reload(now, out);
            if engine.hops.is_owing() {
                engine.resend_hops(now, out);
            }
            engine.tick_registry(now, out);
            engine.on_admin_tick(now, out);
            engine.evict_views();
            engine.tick_guard(now);
            legacy::on_tick(engine, now, out);
        });
    }

    /// Polls the tasks that are ready and takes what other threads left in the inbox. Called once per turn while [`Self::has_ready`].
    pub fn on_wake(&mut self, now: Now, out: &mut Out) {
        self.turn(now, out, |engine, out| {
            engine.take_events(now, out);
            engine.go_on_with_views(now, out);
            let mut woken = std::mem::take(&mut engine.scratch.woken);
            engine.tasks.take_ready(&mut woken);
            for index in woken.drain(..) {
                engine.poll_slot(now, index, out);
            }
            engine.scratch.woken = woken;
        });
    }

    /// What other threads told this core.
    fn take_events(&mut self, now: Now, out: &mut Out) {
        let mut events = std::mem::take(&mut self.scratch.events);
        self.host.inbox().drain(&mut events);
        for event in events.drain(..) {
            match event {
                Event::Finished { call, finished } => self.finished(now, call, finished, out),
                Event::Wake { task } => self.tasks.woken(task),
                Event::Notify { call, method, params } => self.carry_out_one(now, Wish::Notify { call, method, params }, out),
                Event::Changed { server, list } => self.changes.changed(server, list.into()),
                Event::Updated { server, uri } => self.changes.updated(server, &uri),
                Event::Persisted { ticket, stored } => self.on_persisted(now, ticket, stored, out),
                Event::Reload => self.reload(None, out),
                Event::Reread => self.on_reread(now, out),
            }
        }
        self.scratch.events = events;
    }

    /// Whether [`Self::on_wake`] has something to do.
    #[must_use]
    pub fn has_ready(&self) -> bool {
        self.tasks.has_ready() || self.routes.has_unfinished() || !self.host.inbox().is_empty()
    }

    /// When [`Self::on_tick`] is due next. [`Nanos::NEVER`] when nothing waits for time.
    #[must_use]
    pub fn next_deadline(&self) -> Nanos {
        let due = [
            self.host.next_timer(),
            self.calls.next_due(),
            self.exchanges.next_comment(),
            self.changes.next_due(self.routes.has_told() || self.watches.has_updated(), self.routes.has_changes()),
            self.routes.next_due(),
            self.legacy.next_due(),
            self.admin.next_due(self.config.keepalive_comment),
            self.gateway.next_due(),
            self.publications.next_due(),
            self.guard.next_due(),
            self.reload.next_due(),
        ];
        due.into_iter().min().unwrap_or(Nanos::NEVER)
    }

    /// The process is to end: listens and other open-ended streams end gracefully, and every later answer says `Connection: close`.
    pub fn on_drain(&mut self, now: Now, out: &mut Out) {
        self.is_draining = true;
        self.turn(now, out, |engine, out| {
            engine.end_listens(now, None, out);
            engine.on_admin_drain(out);
            legacy::on_drain(engine, now, out);
            // Whoever would come back to these would find another process.
            for call in engine.calls.of(call::Caller::Parked) {
                engine.call_off(now, call, out);
            }
            engine.gateway.on_drain(now.mono);
        });
    }

    /// Whether nothing is in work: no call, no stream, and at the end of the process no session of an upstream that is still to be ended.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.calls.is_empty() && self.exchanges.is_empty() && self.admin.is_idle() && (!self.is_draining || self.gateway.is_settled())
    }

    /// One entry into the engine: handlers see this moment, wakes stay on the thread, and what changed is told at the end.
    fn turn<R>(&mut self, now: Now, out: &mut Out, run: impl FnOnce(&mut Self, &mut Out) -> R) -> R {
        self.host.set_now(now);
        self.laps.enter(now.mono);
        let running = self.tasks.run();
        let result = run(self, out);
        self.carry_out(now, out);
        if self.gateway.has_output() {
            self.carry_out_gateway(now, out);
        }
        if self.guard.has_output() {
            self.carry_out_guard(out);
        }
        self.settle_watches(now, out);
        self.tell_changes(now, out);
        drop(running);
        self.tasks.collect();
        result
    }

    fn date_at(&mut self, now: Now) -> Date {
        *self.date.at(now.wall_ms)
    }
}
