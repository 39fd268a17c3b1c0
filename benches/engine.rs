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
use ringhub::engine::{ConnMemo, Effect, Engine, EngineConfig, Inbound, Out, Role, Shared, Verdict};
use ringhub::gateway::config::Options;
use ringhub::gateway::link::{self, Dial, LinkEvent};
use ringhub::gateway::{Dialect, Settings, Starts};
use ringhub::guard;
use ringhub::native::{Era, Factory, Inbox, builtin};
use ringhub::registry::{Catalog, Endpoint, Item, Record, Server, ServerId, ServerSpec, Source, State};
use ringhub::wire::http1::{Framer, HeaderSlots, HttpLimits, LastHead, Taken, take};

/// Requests timed in one round.
const REQUESTS: u32 = 20_000;
const ROUNDS_DEFAULT: usize = 31;
/// Servers that are registered besides those that are bound.
const MANY_SERVERS: usize = 100_000;
/// Endpoints whose first list is timed.
const FIRST_LISTS: usize = 1000;
const LIMITS: HttpLimits = HttpLimits { head_bytes_max: 16 * 1024, body_bytes_max: 4 * 1024 * 1024 };

/// The fields that an official client sends with every POST.
const FIELDS: &str = "POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nAccept: application/json, text/event-stream\r\nContent-Type: application/json\r\nUser-Agent: bench\r\n";

fn main() {
    // The test runner passes flags of its own, such as --bench: only a number counts.
    let rounds = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(ROUNDS_DEFAULT).max(1);
    let only = std::env::args().skip(1).find(|argument| argument.parse::<usize>().is_err() && !argument.starts_with('-'));
    let mut driver = Driver::new(only.clone(), &[]);
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
    guarded(rounds, only.as_deref(), &calls[0].1);
    lists_of_ten(rounds, only.as_deref());
    largest_view(only.as_deref());
    for (name, version) in [("relayed echo, 2026-07-28", Era::Modern), ("relayed echo, 2026-07-28 to 2025-11-25", Era::Legacy)] {
        if only.as_ref().is_none_or(|part| name.contains(part)) {
            Relay::new(version).time(rounds, name, &calls[0].1);
        }
    }
}

/// A call that every tier of the guard lets pass, and one that each of them refuses, beside one that nobody looks at.
fn guarded(rounds: usize, only: Option<&str>, request: &[u8]) {
    let rates =
        |connection: u32, node: u32| guard::Config { connection_rate: Some(connection), node_rate: Some(node), ..guard::Config::default() };
    let rows = [
        ("echo, nothing limited", guard::Config::default(), "200"),
        ("echo, within all limits", rates(100_000_000, 100_000_000), "200"),
        ("echo, refused by tier 2", rates(1, 100_000_000), "429"),
        ("echo, refused by tier 3", rates(100_000_000, 1), "503"),
    ];
    let chosen: Vec<_> = rows.iter().filter(|(name, ..)| only.is_none_or(|part| name.contains(part))).collect();
    let mut drivers: Vec<_> = chosen
        .iter()
        .map(|(name, guard, status)| {
            let config = EngineConfig { guard: *guard, ..EngineConfig::new(SealKeys::new(KeyPair::single([1; 32]))) };
            let servers: Vec<Arc<Factory>> = vec![Arc::new(builtin::server)];
            let mut driver = Driver::with(&config, &servers, None);
            (0..100).for_each(|_| _ = driver.ask(request));
            while driver.engine.next_deadline().0 <= driver.nanos {
                driver.engine.on_tick(now(driver.nanos), &mut driver.out);
                driver.out.clear();
            }
            assert_eq!(driver.ask(request), Verdict::Answered { close: false }, "{name}");
            let answer = String::from_utf8_lossy(&driver.reply);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{name}: {answer}");
            (driver, Vec::new())
        })
        .collect();
    // In turn, so that they can be compared.
    for _ in 0..rounds {
        drivers.iter_mut().for_each(|(driver, figures)| figures.push(driver.round(request)));
    }
    for ((name, ..), (_, figures)) in chosen.into_iter().zip(drivers) {
        print(name, figures);
    }
}

/// `tools/list` of an endpoint bound to ten servers, of ten that are registered and of a hundred thousand, in turn: as clients ask again and
/// again, and as the first one asks of an endpoint.
fn lists_of_ten(rounds: usize, only: Option<&str>) {
    let name = "tools/list of 10 servers";
    if only.is_some_and(|part| !name.contains(part)) {
        return;
    }
    let mut drivers = [10, MANY_SERVERS].map(|servers| {
        let names: Vec<String> = (0..10).map(|n| format!("s{}", n * servers / 10)).collect();
        let all = (0..servers).map(|n| server(&format!("s{n}"), n as u64, 5, 200));
        let endpoints = (0..FIRST_LISTS).map(|n| endpoint(&format!("/mcp/e{n}"), 1_000_000 + n as u64, &names));
        (servers, Driver::new(None, &all.chain(endpoints).collect::<Vec<_>>()), Vec::new(), Vec::new())
    });
    let list = |path: usize| {
        let text = String::from_utf8(modern("tools/list", "", "")).expect("UTF-8");
        text.replacen("/mcp", &format!("/mcp/e{path}"), 1).into_bytes()
    };
    let expected = "s0.tool4";
    for path in 0..FIRST_LISTS {
        let request = list(path);
        for (_, driver, first, _) in &mut drivers {
            first.push(driver.once(&request, expected));
        }
    }
    let request = list(0);
    for _ in 0..rounds {
        for (_, driver, _, again) in &mut drivers {
            again.push(driver.round(&request));
        }
    }
    for (what, figures) in
        [("", drivers.each_ref().map(|driver| driver.3.clone())), ("the first ", drivers.each_ref().map(|driver| driver.2.clone()))]
    {
        let mut medians = [0.0; 2];
        for ((median, figures), (servers, ..)) in medians.iter_mut().zip(figures).zip(&drivers) {
            *median = print(&format!("{what}{name}, {servers} registered"), figures);
        }
        println!("{:<56} {:>8.3}", format!("{what}{name}, ratio"), medians[1] / medians[0]);
    }
}

/// The turns that the largest views take which an endpoint may have: the longest one counts.
fn largest_view(only: Option<&str>) {
    let name = "turns of a view of 15 MiB";
    if only.is_some_and(|part| !name.contains(part)) {
        return;
    }
    let names = ["s0", "s1"].map(str::to_owned);
    for (name, tools, bytes) in [(name, 37, 100_000), ("turns of a view of 16,000 tools", 8000, 200)] {
        let kept = [server("s0", 1, tools, bytes), server("s1", 2, tools, bytes), endpoint("/mcp/large", 3, &names)];
        let mut driver = Driver::new(None, &kept);
        let request = String::from_utf8(modern("tools/list", "", "")).expect("UTF-8").replacen("/mcp", "/mcp/large", 1).into_bytes();
        let start = Instant::now();
        assert_eq!(driver.ask(&request), Verdict::Park);
        let mut figures = vec![start.elapsed().as_secs_f64() * 1e9];
        while driver.engine.has_ready() {
            let start = Instant::now();
            driver.engine.on_wake(now(driver.nanos), &mut driver.out);
            figures.push(start.elapsed().as_secs_f64() * 1e9);
        }
        assert_eq!(driver.ask(&request), Verdict::Answered { close: false });
        print(name, figures);
    }
}

/// A server that is not connected, with so many tools of so many bytes.
fn server(name: &str, number: u64, tools: usize, tool_bytes: usize) -> Record {
    let tool = |n: usize| {
        let name = format!("tool{n}");
        let json = format!(r#"{{"name":"{name}","description":"{}","inputSchema":{{"type":"object"}}}}"#, "x".repeat(tool_bytes));
        Item { name: name.into(), json: json.into_bytes().into() }
    };
    let spec = ServerSpec {
        name: name.into(),
        title: "".into(),
        description: "".into(),
        software_version: "1".into(),
        source: Source::Upstream("https://server.example/mcp".into()),
        state: State::Offline,
        front: None,
        fronted: None,
        is_configured: false,
        catalog: Catalog { tools: (0..tools).map(tool).collect(), ..Catalog::default() },
    };
    Record::Server(Arc::new(Server { id: id(number), version: 1, created_ms: 0, updated_ms: 0, spec }))
}

fn endpoint(path: &str, number: u64, servers: &[String]) -> Record {
    let servers = servers.iter().map(|name| name.as_str().into()).collect();
    let (path, id) = (path.into(), id(number));
    Record::Endpoint(Arc::new(Endpoint { path, id, version: 1, servers, created_ms: 0, updated_ms: 0, is_configured: true }))
}

const fn id(number: u64) -> ServerId {
    ServerId { node: NodeId(0), number: number << 8 }
}

const fn now(nanos: u64) -> Now {
    Now { mono: Nanos(nanos), wall_ms: 1_800_000_000_000 }
}

/// Prints a row; gives its median.
fn print(name: &str, mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    let (median, last) = (figures[figures.len() / 2], figures[figures.len() - 1]);
    println!("{name:<56} {median:>8.1} ns  min {:>8.1}  max {last:>8.1}", figures[0]);
    median
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
            endpoints: vec![ringhub::engine::Endpoint { path: "/mcp".into(), servers: Box::default(), upstreams: ["u".into()].into() }],
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
        while let Some(at) = out.effects.iter().position(|effect| matches!(effect, Effect::Link(link::Effect::Feed { .. }))) {
            let Effect::Link(link::Effect::Feed { link, range }) = out.effects.swap_remove(at) else { return };
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
    into.extend_from_slice(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n");
    if says("\"initialize\"") {
        into.extend_from_slice(b"Mcp-Session-Id: s\r\n");
    }
    into.extend_from_slice(b"Content-Length: ");
    into.extend_from_slice(length.to_string().as_bytes());
    for piece in [b"\r\n\r\n", &br#"{"jsonrpc":"2.0","id":"#[..], id, member, result.as_bytes(), b"}"] {
        into.extend_from_slice(piece);
    }
}

impl Driver {
    /// With these entries besides the built-in server.
    fn new(only: Option<String>, kept: &[Record]) -> Self {
        let config = EngineConfig { kept: kept.into(), ..EngineConfig::new(SealKeys::new(KeyPair::single([1; 32]))) };
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
        let now = now(self.nanos);
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
        print(name, (0..rounds).map(|_| self.round(request)).collect());
    }

    /// Nanoseconds that one of many requests takes.
    fn round(&mut self, request: &[u8]) -> f64 {
        let start = Instant::now();
        for _ in 0..REQUESTS {
            black_box(self.ask(black_box(request)));
        }
        start.elapsed().as_secs_f64() * 1e9 / f64::from(REQUESTS)
    }

    /// Nanoseconds that this one takes, which may take several turns.
    fn once(&mut self, request: &[u8], expected: &str) -> f64 {
        let start = Instant::now();
        while self.ask(request) == Verdict::Park {
            while self.engine.has_ready() {
                self.engine.on_wake(now(self.nanos), &mut self.out);
            }
        }
        let took = start.elapsed().as_secs_f64() * 1e9;
        let answer = String::from_utf8_lossy(&self.reply);
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains(expected), "{answer}");
        self.engine.on_tick(now(self.nanos), &mut self.out);
        self.out = Out::default();
        took
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
