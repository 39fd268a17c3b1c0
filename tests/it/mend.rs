//! A server behind a node that changes under it: what it refuses since it is not as it was known goes again, once, and is executed once.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use serde_json::{Value, json};

use crate::client::{Client, Response, modern};
use crate::gateway::{ask, open, text};
use crate::server::{Server, until};

/// How the server behind is, and what it has seen.
struct Changing {
    era: &'static str,
    /// The header in which its tool wants its argument; empty for none.
    mirror: &'static str,
    /// It refuses every call because of its headers.
    refuses: bool,
    /// Calls that it has executed.
    executed: usize,
    /// Times that it was asked what it speaks.
    asked: usize,
}

struct Back {
    state: Arc<Mutex<Changing>>,
    address: SocketAddr,
}

impl Back {
    fn start(mirror: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(Mutex::new(Changing { era: "modern", mirror, refuses: false, executed: 0, asked: 0 }));
        let all = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&all);
                thread::spawn(move || serve(stream, &state));
            }
        });
        Self { state, address }
    }

    fn state(&self) -> MutexGuard<'_, Changing> {
        self.state.lock().expect("no thread fails with it")
    }

    /// A node before it.
    fn front(&self) -> Server {
        let front = Server::before(self.address);
        until("its tool is listed", || tools(&front).contains("\"where\""));
        front
    }
}

fn tools(front: &Server) -> String {
    Client::connect(front.address()).ask(modern(1, "tools/list", "")).body
}

/// Reads one request: its head, in lower case, and its body as JSON.
fn request(stream: &mut TcpStream) -> Option<(String, Value)> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        if let Some(end) = memchr::memmem::find(&bytes, b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.map_or(0, |length| length.parse().expect("a length"));
            if bytes.len() >= end + 4 + length {
                return Some((head, serde_json::from_slice(&bytes[end + 4..end + 4 + length]).unwrap_or_default()));
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return None,
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
        }
    }
}

fn serve(mut stream: TcpStream, state: &Mutex<Changing>) {
    while let Some((head, message)) = request(&mut stream) {
        let (status, body) = answer(&head, &message, &mut state.lock().expect("no thread fails with it"));
        let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
        if stream.write_all(format!("{head}{body}").as_bytes()).is_err() {
            return;
        }
    }
}

fn answer(head: &str, message: &Value, state: &mut Changing) -> (&'static str, String) {
    let (method, id) = (message["method"].as_str().unwrap_or_default(), &message["id"]);
    let error = |code: i32, data: Value| {
        let error = json!({"code": code, "message": "refused", "data": data});
        ("400 Bad Request", json!({"jsonrpc": "2.0", "id": id, "error": error}).to_string())
    };
    let result = |result: Value| ("200 OK", json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string());
    let is_modern = head.contains("mcp-protocol-version: 2026-07-28");
    state.asked += usize::from(method == "server/discover");
    // One that says "none" refuses the version that it names.
    let is_taken = match state.era {
        "modern" => is_modern,
        "legacy" => !is_modern,
        _ => false,
    };
    if !is_taken {
        return error(-32022, json!({"supported": [if state.era == "legacy" { "2025-11-25" } else { "2026-07-28" }]}));
    }
    match method {
        "server/discover" => result(json!({"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, "resultType": "complete"})),
        "initialize" => {
            let info = json!({"name": "back", "version": "1"});
            result(json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": info}))
        }
        "tools/list" => {
            let mut place = json!({"type": "string"});
            if !state.mirror.is_empty() {
                place["x-mcp-header"] = json!(state.mirror);
            }
            let schema = json!({"type": "object", "properties": {"place": place}});
            result(
                json!({"tools": [{"name": "where", "inputSchema": schema}], "resultType": "complete", "ttlMs": 0, "cacheScope": "private"}),
            )
        }
        "tools/call" => {
            let place = message["params"]["arguments"]["place"].as_str().unwrap_or_default();
            let field = format!("mcp-param-{}: {place}", state.mirror.to_ascii_lowercase());
            let is_mirrored = state.mirror.is_empty() || head.lines().any(|line| line == field);
            if state.refuses || !is_mirrored {
                return error(-32020, json!({}));
            }
            state.executed += 1;
            let said = format!("{place} {}", state.era);
            result(json!({"content": [{"type": "text", "text": said}], "resultType": "complete"}))
        }
        _ => ("202 Accepted", String::new()),
    }
}

/// A call of a client of the modern era, which mirrors its argument in this header.
fn call(front: &Server, mirror: &str) -> Response {
    let params = r#""name":"where","arguments":{"place":"here"}"#;
    let request = modern(7, "tools/call", params);
    let field = if mirror.is_empty() { String::new() } else { format!("Mcp-Param-{mirror}: here\r\n") };
    Client::connect(front.address()).ask(request.replacen("\r\n", &format!("\r\n{field}"), 1))
}

/// The same of a client of the legacy era.
fn legacy_call(client: &mut Client, session: &[(&'static str, String)]) -> Response {
    let call = r#"{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"name":"where","arguments":{"place":"here"}}}"#;
    ask(client, session, call)
}

#[test]
fn a_call_is_executed_once_by_a_server_that_speaks_another_era_than_it_did() {
    let back = Back::start("");
    let front = back.front();
    let mut client = Client::connect(front.address());
    let session = open(&mut client);
    for (round, era) in ["legacy", "modern", "legacy"].into_iter().enumerate() {
        let (executed, asked) = {
            let mut state = back.state();
            state.era = era;
            (state.executed, state.asked)
        };
        let wanted = format!("here {era}");
        // Alternately, so that either is the first to find it out.
        for at in 0..4 {
            let answer = if (at + round) % 2 == 0 { call(&front, "") } else { legacy_call(&mut client, &session) };
            assert_eq!(text(&answer), wanted, "{}", answer.body);
        }
        assert_eq!(back.state().executed, executed + 4, "each once");
        until("its scout has asked it again", || back.state().asked > asked);
        until("its tool is there", || tools(&front).contains("\"where\""));
    }
    front.stop();
}

#[test]
fn a_call_goes_with_the_headers_that_its_tool_wants_by_now() {
    let back = Back::start("Place");
    let front = back.front();
    assert_eq!(text(&call(&front, "Place")), "here modern");
    let mut client = Client::connect(front.address());
    let session = open(&mut client);
    assert_eq!(text(&legacy_call(&mut client, &session)), "here modern");
    back.state().mirror = "Spot";
    assert_eq!(text(&call(&front, "Place")), "here modern", "with the header of the list that it knows");
    until("clients are shown what it wants now", || tools(&front).contains("Spot"));
    assert_eq!(text(&call(&front, "Spot")), "here modern");
    back.state().mirror = "Point";
    assert_eq!(text(&legacy_call(&mut client, &session)), "here modern", "that client knows nothing of headers");
    assert_eq!(back.state().executed, 5, "each once");
    // A client that contradicts itself is told so, as it would be without a node between.
    until("clients are shown what it wants now", || tools(&front).contains("Point"));
    let answer = call(&front, "");
    assert_eq!((answer.status, answer.json()["error"]["code"].as_i64()), (400, Some(-32020)), "{}", answer.body);
    // A server that contradicts itself is named.
    back.state().refuses = true;
    let answer = call(&front, "Point");
    let error = &answer.json()["error"];
    let message = error["message"].as_str().unwrap_or_default().to_owned();
    assert!(message.contains("The server back ") && message.contains("x-mcp-header"), "{}", answer.body);
    assert_ne!(error["code"], -32020, "it is not the client's headers that are wrong");
    assert_eq!(back.state().executed, 5);
    front.stop();
}

#[test]
fn a_server_that_refuses_what_it_says_it_speaks_is_named() {
    let back = Back::start("");
    let front = back.front();
    back.state().era = "none";
    let answer = call(&front, "");
    let error = &answer.json()["error"];
    let message = error["message"].as_str().unwrap_or_default().to_owned();
    assert!(answer.status == 200 && message.contains("The server back "), "{}", answer.body);
    assert!(![-32020, -32022].map(Value::from).contains(&error["code"]), "{}", answer.body);
    assert_eq!(back.state().executed, 0);
    front.stop();
}
