//! Upstreams and endpoints that come, change and go: every core follows, and what is in work goes on.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::cluster::{Response, modern, modern_with};
use super::upstream::{Pair, front, settings};
use crate::base::limits::UPSTREAMS_MAX;
use crate::engine::admin::Token;
use crate::engine::reload::{Reader, Reread};
use crate::engine::{Endpoint, Eras, Role};
use crate::gateway::{Settings, Starts};

type Next = Arc<Mutex<Result<Reread, Vec<String>>>>;

/// A front whose configuration is what the test says.
struct Node {
    pair: Pair,
    next: Next,
}

fn endpoint(path: &str, upstreams: &[&str]) -> Endpoint {
    Endpoint { path: path.into(), servers: Box::default(), upstreams: upstreams.iter().map(|name| (*name).into()).collect() }
}

impl Node {
    fn new(cores: u16, upstreams: Vec<Settings>) -> Self {
        let next: Next = Arc::new(Mutex::new(Err(Vec::new())));
        let read = Arc::clone(&next);
        let mut config = front(upstreams);
        config.reader = Some(Reader::new(move || read.lock().expect("no panic").clone()));
        config.admin_token = Some(Token::new("a-token-for-tests"));
        Self { pair: Pair::of(cores, &config, Eras::Both), next }
    }

    fn says(&self, upstreams: Vec<Settings>, endpoints: Vec<Endpoint>) {
        *self.next.lock().expect("no panic") = Ok(Reread { upstreams: upstreams.into(), endpoints, restart: vec!["cores".into()] });
    }

    fn reload(&mut self) -> Response {
        let conn = self.pair.front.connect_as(0, Role::Admin);
        let fields = "Host: localhost\r\nAuthorization: Bearer a-token-for-tests\r\nContent-Length: 0\r\n";
        self.pair.front.send(conn, format!("POST /v1/reload HTTP/1.1\r\n{fields}\r\n").as_bytes());
        self.pair.front.run_blocking();
        self.pair.pass(Duration::from_millis(600));
        self.pair.front.take(conn)
    }

    fn tools(&mut self, core: usize) -> Vec<String> {
        let conn = self.pair.front.connect(core);
        let list = self.pair.exchange(conn, &modern("tools/list", None, "")).json();
        let tools = list["result"]["tools"].as_array().expect("tools");
        tools.iter().filter_map(|tool| tool["name"].as_str().map(str::to_owned)).collect()
    }

    fn call(&mut self, core: usize, tool: &str) -> Value {
        let conn = self.pair.front.connect(core);
        let params = format!(r#""name":"{tool}","arguments":{{"message":"hello"}}"#);
        self.pair.exchange(conn, &modern("tools/call", Some(tool), &params)).json()
    }

    /// The number of this upstream on each core.
    fn numbers(&self, name: &str) -> Vec<Option<u32>> {
        self.pair.front.engines.iter().map(|engine| engine.gateway.find(name)).collect()
    }
}

fn said(call: &Value) -> &str {
    call["result"]["content"][0]["text"].as_str().unwrap_or_default()
}

#[test]
fn upstreams_come_and_go_on_every_core() {
    let mut node = Node::new(3, vec![settings("u")]);
    node.says(vec![settings("u"), settings("v")], vec![endpoint("/mcp", &["u", "v"]), endpoint("/mcp/v", &["v"])]);
    let done = node.reload();
    assert_eq!(done.status, 200, "{}", done.body);
    let wanted = json!({
        "upstreams": {"added": ["v"], "changed": [], "removed": []},
        "endpoints": {"added": ["/mcp/v"], "changed": ["/mcp"], "removed": []},
        "restart": ["cores"], "refused": [],
    });
    assert_eq!(done.json(), wanted);
    for core in 0..3 {
        let tools = node.tools(core);
        assert!(tools.contains(&"u.echo".to_owned()) && tools.contains(&"v.echo".to_owned()), "{tools:?}");
        assert_eq!(said(&node.call(core, "v.echo")), "hello");
    }
    node.says(vec![settings("v")], vec![endpoint("/mcp", &["v"])]);
    let done = node.reload().json();
    assert_eq!((&done["upstreams"]["removed"], &done["endpoints"]["removed"]), (&json!(["u"]), &json!(["/mcp/v"])));
    assert_eq!(node.numbers("u"), [None; 3]);
    for core in 0..3 {
        assert!(node.tools(core).contains(&"echo".to_owned()));
        assert_eq!(said(&node.call(core, "echo")), "hello");
    }
    node.pair.pass(Duration::from_secs(2));
    assert!(node.pair.front.engines.iter().all(|engine| engine.gateway.settings(0).is_none()), "it is forgotten");
    // It comes back as another one.
    node.says(vec![settings("v"), settings("u")], vec![endpoint("/mcp", &["v", "u"])]);
    assert_eq!(node.reload().status, 200);
    assert_eq!(node.numbers("u"), [Some(2); 3]);
    assert_eq!(said(&node.call(1, "u.echo")), "hello");
}

#[test]
fn a_core_whose_lane_is_full_follows_later() {
    let mut node = Node::new(3, vec![settings("u")]);
    node.says(vec![settings("u"), settings("v")], vec![endpoint("/mcp", &["u", "v"])]);
    node.pair.front.lane_frames_max = 0;
    let conn = node.pair.front.connect_as(0, Role::Admin);
    let request = "POST /v1/reload HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer a-token-for-tests\r\nContent-Length: 0\r\n\r\n";
    node.pair.front.send(conn, request.as_bytes());
    node.pair.front.run_blocking();
    node.pair.pass(Duration::from_secs(2));
    assert_eq!(node.numbers("v"), [Some(1), None, None]);
    assert!(node.pair.front.is_pending(conn), "it is not said to be done before it is");
    node.pair.front.lane_frames_max = usize::MAX;
    node.pair.pass(Duration::from_secs(2));
    assert_eq!(node.pair.front.take(conn).status, 200);
    assert_eq!(node.numbers("v"), [Some(1); 3]);
    for core in 0..3 {
        assert_eq!(said(&node.call(core, "v.echo")), "hello");
    }
}

#[test]
fn links_stay_where_they_lead_to_the_same_place_and_calls_in_work_go_on_where_not() {
    let mut node = Node::new(2, vec![settings("u")]);
    for core in [0, 1] {
        assert_eq!(said(&node.call(core, "echo")), "hello");
    }
    let links = |node: &Node| node.pair.front.links.keys().copied().collect::<Vec<_>>();
    let before = links(&node);
    let mut other = settings("u");
    other.retries = false;
    other.total_timeout = Duration::from_secs(7);
    other.options.tools.deny = Box::new(["add".into(), "steps".into()]);
    node.says(vec![other], vec![endpoint("/mcp", &["u"])]);
    let done = node.reload().json();
    assert_eq!(done["upstreams"]["changed"], json!(["u"]), "{done}");
    assert_eq!(node.numbers("u"), [Some(0); 2]);
    let tools = node.tools(1);
    assert!(tools.contains(&"echo".to_owned()) && !tools.contains(&"steps".to_owned()), "{tools:?}");
    assert_eq!(said(&node.call(0, "echo")), "hello");
    assert!(before.iter().all(|link| links(&node).contains(link)), "no link was closed");

    node.says(vec![settings("u")], vec![endpoint("/mcp", &["u"])]);
    node.reload();
    assert!(node.tools(0).contains(&"steps".to_owned()), "it is shown again");
    let conn = node.pair.front.connect(1);
    let params = r#""name":"steps","arguments":{}"#;
    node.pair.front.send(conn, &modern_with("tools/call", Some("steps"), params, r#","progressToken":"mine""#, "{}", ""));
    node.pair.pass(Duration::from_millis(20));
    let old = links(&node);
    let mut other = settings("u");
    other.starts = Starts::new("/mcp", "localhost", &[("Authorization".into(), "Bearer other".into())]).expect("what can be sent");
    node.says(vec![other], vec![endpoint("/mcp", &["u"])]);
    assert_eq!(node.reload().json()["upstreams"]["changed"], json!(["u"]));
    assert_eq!(node.numbers("u"), [Some(1); 2]);
    for core in [0, 1] {
        assert_eq!(said(&node.call(core, "echo")), "hello");
    }
    node.pair.pass(Duration::from_secs(3));
    let answer = node.pair.front.take(conn);
    assert_eq!(answer.events().last().map(said), Some("stepped"), "{answer:?}");
    node.pair.pass(Duration::from_secs(1));
    assert!(old.iter().all(|link| !links(&node).contains(link)), "the old links are closed");
    assert!(node.pair.front.engines.iter().all(|engine| engine.gateway.settings(0).is_none()), "the old one is forgotten");
}

#[test]
fn what_is_wrong_changes_nothing() {
    let mut node = Node::new(2, vec![settings("u")]);
    *node.next.lock().expect("no panic") = Err(vec!["one thing".into(), "another".into()]);
    let refused = node.reload();
    let detail = refused.json()["detail"].as_str().unwrap_or_default().to_owned();
    assert!(refused.status == 422 && detail.contains("\n  - one thing\n  - another"), "{detail}");
    node.says((0..=UPSTREAMS_MAX).map(|number| settings(&format!("u{number}"))).collect(), Vec::new());
    let refused = node.reload();
    assert!(refused.status == 422 && refused.body.contains("at most are taken"), "{}", refused.body);
    assert_eq!((node.numbers("u"), node.numbers("u0")), (vec![Some(0); 2], vec![None; 2]));
    assert_eq!(said(&node.call(1, "echo")), "hello");
    // Who asks while it is read is answered by the next one.
    node.says(vec![settings("u"), settings("v")], vec![endpoint("/mcp", &["u"])]);
    node.pair.front.engines[0].host.inbox().reload();
    node.pair.front.settle();
    let done = node.reload();
    assert_eq!(done.status, 0, "it waits for the first: {}", done.body);
    node.pair.front.run_blocking();
    node.pair.pass(Duration::from_millis(600));
    assert_eq!(node.numbers("v"), [Some(1); 2]);
}

#[test]
fn what_was_bound_at_run_time_stays() {
    let mut node = Node::new(2, vec![settings("u"), settings("v")]);
    let change = crate::registry::Change::Bind { path: "/mcp".into(), server: "later".into(), if_version: None };
    node.pair.front.change(0, change);
    let bound = |node: &mut Node| {
        let conn = node.pair.front.connect_as(0, Role::Admin);
        let asked = "GET /v1/endpoints/%2Fmcp HTTP/1.1\r\nHost: localhost\r\n\r\n";
        node.pair.front.exchange(conn, asked.as_bytes()).json()["servers"].clone()
    };
    assert_eq!(bound(&mut node), json!(["u", "v", "later"]));
    node.says(vec![settings("u"), settings("w")], vec![endpoint("/mcp", &["u", "w"])]);
    assert_eq!(node.reload().status, 200);
    assert_eq!(bound(&mut node), json!(["u", "later", "w"]));
    node.says(vec![settings("w")], Vec::new());
    assert_eq!(node.reload().status, 200);
    assert_eq!(bound(&mut node), json!(["later"]), "what somebody has bound is not taken away with the rest");
}
