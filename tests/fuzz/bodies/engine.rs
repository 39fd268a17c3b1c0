// The engine under any order of events: requests whole and in pieces, clients that leave, time, frames, drains.
//
// Whatever happens: nothing panics; a connection gets one whole answer for each request it was let in with, in order, or is closed;
// nothing is written to who waits for nothing; and when all clients have had their time, nothing is left in work.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use ringhub::base::ids::{ConnId, CoreId, NodeId};
use ringhub::base::time::{Nanos, Now};
use ringhub::engine::seal::{KeyPair, SealKeys};
use ringhub::engine::{ConnMemo, Effect, Engine, EngineConfig, Frame, Inbound, Lane, Out, Role, Shared, Verdict};
use ringhub::native::{BlockingContext, Context, Empty, Factory, Inbox, Resource, Server};
use ringhub::wire::http1::{Frame as HttpFrame, Framed, Framer, HeaderSlots, HttpLimits, Method, view};

const CORES: usize = 2;
const CONNS_MAX: usize = 24;
const EVENTS_MAX: usize = 400;
const ROUNDS_MAX: usize = 20_000;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
const SESSION_IDLE: Duration = Duration::from_secs(4);
const LIMITS: HttpLimits = HttpLimits { head_bytes_max: 4096, body_bytes_max: 16 * 1024 };

const ENVELOPE: &str = r#""_meta":{"progressToken":1,"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"sampling":{},"roots":{}},"io.modelcontextprotocol/logLevel":"debug"}"#;
const MODERN: &str = "MCP-Protocol-Version: 2026-07-28\r\n";
const SESSION: &str = "Mcp-Session-Id: {SESSION}\r\nMCP-Protocol-Version: 2025-11-25\r\n";

/// Verb, header lines, body. `{TOOL}`, `{SESSION}`, `{STATE}`, `{EVENT}`, `{ASKED}` and `{META}` are filled in.
const REQUESTS: &[(&str, &str, &str)] = &[
    (
        "POST",
        "Mcp-Method: tools/call\r\nMcp-Name: {TOOL}\r\n{MODERN}",
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"{TOOL}","arguments":{},{META}}}"#,
    ),
    (
        "POST",
        "Mcp-Method: tools/call\r\nMcp-Name: {TOOL}\r\nAccept: application/json\r\n{MODERN}",
        r#"{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"name":"{TOOL}","arguments":{},{META}}}"#,
    ),
    (
        "POST",
        "Mcp-Method: tools/call\r\nMcp-Name: {TOOL}\r\n{MODERN}",
        r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"{TOOL}","arguments":{},"inputResponses":{"roots":{"roots":[]}},"requestState":"{STATE}",{META}}}"#,
    ),
    ("POST", "Mcp-Method: server/discover\r\n{MODERN}", r#"{"jsonrpc":"2.0","id":3,"method":"server/discover","params":{{META}}}"#),
    ("POST", "Mcp-Method: tools/list\r\n{MODERN}", r#"{"jsonrpc":"2.0","id":4,"method":"tools/list","params":{{META}}}"#),
    (
        "POST",
        "Mcp-Method: resources/read\r\nMcp-Name: t:x\r\n{MODERN}",
        r#"{"jsonrpc":"2.0","id":5,"method":"resources/read","params":{"uri":"t:x",{META}}}"#,
    ),
    (
        "POST",
        "Mcp-Method: subscriptions/listen\r\n{MODERN}",
        r#"{"jsonrpc":"2.0","id":"L","method":"subscriptions/listen","params":{"notifications":{"toolsListChanged":true,"resourceSubscriptions":["t:x"]},{META}}}"#,
    ),
    (
        "POST",
        "",
        r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{"sampling":{},"roots":{}},"clientInfo":{"name":"f","version":"1"}}}"#,
    ),
    (
        "POST",
        "",
        r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-03-26","capabilities":{},"clientInfo":{"name":"f","version":"1"}}}"#,
    ),
    ("POST", "{SESSION_LINES}", r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#),
    (
        "POST",
        "{SESSION_LINES}",
        r#"{"jsonrpc":"2.0","id":6,"method":"tools/call","params":{"name":"{TOOL}","arguments":{},"_meta":{"progressToken":"p"}}}"#,
    ),
    ("POST", "{SESSION_LINES}", r#"{"jsonrpc":"2.0","id":"s7","method":"tools/call","params":{"name":"{TOOL}"}}"#),
    ("POST", "{SESSION_LINES}", r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":6}}"#),
    ("POST", "{SESSION_LINES}", r#"{"jsonrpc":"2.0","id":{ASKED},"result":{"roots":[]}}"#),
    ("POST", "{SESSION_LINES}", r#"{"jsonrpc":"2.0","id":8,"method":"ping"}"#),
    ("POST", "{SESSION_LINES}", r#"{"jsonrpc":"2.0","id":9,"method":"resources/subscribe","params":{"uri":"t:x"}}"#),
    (
        "POST",
        "Mcp-Session-Id: {SESSION}\r\n",
        r#"[{"jsonrpc":"2.0","id":10,"method":"ping"},{"jsonrpc":"2.0","id":11,"method":"tools/call","params":{"name":"{TOOL}"}}]"#,
    ),
    ("GET", "{SESSION_LINES}", ""),
    ("GET", "{SESSION_LINES}Last-Event-ID: {EVENT}\r\n", ""),
    ("DELETE", "{SESSION_LINES}", ""),
    ("OPTIONS", "Origin: http://localhost\r\n", ""),
    ("HEAD", "", ""),
];

thread_local! {
    /// Outlives every engine, as in a process; so one serves all inputs, and what an input leaves in it is found.
    static SHARED: &'static Shared = Box::leak(Box::new(Shared::new(NodeId(0), CORES as u16, 16, [9; 16])));
}

const TOOLS: [&str; 8] = ["now", "wait", "steps", "ask", "block", "change", "update", "none"];

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut world = World::new();
    let mut bytes = Bytes(data);
    for _ in 0..EVENTS_MAX {
        let Some(event) = bytes.next() else { break };
        world.event(event, &mut bytes);
    }
    world.end();
}

/// The input, read from its start.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn next(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::from(self.next().unwrap_or(0)) % limit.max(1)
    }

    fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

fn server() -> Server {
    Server::builder("fuzz", "1")
        .tool("now", |_: Empty, cx: &Context| {
            cx.progress(1.0, None, None);
            "now"
        })
        .tool_async("wait", |_: Empty, cx: Context| async move {
            cx.sleep(Duration::from_millis(700)).await;
            "waited"
        })
        .tool_async("steps", |_: Empty, cx: Context| async move {
            for step in 1..4 {
                cx.progress(f64::from(step), None, None);
                cx.sleep(Duration::from_millis(90)).await;
                if step == 2 {
                    cx.close_stream(Duration::from_millis(10));
                }
            }
            "stepped"
        })
        .tool_async("ask", |_: Empty, cx: Context| async move {
            let roots = cx.roots("roots").await?;
            cx.sleep(Duration::from_millis(5)).await;
            Ok::<_, ringhub::native::ToolError>(format!("{} {}", roots.len(), cx.roots("again").await?.len()))
        })
        .tool_blocking("block", |_: Empty, cx: &BlockingContext| {
            cx.progress(1.0, None, None);
            "blocked"
        })
        .tool("change", |_: Empty, cx: &Context| {
            cx.notify().tools_changed();
            "changed"
        })
        .tool("update", |_: Empty, cx: &Context| {
            cx.notify().resource_updated("t:x");
            "updated"
        })
        .resource(Resource::new("t:x", "x"), |_: &Context| "x")
        .build()
        .expect("a server")
}

/// One connection as a shell keeps it.
struct Conn {
    core: usize,
    framer: Framer,
    input: Vec<u8>,
    output: Vec<u8>,
    memo: ConnMemo,
    /// A response is pending; whether it has no body (HEAD) and chunks (HTTP/1.1).
    pending: Option<(bool, u8)>,
    parked: Option<(Vec<u8>, HttpFrame)>,
    is_open: bool,
}

struct World {
    engines: Vec<Engine>,
    conns: Vec<Conn>,
    frames: VecDeque<(usize, CoreId, Frame)>,
    blocking: Vec<Box<dyn FnOnce() + Send>>,
    now: Now,
    lane_is_full: bool,
    /// What the server gave away and a client may bring back.
    sessions: Vec<String>,
    states: Vec<String>,
    events: Vec<String>,
    asked: Vec<String>,
}

impl World {
    fn new() -> Self {
        let mut config = EngineConfig::new(SealKeys::new(KeyPair::single([1; 32])));
        config.request_timeout = REQUEST_TIMEOUT;
        config.request_state_ttl = Duration::from_secs(3);
        config.keepalive_comment = Duration::from_secs(1);
        config.session_idle_timeout = SESSION_IDLE;
        let shared = SHARED.with(|shared| *shared);
        config.sessions_max = 16;
        let servers: Vec<Arc<Factory>> = vec![Arc::new(|| Ok(server()))];
        let engine = |core: usize| {
            let inbox = Arc::new(Inbox::new(Box::new(|| {})));
            Engine::new(CoreId(core as u16), CORES as u16, &config, &servers, shared, inbox).expect("a server")
        };
        Self {
            engines: (0..CORES).map(engine).collect(),
            conns: Vec::new(),
            frames: VecDeque::new(),
            blocking: Vec::new(),
            now: Now { mono: Nanos(1), wall_ms: 1_800_000_000_000 },
            lane_is_full: false,
            sessions: Vec::new(),
            states: Vec::new(),
            events: Vec::new(),
            asked: Vec::new(),
        }
    }

    fn event(&mut self, event: u8, bytes: &mut Bytes<'_>) {
        match event % 16 {
            0 | 1 => self.connect(bytes.below(CORES)),
            2..=6 => {
                let request = self.request(bytes);
                let conn = self.any(bytes);
                self.send(conn, &request);
            }
            7 => {
                // In pieces, or broken off, or with a byte changed.
                let mut request = self.request(bytes);
                let (cut, change) = (bytes.below(256) * request.len() / 256, bytes.below(256));
                let conn = self.any(bytes);
                if change < 32
                    && let Some(byte) = request.get_mut(cut)
                {
                    *byte = byte.wrapping_add(change as u8);
                }
                self.send(conn, &request[..cut]);
                if change < 200 {
                    self.send(conn, &request[cut..]);
                }
            }
            8 => {
                let len = bytes.below(64);
                let raw = bytes.take(len);
                let conn = self.any(bytes);
                self.send(conn, raw);
            }
            9 => {
                let conn = self.any(bytes);
                self.gone(conn);
            }
            10 => {
                let conn = self.any(bytes);
                if self.conns.get(conn).is_some_and(|at| at.is_open && at.pending.is_some()) {
                    let core = self.conns[conn].core;
                    self.with(core, |engine, now, out| engine.on_half_close(now, id(conn), out));
                }
            }
            11 | 12 => self.pass(Duration::from_millis(10 * bytes.below(200) as u64)),
            13 => std::mem::take(&mut self.blocking).into_iter().for_each(|work| work()),
            14 => self.lane_is_full = bytes.below(2) == 1,
            _ if bytes.below(8) == 0 => {
                let core = bytes.below(CORES);
                self.with(core, |engine, now, out| engine.on_drain(now, out));
            }
            _ => {}
        }
        if event & 0x80 == 0 {
            self.settle();
        }
    }

    fn connect(&mut self, core: usize) {
        if self.conns.len() < CONNS_MAX {
            let memo = ConnMemo::default();
            let (framer, input, output) = (Framer::default(), Vec::new(), Vec::new());
            self.conns.push(Conn { core, framer, input, output, memo, pending: None, parked: None, is_open: true });
        }
    }

    fn any(&mut self, bytes: &mut Bytes<'_>) -> usize {
        if self.conns.is_empty() {
            self.connect(0);
        }
        bytes.below(self.conns.len())
    }

    fn request(&self, bytes: &mut Bytes<'_>) -> Vec<u8> {
        let (verb, fields, body) = REQUESTS[bytes.below(REQUESTS.len())];
        let tool = TOOLS[bytes.below(TOOLS.len())];
        let mut pick = |list: &[String]| if list.is_empty() { "0".to_owned() } else { list[bytes.below(list.len())].clone() };
        let filled = |text: &str, pick: &mut dyn FnMut(&[String]) -> String| {
            let text =
                text.replace("{MODERN}", MODERN).replace("{META}", ENVELOPE).replace("{SESSION_LINES}", SESSION).replace("{TOOL}", tool);
            let lists = [("{SESSION}", &self.sessions), ("{STATE}", &self.states), ("{EVENT}", &self.events), ("{ASKED}", &self.asked)];
            lists.iter().fold(text, |text, (mark, list)| if text.contains(mark) { text.replace(mark, &pick(list)) } else { text })
        };
        let (fields, body) = (filled(fields, &mut pick), filled(body, &mut pick));
        let accept = if fields.contains("Accept:") { "" } else { "Accept: application/json, text/event-stream\r\n" };
        let minor = u8::from(bytes.below(16) != 15);
        let len = body.len();
        format!("{verb} /mcp HTTP/1.{minor}\r\nHost: localhost\r\n{accept}Content-Type: application/json\r\nContent-Length: {len}\r\n{fields}\r\n{body}")
            .into_bytes()
    }

    fn send(&mut self, conn: usize, bytes: &[u8]) {
        if self.conns[conn].is_open {
            self.conns[conn].input.extend_from_slice(bytes);
            self.serve(conn);
        }
    }

    fn gone(&mut self, conn: usize) {
        if self.conns[conn].is_open {
            self.conns[conn].is_open = false;
            let core = self.conns[conn].core;
            self.with(core, |engine, now, out| engine.on_gone(now, id(conn), out));
        }
    }

    fn with(&mut self, core: usize, run: impl FnOnce(&mut Engine, Now, &mut Out)) {
        let mut out = Out::default();
        run(&mut self.engines[core], self.now, &mut out);
        self.carry_out(core, out);
    }

    fn carry_out(&mut self, core: usize, mut out: Out) {
        let (mut free, mut resumed) = (Vec::new(), Vec::new());
        for effect in out.effects.drain(..) {
            match effect {
                Effect::Write { conn, range } => {
                    let at = &mut self.conns[conn.index as usize];
                    assert!(at.is_open && at.pending.is_some() && at.core == core, "written to who waits for nothing");
                    at.output.extend_from_slice(&out.bytes[range]);
                }
                Effect::End { conn, close } => {
                    self.answered(conn.index as usize, close);
                    free.push(conn.index as usize);
                }
                Effect::Resume { conn } => resumed.push(conn.index as usize),
                Effect::Close { conn } => {
                    self.conns[conn.index as usize].is_open = false;
                    self.conns[conn.index as usize].pending = None;
                }
                Effect::Send { to, lane, frame } if self.lane_is_full => {
                    assert_ne!(to.index(), core, "a core does not write to itself");
                    self.engines[core].on_unsent(to, lane, frame);
                }
                Effect::Send { to, lane, frame } => {
                    if lane == Lane::Reply {
                        self.frames.push_front((core, to, frame))
                    } else {
                        self.frames.push_back((core, to, frame))
                    }
                }
                Effect::Blocking(work) => self.blocking.push(work),
                Effect::Persist { .. } => panic!("nothing here is durable"),
                Effect::Link(_) => {
                    panic!("there is no upstream here")
                }
            }
        }
        for conn in resumed {
            if self.conns[conn].is_open
                && let Some((input, frame)) = self.conns[conn].parked.take()
            {
                self.offer(conn, &input, &frame);
                free.push(conn);
            }
        }
        free.into_iter().for_each(|conn| self.serve(conn));
    }

    /// Takes whole requests while no response is pending.
    fn serve(&mut self, conn: usize) {
        loop {
            let at = &mut self.conns[conn];
            if at.pending.is_some() || !at.is_open || at.input.is_empty() {
                return;
            }
            let frame = match at.framer.next(&at.input, &LIMITS) {
                Framed::More { .. } => return,
                Framed::Whole(frame) => frame,
                Framed::Reject(kind) => {
                    self.engines[at.core].on_reject(self.now, Role::Public, kind, &mut at.output);
                    at.pending = Some((false, 1));
                    return self.answered(conn, true);
                }
            };
            let input: Vec<u8> = at.input.drain(..frame.consumed).collect();
            self.offer(conn, &input, &frame);
        }
    }

    fn offer(&mut self, conn: usize, input: &[u8], frame: &HttpFrame) {
        for _ in 0..3 {
            let at = &mut self.conns[conn];
            let core = at.core;
            let (mut slots, mut joined, mut out, mut reply) = (HeaderSlots::new(), Vec::new(), Out::default(), Vec::new());
            let request = view(input, frame, &mut slots, &mut joined).expect("what is framed can be viewed");
            at.pending = Some((request.method == Method::Head, request.minor));
            let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
            let inbound = Inbound { conn: id(conn), peer, role: Role::Public, request: &request, memo: &mut at.memo };
            let verdict = self.engines[core].on_request(self.now, inbound, &mut reply, &mut out);
            self.conns[conn].output.extend_from_slice(&reply);
            match verdict {
                Verdict::Answered { close } => {
                    self.answered(conn, close);
                    return self.carry_out(core, out);
                }
                Verdict::Later => return self.carry_out(core, out),
                Verdict::Park => {
                    assert!(reply.is_empty(), "parked and answered");
                    self.conns[conn].parked = Some((input.to_vec(), *frame));
                    return self.carry_out(core, out);
                }
                Verdict::Move(to) => {
                    assert!(reply.is_empty() && to.index() != core, "moved for nothing");
                    self.conns[conn].core = to.index();
                    self.carry_out(core, out);
                }
            }
        }
        panic!("moved to and fro");
    }

    /// The pending response is over: it must be one whole answer.
    fn answered(&mut self, conn: usize, close: bool) {
        let at = &mut self.conns[conn];
        let (is_head, minor) = at.pending.take().expect("ended what is not pending");
        let output = std::mem::take(&mut at.output);
        at.is_open &= !close;
        check(&output, is_head, minor, close);
        let text = String::from_utf8(output).expect("UTF-8");
        note(&mut self.sessions, &text, "Mcp-Session-Id: ", '\r');
        note(&mut self.states, &text, "\"requestState\":\"", '"');
        note(&mut self.events, &text, "\nid: ", '\n');
    }

    fn settle(&mut self) {
        for _ in 0..ROUNDS_MAX {
            if let Some((from, to, frame)) = self.frames.pop_front() {
                self.with(to.index(), |engine, now, out| engine.on_frame(now, CoreId(from as u16), frame, out));
                continue;
            }
            let Some(core) = self.engines.iter().position(Engine::has_ready) else { return };
            self.with(core, |engine, now, out| engine.on_wake(now, out));
        }
        panic!("it does not come to rest");
    }

    fn pass(&mut self, duration: Duration) {
        let end = self.now.mono.after(duration);
        while self.now.mono < end {
            let step = self.now.mono.after(Duration::from_millis(100)).min(end);
            self.now.wall_ms += step.since(self.now.mono).as_millis() as u64;
            self.now.mono = step;
            for core in 0..CORES {
                self.with(core, |engine, now, out| engine.on_tick(now, out));
            }
            self.settle();
            for conn in 0..self.conns.len() {
                self.listen_in(conn);
            }
        }
    }

    /// What streams said so far that a client may bring back.
    fn listen_in(&mut self, conn: usize) {
        let text = String::from_utf8_lossy(&self.conns[conn].output).into_owned();
        note(&mut self.events, &text, "\nid: ", '\n');
        for piece in text.split("data: ").filter(|piece| piece.contains("\"roots/list\"")) {
            if let Some(id) = piece.split("\"id\":").nth(1).and_then(|rest| rest.split([',', '}']).next()) {
                self.asked.push(id.to_owned());
            }
        }
        self.asked.truncate(64);
    }

    /// Everybody has had their time: nothing may be left.
    fn end(&mut self) {
        self.lane_is_full = false;
        self.settle();
        self.pass(Duration::from_secs(1));
        std::mem::take(&mut self.blocking).into_iter().for_each(|work| work());
        self.settle();
        self.pass(Duration::from_secs(4));
        for core in 0..CORES {
            self.with(core, |engine, now, out| engine.on_drain(now, out));
        }
        self.settle();
        // What stands behind one another on a connection has its time one after the other.
        for _ in 0..EVENTS_MAX {
            let is_owed = self.conns.iter().any(|conn| conn.is_open && conn.pending.is_some());
            if !is_owed && self.blocking.is_empty() && self.engines.iter().all(Engine::is_idle) {
                break;
            }
            self.pass(REQUEST_TIMEOUT);
            std::mem::take(&mut self.blocking).into_iter().for_each(|work| work());
            self.settle();
        }
        // Nobody uses a session any more. That one is idle may be found a step late, and twice: once when it is still busy.
        self.pass(2 * SESSION_IDLE + Duration::from_secs(1));
        for (number, conn) in self.conns.iter().enumerate() {
            assert!(!conn.is_open || conn.pending.is_none(), "conn {number} still waits: {}", conn.output.escape_ascii());
        }
        for engine in &self.engines {
            assert!(engine.is_idle(), "something is left in work");
        }
        SHARED.with(|shared| assert!(shared.sessions().is_empty(), "a session that nobody uses lives on"));
    }
}

fn id(conn: usize) -> ConnId {
    ConnId { index: conn as u32, generation: 1 }
}

fn note(list: &mut Vec<String>, text: &str, mark: &str, end: char) {
    for found in text.split(mark).skip(1).filter_map(|rest| rest.split(end).next()) {
        if list.len() < 64 && !list.iter().any(|known| known == found) {
            list.push(found.to_owned());
        }
    }
}

/// One whole response and nothing after it.
fn check(output: &[u8], is_head: bool, minor: u8, close: bool) {
    let text = || output.escape_ascii().to_string();
    let end = output.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or_else(|| panic!("no whole head: {}", text())) + 4;
    let head = std::str::from_utf8(&output[..end]).expect("a head is text");
    assert!(head.starts_with("HTTP/1.1 "), "{head}");
    let says_close = head.contains("\r\nConnection: close\r\n");
    // A stream may have begun before it was known that the connection ends with it.
    assert!(says_close == close || (close && head.contains("event-stream")), "what is said and done about the connection: {head}");
    let body = &output[end..];
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).map(|len| len.parse::<usize>().expect("a length"));
    match length {
        _ if is_head => assert!(body.is_empty(), "a body for HEAD: {}", text()),
        Some(length) => assert_eq!(body.len(), length, "{}", text()),
        None if head.contains("\r\nTransfer-Encoding: chunked\r\n") => {
            assert_eq!(minor, 1, "chunks for an old client");
            check_chunks(body);
        }
        None if head.starts_with("HTTP/1.1 204") || head.starts_with("HTTP/1.1 202") => assert!(body.is_empty(), "{}", text()),
        None => assert!(close, "a body that nothing ends: {}", text()),
    }
}

fn check_chunks(mut body: &[u8]) {
    loop {
        let line = body.windows(2).position(|two| two == b"\r\n").expect("a chunk's size");
        let size = std::str::from_utf8(&body[..line]).ok().and_then(|size| usize::from_str_radix(size, 16).ok()).expect("a size");
        body = &body[line + 2..];
        assert!(body.len() >= size + 2 && &body[size..size + 2] == b"\r\n", "a chunk is cut");
        body = &body[size + 2..];
        if size == 0 {
            return assert!(body.is_empty(), "bytes after the end: {}", body.escape_ascii());
        }
    }
}
