//! Streams between a node and a server behind it: those that the server ends before its answer, and what it says of its own accord.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{Client, initialize, modern, post};
use crate::server::{Server, until};

/// How long the server behind wants its client to wait.
const RETRY_MS: u64 = 150;

/// What a server behind has seen, and its open streams.
#[derive(Default)]
struct Seen {
    /// Calls of its tool.
    calls: usize,
    /// When it ended the stream of the last one.
    ended: Option<Instant>,
    /// When it was asked for the rest, and after which event.
    rejoined: Vec<(Duration, String)>,
    /// Requests about single resources.
    watched: Vec<String>,
    streams: Vec<TcpStream>,
}

/// A server of the legacy era that ends the stream of every call before its answer.
struct Polled {
    seen: Arc<Mutex<Seen>>,
    address: SocketAddr,
}

impl Polled {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let seen = Arc::<Mutex<Seen>>::default();
        let all = Arc::clone(&seen);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let seen = Arc::clone(&all);
                thread::spawn(move || serve(stream, &seen));
            }
        });
        Self { seen, address }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("no thread fails with it")
    }

    /// A node before it.
    fn front(&self) -> Server {
        let front = Server::before(self.address);
        until("its tool is listed", || Client::connect(front.address()).ask(modern(1, "tools/list", "")).body.contains("\"slow\""));
        front
    }
}

/// Reads one request: its head, and its body as JSON.
fn request(stream: &mut TcpStream) -> Option<(String, Value)> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let length = head.to_ascii_lowercase().lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            let length: usize = length.unwrap_or_default();
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

fn answer(stream: &mut TcpStream, status: &str, body: &str) {
    let head =
        format!("HTTP/1.1 {status}\r\nMcp-Session-Id: s\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
    let _ = stream.write_all(format!("{head}{body}").as_bytes());
}

/// Begins a stream with these events.
fn begin(stream: &mut TcpStream, events: &str) {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
    let _ = stream.write_all(format!("{head}{events}").as_bytes());
}

fn serve(mut stream: TcpStream, seen: &Mutex<Seen>) {
    while let Some((head, message)) = request(&mut stream) {
        let id = &message["id"];
        let result = |result: Value| json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string();
        let mut seen = seen.lock().expect("no thread fails with it");
        if head.starts_with("GET ") {
            match head.lines().find_map(|line| line.strip_prefix("Last-Event-ID: ")) {
                None => {
                    begin(&mut stream, "");
                    seen.streams.push(stream.try_clone().expect("a handle"));
                }
                Some(after) => {
                    let waited = seen.ended.map(|ended| ended.elapsed()).unwrap_or_default();
                    seen.rejoined.push((waited, after.to_owned()));
                    let text = json!({"jsonrpc": "2.0", "id": after.parse::<u64>().unwrap_or_default(), "result": {"content": [{"type": "text", "text": "done"}]}});
                    begin(&mut stream, &format!("data: {text}\n\n"));
                    return;
                }
            }
            continue;
        }
        let body = match message["method"].as_str().unwrap_or_default() {
            "initialize" => {
                let capabilities = json!({"tools": {}, "resources": {"subscribe": true}});
                result(json!({"protocolVersion": "2025-11-25", "capabilities": capabilities, "serverInfo": {"name": "p", "version": "1"}}))
            }
            "tools/list" => result(json!({"tools": [{"name": "slow", "inputSchema": {"type": "object"}}]})),
            "resources/list" => result(json!({"resources": [{"uri": "a:1", "name": "one"}]})),
            method @ ("resources/subscribe" | "resources/unsubscribe") => {
                seen.watched.push(format!("{method} {}", message["params"]["uri"].as_str().unwrap_or_default()));
                result(json!({}))
            }
            "tools/call" => {
                seen.calls += 1;
                // Its id is what was asked.
                begin(&mut stream, &format!("id: {id}\nretry: {RETRY_MS}\ndata: \n\n"));
                seen.ended = Some(Instant::now());
                return;
            }
            "notifications/initialized" | "notifications/cancelled" => {
                answer(&mut stream, "202 Accepted", "");
                continue;
            }
            _ => json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32601, "message": "no"}}).to_string(),
        };
        drop(seen);
        answer(&mut stream, "200 OK", &body);
    }
}

#[test]
fn a_call_whose_stream_the_server_ends_is_answered_and_not_made_twice() {
    let back = Polled::start();
    let front = back.front();
    let answer = Client::connect(front.address()).ask(modern(7, "tools/call", r#""name":"slow","arguments":{}"#)).json();
    assert_eq!((&answer["id"], &answer["result"]["content"][0]["text"]), (&json!(7), &json!("done")), "{answer}");
    let seen = back.seen();
    assert_eq!((seen.calls, seen.rejoined.len()), (1, 1));
    assert!(seen.rejoined[0].0 >= Duration::from_millis(RETRY_MS), "it waits as long as it was told to: {:?}", seen.rejoined);
}

#[test]
fn a_client_that_can_come_back_is_let_go_as_well() {
    let back = Polled::start();
    let front = back.front();
    let mut client = Client::connect(front.address());
    let opened = client.ask(initialize("2025-11-25"));
    let session = opened.header("mcp-session-id").expect("a session").to_owned();
    let fields = [("mcp-session-id", &*session), ("mcp-protocol-version", "2025-11-25")];
    assert_eq!(client.ask(post(&fields, r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#)).status, 202);
    let call = r#"{"jsonrpc":"2.0","id":"c","method":"tools/call","params":{"name":"slow","arguments":{}}}"#;
    let stream = client.ask(post(&fields, call)).body;
    let last = stream.lines().find_map(|line| line.strip_prefix("id: ")).unwrap_or_else(|| panic!("no event has an id: {stream}"));
    assert!(stream.contains(&format!("retry: {RETRY_MS}")) && !stream.contains("done"), "{stream}");
    let get = format!(
        "GET /mcp HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\nmcp-session-id: {session}\r\nlast-event-id: {last}\r\n\r\n"
    );
    let rest = client.ask(get).body;
    assert!(rest.contains(r#""id":"c""#) && rest.contains("done"), "{rest}");
    assert_eq!(back.seen().calls, 1);
}

#[test]
fn what_changes_behind_is_heard_by_who_subscribed() {
    let back = Polled::start();
    let front = back.front();
    let listen = |uri: &str| {
        let mut client = Client::connect(front.address());
        client.send(modern(3, "subscriptions/listen", &format!(r#""notifications":{{"resourceSubscriptions":["{uri}"]}}"#)));
        assert_eq!(client.head().expect("a head").0, 200);
        let acknowledged = String::from_utf8(client.chunk().expect("a chunk").expect("an event")).expect("UTF-8");
        assert!(acknowledged.contains(&format!(r#""resourceSubscriptions":["{uri}"]"#)), "{acknowledged}");
        client
    };
    // On whichever core they are, the server is asked once.
    let mut clients: Vec<_> = (0..4).map(|_| listen("a:1")).collect();
    until("it is asked", || !back.seen().watched.is_empty());
    let updated = r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"a:1"}}"#;
    for stream in &mut back.seen().streams {
        stream.write_all(format!("data: {updated}\n\n").as_bytes()).expect("it is open");
    }
    for client in &mut clients {
        let event = String::from_utf8(client.chunk().expect("a chunk").expect("an event")).expect("UTF-8");
        assert!(event.contains("notifications/resources/updated") && event.contains(r#""uri":"a:1""#), "{event}");
    }
    assert_eq!(back.seen().watched, ["resources/subscribe a:1"]);
    drop(clients);
    until("it is told that nobody wants to hear of it", || back.seen().watched.len() == 2);
    assert_eq!(back.seen().watched[1], "resources/unsubscribe a:1");
}
