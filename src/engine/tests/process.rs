//! Upstreams that are processes: one on one core, for the clients of all.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::client::{self, Client, text};
use super::cluster::{Cluster, Response, modern, modern_with, post};
use super::upstream::{front, settings};
use crate::base::ids::{ConnId, LinkId};
use crate::base::metrics::Counter;
use crate::gateway::link::{Command, Dial, Down, LinkEvent};
use crate::gateway::{RestartPolicy, Settings};

/// What a process is like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Modern,
    /// Answers what it does not know with an error.
    Legacy,
    /// Says nothing before it is initialized.
    Silent,
}

/// Cores that front a process which this test plays.
struct Stage {
    cluster: Cluster,
    kind: Kind,
    /// The process that runs.
    link: Option<(usize, LinkId)>,
    started: usize,
    /// What it was sent and answered in no way: calls of the tool `hold`.
    held: Vec<Value>,
    cancelled: Vec<Value>,
    /// Streams of changes that it was asked for.
    listens: Vec<Value>,
    /// The levels that it was told.
    levels: Vec<Value>,
    /// What it was asked about single resources.
    watched: Vec<(String, String)>,
    is_initialized: bool,
    /// It reads nothing.
    is_hung: bool,
}

impl Stage {
    fn new(cores: u16, kind: Kind) -> Self {
        Self::with(cores, kind, |_| ())
    }

    fn with(cores: u16, kind: Kind, set: impl FnOnce(&mut Settings)) -> Self {
        let command = Command { name: "p".into(), program: "p".into(), args: Box::default(), env: Box::default(), cwd: None };
        let mut settings = Settings { dial: Arc::new(Dial::Child(Box::new(command))), ..settings("p") };
        set(&mut settings);
        let mut stage = Self {
            cluster: Cluster::with_servers(cores, &front(vec![settings]), &[]),
            kind,
            link: None,
            started: 0,
            held: Vec::new(),
            cancelled: Vec::new(),
            listens: Vec::new(),
            watched: Vec::new(),
            levels: Vec::new(),
            is_initialized: false,
            is_hung: false,
        };
        stage.pass(Duration::from_secs(8));
        stage
    }

    fn pass(&mut self, duration: Duration) {
        for _ in 0..duration.as_millis() / 50 {
            self.cluster.pass(Duration::from_millis(50));
            self.play();
        }
    }

    /// Has the process read and answer until it has nothing left to do.
    fn play(&mut self) {
        loop {
            let running = self.cluster.links.iter().rfind(|(_, link)| !link.is_hung);
            let Some(at) = running.map(|(at, _)| *at).filter(|_| !self.is_hung) else { return };
            if self.link != Some(at) {
                (self.link, self.is_initialized) = (Some(at), false);
                self.started += 1;
                self.cluster.on_link(at.0, at.1, LinkEvent::Up);
            }
            let Some(link) = self.cluster.links.get_mut(&at) else { return };
            let fed = std::mem::take(&mut link.fed);
            if fed.is_empty() {
                return;
            }
            self.cluster.on_link(at.0, at.1, LinkEvent::Drained);
            for line in String::from_utf8(fed).expect("UTF-8").lines() {
                let message = serde_json::from_str(line).expect("a message a line");
                for answer in self.answer(&message) {
                    self.say(&answer.to_string());
                }
            }
        }
    }

    /// The process ends.
    fn end(&mut self, code: Option<i32>) {
        let (core, link) = self.link.expect("it runs");
        self.cluster.on_link(core, link, LinkEvent::End);
        self.cluster.links.remove(&(core, link));
        self.cluster.on_link(core, link, LinkEvent::Down(Down::Exited { code }));
    }

    fn say(&mut self, line: &str) {
        let (core, link) = self.link.expect("it runs");
        // In two pieces, behind something that is no message.
        let text = format!("starting...\n{line}\n");
        let (one, two) = text.split_at(text.len() / 2);
        self.cluster.on_link(core, link, LinkEvent::Bytes(one.as_bytes()));
        self.cluster.on_link(core, link, LinkEvent::Bytes(two.as_bytes()));
    }

    fn answer(&mut self, message: &Value) -> Vec<Value> {
        let (id, params) = (&message["id"], &message["params"]);
        let result = |result: Value| vec![json!({"jsonrpc": "2.0", "id": id, "result": result})];
        let is_modern = self.kind == Kind::Modern;
        let capabilities = json!({"tools": {"listChanged": true}, "resources": {"subscribe": true}, "logging": {}});
        match message["method"].as_str().unwrap_or_default() {
            "notifications/cancelled" => {
                self.cancelled.push(params["requestId"].clone());
                Vec::new()
            }
            "notifications/initialized" => {
                self.is_initialized = true;
                Vec::new()
            }
            "initialize" if !is_modern => {
                result(json!({"protocolVersion": "2025-06-18", "capabilities": capabilities, "serverInfo": {"name": "p", "version": "1"}}))
            }
            _ if self.kind == Kind::Silent && !self.is_initialized => Vec::new(),
            "server/discover" if is_modern => result(json!({"supportedVersions": ["2026-07-28"], "capabilities": capabilities})),
            "subscriptions/listen" if is_modern => {
                self.listens.push(message.clone());
                let params = json!({"notifications": params["notifications"], "_meta": {"io.modelcontextprotocol/subscriptionId": id}});
                vec![json!({"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": params})]
            }
            "logging/setLevel" if self.is_initialized => {
                self.levels.push(params["level"].clone());
                result(json!({}))
            }
            "resources/list" if is_modern || self.is_initialized => result(json!({"resources": [{"uri": "a:1", "name": "one"}]})),
            method @ ("resources/subscribe" | "resources/unsubscribe") if self.is_initialized => {
                self.watched.push((method.to_owned(), params["uri"].as_str().unwrap_or_default().to_owned()));
                result(json!({}))
            }
            "tools/list" if is_modern || self.is_initialized => result(
                json!({"tools": [{"name": "echo", "inputSchema": {"type": "object"}}, {"name": "hold", "inputSchema": {"type": "object"}}]}),
            ),
            "ping" => result(json!({})),
            "tools/call" if params["name"] == "hold" => {
                self.held.push(message.clone());
                Vec::new()
            }
            "tools/call" => {
                let mut said = Vec::new();
                if let Some(token) = params["_meta"].get("progressToken") {
                    said.push(
                        json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": token, "progress": 1}}),
                    );
                }
                said.extend(result(
                    json!({"content": [{"type": "text", "text": params["arguments"]["message"]}], "resultType": "complete"}),
                ));
                said
            }
            _ => vec![json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32601, "message": "no"}})],
        }
    }

    fn exchange(&mut self, conn: ConnId, request: &[u8]) -> Response {
        self.cluster.send(conn, request);
        self.play();
        self.cluster.take(conn)
    }
}

fn echo(message: &str) -> String {
    format!(r#""name":"echo","arguments":{{"message":"{message}"}}"#)
}

#[test]
fn one_process_serves_the_clients_of_all_cores() {
    for kind in [Kind::Modern, Kind::Legacy, Kind::Silent] {
        let mut stage = Stage::new(3, kind);
        assert_eq!(stage.started, 1, "{kind:?}");
        for core in 0..3 {
            let conn = stage.cluster.connect(core);
            let params = echo(&format!("from {core}"));
            let plain = stage.exchange(conn, &modern("tools/call", Some("echo"), &params)).json();
            assert_eq!((text(&plain), &plain["id"]), (&*format!("from {core}"), &json!(1)), "{kind:?} {plain}");
            assert_eq!(plain["result"]["resultType"], "complete");
            let told = stage.exchange(conn, &modern_with("tools/call", Some("echo"), &params, r#","progressToken":"mine""#, "{}", ""));
            let events = told.events();
            assert_eq!(events[0]["params"]["progressToken"], "mine", "{kind:?} {events:?}");
            assert_eq!(events[1]["id"], 1);
        }
        let session = Client::open(&mut stage.cluster, "2025-11-25");
        let called = client::request("\"x\"", "tools/call", &format!("{{{}}}", echo("old")));
        let called = stage.exchange(session.conn, &post(&session.headers(), &called)).json();
        assert_eq!((text(&called), &called["id"]), ("old", &json!("x")), "{kind:?}");
        assert_eq!(stage.started, 1);
    }
}

#[test]
fn answers_find_their_callers_and_cancelled_calls_reach_the_process() {
    let mut stage = Stage::new(2, Kind::Modern);
    let conns = [0, 1].map(|core| stage.cluster.connect(core));
    for conn in conns {
        // Both have the same id.
        assert!(stage.exchange(conn, &modern("tools/call", Some("hold"), r#""name":"hold""#)).head.is_empty());
    }
    let ids: Vec<Value> = stage.held.iter().map(|held| held["id"].clone()).collect();
    assert_ne!(ids[0], ids[1]);
    stage.cluster.gone(conns[1]);
    stage.play();
    assert_eq!(stage.cancelled, [ids[1].clone()]);
    stage.say(&json!({"jsonrpc": "2.0", "id": ids[1], "result": {"content": []}}).to_string());
    stage.say(&json!({"jsonrpc": "2.0", "id": ids[0], "result": {"content": [], "resultType": "complete", "x": "for 0"}}).to_string());
    assert_eq!(stage.cluster.take(conns[0]).json()["result"]["x"], "for 0");
    // One that takes too long is called off, too.
    stage.exchange(conns[0], &modern("tools/call", Some("hold"), r#""name":"hold""#));
    stage.pass(Duration::from_secs(3));
    let late = stage.cluster.take(conns[0]).json();
    assert!(late["error"]["message"].as_str().is_some_and(|message| message.contains("The server p did not answer in time")), "{late}");
    assert_eq!(stage.cancelled.last(), stage.held.last().map(|held| &held["id"]));
}

#[test]
fn a_process_that_dies_is_started_again() {
    for kind in [Kind::Modern, Kind::Legacy] {
        let mut stage = Stage::new(2, kind);
        let conns = [0, 1].map(|core| stage.cluster.connect(core));
        for conn in conns {
            stage.exchange(conn, &modern("tools/call", Some("hold"), r#""name":"hold""#));
        }
        stage.end(Some(3));
        for conn in conns {
            let failed = stage.cluster.take(conn).json();
            let message = failed["error"]["message"].as_str().unwrap_or_default();
            assert!(message.contains("The server p cannot be reached: it exited with code 3"), "{kind:?} {failed}");
        }
        stage.pass(Duration::from_secs(1));
        assert_eq!(stage.started, 2, "{kind:?}");
        for conn in conns {
            assert_eq!(text(&stage.exchange(conn, &modern("tools/call", Some("echo"), &echo("again"))).json()), "again");
        }
    }
}

/// Whether the client was told that the resource changed.
fn is_told(stage: &mut Stage, conn: ConnId) -> bool {
    stage.pass(Duration::from_millis(200));
    let events = stage.cluster.take(conn).events();
    events.iter().any(|event| event["method"] == "notifications/resources/updated" && event["params"]["uri"] == "a:1")
}

#[test]
fn listens_of_a_process_are_told_apart_and_opened_again() {
    let mut stage = Stage::new(2, Kind::Modern);
    let before = stage.listens.len();
    let filter = r#"{"resourceSubscriptions":["a:1"]}"#;
    let conn = super::listening::listen(&mut stage.cluster, 0, "1", filter);
    let other = super::listening::listen(&mut stage.cluster, 1, "1", filter);
    stage.pass(Duration::from_millis(500));
    assert_eq!(stage.listens.len(), before + 1, "one stream for all");
    let named = |stage: &Stage| stage.listens.last().map(|listen| listen["params"]["notifications"]["resourceSubscriptions"].clone());
    assert_eq!(named(&stage), Some(json!(["a:1"])));
    // The one before is called off once the new one is acknowledged.
    assert_eq!(stage.cancelled, [stage.listens[before - 1]["id"].clone()]);
    let updated = |id: &Value| {
        let meta = json!({"io.modelcontextprotocol/subscriptionId": id});
        json!({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": "a:1", "_meta": meta}}).to_string()
    };
    let (old, new) = (stage.listens[before - 1]["id"].clone(), stage.listens[before]["id"].clone());
    stage.say(&updated(&old));
    assert!(!is_told(&mut stage, conn), "nobody listens there");
    stage.say(&updated(&new));
    assert!(is_told(&mut stage, conn) && is_told(&mut stage, other));
    // It calls the stream off.
    stage.say(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": new}}).to_string());
    stage.pass(Duration::from_secs(2));
    assert_eq!((stage.listens.len(), named(&stage)), (before + 2, Some(json!(["a:1"]))));
    // It ends, and is started again.
    let (core, link) = stage.link.expect("it runs");
    stage.cluster.links.remove(&(core, link));
    stage.cluster.on_link(core, link, LinkEvent::Down(Down::Exited { code: Some(3) }));
    stage.pass(Duration::from_secs(2));
    assert_eq!((stage.started, named(&stage)), (2, Some(json!(["a:1"]))));
    let id = stage.listens.last().expect("a stream")["id"].clone();
    stage.say(&updated(&id));
    assert!(is_told(&mut stage, conn));
}

/// What a client was told that was logged.
fn logged(stage: &mut Stage, conn: ConnId) -> Vec<Value> {
    stage.pass(Duration::from_millis(100));
    let events = stage.cluster.take(conn).events();
    events.iter().filter(|event| event["method"] == "notifications/message").map(|event| event["params"]["data"].clone()).collect()
}

#[test]
fn what_a_process_logs_reaches_whom_it_is_for_and_nobody_else() {
    let mut stage = Stage::new(2, Kind::Legacy);
    let log = |level: &str, data: &str| {
        json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": level, "data": data}}).to_string()
    };
    let sessions = [0, 1].map(|core| Client::open_with(&mut stage.cluster, core, "2025-11-25", "{}"));
    let streams: Vec<ConnId> = sessions.iter().map(|client| client.get(&mut stage.cluster, None).0).collect();
    let level = client::request("4", "logging/setLevel", r#"{"level":"warning"}"#);
    assert_eq!(sessions[1].post(&mut stage.cluster, &level).status, 200);
    // It is about the server itself: for those who have asked for the level.
    stage.say(&log("error", "a"));
    stage.say(&log("info", "b"));
    assert_eq!(logged(&mut stage, streams[0]), [] as [Value; 0], "it has asked for nothing");
    assert_eq!(logged(&mut stage, streams[1]), ["a"]);
    assert!(stage.levels.is_empty());
    // A request asks for more: the process is told before it sees the request, and it alone hears what is said meanwhile.
    let conn = stage.cluster.connect(1);
    let hold = |level: &str| {
        let level = format!(r#","io.modelcontextprotocol/logLevel":"{level}""#);
        modern_with("tools/call", Some("hold"), r#""name":"hold""#, &level, "{}", "")
    };
    stage.exchange(conn, &hold("info"));
    stage.pass(Duration::from_millis(100));
    assert_eq!((&*stage.levels, stage.held.len()), (&[json!("info")][..], 1));
    stage.say(&log("info", "c"));
    stage.say(&log("debug", "d"));
    assert_eq!(logged(&mut stage, conn), ["c"]);
    assert_eq!(logged(&mut stage, streams[1]), [] as [Value; 0]);
    // Of two requests nobody knows which one it is about.
    let other = stage.cluster.connect(0);
    stage.exchange(other, &hold("warning"));
    stage.pass(Duration::from_millis(100));
    assert_eq!((stage.levels.len(), stage.held.len()), (1, 2), "it logs that already");
    stage.say(&log("error", "e"));
    for conn in [conn, other, streams[1]] {
        assert_eq!(logged(&mut stage, conn), [] as [Value; 0]);
    }
}

#[test]
fn a_legacy_process_is_asked_for_each_resource() {
    let mut stage = Stage::new(2, Kind::Legacy);
    let conn = super::listening::listen(&mut stage.cluster, 1, "1", r#"{"resourceSubscriptions":["a:1"]}"#);
    stage.pass(Duration::from_millis(200));
    let subscribed = ("resources/subscribe".to_owned(), "a:1".to_owned());
    assert_eq!(stage.watched, std::slice::from_ref(&subscribed));
    let updated = r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"a:1"}}"#;
    stage.say(updated);
    assert!(is_told(&mut stage, conn));
    let (core, link) = stage.link.expect("it runs");
    stage.cluster.links.remove(&(core, link));
    stage.cluster.on_link(core, link, LinkEvent::Down(Down::Exited { code: Some(3) }));
    stage.pass(Duration::from_secs(2));
    assert_eq!(stage.watched, [subscribed.clone(), subscribed], "the next one is asked again");
    stage.say(updated);
    assert!(is_told(&mut stage, conn));
    stage.cluster.gone(conn);
    stage.pass(Duration::from_millis(200));
    assert_eq!(stage.watched.last(), Some(&("resources/unsubscribe".to_owned(), "a:1".to_owned())));
}

#[test]
fn what_a_process_asks_is_answered_by_the_gateway() {
    let mut stage = Stage::new(1, Kind::Legacy);
    stage.say(r#"{"jsonrpc":"2.0","id":"a","method":"ping"}"#);
    stage.say(r#"{"jsonrpc":"2.0","id":9,"method":"roots/list"}"#);
    let link = stage.cluster.links.get(&stage.link.expect("it runs")).expect("it runs");
    let fed = String::from_utf8_lossy(&link.fed).into_owned();
    assert!(
        fed.starts_with("{\"jsonrpc\":\"2.0\",\"id\":\"a\",\"result\":{}}\n") && fed.contains(r#""id":9,"error":{"code":-32601"#),
        "{fed}"
    );
}

#[test]
fn a_line_without_an_end_ends_the_process() {
    let mut stage = Stage::new(1, Kind::Modern);
    let (core, link) = stage.link.expect("it runs");
    let piece = vec![b'x'; 1024 * 1024];
    while stage.cluster.links.get(&(core, link)).is_some_and(|link| !link.is_hung) {
        stage.cluster.on_link(core, link, LinkEvent::Bytes(&piece));
    }
    stage.cluster.links.remove(&(core, link));
    stage.pass(Duration::from_secs(1));
    assert_eq!(stage.started, 2);
}

#[test]
fn a_process_that_says_nothing_more_is_ended() {
    let mut stage = Stage::new(1, Kind::Modern);
    let (core, link) = stage.link.expect("it runs");
    stage.cluster.on_link(core, link, LinkEvent::End);
    let conn = stage.cluster.connect(0);
    assert_eq!(stage.exchange(conn, &modern("tools/call", Some("echo"), &echo("x"))).code(), -32603);
    stage.cluster.pass(Duration::from_secs(2));
    assert!(stage.cluster.links.remove(&(core, link)).is_some_and(|link| link.is_hung));
    stage.pass(Duration::from_secs(1));
    assert_eq!(stage.started, 2);
}

#[test]
fn a_process_that_hangs_is_ended_and_started_again() {
    for kind in [Kind::Modern, Kind::Legacy, Kind::Silent] {
        let mut stage = Stage::new(2, kind);
        let hung = stage.link.expect("it runs");
        stage.is_hung = true;
        let conns = [0, 1].map(|core| stage.cluster.connect(core));
        // A request of a client that is not answered alone ends nothing...
        for conn in conns {
            stage.exchange(conn, &modern("tools/call", Some("echo"), &echo("lost")));
        }
        stage.pass(Duration::from_secs(3));
        for conn in conns {
            let late = stage.cluster.take(conn).json();
            assert!(
                late["error"]["message"].as_str().is_some_and(|message| message.contains("The server p did not answer in time")),
                "{late}"
            );
        }
        assert!(!stage.cluster.links[&hung].is_hung, "{kind:?}");
        // ...but checks that are not answered either do, and what is in work then is told.
        stage.pass(Duration::from_secs(2));
        stage.exchange(conns[0], &modern("tools/call", Some("echo"), &echo("lost")));
        stage.pass(Duration::from_millis(1500));
        let told = stage.cluster.take(conns[0]).json();
        let message = told["error"]["message"].as_str().unwrap_or_default();
        assert!(message.contains("The server p answered nothing for so long that it was ended"), "{kind:?} {told}");
        assert!(stage.cluster.links.remove(&hung).is_some_and(|link| link.is_hung), "{kind:?}");
        stage.is_hung = false;
        // It is given time to end before the next is started.
        assert_eq!(stage.started, 1, "{kind:?}");
        stage.pass(Duration::from_secs(8));
        assert_eq!(stage.started, 2, "{kind:?}");
        assert_eq!(text(&stage.exchange(conns[0], &modern("tools/call", Some("echo"), &echo("again"))).json()), "again");
    }
}

#[test]
fn a_process_that_is_busy_is_left_to_its_work() {
    let mut stage = Stage::with(1, Kind::Legacy, |settings| {
        (settings.first_byte_timeout, settings.total_timeout) = (Duration::from_secs(100), Duration::from_secs(100));
    });
    let conn = stage.cluster.connect(0);
    stage.exchange(conn, &modern("tools/call", Some("hold"), r#""name":"hold""#));
    stage.is_hung = true;
    stage.pass(Duration::from_secs(80));
    assert!(!stage.cluster.links[&stage.link.expect("it runs")].is_hung);
    stage.is_hung = false;
    let id = stage.held[0]["id"].clone();
    stage.say(&json!({"jsonrpc": "2.0", "id": id, "result": {"content": [], "x": "done"}}).to_string());
    assert_eq!(stage.cluster.take(conn).json()["result"]["x"], "done");
}

#[test]
fn a_lazy_process_sleeps_and_wakes_without_an_error() {
    for kind in [Kind::Modern, Kind::Legacy, Kind::Silent] {
        let mut stage = Stage::with(2, kind, |settings| {
            settings.options.is_lazy = true;
            settings.options.reap_after = Duration::from_secs(30);
        });
        let conns = [0, 1].map(|core| stage.cluster.connect(core));
        for round in 1..=3 {
            let ended = stage.link.expect("it was started");
            assert!(stage.cluster.links.remove(&ended).is_some_and(|link| link.is_hung), "{kind:?} {round}");
            let list = stage.exchange(conns[1], &modern("tools/list", None, "")).json();
            assert_eq!(list["result"]["tools"][0]["name"], "echo", "{kind:?} {list}");
            // Nobody needs it, and nobody asks it anything.
            stage.pass(Duration::from_secs(100));
            assert_eq!((stage.started, stage.cluster.links.len()), (round, 0), "{kind:?}");
            for conn in conns {
                assert_eq!(
                    text(&stage.exchange(conn, &modern("tools/call", Some("echo"), &echo("hello"))).json()),
                    "hello",
                    "{kind:?} {round}"
                );
            }
            stage.pass(Duration::from_secs(25));
            assert_eq!(text(&stage.exchange(conns[0], &modern("tools/call", Some("echo"), &echo("hello"))).json()), "hello");
            stage.pass(Duration::from_secs(25));
            assert_eq!((stage.started, stage.cluster.links.len()), (round + 1, 1), "{kind:?}: it is kept while it is needed");
            stage.pass(Duration::from_secs(10));
        }
        // To say nothing to what it does not know is no better.
        let failures: u64 = stage.cluster.shared.metrics().iter().map(|core| core.counter(Counter::UpstreamFailures)).sum();
        assert_eq!(failures, u64::from(kind == Kind::Silent), "{kind:?}");
    }
}

#[test]
fn a_lazy_process_that_ends_of_itself_sleeps_and_one_that_fails_is_started_again() {
    for (code, is_started) in [(0, false), (1, true)] {
        let mut stage = Stage::with(1, Kind::Modern, |settings| {
            settings.options.is_lazy = true;
            settings.options.reap_after = Duration::from_secs(300);
        });
        stage.cluster.links.clear();
        let conn = stage.cluster.connect(0);
        assert_eq!(text(&stage.exchange(conn, &modern("tools/call", Some("echo"), &echo("hello"))).json()), "hello");
        stage.pass(Duration::from_secs(1));
        stage.end(Some(code));
        stage.pass(Duration::from_secs(5));
        assert_eq!(stage.started, if is_started { 3 } else { 2 }, "{code}");
        assert_eq!(text(&stage.exchange(conn, &modern("tools/call", Some("echo"), &echo("hello"))).json()), "hello");
    }
}

#[test]
fn policies_say_whether_it_is_started_again() {
    for (policy, code, is_started) in [
        (RestartPolicy::Always, Some(0), true),
        (RestartPolicy::OnFailure, Some(0), false),
        (RestartPolicy::OnFailure, None, true),
        (RestartPolicy::Never, Some(3), false),
    ] {
        let mut stage = Stage::with(1, Kind::Modern, |settings| settings.options.restart = policy);
        stage.end(code);
        stage.pass(Duration::from_secs(100));
        assert_eq!(stage.started, if is_started { 2 } else { 1 }, "{policy:?} {code:?}");
        let conn = stage.cluster.connect(0);
        let answer = stage.exchange(conn, &modern("tools/call", Some("echo"), &echo("hello"))).json();
        if is_started {
            assert_eq!(text(&answer), "hello");
        } else {
            assert_eq!(answer["error"]["message"], "The server p is not connected", "{answer}");
            assert_eq!(stage.exchange(conn, &modern("tools/list", None, "")).json()["result"]["tools"][0]["name"], "echo");
        }
    }
}
