//! Servers behind a server: real processes and real sockets on both sides.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ringhub::engine::seal::{KeyPair, SealKeys};
use ringhub::engine::{Endpoint, EngineConfig};
use ringhub::gateway::config::Options;
use ringhub::gateway::link::{Command, Dial};
use ringhub::gateway::{Dialect, Settings, Starts};
use ringhub::rt;

use crate::client::{self, Client, Response, echo, modern, modern_with, post};
use crate::server::{Server, until};

/// A node that fronts others at `/mcp`.
struct Front {
    running: rt::Running,
}

impl Front {
    fn start(upstreams: &[(&str, SocketAddr)]) -> Self {
        let dial = |address: &SocketAddr| Dial::Tcp { host: address.ip().to_string().into(), port: address.port(), tls: false };
        Self::start_with(upstreams.iter().map(|(name, address)| (*name, dial(address), address.to_string())).collect())
    }

    /// One that runs a shell script.
    fn start_script(name: &str, script: &str) -> Self {
        let args: Box<[Box<str>]> = Box::new(["-c".into(), script.into()]);
        let command = Command { name: name.into(), program: "sh".into(), args, env: Box::default(), cwd: None };
        Self::start_with(vec![(name, Dial::Child(Box::new(command)), "localhost".to_owned())])
    }

    fn start_with(upstreams: Vec<(&str, Dial, String)>) -> Self {
        let names = upstreams.iter().map(|(name, ..)| (*name).into()).collect();
        let settings = |(name, dial, authority): (&str, Dial, String)| Settings {
            name: name.into(),
            url: format!("http://{authority}/mcp").into(),
            dial: Arc::new(dial),
            starts: Starts::new("/mcp", &authority, &[]).expect("what can be sent"),
            dialect: Dialect::Auto,
            connect_timeout: Duration::from_secs(2),
            first_byte_timeout: Duration::from_secs(3),
            idle_timeout: Duration::from_secs(5),
            total_timeout: Duration::from_secs(20),
            in_flight_max: 64,
            queued_max: 64,
            idle_links_max: 64,
            retries: true,
            options: Options::default(),
        };
        let keys = SealKeys::new(KeyPair::random().expect("randomness"));
        let engine = EngineConfig {
            endpoints: vec![Endpoint { path: "/mcp".into(), servers: Box::default(), upstreams: names }],
            upstreams: upstreams.into_iter().map(settings).collect(),
            ..EngineConfig::new(keys)
        };
        let config =
            rt::Config { listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))], cores: Some(2), pin: false, ..rt::Config::default() };
        Self { running: rt::start(config, engine, Vec::new()).expect("it starts") }
    }

    fn connect(&self) -> Client {
        Client::connect(self.running.addresses()[0])
    }

    /// Waits until this tool is listed, and callable.
    fn wait_for(&self, tool: &str) {
        until("an upstream is listed", || tools(&mut self.connect()).iter().any(|name| name == tool));
    }
}

pub fn tools(client: &mut Client) -> Vec<String> {
    let list = client.ask(modern(1, "tools/list", "")).json();
    let tools = list["result"]["tools"].as_array().unwrap_or_else(|| panic!("no list: {list}"));
    tools.iter().filter_map(|tool| tool["name"].as_str().map(str::to_owned)).collect()
}

pub fn text(response: &Response) -> String {
    let json = response.json();
    json["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("no text: {json}")).to_owned()
}

/// A session of the legacy era: its header fields.
pub fn open(client: &mut Client) -> Vec<(&'static str, String)> {
    let answer = client.ask(client::initialize("2025-06-18"));
    let session = answer.header("mcp-session-id").expect("a session").to_owned();
    let fields = vec![("mcp-session-id", session), ("mcp-protocol-version", "2025-06-18".to_owned())];
    assert_eq!(ask(client, &fields, r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).status, 202);
    fields
}

pub fn ask(client: &mut Client, fields: &[(&'static str, String)], body: &str) -> Response {
    let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    client.ask(post(&fields, body))
}

#[test]
fn clients_of_either_era_reach_servers_of_either_era() {
    for era in ["modern", "legacy", "both"] {
        let back = Server::start(&["--era", era]);
        let front = Front::start(&[("back", back.address())]);
        front.wait_for("echo");
        for _ in 0..4 {
            let mut client = front.connect();
            for round in 0..5 {
                assert_eq!(text(&client.ask(echo(round, "hello"))), "hello", "{era}");
            }
            let read = client.ask(modern(9, "resources/read", r#""uri":"ringhub://about""#)).json();
            assert!(read["result"]["contents"][0]["text"].as_str().is_some_and(|text| text.contains("ringhub")), "{read}");
            let session = open(&mut client);
            let call = r#"{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"name":"add","arguments":{"a":1,"b":2}}}"#;
            assert_eq!(text(&ask(&mut client, &session, call)), "3", "{era}");
        }
    }
}

#[test]
fn many_clients_get_their_own_answers() {
    let back = Server::start(&["--era", "legacy"]);
    let front = Front::start(&[("back", back.address())]);
    front.wait_for("echo");
    thread::scope(|scope| {
        for who in 0..16 {
            let front = &front;
            scope.spawn(move || {
                let mut client = front.connect();
                for round in 0..50 {
                    let message = format!("{who} says {round}");
                    assert_eq!(text(&client.ask(echo(round, &message))), message);
                }
            });
        }
    });
}

#[test]
fn a_large_answer_passes_whole() {
    let back = Server::start(&[]);
    let front = Front::start(&[("back", back.address())]);
    front.wait_for("echo");
    let message = "x".repeat(2 * 1024 * 1024);
    assert!(text(&front.connect().ask(echo(1, &message))) == message);
}

#[test]
fn an_upstream_that_dies_is_named_and_the_others_serve_on() {
    let (dying, living) = (Server::start(&[]), Server::start(&["--era", "legacy"]));
    let address = dying.address();
    let front = Front::start(&[("dying", address), ("living", living.address())]);
    front.wait_for("dying.echo");
    front.wait_for("living.echo");
    let call = |tool: &str| modern(1, "tools/call", &format!(r#""name":"{tool}","arguments":{{"message":"hello"}}"#));
    let mut client = front.connect();
    assert_eq!(text(&client.ask(call("dying.echo"))), "hello");
    dying.kill();
    until("it is said to be gone", || {
        let answer = front.connect().ask(call("dying.echo"));
        let message = answer.json()["error"]["message"].as_str().unwrap_or_default().to_owned();
        assert_eq!(answer.status, 200, "{}", answer.body);
        message.contains("The server dying ")
    });
    assert_eq!(text(&client.ask(call("living.echo"))), "hello");
    assert!(tools(&mut client).contains(&"dying.echo".to_owned()), "its tools stay listed");
    let _again = Server::start(&["--listen", &address.to_string()]);
    until("it serves again", || front.connect().ask(call("dying.echo")).json()["result"].is_object());
}

/// Takes connections and does with each what `serve` does.
fn listen(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = Arc::clone(&serve);
            thread::spawn(move || serve(stream));
        }
    });
    address
}

/// Reads one request; its body, or none at the end.
pub fn request(stream: &mut TcpStream) -> Option<String> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ").map(str::to_owned));
            let length: usize = length.map_or(0, |length| length.parse().expect("a length"));
            if bytes.len() >= end + 4 + length {
                return Some(String::from_utf8_lossy(&bytes[end + 4..end + 4 + length]).into_owned());
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return None,
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
        }
    }
}

/// A modern upstream with one tool `t`, whose calls `answer` answers.
pub fn scripted(answer: impl Fn(&mut TcpStream, &str) + Send + Sync + 'static) -> SocketAddr {
    listen(move |mut stream| {
        while let Some(body) = request(&mut stream) {
            let json: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
            let id = json["id"].to_string();
            let result = match json["method"].as_str() {
                Some("server/discover") => {
                    r#"{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"resultType":"complete","ttlMs":0,"cacheScope":"private"}"#
                }
                Some("tools/list") => {
                    r#"{"tools":[{"name":"t","inputSchema":{"type":"object"}}],"resultType":"complete","ttlMs":0,"cacheScope":"private"}"#
                }
                _ => {
                    answer(&mut stream, &id);
                    continue;
                }
            };
            let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
            if stream.write_all(format!("{head}{body}").as_bytes()).is_err() {
                return;
            }
        }
    })
}

#[test]
fn upstreams_that_misbehave_cost_their_callers_an_error() {
    type Answer = fn(&mut TcpStream, &str);
    let cases: [(&str, Answer, &str); 5] = [
        ("hung", |stream, _| drop(stream.read(&mut [0; 1])), "did not answer in time"),
        ("closing", |stream, _| stream.shutdown(std::net::Shutdown::Both).expect("it is open"), "closed the connection"),
        ("garbage", |stream, _| drop(stream.write_all(b"what?\r\n\r\n")), "cannot be understood"),
        (
            "endless",
            |stream, _| {
                let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 10000000000\r\n\r\n";
                let mut sent = stream.write_all(head.as_bytes());
                while sent.is_ok() {
                    sent = stream.write_all(&[b' '; 65536]);
                }
            },
            "larger answer",
        ),
        (
            "halfway",
            |stream, _| {
                let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: {\"jsonrpc\":";
                drop(stream.write_all(head.as_bytes()));
                stream.shutdown(std::net::Shutdown::Both).expect("it is open");
            },
            "closed the connection",
        ),
    ];
    let addresses: Vec<_> = cases.iter().map(|(name, answer, _)| (*name, scripted(*answer))).collect();
    let front = Front::start(&addresses);
    for (name, _, why) in cases {
        let tool = format!("{name}.t");
        front.wait_for(&tool);
        let began = Instant::now();
        let answer = front.connect().ask(modern(1, "tools/call", &format!(r#""name":"{tool}","arguments":{{}}"#)));
        let message = answer.json()["error"]["message"].as_str().unwrap_or_default().to_owned();
        assert!(
            answer.status == 200 && message.contains(&format!("The server {name} ")) && message.contains(why),
            "{name}: {}",
            answer.body
        );
        assert!(began.elapsed() < Duration::from_secs(15), "{name} held its caller up");
    }
}

#[test]
fn what_an_upstream_says_on_the_way_arrives_on_the_way() {
    let (told, tell) = std::sync::mpsc::sync_channel::<()>(0);
    let tell = std::sync::Mutex::new(tell);
    let address = scripted(move |stream, id| {
        let progress = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"p","progress":1}}"#;
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
        stream.write_all(format!("{head}data: {progress}\n\n").as_bytes()).expect("it is read");
        // The client has heard of it.
        tell.lock().expect("no panic").recv_timeout(Duration::from_secs(10)).expect("the client hears of it");
        let result = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[],"resultType":"complete"}}}}"#);
        stream.write_all(format!("data: {result}\n\n").as_bytes()).expect("it is read");
        stream.shutdown(std::net::Shutdown::Both).expect("it is open");
    });
    let front = Front::start(&[("slow", address)]);
    front.wait_for("t");
    let mut client = front.connect();
    client.send(modern_with(1, "tools/call", r#""name":"t","arguments":{}"#, r#""progressToken":"p","#));
    let (status, headers) = client.head().expect("a head");
    assert!(status == 200 && headers.iter().any(|(name, value)| name == "content-type" && value == "text/event-stream"), "{headers:?}");
    let first = String::from_utf8(client.chunk().expect("a chunk").expect("an event")).expect("UTF-8");
    assert!(first.contains("notifications/progress"), "{first}");
    told.send(()).expect("the upstream waits");
    let second = String::from_utf8(client.chunk().expect("a chunk").expect("an event")).expect("UTF-8");
    assert!(second.contains(r#""resultType":"complete""#), "{second}");
    assert_eq!(client.chunk().expect("the end"), None);
}

/// A server of the handshake over standard input and output. It says which process it is.
pub const SCRIPT: &str = r#"
say() { printf '%s\n' "{\"jsonrpc\":\"2.0\",\"id\":$id,$1}"; }
echo "this is no message"
while read -r line; do
    id=${line#*\"id\":}; id=${id%%,*}
    case $line in
        *server/discover*) say '"error":{"code":-32601,"message":"unknown"}' ;;
        *'"initialize"'*) say '"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"script","version":"1"}}' ;;
        *tools/list*) say '"result":{"tools":[{"name":"echo","inputSchema":{"type":"object"}},{"name":"die","inputSchema":{"type":"object"}}]}' ;;
        *'"name":"die"'*) exit 3 ;;
        *tools/call*) text=${line#*\"message\":\"}; text=${text%%\"*}; say "\"result\":{\"content\":[{\"type\":\"text\",\"text\":\"$text from $$\"}]}" ;;
    esac
done
"#;

#[test]
fn one_process_serves_all_and_is_started_again_when_it_dies() {
    let front = Front::start_script("script", SCRIPT);
    front.wait_for("echo");
    let processes: Vec<String> = thread::scope(|scope| {
        let ask = |who: usize| {
            let front = &front;
            scope.spawn(move || {
                let mut client = front.connect();
                let mut process = String::new();
                for round in 0..20 {
                    let said = text(&client.ask(echo(1, &format!("{who}-{round}"))));
                    let (message, pid) = said.split_once(" from ").expect("a process");
                    assert_eq!(message, format!("{who}-{round}"));
                    pid.clone_into(&mut process);
                }
                process
            })
        };
        let asking: Vec<_> = (0..8).map(ask).collect();
        asking.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    assert!(processes.iter().all(|process| *process == processes[0]), "{processes:?}");
    let mut client = front.connect();
    let died = client.ask(modern(1, "tools/call", r#""name":"die","arguments":{}"#));
    assert!(died.status == 200 && died.body.contains("The server script cannot be reached: it exited with code 3"), "{}", died.body);
    until("it is there again", || front.connect().ask(echo(1, "x")).json()["result"].is_object());
    assert!(!text(&client.ask(echo(1, "x"))).contains(&processes[0]), "another process");
}

#[test]
fn the_flags_of_the_program_front_servers_beside_its_own() {
    let back = Server::start(&["--era", "legacy"]);
    let script = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(script.path(), SCRIPT).expect("it can be written");
    let url = format!("back=http://{}/mcp", back.address());
    let command = format!("script=stdio:sh {}", script.path().display());
    let front = Server::start(&["--upstream", &url, "--upstream", &command, "--cores", "2", "--no-pin"]);
    let mut client = Client::connect(front.address());
    until("both are listed", || {
        let tools = tools(&mut Client::connect(front.address()));
        ["back.echo", "script.echo", "ringhub.echo"].iter().all(|tool| tools.iter().any(|name| name == tool))
    });
    for (tool, said) in [("back.echo", "hello"), ("ringhub.echo", "hello"), ("script.echo", "hello from ")] {
        let answer = client.ask(modern(1, "tools/call", &format!(r#""name":"{tool}","arguments":{{"message":"hello"}}"#)));
        assert!(text(&answer).starts_with(said), "{tool}: {}", answer.body);
    }
    front.stop();
}

#[test]
fn a_node_is_ready_once_its_required_upstreams_were_seen() {
    let spare = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let config = tempfile::NamedTempFile::new().expect("a file");
    let text = format!("[[upstream]]\nname = \"back\"\nurl = \"http://{spare}/mcp\"\nrequired = true\nnames = \"plain\"\n");
    std::fs::write(config.path(), text).expect("it can be written");
    let front = Server::start(&["--config", &config.path().display().to_string(), "--cores", "2", "--no-pin"]);
    let ready = || Client::connect(front.admin()).ask("GET /health/ready HTTP/1.1\r\nhost: localhost\r\n\r\n").status;
    assert_eq!(ready(), 503);
    let _back = Server::start(&["--listen", &spare.to_string()]);
    until("it is ready", || ready() == 200);
    until("its tools keep their names", || tools(&mut Client::connect(front.address())).contains(&"add".to_owned()));
}
