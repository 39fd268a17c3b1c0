//! A warm call allocates nothing on the engine's side.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::client;
use super::cluster::{Response, config, modern, modern_with, post};
use super::fixture::{builder, server};
use crate::base::allocations::so_far;
use crate::base::ids::{ConnId, CoreId, NodeId};
use crate::base::time::{Nanos, Now};
use crate::engine::{ConnMemo, Endpoint, Engine, Inbound, Out, Role, Shared, Verdict};
use crate::native::{BuildError, Factory, Inbox, Server};
use crate::wire::http1::{Framed, Framer, HeaderSlots, HttpLimits, view};

/// Sends the request this often and says how many allocations that took, and how often it was answered at once.
fn allocations(engine: &mut Engine, input: &[u8], times: u64) -> (u64, u64) {
    let limits = HttpLimits { head_bytes_max: 4096, body_bytes_max: 4096 };
    let (mut reply, mut out, mut joined, mut memo) = (Vec::with_capacity(4096), Out::default(), Vec::new(), ConnMemo::default());
    let mut answered = 0;
    let before = so_far();
    for round in 0..times {
        let Framed::Whole(frame) = Framer::default().next(input, &limits) else { panic!("whole") };
        let mut slots = HeaderSlots::new();
        let request = view(input, &frame, &mut slots, &mut joined).expect("a request");
        let (conn, peer) = (ConnId { index: 0, generation: 0 }, IpAddr::V4(Ipv4Addr::LOCALHOST));
        let inbound = Inbound { conn, peer, role: Role::Public, request: &request, memo: &mut memo };
        let now = Now { mono: Nanos(round + 1), wall_ms: 1_800_000_000_000 };
        reply.clear();
        if engine.on_request(now, inbound, &mut reply, &mut out) == (Verdict::Answered { close: false }) {
            answered += 1;
        }
        assert!(reply.starts_with(b"HTTP/1.1 200 OK"), "{}", reply.escape_ascii());
    }
    (so_far() - before, answered)
}

/// Opens a session of the legacy era and gives its id.
fn open_session(engine: &mut Engine) -> String {
    let input = post("", &client::initialize("2025-11-25", "{}"));
    let limits = HttpLimits { head_bytes_max: 4096, body_bytes_max: 4096 };
    let Framed::Whole(frame) = Framer::default().next(&input, &limits) else { panic!("whole") };
    let (mut slots, mut joined, mut memo) = (HeaderSlots::new(), Vec::new(), ConnMemo::default());
    let request = view(&input, &frame, &mut slots, &mut joined).expect("a request");
    let (conn, peer) = (ConnId { index: 0, generation: 0 }, IpAddr::V4(Ipv4Addr::LOCALHOST));
    let inbound = Inbound { conn, peer, role: Role::Public, request: &request, memo: &mut memo };
    let (mut reply, mut out) = (Vec::new(), Out::default());
    engine.on_request(Now { mono: Nanos(1), wall_ms: 1_800_000_000_000 }, inbound, &mut reply, &mut out);
    Response::parse(reply).field("mcp-session-id").expect("a session id")
}

/// The same tools under another server's name.
fn named_b() -> Result<Server, BuildError> {
    builder("b").build()
}

/// The request, to the endpoint of both servers.
fn pair(request: &[u8]) -> Vec<u8> {
    String::from_utf8_lossy(request).replacen("/mcp", "/both", 1).into_bytes()
}

#[test]
fn a_warm_request_allocates_nothing() {
    let shared: &'static Shared = Box::leak(Box::new(Shared::new(NodeId(0), 1, 10, [7; 16])));
    let servers: Vec<Arc<Factory>> = vec![Arc::new(|| Ok(server())), Arc::new(named_b)];
    let inbox = Arc::new(Inbox::new(Box::new(|| {})));
    let mut config = config();
    config.endpoints.push(Endpoint { path: "/both".into(), servers: [0, 1].into(), upstreams: Box::default() });
    let mut engine = Engine::new(CoreId(0), 1, &config, &servers, shared, inbox).expect("a server");
    let count = r#""name":"count","arguments":{"number":17}"#;
    let requests = [
        ("a typed tool", modern("tools/call", Some("count"), count)),
        ("with progress wanted", modern_with("tools/call", Some("count"), count, r#","progressToken":7"#, "{}", "")),
        ("a list", modern("tools/list", None, "")),
        ("discover", modern("server/discover", None, "")),
        ("with a token", modern_with("tools/call", Some("count"), count, "", "{}", "Authorization: Bearer abcdefgh\r\n")),
    ];
    let session = open_session(&mut engine);
    let headers = format!("Mcp-Session-Id: {session}\r\nMCP-Protocol-Version: 2025-11-25\r\n");
    let legacy = |body: &str| post(&headers, body);
    let requests = requests.into_iter().chain([
        ("a typed tool, legacy era", legacy(&client::request("1", "tools/call", r#"{"name":"count","arguments":{"number":17}}"#))),
        ("a list, legacy era", legacy(&client::request("\"a\"", "tools/list", "{}"))),
        ("ping", legacy(&client::request("1", "ping", "{}"))),
    ]);
    let several = [(
        "a typed tool of one of several servers",
        pair(&modern("tools/call", Some("b.count"), r#""name":"b.count","arguments":{"number":17}"#)),
    )];
    for (name, request) in requests.chain(several) {
        allocations(&mut engine, &request, 10);
        assert_eq!(allocations(&mut engine, &request, 1000), (0, 1000), "{name}");
    }
}
