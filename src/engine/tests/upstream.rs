//! Calls that lead to upstreams: a cluster whose links end at another cluster, and upstreams that say what a test has them say.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::client::{self, Client, text};
use super::cluster::{Cluster, Response, config, modern, modern_with};
use super::fixture;
use crate::base::ids::{ConnId, LinkId};
use crate::engine::{Endpoint, EngineConfig, Eras};
use crate::gateway::link::{Dial, Down, LinkEvent};
use crate::gateway::{Dialect, Settings, Starts};

/// An upstream of this name, with short patience.
pub fn settings(name: &str) -> Settings {
    Settings {
        name: name.into(),
        url: format!("http://{name}.test/mcp").into(),
        dial: Arc::new(Dial::Tcp { host: format!("{name}.test").into(), port: 80, tls: false }),
        starts: Starts::new("/mcp", "localhost", &[("Authorization".into(), "Bearer up".into())]).expect("what can be sent"),
        dialect: Dialect::Auto,
        connect_timeout: Duration::from_secs(1),
        first_byte_timeout: Duration::from_secs(2),
        idle_timeout: Duration::from_secs(5),
        total_timeout: Duration::from_secs(20),
        in_flight_max: 4,
        queued_max: 2,
        idle_links_max: 2,
        retries: true,
        options: crate::gateway::config::Options::default(),
    }
}

/// A node that fronts these, alone at `/mcp`.
pub fn front(upstreams: Vec<Settings>) -> EngineConfig {
    let names = upstreams.iter().map(|settings| settings.name.clone()).collect();
    let mut config = config();
    config.endpoints = vec![Endpoint { path: "/mcp".into(), servers: Box::default(), upstreams: names }];
    config.upstreams = upstreams.into();
    config
}

/// A front and what is behind it.
pub struct Pair {
    pub front: Cluster,
    pub back: Cluster,
    conns: BTreeMap<(usize, LinkId), ConnId>,
}

impl Pair {
    pub fn new(cores: u16, dialect: Dialect, era: Eras) -> Self {
        Self::of(cores, &front(vec![Settings { dialect, ..settings("u") }]), era)
    }

    /// All of these lead to what is behind.
    pub fn with(cores: u16, upstreams: Vec<Settings>, era: Eras) -> Self {
        Self::of(cores, &front(upstreams), era)
    }

    pub fn of(cores: u16, front: &EngineConfig, era: Eras) -> Self {
        let back = EngineConfig { era, ..config() };
        let mut pair =
            Self { front: Cluster::with_servers(cores, front, &[]), back: Cluster::new(1, &back, fixture::server), conns: BTreeMap::new() };
        pair.pass(Duration::from_millis(500));
        pair
    }

    /// Another takes the place of what is behind: every connection is gone.
    pub fn replace(&mut self, back: Cluster) {
        self.back = back;
        let links: Vec<_> = self.front.links.keys().copied().collect();
        for (core, link) in links {
            self.front.on_link(core, link, LinkEvent::Down(Down::Reset));
        }
        self.front.links.clear();
        self.conns.clear();
    }

    /// What is behind sees every connection gone.
    pub fn disconnect(&mut self) {
        self.front.links.clear();
        for conn in std::mem::take(&mut self.conns).into_values() {
            if self.back.is_open(conn) {
                self.back.gone(conn);
            }
        }
    }

    /// Carries bytes to and fro until none are left.
    fn pump(&mut self) {
        for _ in 0..10_000 {
            let mut is_idle = true;
            let links: Vec<_> = self.front.links.keys().copied().collect();
            for (core, link) in links {
                let conn = *self.conns.entry((core, link)).or_insert_with(|| {
                    is_idle = false;
                    self.back.connect(0)
                });
                let state = self.front.links.get_mut(&(core, link)).expect("a link");
                if state.is_hung {
                    self.front.links.remove(&(core, link));
                    if self.back.is_open(conn) {
                        self.back.gone(conn);
                    }
                    continue;
                }
                let fed = std::mem::take(&mut state.fed);
                if !fed.is_empty() {
                    is_idle = false;
                    self.front.on_link(core, link, LinkEvent::Up);
                    self.front.on_link(core, link, LinkEvent::Drained);
                    self.back.send(conn, &fed);
                }
                let said = self.back.take_raw(conn);
                if !said.is_empty() {
                    is_idle = false;
                    self.front.on_link(core, link, LinkEvent::Bytes(said.as_bytes()));
                }
            }
            if is_idle {
                return;
            }
        }
        panic!("they do not come to rest");
    }

    pub fn pass(&mut self, duration: Duration) {
        let step = Duration::from_millis(20);
        let mut left = duration;
        while !left.is_zero() {
            let now = step.min(left);
            self.front.pass(now);
            self.back.pass(now);
            self.pump();
            left -= now;
        }
    }

    pub fn exchange(&mut self, conn: ConnId, request: &[u8]) -> Response {
        self.front.send(conn, request);
        self.pump();
        self.front.take(conn)
    }
}

fn echo(message: &str) -> String {
    format!(r#""name":"echo","arguments":{{"message":"{message}"}}"#)
}

#[test]
fn what_an_upstream_has_is_found_and_listed() {
    for era in [Eras::Modern, Eras::Legacy, Eras::Both] {
        for cores in [1, 3] {
            let mut pair = Pair::new(cores, Dialect::Auto, era);
            let conn = pair.front.connect(usize::from(cores) - 1);
            let list = pair.exchange(conn, &modern("tools/list", None, "")).json();
            let names: Vec<_> = list["result"]["tools"].as_array().expect("tools").iter().map(|tool| tool["name"].as_str()).collect();
            assert!(names.contains(&Some("echo")) && names.len() > 10, "{era:?} {list}");
            let discovered = pair.exchange(conn, &modern("server/discover", None, "")).json();
            assert_eq!(discovered["result"]["instructions"], "Be kind", "{discovered}");
        }
    }
}

#[test]
fn a_modern_client_reaches_an_upstream_of_either_era() {
    for era in [Eras::Modern, Eras::Legacy] {
        let mut pair = Pair::new(2, Dialect::Auto, era);
        for core in [0, 1] {
            let conn = pair.front.connect(core);
            for round in 0..3 {
                let called = pair.exchange(conn, &modern("tools/call", Some("echo"), &echo(&format!("hello {round}"))));
                assert_eq!((called.status, text(&called.json())), (200, &*format!("hello {round}")), "{era:?}");
                let result = &called.json()["result"];
                assert_eq!(result["resultType"], "complete");
                assert_eq!(result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "test", "{result}");
            }
            let read = pair.exchange(conn, &modern("resources/read", Some("test://text"), r#""uri":"test://text""#)).json();
            assert_eq!(read["result"]["contents"][0]["text"], "the text", "{read}");
            assert!(read["result"]["ttlMs"].is_u64(), "{read}");
            let got = pair.exchange(conn, &modern("prompts/get", Some("greet"), r#""name":"greet""#)).json();
            assert_eq!(got["result"]["messages"][0]["content"]["text"], "Say hello", "{got}");
            let failed = pair.exchange(conn, &modern("tools/call", Some("fail"), r#""name":"fail","arguments":{}"#)).json();
            assert_eq!(failed["result"]["isError"], true, "{failed}");
        }
        assert!(pair.front.links.len() <= 5, "links are used again: {}", pair.front.links.len());
    }
}

#[test]
fn a_legacy_client_reaches_an_upstream_of_either_era() {
    for era in [Eras::Modern, Eras::Legacy] {
        let mut pair = Pair::new(1, Dialect::Auto, era);
        let client = Client::open(&mut pair.front, "2025-06-18");
        for round in ["7", r#""seven""#] {
            let call = client::request(round, "tools/call", &format!("{{{}}}", echo("hello")));
            let called = pair.exchange(client.conn, &super::cluster::post(&client.headers(), &call)).json();
            assert_eq!((text(&called), called["id"].to_string().as_str()), ("hello", round), "{era:?}");
            assert!(called["result"].get("resultType").is_none() && called["result"].get("_meta").is_none(), "{called}");
        }
    }
}

#[test]
fn what_is_said_before_the_answer_comes_as_it_is_said() {
    for era in [Eras::Modern, Eras::Legacy] {
        let mut pair = Pair::new(1, Dialect::Auto, era);
        let conn = pair.front.connect(0);
        let params = r#""name":"steps","arguments":{}"#;
        pair.front.send(conn, &modern_with("tools/call", Some("steps"), params, r#","progressToken":"mine""#, "{}", ""));
        pair.pump();
        let first = pair.front.take(conn);
        assert!(first.is_open && first.events().len() == 1, "{era:?} {first:?}");
        assert_eq!(first.events()[0]["params"]["progressToken"], "mine");
        pair.pass(Duration::from_secs(1));
        let rest = pair.front.take(conn);
        assert!(!rest.is_open, "{rest:?}");
        let events = rest.events();
        assert_eq!(events.len(), 3, "{events:?}");
        assert_eq!(text(&events[2]), "stepped");

        let client = Client::open(&mut pair.front, "2025-03-26");
        pair.front.send(client.conn, &super::cluster::post(&client.headers(), &client::call("9", "steps")));
        pair.pump();
        pair.pass(Duration::from_secs(1));
        let events = pair.front.take(client.conn).events();
        assert_eq!(events.len(), 4, "{era:?} {events:?}");
        assert_eq!(events[0]["params"]["progressToken"], "p");
        assert_eq!((text(&events[3]), &events[3]["id"]), ("stepped", &serde_json::json!(9)));
    }
}

#[test]
fn a_client_that_is_gone_is_not_worked_for() {
    for era in [Eras::Modern, Eras::Legacy] {
        let mut pair = Pair::new(1, Dialect::Auto, era);
        let conn = pair.front.connect(0);
        pair.front.send(conn, &modern("tools/call", Some("forever"), r#""name":"forever","arguments":{}"#));
        pair.pump();
        assert!(!pair.back.engines[0].calls.is_empty());
        pair.front.gone(conn);
        pair.pump();
        assert!(pair.back.engines[0].calls.is_empty(), "{era:?}");
        assert!(pair.front.engines[0].is_idle());
    }
    // In the legacy era only a word calls a request off.
    for era in [Eras::Modern, Eras::Legacy] {
        let mut pair = Pair::new(1, Dialect::Auto, era);
        let client = Client::open(&mut pair.front, "2025-11-25");
        pair.front.send(client.conn, &super::cluster::post(&client.headers(), &client::call("9", "forever")));
        pair.pump();
        assert!(!pair.back.engines[0].calls.is_empty());
        let (_, cancelled) =
            client.post_aside(&mut pair.front, r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":9}}"#);
        assert_eq!(cancelled.status, 202);
        pair.pump();
        assert!(pair.back.engines[0].calls.is_empty() && pair.front.engines[0].calls.is_empty(), "{era:?}");
    }
}

#[test]
fn lists_that_change_are_looked_at_again() {
    for era in [Eras::Modern, Eras::Legacy] {
        let mut pair = Pair::new(1, Dialect::Auto, era);
        pair.pass(Duration::from_secs(1));
        assert_eq!(pair.back.engines[0].listens.len() + pair.back.engines[0].legacy.gets, 1, "the scout listens: {era:?}");
        let requests = pair.back.shared.metrics()[0].counter(crate::base::metrics::Counter::Requests);
        let conn = pair.front.connect(0);
        pair.exchange(conn, &modern("tools/call", Some("change"), r#""name":"change","arguments":{}"#));
        pair.pass(Duration::from_secs(1));
        let after = pair.back.shared.metrics()[0].counter(crate::base::metrics::Counter::Requests);
        assert!(after >= requests + 3, "the lists were asked for again: {requests} {after}");
    }
}

#[test]
fn a_session_that_is_lost_is_opened_again() {
    let mut pair = Pair::new(1, Dialect::Auto, Eras::Legacy);
    let conn = pair.front.connect(0);
    let call = modern("tools/call", Some("echo"), &echo("hello"));
    assert_eq!(text(&pair.exchange(conn, &call).json()), "hello");
    // The upstream is started anew: every connection is gone, and no session is known.
    let back = EngineConfig { era: Eras::Legacy, ..config() };
    pair.back = Cluster::new(1, &back, fixture::server);
    let links: Vec<_> = pair.front.links.keys().copied().collect();
    for (core, link) in links {
        pair.conns.remove(&(core, link));
        pair.front.on_link(core, link, LinkEvent::Down(Down::Reset));
        pair.front.links.remove(&(core, link));
    }
    assert_eq!(text(&pair.exchange(conn, &call).json()), "hello");
}

#[test]
fn an_upstream_that_cannot_be_reached_is_named() {
    let mut pair = Pair::new(1, Dialect::Auto, Eras::Modern);
    let links: Vec<_> = pair.front.links.keys().copied().collect();
    for (core, link) in links {
        pair.front.on_link(core, link, LinkEvent::Down(Down::Reset));
        pair.front.links.remove(&(core, link));
    }
    let conn = pair.front.connect(0);
    pair.front.send(conn, &modern("tools/call", Some("echo"), &echo("hello")));
    let (&(core, link), _) = pair.front.links.last_key_value().expect("a link");
    pair.front.on_link(core, link, LinkEvent::Down(Down::Refused));
    let failed = pair.front.take(conn);
    assert_eq!((failed.status, failed.code()), (200, -32603));
    assert!(failed.body.contains("The server u cannot be reached: nobody listens at its port"), "{}", failed.body);
}

#[test]
fn a_client_that_reads_slowly_slows_its_upstream_down() {
    let mut pair = Pair::new(1, Dialect::Auto, Eras::Modern);
    let session = Client::open(&mut pair.front, "2025-11-25");
    let modern_conn = pair.front.connect(0);
    let is_paused = |pair: &Pair| pair.front.links.values().filter(|link| link.is_throttled).count();
    pair.front.send(modern_conn, &modern("tools/call", Some("forever"), r#""name":"forever","arguments":{}"#));
    pair.front.send(session.conn, &super::cluster::post(&session.headers(), &client::call("9", "forever")));
    pair.pump();
    for conn in [modern_conn, session.conn] {
        pair.front.choke(conn, true);
        assert_eq!(is_paused(&pair), 1);
        pair.front.choke(conn, false);
        assert_eq!(is_paused(&pair), 0);
    }
    // One that leaves holds nothing up: in the legacy era its request goes on.
    pair.front.choke(session.conn, true);
    assert_eq!(is_paused(&pair), 1);
    pair.front.gone(session.conn);
    assert_eq!(is_paused(&pair), 0);
    assert_eq!(pair.front.engines[0].calls.len(), 2);
}

#[test]
fn names_of_several_upstreams_are_told_apart() {
    let config = front(vec![settings("a"), settings("b")]);
    let mut cluster = Cluster::with_servers(2, &config, &[]);
    let conn = cluster.connect(0);
    let list = cluster.exchange(conn, &modern("tools/list", None, "")).json();
    assert_eq!(list["result"]["tools"], serde_json::json!([]), "nothing is found yet, and nobody waits for it");
    let absent = cluster.exchange(conn, &modern("tools/call", Some("a.echo"), r#""name":"a.echo""#));
    assert_eq!(absent.code(), -32602);
}

/// The id of the question that came last on the stream of a call.
fn question(said: &Response) -> String {
    let events = said.events();
    let asked = events.last().unwrap_or_else(|| panic!("a question: {said:?}"));
    assert_eq!(asked["method"], "elicitation/create", "{asked}");
    asked["id"].to_string()
}

#[test]
fn a_legacy_client_is_asked_what_its_upstream_wants_to_know() {
    for era in [Eras::Modern, Eras::Legacy] {
        ask_and_answer(era);
    }
}

fn ask_and_answer(era: Eras) {
    let mut pair = Pair::new(2, Dialect::Auto, era);
    let session = Client::open(&mut pair.front, "2025-11-25");
    let start = |pair: &mut Pair, id: &str, tool: &str| {
        let conn = pair.front.connect(0);
        pair.front.send(conn, &super::cluster::post(&session.headers(), &client::call(id, tool)));
        pair.pump();
        conn
    };
    let answer = |pair: &mut Pair, id: &str, result: &str| {
        let body = format!(r#"{{"jsonrpc":"2.0","id":{id},{result}}}"#);
        let (_, answered) = session.post_aside(&mut pair.front, &body);
        assert_eq!(answered.status, 202);
        pair.pump();
    };
    let named = |name: &str| format!(r#""result":{{"action":"accept","content":{{"name":"{name}"}}}}"#);
    // One round, and two.
    let conn = start(&mut pair, "1", "ask");
    let id = question(&pair.front.take(conn));
    answer(&mut pair, &id, &named("Ada"));
    let done = pair.front.take(conn);
    assert_eq!((text(&done.events()[0]), &done.events()[0]["id"]), ("Hello, Ada!", &serde_json::json!(1)));
    assert!(!done.is_open);
    let conn = start(&mut pair, "2", "ask_twice");
    for name in ["one", "two"] {
        let id = question(&pair.front.take(conn));
        answer(&mut pair, &id, &named(name));
    }
    assert_eq!(text(&pair.front.take(conn).events()[0]), "one two one");
    // Refused by the client.
    let conn = start(&mut pair, "3", "ask");
    let id = question(&pair.front.take(conn));
    answer(&mut pair, &id, r#""error":{"code":-1,"message":"no"}"#);
    let failed = pair.front.take(conn).events();
    let is_said = match era {
        Eras::Modern => failed[0]["error"]["message"].as_str().is_some_and(|why| why.contains("asked for input that was not given")),
        // The upstream itself was told.
        _ => failed[0]["result"]["isError"] == true,
    };
    assert!(is_said, "{failed:?}");
    assert!(pair.front.engines[0].calls.is_empty());
    // A client that cannot be asked is not.
    let bare = Client::open_with(&mut pair.front, 0, "2025-11-25", "{}");
    pair.front.send(bare.conn, &super::cluster::post(&bare.headers(), &client::call("4", "ask")));
    pair.pump();
    let refused = pair.front.take(bare.conn);
    assert!(!refused.is_open && refused.field("content-type").as_deref() == Some("application/json"), "{refused:?}");
    assert!(refused.body.contains("error") || refused.body.contains("not declare"), "{refused:?}");
}

#[test]
fn mirrored_arguments_are_checked_for_an_upstream_that_sees_no_headers() {
    for era in [Eras::Modern, Eras::Legacy] {
        let mut pair = Pair::new(1, Dialect::Auto, era);
        let conn = pair.front.connect(0);
        let mut call = |header: &str| {
            let params = r#""name":"region","arguments":{"region":"west"}"#;
            pair.exchange(conn, &modern_with("tools/call", Some("region"), params, "", "{}", header))
        };
        assert_eq!(text(&call("Mcp-Param-Region: west\r\n").json()), "ok", "{era:?}");
        for wrong in ["", "Mcp-Param-Region: east\r\n", "Mcp-Param-Region: =?base64?d2VzdA?=\r\n"] {
            let refused = call(wrong);
            assert_eq!((refused.status, refused.code()), (400, -32020), "{era:?} {wrong}");
        }
    }
}
