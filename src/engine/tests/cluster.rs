//! A cluster of engines in one thread, under virtual time: raw HTTP goes in, raw HTTP comes out. The shell's duties towards an engine
//! are done here in the plainest way.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::{ConnId, CoreId, LinkId, NodeId};
use crate::base::stored::Stored;
use crate::base::time::{Nanos, Now};
use crate::engine::seal::{KeyPair, SealKeys};
use crate::engine::{ConnMemo, Effect, Engine, EngineConfig, Frame, Inbound, Out, Role, Shared, Verdict};
use crate::gateway::link::{self, LinkEvent};
use crate::native::{Factory, Inbox, Server};
use crate::registry::Change;
use crate::wire::http1::{Frame as Frame1, Framed, Framer, HeaderSlots, HttpLimits, view};

/// Rounds in which a cluster must come to rest.
const ROUNDS_MAX: usize = 10_000;

/// One connection as the shell would keep it.
struct Conn {
    core: usize,
    role: Role,
    framer: Framer,
    input: Vec<u8>,
    output: Vec<u8>,
    memo: ConnMemo,
    /// No further request is taken.
    is_pending: bool,
    is_open: bool,
    /// A request that is to be offered again.
    parked: Option<(Vec<u8>, Frame1)>,
}

/// A link that an engine asked for.
#[derive(Debug, Default)]
pub struct TestLink {
    /// What it was fed and was not taken yet.
    pub fed: Vec<u8>,
    pub is_hung: bool,
    pub is_throttled: bool,
}

/// Engines joined by queues.
pub struct Cluster {
    pub engines: Vec<Engine>,
    pub shared: &'static Shared,
    pub now: Now,
    conns: Vec<Conn>,
    frames: VecDeque<(CoreId, CoreId, Frame)>,
    /// Work for the blocking pool, run when the test says so.
    pub blocking: Vec<Box<dyn FnOnce() + Send>>,
    /// Changes that wait for the durable store: core and ticket.
    persisting: VecDeque<(usize, u64)>,
    /// Frames that a lane holds; further ones are given back.
    pub lane_frames_max: usize,
    /// Frames that engines wanted sent so far.
    pub frames_sent: usize,
    /// Links by core and id.
    pub links: BTreeMap<(usize, LinkId), TestLink>,
}

pub fn config() -> EngineConfig {
    EngineConfig::new(SealKeys::new(KeyPair::single([3; 32])))
}

impl Cluster {
    pub fn new(cores: u16, config: &EngineConfig, server: impl Fn() -> Server + Send + Sync + 'static) -> Self {
        Self::with_servers(cores, config, &[Arc::new(move || Ok(server()))])
    }

    pub fn with_servers(cores: u16, config: &EngineConfig, servers: &[Arc<Factory>]) -> Self {
        let shared: &'static Shared = Box::leak(Box::new(Shared::new(NodeId(0), cores, 1000, [7; 16])));
        let engine = |core| {
            Engine::new(CoreId(core), cores, config, servers, shared, Arc::new(Inbox::new(Box::new(|| {}))))
                .expect("servers that can be built")
        };
        Self {
            engines: (0..cores).map(engine).collect(),
            shared,
            now: Now { mono: Nanos(1), wall_ms: 1_800_000_000_000 },
            conns: Vec::new(),
            frames: VecDeque::new(),
            blocking: Vec::new(),
            persisting: VecDeque::new(),
            lane_frames_max: usize::MAX,
            frames_sent: 0,
            links: BTreeMap::new(),
        }
    }

    /// A change of the registry is asked for on this core, and everything that follows is done.
    pub fn change(&mut self, core: usize, change: Change) {
        self.begin_change(core, change);
        self.settle();
    }

    /// The same without what follows.
    pub fn begin_change(&mut self, core: usize, change: Change) {
        self.with(core, |engine, now, out| engine.change(now, change, out));
    }

    /// A new connection to this core.
    pub fn connect(&mut self, core: usize) -> ConnId {
        self.connect_as(core, Role::Public)
    }

    pub fn connect_as(&mut self, core: usize, role: Role) -> ConnId {
        let memo = ConnMemo::default();
        let (input, output) = (Vec::new(), Vec::new());
        self.conns.push(Conn {
            core,
            role,
            framer: Framer::default(),
            input,
            output,
            memo,
            is_pending: false,
            is_open: true,
            parked: None,
        });
        ConnId { index: self.conns.len() as u32 - 1, generation: 1 }
    }

    /// The peer sends these bytes.
    pub fn send(&mut self, conn: ConnId, bytes: &[u8]) {
        self.conns[conn.index as usize].input.extend_from_slice(bytes);
        self.serve(conn);
        self.settle();
    }

    /// The same without what follows.
    pub fn begin_send(&mut self, conn: ConnId, bytes: &[u8]) {
        self.conns[conn.index as usize].input.extend_from_slice(bytes);
        self.serve(conn);
    }

    /// Delivers the first frame on its way that is wanted, whatever was sent before it. Whether there was one.
    pub fn deliver(&mut self, is_wanted: impl Fn(&Frame) -> bool) -> bool {
        let found = self.frames.iter().position(|(_, _, frame)| is_wanted(frame));
        let Some((from, to, frame)) = found.and_then(|at| self.frames.remove(at)) else { return false };
        self.with(to.index(), |engine, now, out| engine.on_frame(now, from, frame, out));
        true
    }

    /// Puts this frame in the place of all that are on their way.
    pub fn replace_frames(&mut self, from: usize, to: usize, frame: Frame) {
        self.frames.clear();
        self.frames.push_back((CoreId(from as u16), CoreId(to as u16), frame));
    }

    /// Sends a request and takes what came back so far.
    pub fn exchange(&mut self, conn: ConnId, request: &[u8]) -> Response {
        self.send(conn, request);
        self.take(conn)
    }

    /// What came back and was not taken yet.
    pub fn take(&mut self, conn: ConnId) -> Response {
        Response::parse(std::mem::take(&mut self.conns[conn.index as usize].output))
    }

    /// The same, as text.
    pub fn take_raw(&mut self, conn: ConnId) -> String {
        String::from_utf8(std::mem::take(&mut self.conns[conn.index as usize].output)).expect("UTF-8")
    }

    pub fn is_pending(&self, conn: ConnId) -> bool {
        self.conns[conn.index as usize].is_pending
    }

    pub fn is_open(&self, conn: ConnId) -> bool {
        self.conns[conn.index as usize].is_open
    }

    pub fn core_of(&self, conn: ConnId) -> usize {
        self.conns[conn.index as usize].core
    }

    /// The peer vanishes.
    pub fn gone(&mut self, conn: ConnId) {
        let core = self.core_of(conn);
        self.conns[conn.index as usize].is_open = false;
        self.with(core, |engine, now, out| engine.on_gone(now, conn, out));
        self.settle();
    }

    /// The peer sends FIN.
    pub fn half_close(&mut self, conn: ConnId) {
        let core = self.core_of(conn);
        self.with(core, |engine, now, out| engine.on_half_close(now, conn, out));
        self.settle();
    }

    /// Lets time pass in ticks of at most 100 ms, and every deadline at its moment.
    pub fn pass(&mut self, duration: Duration) {
        let end = self.now.mono.after(duration);
        for _ in 0..ROUNDS_MAX {
            let due = self.engines.iter().map(Engine::next_deadline).min().unwrap_or(Nanos::NEVER);
            let step = due.max(Nanos(self.now.mono.0 + 1)).min(self.now.mono.after(Duration::from_millis(100))).min(end);
            self.now.wall_ms += (step.0 / 1_000_000) - (self.now.mono.0 / 1_000_000);
            self.now.mono = step;
            for core in 0..self.engines.len() {
                self.with(core, |engine, now, out| engine.on_tick(now, out));
            }
            self.settle();
            if step == end {
                return;
            }
        }
        panic!("time does not pass");
    }

    pub fn drain(&mut self) {
        for core in 0..self.engines.len() {
            self.with(core, |engine, now, out| engine.on_drain(now, out));
        }
        self.settle();
    }

    /// Runs what waits for the blocking pool.
    pub fn run_blocking(&mut self) {
        std::mem::take(&mut self.blocking).into_iter().for_each(|work| work());
        self.settle();
    }

    /// The durable store answers about the change that it was given first.
    pub fn persisted(&mut self, stored: Stored) {
        let (core, ticket) = self.persisting.pop_front().expect("it was given one");
        self.engines[core].host.inbox().persisted(ticket, stored);
        self.settle();
    }

    /// Runs everything that is ready until nothing is.
    pub fn settle(&mut self) {
        for _ in 0..ROUNDS_MAX {
            if let Some((from, to, frame)) = self.frames.pop_front() {
                self.with(to.index(), |engine, now, out| engine.on_frame(now, from, frame, out));
                continue;
            }
            let Some(core) = self.engines.iter().position(Engine::has_ready) else { return };
            self.with(core, |engine, now, out| engine.on_wake(now, out));
        }
        panic!("the cluster does not come to rest");
    }

    /// One turn of what is ready on this core.
    pub fn wake(&mut self, core: usize) {
        if self.engines[core].has_ready() {
            self.with(core, |engine, now, out| engine.on_wake(now, out));
        }
    }

    fn with(&mut self, core: usize, run: impl FnOnce(&mut Engine, Now, &mut Out)) {
        let mut out = Out::default();
        run(&mut self.engines[core], self.now, &mut out);
        self.carry_out(core, out);
    }

    fn link(&mut self, core: usize, link: LinkId) -> &mut TestLink {
        let link = self.links.get_mut(&(core, link)).expect("a link that was asked for");
        assert!(!link.is_hung, "a link that was hung up is left alone");
        link
    }

    /// Something happens to a link.
    pub fn on_link(&mut self, core: usize, link: LinkId, event: LinkEvent<'_>) {
        self.with(core, |engine, now, out| engine.on_link(now, link, event, out));
        self.settle();
    }

    /// A client reads slowly, or has caught up.
    pub fn choke(&mut self, conn: ConnId, is_choked: bool) {
        let core = self.core_of(conn);
        self.with(core, |engine, now, out| engine.on_choked(now, conn, is_choked, out));
    }

    fn carry_out(&mut self, core: usize, mut out: Out) {
        let (mut served, mut resumed) = (Vec::new(), Vec::new());
        for effect in out.effects.drain(..) {
            match effect {
                Effect::Write { conn, range } => {
                    let at = &mut self.conns[conn.index as usize];
                    assert!(at.is_open, "written to a connection that is gone");
                    assert!(at.is_pending, "written to a connection that waits for nothing");
                    at.output.extend_from_slice(&out.bytes[range]);
                }
                Effect::End { conn, close } => {
                    let at = &mut self.conns[conn.index as usize];
                    assert!(at.is_pending, "ended what is not pending");
                    at.is_pending = false;
                    at.is_open &= !close;
                    served.push(conn);
                }
                Effect::Resume { conn } => resumed.push(conn),
                Effect::Close { conn } => self.conns[conn.index as usize].is_open = false,
                Effect::Send { to, lane, frame } => {
                    self.frames_sent += 1;
                    if self.frames.len() < self.lane_frames_max {
                        self.frames.push_back((CoreId(core as u16), to, frame));
                    } else {
                        self.engines[core].on_unsent(to, lane, frame);
                    }
                }
                Effect::Blocking(work) => self.blocking.push(work),
                Effect::Persist { ticket, .. } => self.persisting.push_back((core, ticket)),
                Effect::Link(link::Effect::Dial { link, .. }) => {
                    let before = self.links.insert((core, link), TestLink::default());
                    assert!(before.is_none(), "a link's name is its own");
                }
                Effect::Link(link::Effect::Feed { link, range }) => self.link(core, link).fed.extend_from_slice(&out.bytes[range]),
                Effect::Link(link::Effect::Throttle { link, is_paused }) => self.link(core, link).is_throttled = is_paused,
                Effect::Link(link::Effect::Hang { link }) => self.link(core, link).is_hung = true,
            }
        }
        for conn in resumed {
            let (input, frame) = self.conns[conn.index as usize].parked.take().expect("a parked request");
            while !self.offer(conn, &input, &frame) {}
            served.push(conn);
        }
        served.into_iter().for_each(|conn| self.serve(conn));
    }

    /// Takes whole requests from the connection's input while it may have any.
    fn serve(&mut self, conn: ConnId) {
        let limits = HttpLimits { head_bytes_max: 16 * 1024, body_bytes_max: 1024 * 1024 };
        loop {
            let at = &mut self.conns[conn.index as usize];
            if at.is_pending || !at.is_open || at.input.is_empty() {
                return;
            }
            let frame = match at.framer.next(&at.input, &limits) {
                Framed::More { .. } => return,
                Framed::Whole(frame) => frame,
                Framed::Reject(kind) => {
                    self.engines[at.core].on_reject(self.now, at.role, kind, &mut at.output);
                    at.is_open = false;
                    return;
                }
            };
            let input: Vec<u8> = at.input.drain(..frame.consumed).collect();
            while !self.offer(conn, &input, &frame) {}
        }
    }

    /// Offers one request to the connection's core; false when it has moved and is to be offered again.
    fn offer(&mut self, conn: ConnId, input: &[u8], frame: &Frame1) -> bool {
        let at = &mut self.conns[conn.index as usize];
        let core = at.core;
        let (mut slots, mut joined, mut out) = (HeaderSlots::new(), Vec::new(), Out::default());
        let request = view(input, frame, &mut slots, &mut joined).expect("framed requests can be viewed");
        let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
        at.is_pending = true;
        let inbound = Inbound { conn, peer, role: at.role, request: &request, memo: &mut at.memo };
        let mut reply = Vec::new();
        let verdict = self.engines[core].on_request(self.now, inbound, &mut reply, &mut out);
        at.output.extend_from_slice(&reply);
        match verdict {
            Verdict::Answered { close } => {
                at.is_pending = false;
                at.is_open &= !close;
                assert!(!reply.is_empty(), "answered with nothing");
            }
            Verdict::Later => {}
            Verdict::Park => {
                assert!(reply.is_empty(), "parked and answered");
                at.parked = Some((input.to_vec(), *frame));
            }
            Verdict::Move(to) => {
                assert!(reply.is_empty(), "moved and answered");
                assert_ne!(core, to.index(), "moved to where it is");
                at.core = to.index();
                at.is_pending = false;
            }
        }
        self.carry_out(core, out);
        !matches!(verdict, Verdict::Move(_))
    }
}

/// What came back on a connection: heads taken apart, bodies joined.
#[derive(Debug, Default)]
pub struct Response {
    pub status: u16,
    pub head: String,
    pub body: String,
    /// Bytes after the first response.
    pub rest: Vec<u8>,
    /// The body is not complete.
    pub is_open: bool,
}

impl Response {
    /// Reads the first response of these bytes.
    pub fn parse(bytes: Vec<u8>) -> Self {
        if !bytes.starts_with(b"HTTP/1.1 ") {
            return Self { is_open: true, ..Self::default() }.chunked(&bytes);
        }
        let end = memchr::memmem::find(&bytes, b"\r\n\r\n").unwrap_or_else(|| panic!("half a head: {}", bytes.escape_ascii()));
        let head = String::from_utf8(bytes[..end + 2].to_vec()).expect("ASCII");
        let status = head[9..12].parse().expect("a status");
        let response = Self { status, head, ..Self::default() };
        let rest = &bytes[end + 4..];
        if response.field("transfer-encoding").as_deref() == Some("chunked") {
            return response.chunked(rest);
        }
        let len = response.field("content-length").map_or(0, |len| len.parse().expect("a length"));
        let is_without = response.status == 204;
        let len = if is_without { 0 } else { len };
        assert!(rest.len() >= len, "the body is cut: {}", rest.escape_ascii());
        let body = String::from_utf8(rest[..len].to_vec()).expect("UTF-8");
        Self { body, rest: rest[len..].to_vec(), ..response }
    }

    fn chunked(mut self, mut rest: &[u8]) -> Self {
        self.is_open = true;
        let mut body = Vec::new();
        while let Some(at) = memchr::memmem::find(rest, b"\r\n") {
            let size = usize::from_str_radix(std::str::from_utf8(&rest[..at]).expect("hex"), 16).expect("a chunk size");
            body.extend_from_slice(&rest[at + 2..at + 2 + size]);
            rest = &rest[at + 2 + size + 2..];
            if size == 0 {
                self.is_open = false;
                break;
            }
        }
        self.rest = rest.to_vec();
        self.body = String::from_utf8(body).expect("UTF-8");
        self
    }

    pub fn field(&self, name: &str) -> Option<String> {
        let line = self.head.lines().skip(1).find(|line| line.split(':').next().is_some_and(|field| field.eq_ignore_ascii_case(name)))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {} {:?}", self.head, self.body))
    }

    /// The messages of a stream.
    pub fn events(&self) -> Vec<serde_json::Value> {
        let data = |block: &str| block.lines().filter_map(|line| line.strip_prefix("data: ")).collect::<String>();
        self.body.split("\n\n").map(data).filter(|data| !data.is_empty()).map(|data| serde_json::from_str(&data).expect("JSON")).collect()
    }

    /// The code of a JSON-RPC error.
    pub fn code(&self) -> i64 {
        self.json()["error"]["code"].as_i64().unwrap_or_else(|| panic!("no error: {}", self.body))
    }
}

/// A request of the modern era, with its three mirrors. `name` goes into `Mcp-Name`; `params` are the members besides `_meta`.
pub fn modern(method: &str, name: Option<&str>, params: &str) -> Vec<u8> {
    modern_with(method, name, params, "", "{}", "")
}

/// The same with more members of `_meta` (each with a comma before it), client capabilities and header lines.
pub fn modern_with(method: &str, name: Option<&str>, params: &str, meta: &str, capabilities: &str, headers: &str) -> Vec<u8> {
    let comma = if params.is_empty() { "" } else { "," };
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{{params}{comma}"_meta":{{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{capabilities}{meta}}}}}}}"#
    );
    let name = name.map(|name| format!("Mcp-Name: {name}\r\n")).unwrap_or_default();
    post(&format!("MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: {method}\r\n{name}{headers}"), &body)
}

/// A POST to `/mcp` that accepts both media types, unless the header lines say otherwise.
pub fn post(headers: &str, body: &str) -> Vec<u8> {
    let accept = if headers.contains("Accept:") { "" } else { "Accept: application/json, text/event-stream\r\n" };
    let content_type = if headers.contains("Content-Type:") { "" } else { "Content-Type: application/json\r\n" };
    let host = if headers.contains("Host:") { "" } else { "Host: localhost\r\n" };
    let len = body.len();
    format!("POST /mcp HTTP/1.1\r\n{host}{accept}{content_type}Content-Length: {len}\r\n{headers}\r\n{body}").into_bytes()
}
