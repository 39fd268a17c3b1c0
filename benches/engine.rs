//! What one request costs in the engine, alone: framed, viewed, dispatched, handled and answered, without a socket.
//!
//! `cargo bench --bench engine [-- ROUNDS [PART OF A NAME]]`; pin it (`taskset -c 0 …`) for figures to compare. Each figure is the median of its rounds,
//! with the fastest and the slowest beside it. Every answer is asserted.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringhub::base::ids::{ConnId, CoreId, NodeId};
use ringhub::base::time::{Nanos, Now};
use ringhub::engine::seal::{KeyPair, SealKeys};
use ringhub::engine::{ConnMemo, Effect, Endpoint, Engine, EngineConfig, Inbound, Out, Role, Shared, Verdict};
use ringhub::gateway::config::Options;
use ringhub::gateway::link::{Dial, LinkEvent};
use ringhub::gateway::{Dialect, Settings, Starts};
use ringhub::native::{Era, Factory, Inbox, builtin};
use ringhub::wire::http1::{Framer, HeaderSlots, HttpLimits, LastHead, Taken, take};

/// Requests timed in one round.
const REQUESTS: u32 = 20_000;
const ROUNDS_DEFAULT: usize = 31;
const LIMITS: HttpLimits = HttpLimits { head_bytes_max: 16 * 1024, body_bytes_max: 4 * 1024 * 1024 };

/// The fields that an official client sends with every POST.
const FIELDS: &str = "POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nAccept: application/json, text/event-stream\r\nContent-Type: application/json\r\nUser-Agent: bench\r\n";

fn main() {
    // The test runner passes flags of its own, such as --bench: only a number counts.
    let rounds = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(ROUNDS_DEFAULT).max(1);
    let only = std::env::args().skip(1).find(|argument| argument.parse::<usize>().is_err() && !argument.starts_with('-'));
    let mut driver = Driver::new(only);
    let calls = [
        (
            "tools/call echo, 2026-07-28",
            modern("tools/call", "Mcp-Name: echo\r\n", r#""name":"echo","arguments":{"message":"hello"},"#),
            "hello",
        ),
        ("tools/list, 2026-07-28", modern("tools/list", "", ""), "\"tools\""),
        ("server/discover, 2026-07-28", modern("server/discover", "", ""), "supportedVersions"),
    ];
    for (name, request, expected) in &calls {
        driver.time(rounds, name, request, expected);
    }
    let (session, answer) = driver.initialize();
    assert!(answer.contains("2025-11-25"), "{answer}");
    let call =
        legacy(&session, r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"echo","arguments":{"message":"hello"}}}"#);
    driver.time(rounds, "tools/call echo, 2025-11-25", &call, "hello");
    let ping = legacy(&session, r#"{"jsonrpc":"2.0","id":7,"method":"ping"}"#);
    driver.time(rounds, "ping, 2025-11-25", &ping, "\"result\":{}");
    let only = driver.only.take();
    for (name, version) in [("relayed echo, 2026-07-28", Era::Modern), ("relayed echo, 2026-07-28 to 2025-11-25", Era::Legacy)] {
        if only.as_ref().is_none_or(|part| name.contains(part)) {
            Relay::new(version).time(rounds, name, &calls[0].1);
        }
    }
}

fn post(fields: &str, body: &str) -> Vec<u8> {
    format!("{FIELDS}{fields}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn modern(method: &str, fields: &str, params: &str) -> Vec<u8> {
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":7,"method":"{method}","params":{{{params}"_meta":{{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{{"name":"bench","version":"1"}},"io.modelcontextprotocol/clientCapabilities":{{}}}}}}}}"#
    );
    post(&format!("MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: {method}\r\n{fields}"), &body)
}

fn legacy(session: &str, body: &str) -> Vec<u8> {
    post(&format!("MCP-Protocol-Version: 2025-11-25\r\nMcp-Session-Id: {session}\r\n"), body)
}

/// One connection to one engine.
struct Driver {
    engine: Engine,
    /// Part of the names of what is to be timed.
    only: Option<String>,
    memo: ConnMemo,
    framer: Framer,
    last_head: LastHead,
    reply: Vec<u8>,
    joined: Vec<u8>,
    out: Out,
    nanos: u64,
}

/// One connection to one engine that fronts a server, which is played here and costs next to nothing.
struct Relay {
    driver: Driver,
    era: Era,
    /// What the server answered last.
    answers: Vec<u8>,
}

impl Relay {
    fn new(era: Era) -> Self {
        let settings = Settings {
            name: "u".into(),
            url: "http://u.test/mcp".into(),
            dial: Arc::new(Dial::Tcp { host: "u.test".into(), port: 80, tls: false }),
            starts: Starts::new("/mcp", "u.test", &[]).expect("what can be sent"),
            dialect: Dialect::Auto,
            connect_timeout: Duration::from_secs(5),
            first_byte_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(30),
            total_timeout: Duration::from_secs(60),
            in_flight_max: 64,
            queued_max: 64,
            idle_links_max: 64,
            retries: true,
            options: Options::default(),
        };
        let config = EngineConfig {
            endpoints: vec![Endpoint { path: "/mcp".into(), servers: Box::default(), upstreams: ["u".into()].into() }],
            upstreams: [settings].into(),
            ..EngineConfig::new(SealKeys::new(KeyPair::single([1; 32])))
        };
        let mut relay = Self { driver: Driver::with(&config, &[], None), era, answers: Vec::new() };
        let now = Now { mono: Nanos(1), wall_ms: 1_800_000_000_000 };
        relay.driver.engine.on_tick(now, &mut relay.driver.out);
        relay.play();
        relay
    }

    /// Answers what the server was sent, until it is sent nothing more.
    fn play(&mut self) {
        let mut out = std::mem::take(&mut self.driver.out);
        let now = Now { mono: Nanos(self.driver.nanos), wall_ms: 1_800_000_000_000 };
        while let Some(at) = out.effects.iter().position(|effect| matches!(effect, Effect::Feed { .. })) {
            let Effect::Feed { link, range } = out.effects.swap_remove(at) else { return };
            answer(self.era, &out.bytes[range], &mut self.answers);
            self.driver.engine.on_link(now, link, LinkEvent::Drained, &mut out);
            self.driver.engine.on_link(now, link, LinkEvent::Bytes(&self.answers), &mut out);
        }
        self.driver.reply.clear();
        for effect in out.effects.drain(..) {
            if let Effect::Write { range, .. } = effect {
                self.driver.reply.extend_from_slice(&out.bytes[range]);
            }
        }
        out.clear();
        self.driver.out = out;
    }

    fn once(&mut self, request: &[u8]) {
        assert_eq!(self.driver.ask(request), Verdict::Later);
        self.play();
        assert!(memchr::memmem::find(&self.driver.reply, b"hello").is_some(), "{}", self.driver.reply.escape_ascii());
    }

    fn time(&mut self, rounds: usize, name: &str, request: &[u8]) {
        (0..100).for_each(|_| self.once(request));
        let mut figures: Vec<f64> = (0..rounds)
            .map(|_| {
                let start = Instant::now();
                (0..REQUESTS).for_each(|_| self.once(black_box(request)));
                start.elapsed().as_secs_f64() * 1e9 / f64::from(REQUESTS)
            })
            .collect();
        figures.sort_by(f64::total_cmp);
        let (median, last) = (figures[figures.len() / 2], figures[figures.len() - 1]);
        println!("{name:<44} {median:>8.1} ns  min {:>8.1}  max {last:>8.1}", figures[0]);
    }
}

/// Writes what a server of this era answers.
fn answer(era: Era, request: &[u8], into: &mut Vec<u8>) {
    let id_at = memchr::memmem::find(request, b"\"id\":").map(|at| at + 5);
    let id = id_at.map(|at| &request[at..at + request[at..].iter().position(|byte| *byte == b',').unwrap_or(0)]);
    let says = |word: &str| memchr::memmem::find(request, word.as_bytes()).is_some();
    let (result, is_error) = match () {
        () if says("\"tools/call\"") => (r#"{"content":[{"type":"text","text":"hello"}],"resultType":"complete"}"#, false),
        () if says("\"tools/list\"") => (r#"{"tools":[{"name":"echo","inputSchema":{"type":"object"}}],"resultType":"complete"}"#, false),
        () if says("\"server/discover\"") && era == Era::Modern => {
            (r#"{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"resultType":"complete"}"#, false)
        }
        () if says("\"initialize\"") => {
            (r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"u","version":"1"}}"#, false)
        }
        () => (r#"{"code":-32601,"message":"unknown"}"#, true),
    };
    let member: &[u8] = if is_error { br#","error":"# } else { br#","result":"# };
    let id = id.unwrap_or(b"0");
    let length = br#"{"jsonrpc":"2.0","id":"#.len() + id.len() + member.len() + result.len() + 1;
    into.clear();
    into.extend_from_slice(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: ");
    into.extend_from_slice(length.to_string().as_bytes());
    for piece in [b"\r\n\r\n", &br#"{"jsonrpc":"2.0","id":"#[..], id, member, result.as_bytes(), b"}"] {
        into.extend_from_slice(piece);
    }
}

impl Driver {
    fn new(only: Option<String>) -> Self {
        let config = EngineConfig::new(SealKeys::new(KeyPair::single([1; 32])));
        let servers: Vec<Arc<Factory>> = vec![Arc::new(builtin::server)];
        Self::with(&config, &servers, only)
    }

    fn with(config: &EngineConfig, servers: &[Arc<Factory>], only: Option<String>) -> Self {
        let shared: &'static Shared = Box::leak(Box::new(Shared::new(NodeId(0), 1, 1000, [2; 16])));
        let inbox = Arc::new(Inbox::new(Box::new(|| {})));
        let engine = Engine::new(CoreId(0), 1, config, servers, shared, inbox).expect("its servers can be built");
        let (reply, joined) = (Vec::with_capacity(64 * 1024), Vec::new());
        Self {
            engine,
            only,
            memo: ConnMemo::default(),
            framer: Framer::default(),
            last_head: LastHead::default(),
            reply,
            joined,
            out: Out::default(),
            nanos: 0,
        }
    }

    /// One request as the shell would hand it in.
    fn ask(&mut self, input: &[u8]) -> Verdict {
        let mut slots = HeaderSlots::new();
        let taken = take(&mut self.framer, 1, input, &LIMITS, &mut slots, &mut self.last_head, &mut self.joined);
        let Taken::Whole(request, _) = taken else { panic!("the request is whole") };
        let (conn, peer) = (ConnId { index: 0, generation: 0 }, IpAddr::V4(Ipv4Addr::LOCALHOST));
        let inbound = Inbound { conn, peer, role: Role::Public, request: &request, memo: &mut self.memo };
        self.nanos += 1;
        let now = Now { mono: Nanos(self.nanos), wall_ms: 1_800_000_000_000 };
        self.reply.clear();
        self.engine.on_request(now, inbound, &mut self.reply, &mut self.out)
    }

    fn time(&mut self, rounds: usize, name: &str, request: &[u8], expected: &str) {
        if self.only.as_ref().is_some_and(|part| !name.contains(part)) {
            return;
        }
        for _ in 0..100 {
            assert_eq!(self.ask(request), Verdict::Answered { close: false }, "{name}");
        }
        let answer = String::from_utf8_lossy(&self.reply);
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains(expected), "{name}: {answer}");
        let mut figures: Vec<f64> = (0..rounds)
            .map(|_| {
                let start = Instant::now();
                for _ in 0..REQUESTS {
                    black_box(self.ask(black_box(request)));
                }
                start.elapsed().as_secs_f64() * 1e9 / f64::from(REQUESTS)
            })
            .collect();
        figures.sort_by(f64::total_cmp);
        let (median, last) = (figures[figures.len() / 2], figures[figures.len() - 1]);
        println!("{name:<44} {median:>8.1} ns  min {:>8.1}  max {last:>8.1}", figures[0]);
    }

    /// Opens a session; gives its id and the answer.
    fn initialize(&mut self) -> (String, String) {
        let body = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}"#;
        self.ask(&post("", body));
        let answer = String::from_utf8_lossy(&self.reply).into_owned();
        let session = answer.lines().find_map(|line| line.strip_prefix("Mcp-Session-Id: ")).expect("a session id").to_owned();
        let initialized = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
        self.ask(&legacy(&session, initialized));
        assert!(self.reply.starts_with(b"HTTP/1.1 202"), "{}", self.reply.escape_ascii());
        (session, answer)
    }
}
