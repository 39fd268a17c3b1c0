//! What a server keeps for one client is that client's: sessions and processes behind a front, real sockets and processes on both sides.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use ringhub::engine::seal::{KeyPair, SealKeys};
use ringhub::engine::{Endpoint, EngineConfig};
use ringhub::gateway::config::Options;
use ringhub::gateway::link::{Command, Dial};
use ringhub::gateway::{Dialect, Settings, Starts};
use ringhub::rt;
use serde_json::{Value, json};

use crate::client::{Client, Response, modern, post};
use crate::server::{Server, resident_bytes, until};

/// What one session of [`Upstream`] has: what it was told, and the answers to what it asked.
#[derive(Default)]
struct Kept {
    told: Vec<String>,
    answers: HashMap<String, Value>,
}

/// A server of the handshake that keeps something for each of its sessions.
#[derive(Default)]
struct Upstream {
    sessions: Mutex<HashMap<String, Kept>>,
    answered: Condvar,
    opened: AtomicUsize,
    ended: AtomicUsize,
    cancelled: AtomicUsize,
    levels: Mutex<Vec<String>>,
}

const JSON: &str = "Content-Type: application/json\r\n";

fn write(stream: &mut TcpStream, status: &str, fields: &str, body: &str) {
    let head = format!("HTTP/1.1 {status}\r\n{fields}Content-Length: {}\r\n\r\n", body.len());
    // Whoever has left needs no answer.
    let _ = stream.write_all(format!("{head}{body}").as_bytes());
}

/// The head and the body of the next request; none at the end.
fn request(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<(String, String)> {
    let mut buffer = [0; 4096];
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let length = field(&head, "content-length").map_or(0, |length| length.parse().expect("a length"));
            if bytes.len() >= end + 4 + length {
                let body = String::from_utf8_lossy(&bytes[end + 4..end + 4 + length]).into_owned();
                bytes.drain(..end + 4 + length);
                return Some((head, body));
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return None,
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
        }
    }
}

fn field(head: &str, name: &str) -> Option<String> {
    let fields = head.lines().filter_map(|line| line.split_once(": "));
    fields.into_iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
}

impl Upstream {
    fn start() -> (Arc<Self>, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let upstream = Arc::new(Self::default());
        let served = Arc::clone(&upstream);
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let upstream = Arc::clone(&served);
                thread::spawn(move || {
                    let mut bytes = Vec::new();
                    while let Some((head, body)) = request(&mut stream, &mut bytes) {
                        upstream.serve(&mut stream, &head, &body);
                    }
                });
            }
        });
        (upstream, address)
    }

    fn live(&self) -> usize {
        self.sessions.lock().expect("no panic").len()
    }

    fn counts(&self) -> (usize, usize) {
        (self.opened.load(Relaxed), self.ended.load(Relaxed))
    }

    fn serve(&self, stream: &mut TcpStream, head: &str, body: &str) {
        let session = field(head, "mcp-session-id").unwrap_or_default();
        if head.starts_with("DELETE") {
            let was_there = self.sessions.lock().expect("no panic").remove(&session).is_some();
            self.ended.fetch_add(usize::from(was_there), Relaxed);
            return write(stream, if was_there { "200 OK" } else { "404 Not Found" }, "", "");
        }
        if head.starts_with("GET") {
            return write(stream, "405 Method Not Allowed", "", "");
        }
        let message: Value = serde_json::from_str(body).expect("JSON");
        let (id, params) = (&message["id"], &message["params"]);
        let result = |result: Value| json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string();
        let method = message["method"].as_str().unwrap_or_default();
        if method == "initialize" {
            let session = format!("s-{}", self.opened.fetch_add(1, Relaxed));
            self.sessions.lock().expect("no panic").insert(session.clone(), Kept::default());
            let capabilities = json!({"tools": {}, "logging": {}});
            let opened =
                json!({"protocolVersion": "2025-06-18", "capabilities": capabilities, "serverInfo": {"name": "u", "version": "1"}});
            return write(stream, "200 OK", &format!("{JSON}Mcp-Session-Id: {session}\r\n"), &result(opened));
        }
        if method == "server/discover" {
            return write(stream, "400 Bad Request", JSON, r#"{"jsonrpc":"2.0","error":{"code":-32600,"message":"no session"}}"#);
        }
        if !self.sessions.lock().expect("no panic").contains_key(&session) {
            return write(stream, "404 Not Found", "", "");
        }
        match method {
            "" => {
                let answer = message["result"]["content"]["name"].clone();
                let mut sessions = self.sessions.lock().expect("no panic");
                let kept = sessions.get_mut(&session).expect("it is there");
                kept.answers.insert(id.as_str().expect("an id").to_owned(), answer);
                self.answered.notify_all();
                write(stream, "202 Accepted", "", "");
            }
            "notifications/cancelled" => {
                self.cancelled.fetch_add(1, Relaxed);
                write(stream, "202 Accepted", "", "");
            }
            "logging/setLevel" => {
                self.levels.lock().expect("no panic").push(format!("{session} {}", params["level"].as_str().expect("a level")));
                write(stream, "200 OK", JSON, &result(json!({})));
            }
            "tools/list" => {
                let tool = |name: &str| json!({"name": name, "inputSchema": {"type": "object"}});
                write(stream, "200 OK", JSON, &result(json!({"tools": [tool("remember"), tool("ask")]})));
            }
            "tools/call" if params["name"] == "ask" => self.ask(stream, &session, id, &params["arguments"]["who"]),
            "tools/call" => {
                let mut sessions = self.sessions.lock().expect("no panic");
                let kept = sessions.get_mut(&session).expect("it is there");
                kept.told.push(params["arguments"]["what"].as_str().unwrap_or_default().to_owned());
                let text = kept.told.join(" ");
                drop(sessions);
                write(stream, "200 OK", JSON, &result(json!({"content": [{"type": "text", "text": text}]})));
            }
            method if method.starts_with("notifications/") => write(stream, "202 Accepted", "", ""),
            _ => write(stream, "200 OK", JSON, &result(json!({}))),
        }
    }

    /// Asks the client of this session on the stream of its call, and says what it answered.
    fn ask(&self, stream: &mut TcpStream, session: &str, id: &Value, who: &Value) {
        let question = format!("q-{}", who.as_str().expect("a name"));
        let schema = json!({"type": "object", "properties": {"name": {"type": "string"}}});
        let params = json!({"message": format!("Are you {}?", who.as_str().expect("a name")), "requestedSchema": schema});
        let event = json!({"jsonrpc": "2.0", "id": question, "method": "elicitation/create", "params": params});
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
        let _ = stream.write_all(format!("{head}data: {event}\n\n").as_bytes());
        let sessions = self.sessions.lock().expect("no panic");
        let waits = |sessions: &mut HashMap<String, Kept>| sessions.get(session).is_some_and(|kept| !kept.answers.contains_key(&question));
        let (mut sessions, _) = self.answered.wait_timeout_while(sessions, Duration::from_secs(20), waits).expect("no panic");
        let answer = sessions.get_mut(session).and_then(|kept| kept.answers.remove(&question)).unwrap_or_default();
        drop(sessions);
        let text = format!("{} is {}", who.as_str().expect("a name"), answer.as_str().unwrap_or("nobody"));
        let result = json!({"jsonrpc": "2.0", "id": id, "result": {"content": [{"type": "text", "text": text}]}});
        let _ = stream.write_all(format!("data: {result}\n\n").as_bytes());
        let _ = stream.shutdown(std::net::Shutdown::Both);
    }
}

/// A process that does the same over its standard input and output, for the one client that it has, and says which process it is.
const SCRIPT: &str = r#"
say() { printf '%s\n' "{\"jsonrpc\":\"2.0\",\"id\":$1,$2}"; }
told=
while read -r line; do
    id=${line#*\"id\":}; id=${id%%,*}
    case $line in
        *server/discover*) say "$id" '"error":{"code":-32601,"message":"unknown"}' ;;
        *'"initialize"'*) say "$id" '"result":{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"script","version":"1"}}' ;;
        *tools/list*) say "$id" '"result":{"tools":[{"name":"remember","inputSchema":{"type":"object"}},{"name":"ask","inputSchema":{"type":"object"}}]}' ;;
        *'"name":"remember"'*) what=${line#*\"what\":\"}; told="$told ${what%%\"*}"; say "$id" "\"result\":{\"content\":[{\"type\":\"text\",\"text\":\"$$:$told\"}]}" ;;
        *'"name":"ask"'*) call=$id; who=${line#*\"who\":\"}; who=${who%%\"*}
            printf '%s\n' "{\"jsonrpc\":\"2.0\",\"id\":\"q\",\"method\":\"elicitation/create\",\"params\":{\"message\":\"Are you $who?\",\"requestedSchema\":{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"}}}}}" ;;
        *'"id":"q"'*) answer=${line#*\"name\":\"}; say "$call" "\"result\":{\"content\":[{\"type\":\"text\",\"text\":\"$who is ${answer%%\"*}\"}]}" ;;
    esac
done
"#;

/// A node of three cores that fronts one server, plainly, at `/mcp`.
struct Front(rt::Running);

impl Front {
    fn of_url(address: SocketAddr) -> Self {
        let dial = Dial::Tcp { host: address.ip().to_string().into(), port: address.port(), tls: false };
        Self::start(dial, Options::default(), Duration::from_mins(15))
    }

    fn of_script(processes_max: usize) -> Self {
        let args: Box<[Box<str>]> = Box::new(["-c".into(), SCRIPT.into()]);
        let command = Command { name: "u".into(), program: "sh".into(), args, env: Box::default(), cwd: None };
        let options = Options { is_interactive: true, processes_max, ..Options::default() };
        Self::start(Dial::Child(Box::new(command)), options, Duration::from_mins(15))
    }

    fn start(dial: Dial, options: Options, request_state_ttl: Duration) -> Self {
        let settings = Settings {
            name: "u".into(),
            url: "u".into(),
            dial: Arc::new(dial),
            starts: Starts::new("/mcp", "localhost", &[]).expect("what can be sent"),
            dialect: Dialect::Auto,
            connect_timeout: Duration::from_secs(5),
            first_byte_timeout: Duration::from_secs(20),
            idle_timeout: Duration::from_secs(20),
            total_timeout: Duration::from_secs(30),
            in_flight_max: 64,
            queued_max: 64,
            idle_links_max: 64,
            retries: true,
            options,
        };
        let engine = EngineConfig {
            endpoints: vec![Endpoint { path: "/mcp".into(), servers: Box::default(), upstreams: Box::new(["u".into()]) }],
            upstreams: vec![settings].into(),
            request_state_ttl,
            ..EngineConfig::new(SealKeys::new(KeyPair::random().expect("randomness")))
        };
        let config =
            rt::Config { listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))], cores: Some(3), pin: false, ..rt::Config::default() };
        let front = Self(rt::start(config, engine, Vec::new()).expect("it starts"));
        until("the upstream is listed", || {
            let list = front.connect().ask(modern(1, "tools/list", "")).json();
            list["result"]["tools"].as_array().is_some_and(|tools| tools.len() == 2)
        });
        front
    }

    fn address(&self) -> SocketAddr {
        self.0.addresses()[0]
    }

    fn connect(&self) -> Client {
        Client::connect(self.address())
    }
}

const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

/// A client of the legacy era.
struct Legacy {
    address: SocketAddr,
    client: Client,
    session: String,
}

impl Legacy {
    fn open(address: SocketAddr) -> Self {
        let mut client = Client::connect(address);
        let body = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{"elicitation":{}},"clientInfo":{"name":"it","version":"1"}}}"#;
        let session = client.ask(post(&[], body)).header("mcp-session-id").expect("a session").to_owned();
        let mut legacy = Self { address, client, session };
        assert_eq!(legacy.ask(INITIALIZED).status, 202);
        legacy
    }

    fn written(&self, body: &str) -> String {
        post(&[("mcp-session-id", &self.session), ("mcp-protocol-version", "2025-06-18")], body)
    }

    fn ask(&mut self, body: &str) -> Response {
        let request = self.written(body);
        self.client.ask(request)
    }

    fn call(&mut self, tool: &str, arguments: &str) -> Response {
        self.ask(&call(tool, arguments))
    }

    fn end(&mut self) {
        let ended = self.client.ask(format!("DELETE /mcp HTTP/1.1\r\nhost: localhost\r\nmcp-session-id: {}\r\n\r\n", self.session));
        assert!(matches!(ended.status, 200 | 204), "{ended:?}");
    }

    /// Calls the tool that asks, and answers; gives what the client was asked, and what the tool said.
    fn be_asked(&mut self, who: &str) -> (String, String) {
        let request = self.written(&call("ask", &format!(r#"{{"who":"{who}"}}"#)));
        self.client.send(request);
        assert_eq!(self.client.head().expect("a head").0, 200);
        let question = self.message("elicitation/create");
        let answer = json!({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept", "content": {"name": who}}});
        let request = self.written(&answer.to_string());
        assert_eq!(Client::connect(self.address).ask(request).status, 202);
        let result = self.message("result");
        while self.client.chunk().expect("the end").is_some() {}
        (question["params"]["message"].as_str().expect("a message").to_owned(), text_of(&result))
    }

    /// The next message on the stream that has this in it.
    fn message(&mut self, what: &str) -> Value {
        loop {
            let chunk = String::from_utf8(self.client.chunk().expect("a chunk").expect("an event")).expect("UTF-8");
            if let Some(data) = chunk.lines().find_map(|line| line.strip_prefix("data: ")).filter(|data| data.contains(what)) {
                return serde_json::from_str(data).expect("JSON");
            }
        }
    }
}

fn call(tool: &str, arguments: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{tool}","arguments":{arguments}}}}}"#)
}

fn text_of(message: &Value) -> String {
    message["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("no text: {message}")).to_owned()
}

/// A call of the modern era by this principal, whose client may be asked.
fn modern_call(principal: &str, tool: &str, arguments: &str, more: &str) -> String {
    let meta = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"it","version":"1"},"io.modelcontextprotocol/clientCapabilities":{"elicitation":{}}}"#;
    let body =
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{tool}","arguments":{arguments}{more},{meta}}}}}"#);
    let bearer = format!("Bearer {principal}");
    let headers =
        [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/call"), ("mcp-name", tool), ("authorization", bearer.as_str())];
    post(&headers, &body)
}

/// What a modern client that calls the tool that asks is asked, and the handle that it gets.
fn modern_question(client: &mut Client, who: &str) -> (String, String) {
    let asked = client.ask(modern_call(who, "ask", &format!(r#"{{"who":"{who}"}}"#), "")).json();
    let result = &asked["result"];
    assert_eq!(result["resultType"], "input_required", "{asked}");
    let message = result["inputRequests"]["question"]["params"]["message"].as_str().expect("a message");
    (message.to_owned(), result["requestState"].as_str().expect("a handle").to_owned())
}

fn modern_answer(client: &mut Client, who: &str, handle: &str) -> Response {
    let more = format!(r#","inputResponses":{{"question":{{"action":"accept","content":{{"name":"{who}"}}}}}},"requestState":"{handle}""#);
    client.ask(modern_call(who, "ask", &format!(r#"{{"who":"{who}"}}"#), &more))
}

#[test]
fn each_client_is_asked_its_own_question_and_nobody_else_hears_of_it() {
    let (_upstream, address) = Upstream::start();
    for front in [Front::of_url(address), Front::of_script(16)] {
        let mut third = Legacy::open(front.address());
        let mut listening = front.connect();
        listening.send(format!(
            "GET /mcp HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\nmcp-session-id: {}\r\nmcp-protocol-version: 2025-06-18\r\n\r\n",
            third.session
        ));
        assert_eq!(listening.head().expect("a head").0, 200);
        thread::scope(|scope| {
            for n in 0..4 {
                let front = &front;
                scope.spawn(move || {
                    let mut client = Legacy::open(front.address());
                    for round in 0..3 {
                        let who = format!("legacy-{n}-{round}");
                        assert_eq!(client.be_asked(&who), (format!("Are you {who}?"), format!("{who} is {who}")));
                    }
                });
                scope.spawn(move || {
                    let mut client = front.connect();
                    let who = format!("modern-{n}");
                    for _ in 0..3 {
                        let (message, handle) = modern_question(&mut client, &who);
                        assert_eq!(message, format!("Are you {who}?"));
                        // The answer may come over any connection.
                        let answer = modern_answer(&mut front.connect(), &who, &handle).json();
                        assert_eq!(text_of(&answer), format!("{who} is {who}"));
                    }
                });
            }
            let list = third.ask(r#"{"jsonrpc":"2.0","id":9,"method":"tools/list"}"#);
            assert!(list.status == 200 && !list.body.contains("Are you"), "{list:?}");
        });
        // What was said to the third is there before the end of its stream.
        third.end();
        while let Some(chunk) = listening.chunk().expect("a chunk") {
            assert!(!String::from_utf8_lossy(&chunk).contains("elicitation"), "{chunk:?}");
        }
    }
}

#[test]
fn what_a_server_keeps_for_a_client_is_not_seen_by_another() {
    let (upstream, address) = Upstream::start();
    for mut front in [Front::of_url(address), Front::of_script(16)] {
        let mut clients: Vec<_> = (0..3).map(|_| Legacy::open(front.address())).collect();
        let said = |text: String| text.split_once(':').map_or(text.clone(), |(_, told)| told.trim().to_owned());
        for round in 0..3 {
            let told = |who: &str| (0..=round).map(|round| format!("{who}-{round}")).collect::<Vec<_>>().join(" ");
            for (n, client) in clients.iter_mut().enumerate() {
                let answer = client.call("remember", &format!(r#"{{"what":"l{n}-{round}"}}"#)).json();
                assert_eq!(said(text_of(&answer)), told(&format!("l{n}")));
            }
        }
        // Modern clients are told apart by their tokens.
        for principal in ["alice", "bob"] {
            let mut client = front.connect();
            for round in 0..3 {
                let answer = client.ask(modern_call(principal, "remember", &format!(r#"{{"what":"{principal}-{round}"}}"#), "")).json();
                let wanted: Vec<_> = (0..=round).map(|round| format!("{principal}-{round}")).collect();
                assert_eq!(said(text_of(&answer)), wanted.join(" "));
            }
        }
        for client in &mut clients {
            client.end();
        }
        // Those of the modern clients and of the scout end with the node.
        front.0.drain();
        front.0.join();
    }
    let (opened, ended) = upstream.counts();
    assert!(opened >= 6 && ended == opened && upstream.live() == 0, "{ended} of {opened} were ended");
}

#[test]
fn the_level_that_a_client_sets_reaches_its_own_session() {
    let (upstream, address) = Upstream::start();
    let front = Front::of_url(address);
    let (mut one, mut other) = (Legacy::open(front.address()), Legacy::open(front.address()));
    let set = one.ask(r#"{"jsonrpc":"2.0","id":5,"method":"logging/setLevel","params":{"level":"error"}}"#);
    assert!(set.json()["result"].is_object(), "{set:?}");
    assert!(one.call("remember", "{}").json()["result"].is_object() && other.call("remember", "{}").json()["result"].is_object());
    let levels = upstream.levels.lock().expect("no panic");
    assert!(levels.len() == 1 && levels[0].ends_with(" error"), "{levels:?}");
}

#[test]
fn a_call_that_nobody_comes_back_to_is_cancelled_and_a_forged_handle_opens_nothing() {
    let (upstream, address) = Upstream::start();
    let dial = Dial::Tcp { host: address.ip().to_string().into(), port: address.port(), tls: false };
    let front = Front::start(dial, Options::default(), Duration::from_secs(2));
    let mut client = front.connect();
    let (_, handle) = modern_question(&mut client, "alice");
    let mut forged = handle.clone().into_bytes();
    let middle = forged.len() / 2;
    forged[middle] = if forged[middle] == b'A' { b'B' } else { b'A' };
    let forged = modern_answer(&mut client, "alice", &String::from_utf8(forged).expect("ASCII")).json();
    assert_eq!(forged["error"]["code"], -32602, "{forged}");
    assert_eq!(upstream.cancelled.load(Relaxed), 0);
    until("the call is cancelled", || upstream.cancelled.load(Relaxed) == 1);
    let late = modern_answer(&mut client, "alice", &handle).json();
    assert_eq!(late["error"]["code"], -32602, "{late}");
}

/// Whether there is such a process, dead or alive.
fn exists(pid: &str) -> bool {
    std::path::Path::new("/proc").join(pid).exists()
}

#[test]
fn a_client_has_its_process_until_it_leaves_and_there_are_no_more_than_may_be() {
    let front = Front::of_script(1);
    let process = |answer: &Value| text_of(answer).split_once(':').expect("a process").0.to_owned();
    let mut first = Legacy::open(front.address());
    let pid = process(&first.call("remember", "{}").json());
    assert_eq!(process(&first.call("remember", "{}").json()), pid, "it has one");
    // On each core one may run: of so many clients some are turned away.
    let mut clients: Vec<_> = (0..12).map(|_| Legacy::open(front.address())).collect();
    let answers: Vec<Value> = clients.iter_mut().map(|client| client.call("remember", "{}").json()).collect();
    let running: Vec<_> = answers.iter().filter(|answer| answer["result"].is_object()).map(process).collect();
    assert!(running.len() <= 2 && !running.contains(&pid), "{running:?}");
    let refused = answers.iter().find(|answer| answer["error"].is_object()).expect("one is turned away");
    let message = refused["error"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("The server u runs for as many clients as it may"), "{refused}");
    for client in clients.iter_mut().chain([&mut first]) {
        client.end();
    }
    until("the processes are gone, and nothing of them is left", || running.iter().chain([&pid]).all(|pid| !exists(pid)));
    // There is room again.
    let mut next = Legacy::open(front.address());
    let pid = process(&next.call("remember", "{}").json());
    drop(next);
    drop(front);
    until("it ends with the node", || !exists(&pid));
}

/// Sessions opened and abandoned.
const SESSIONS: usize = 10_000;
/// The node may hold so much more memory afterwards than before, bytes.
const LEFT_MAX: u64 = 32 * 1024 * 1024;

#[test]
fn ten_thousand_sessions_that_are_abandoned_leave_nothing_behind() {
    let (upstream, address) = Upstream::start();
    let up = format!("u=http://{address}/mcp");
    let node = Server::start(&["--upstream", &up, "--session-timeout", "15", "--cores", "2", "--no-pin"]);
    let listed = || Client::connect(node.address()).ask(modern(1, "tools/list", "")).body.contains("u.remember");
    until("the upstream is listed", listed);
    let before = resident_bytes(node.pid());
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut client = Client::connect(node.address());
                while next.fetch_add(1, Relaxed) < SESSIONS {
                    let opened = client.ask(crate::client::initialize("2025-06-18"));
                    let session = opened.header("mcp-session-id").expect("a session").to_owned();
                    let headers = [("mcp-session-id", session.as_str()), ("mcp-protocol-version", "2025-06-18")];
                    assert_eq!(client.ask(post(&headers, INITIALIZED)).status, 202);
                    let answer = client.ask(post(&headers, &call("u.remember", r#"{"what":"once"}"#))).json();
                    assert_eq!(text_of(&answer), "once", "nobody else has said anything in this session");
                }
            });
        }
    });
    // The scout has one, too.
    assert_eq!(upstream.counts().0, SESSIONS + 1);
    let deadline = Instant::now() + Duration::from_secs(120);
    while upstream.counts().1 < SESSIONS {
        assert!(Instant::now() < deadline, "{:?} sessions were opened and ended", upstream.counts());
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(upstream.live(), 1);
    let metrics = Client::connect(node.admin()).ask("GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n").body;
    let open: Vec<_> = metrics.lines().filter(|line| line.starts_with("ringhub_sessions{")).collect();
    assert!(!open.is_empty() && open.iter().all(|line| line.ends_with(" 0")), "{open:?}");
    until("the memory is given back", || resident_bytes(node.pid()) < before + LEFT_MAX);
    node.stop();
    assert_eq!(upstream.counts(), (SESSIONS + 1, SESSIONS + 1), "the scout's session is ended, too");
}
