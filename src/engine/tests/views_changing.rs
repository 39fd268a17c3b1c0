//! Endpoints that change while clients use them: seen at once, told once per window, ended when they are no more.

use std::time::Duration;

use serde_json::{Value, json};

use super::client::{Client, request};
use super::cluster::{Cluster, Response, modern, post};
use super::views::{at, call, create, listed, native, pair_config, text, upstream};
use crate::base::ids::ConnId;
use crate::base::limits::VIEWS_PER_CORE_MAX;
use crate::engine::Frame;
use crate::registry::{self, Answer, Change};

/// As often as subscribers are told.
const WINDOW: Duration = Duration::from_millis(50);
const ALL: &str = r#""notifications":{"toolsListChanged":true,"promptsListChanged":true,"resourcesListChanged":true}"#;

fn pair() -> Cluster {
    Cluster::with_servers(2, &pair_config(), &[native("a", &[]), native("b", &[])])
}

fn listen(cluster: &mut Cluster, core: usize, path: &str) -> ConnId {
    let conn = cluster.connect(core);
    cluster.send(conn, &at(path, modern("subscriptions/listen", None, ALL)));
    assert_eq!(cluster.take(conn).status, 200);
    conn
}

fn told(response: &Response) -> Vec<String> {
    response.events().iter().map(|event| event["method"].as_str().unwrap_or("result").to_owned()).collect()
}

fn bind(path: &str, server: &str) -> Change {
    Change::Bind { path: path.into(), server: server.into(), if_version: None }
}

fn unbind(path: &str, server: &str) -> Change {
    Change::Unbind { path: path.into(), server: server.into(), if_version: None }
}

fn delete(path: &str) -> Change {
    Change::Delete { path: path.into(), if_version: None }
}

fn unregister(name: &str) -> Change {
    Change::Unregister { name: name.into(), if_version: None }
}

fn update(name: &str, tools: &[&str]) -> Change {
    Change::Update { spec: upstream(name, tools), if_version: None }
}

#[test]
fn a_change_is_seen_by_the_next_request_on_every_core() {
    let mut cluster = pair();
    for round in 0..4 {
        let (path, core) = (format!("/mcp/new{round}"), round % 2);
        for core in 0..2 {
            let conn = cluster.connect(core);
            assert_eq!(cluster.exchange(conn, &at(&path, modern("tools/list", None, ""))).status, 404, "not yet");
        }
        cluster.change(core, create(&path, &["a"]));
        for core in 0..2 {
            assert_eq!(text(&call(&mut cluster, core, &path, "who")), "a");
        }
        cluster.change(1 - core, bind(&path, "b"));
        for core in 0..2 {
            assert_eq!(text(&call(&mut cluster, core, &path, "b.who")), "b");
            assert_eq!(call(&mut cluster, core, &path, "who").code(), -32602, "names have changed with the binding");
        }
        cluster.change(core, unbind(&path, "a"));
        for core in 0..2 {
            assert_eq!(text(&call(&mut cluster, core, &path, "who")), "b");
        }
        let server = format!("late{round}");
        cluster.change(core, bind(&path, &server));
        let before = listed(&mut cluster, 0, &path, "tools/list");
        cluster.change(core, Change::Register(upstream(&server, &["get"])));
        for core in 0..2 {
            let tools = listed(&mut cluster, core, &path, "tools/list");
            assert_eq!(tools.len(), before.len() + 1, "what was bound before it was registered: {tools:?}");
        }
        cluster.change(core, update(&server, &["get", "put"]));
        for core in 0..2 {
            assert!(listed(&mut cluster, core, &path, "tools/list").contains(&format!("{server}.put")));
        }
        cluster.change(core, unregister(&server));
        for core in 0..2 {
            assert_eq!(listed(&mut cluster, core, &path, "tools/list"), before);
        }
        cluster.change(core, delete(&path));
        for core in 0..2 {
            let conn = cluster.connect(core);
            assert_eq!(cluster.exchange(conn, &at(&path, modern("tools/list", None, ""))).status, 404, "no more");
        }
    }
}

#[test]
fn listeners_are_told_once_for_each_window_and_then_list_what_is_there() {
    let mut cluster = pair();
    cluster.change(0, create("/mcp/busy", &["b"]));
    let conns: Vec<_> = (0..50).map(|n| (listen(&mut cluster, n % 2, "/mcp/busy"), n % 2)).collect();
    let quiet = listen(&mut cluster, 0, "/mcp");
    cluster.pass(WINDOW * 2);
    for window in 0..6 {
        for n in 0..10 {
            let name = format!("server{window}-{n}");
            cluster.change(n % 2, Change::Register(upstream(&name, &["get"])));
            cluster.change(n % 2, bind("/mcp/busy", &name));
            if n >= 5 {
                cluster.change(n % 2, unregister(&format!("server{window}-{}", n - 5)));
            }
            cluster.pass(Duration::from_millis(5));
        }
    }
    let last = cluster.now.mono;
    cluster.pass(WINDOW * 2);
    assert!(cluster.now.mono > last);
    let tools = listed(&mut cluster, 0, "/mcp/busy", "tools/list");
    assert_eq!(tools.iter().filter(|tool| tool.starts_with("server")).count(), 30);
    assert_eq!(tools, listed(&mut cluster, 1, "/mcp/busy", "tools/list"));
    for (conn, _) in &conns {
        let told = told(&cluster.take(*conn));
        let of_tools = told.iter().filter(|method| *method == "notifications/tools/list_changed").count();
        assert!((6..=8).contains(&of_tools), "changes went on for 300 ms: {of_tools}");
    }
    assert!(told(&cluster.take(quiet)).is_empty());
}

#[test]
fn what_is_told_last_is_what_is_listed() {
    let mut cluster = pair();
    cluster.change(1, create("/mcp/x", &["b"]));
    let conns = [(listen(&mut cluster, 0, "/mcp/x"), 0), (listen(&mut cluster, 1, "/mcp/x"), 1)];
    let mut seen = [Vec::new(), Vec::new()];
    for round in 0..40 {
        let change = if round % 2 == 0 { bind("/mcp/x", "a") } else { unbind("/mcp/x", "a") };
        cluster.change(round % 3 % 2, change);
        cluster.pass(Duration::from_millis(17));
        for (conn, core) in conns {
            if !told(&cluster.take(conn)).is_empty() {
                seen[core] = listed(&mut cluster, core, "/mcp/x", "tools/list");
            }
        }
    }
    cluster.pass(WINDOW * 2);
    for (conn, core) in conns {
        if !told(&cluster.take(conn)).is_empty() {
            seen[core] = listed(&mut cluster, core, "/mcp/x", "tools/list");
        }
        assert_eq!(seen[core], listed(&mut cluster, core, "/mcp/x", "tools/list"));
    }
}

#[test]
fn only_the_lists_that_differ_are_told() {
    let mut cluster = pair();
    cluster.change(0, Change::Register(upstream("far", &["get"])));
    cluster.change(0, create("/mcp/far", &["far"]));
    let conns = [listen(&mut cluster, 0, "/mcp/far"), listen(&mut cluster, 1, "/mcp/far")];
    cluster.change(1, update("far", &["get", "put"]));
    cluster.pass(WINDOW * 2);
    for conn in conns {
        assert_eq!(told(&cluster.take(conn)), ["notifications/tools/list_changed"]);
    }
    let mut same = upstream("far", &["get", "put"]);
    same.source = crate::registry::Source::Upstream("http://127.0.0.1:2/mcp".into());
    cluster.change(1, Change::Update { spec: same, if_version: None });
    cluster.pass(WINDOW * 2);
    for conn in conns {
        assert!(told(&cluster.take(conn)).is_empty(), "nothing that is listed is different");
    }
    cluster.change(0, bind("/mcp/far", "b"));
    cluster.pass(WINDOW * 2);
    for conn in conns {
        let lists = ["tools", "prompts", "resources"].map(|list| format!("notifications/{list}/list_changed"));
        assert_eq!(told(&cluster.take(conn)), lists);
    }
}

#[test]
fn streams_of_the_legacy_era_are_told_as_well() {
    let mut cluster = pair();
    let client = Client::open(&mut cluster, "2025-06-18");
    let (stream, _) = client.get(&mut cluster, None);
    cluster.change(1, unbind("/mcp", "b"));
    let lists = ["tools", "prompts", "resources"].map(|list| format!("notifications/{list}/list_changed"));
    assert_eq!(told(&cluster.take(stream)), lists, "at once");
    cluster.change(1, bind("/mcp", "b"));
    cluster.change(1, unbind("/mcp", "b"));
    cluster.pass(WINDOW * 2);
    assert!(told(&cluster.take(stream)).is_empty(), "it is as it was told");
    let tools = client.post(&mut cluster, &request("1", "tools/list", "{}")).json();
    assert_eq!(tools["result"]["tools"][0]["name"], "who");
}

#[test]
fn a_change_of_a_resource_is_told_by_the_name_that_clients_know() {
    let mut cluster = pair();
    let conn = cluster.connect(1);
    let filter = r#""notifications":{"resourceSubscriptions":["test://shared","b+test://shared"]}"#;
    cluster.send(conn, &modern("subscriptions/listen", None, filter));
    cluster.take(conn);
    let client = Client::open(&mut cluster, "2025-11-25");
    let (stream, _) = client.get(&mut cluster, None);
    client.post(&mut cluster, &request("1", "resources/subscribe", r#"{"uri":"b+test://shared"}"#));
    let uris = |response: &Response| -> Vec<Value> {
        let updated = response.events().into_iter().filter(|event| event["method"] == "notifications/resources/updated");
        updated.map(|event| event["params"]["uri"].clone()).collect()
    };
    for (tool, uri) in [("a.update", "test://shared"), ("b.update", "b+test://shared")] {
        assert_eq!(text(&call(&mut cluster, 0, "/mcp", tool)), "updated");
        cluster.pass(WINDOW * 2);
        assert_eq!(uris(&cluster.take(conn)), [json!(uri)]);
        assert_eq!(uris(&cluster.take(stream)).len(), usize::from(tool == "b.update"));
    }
}

#[test]
fn an_endpoint_that_is_deleted_ends_its_listens_and_sessions() {
    let mut cluster = pair();
    let legacy = |session: &str, body: &str| at("/mcp/gone", post(&format!("Mcp-Session-Id: {session}\r\n"), body));
    cluster.change(1, create("/mcp/gone", &["a"]));
    let listens = [listen(&mut cluster, 0, "/mcp/gone"), listen(&mut cluster, 1, "/mcp/gone")];
    let stays = listen(&mut cluster, 0, "/mcp");
    let conn = cluster.connect(0);
    let opened = cluster.exchange(conn, &at("/mcp/gone", post("", &super::client::initialize("2025-11-25", "{}"))));
    let session = opened.field("mcp-session-id").expect("a session");
    cluster.exchange(conn, &legacy(&session, super::client::INITIALIZED));
    let get = format!("GET /mcp/gone HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nMcp-Session-Id: {session}\r\n\r\n");
    let stream = cluster.connect(0);
    cluster.exchange(stream, get.as_bytes());
    let ping = request("1", "ping", "{}");
    assert_eq!(cluster.exchange(conn, &legacy(&session, &ping)).status, 200);
    cluster.change(0, delete("/mcp/gone"));
    cluster.pass(WINDOW * 2);
    for conn in listens {
        let end = cluster.take(conn);
        assert_eq!(end.events().last().expect("an end")["result"]["resultType"], "complete");
        assert!(!end.is_open && !cluster.is_pending(conn) && cluster.is_open(conn), "the connection may be used on");
    }
    assert!(cluster.is_pending(stays) && !cluster.is_pending(stream));
    assert_eq!(cluster.exchange(conn, &legacy(&session, &ping)).status, 404);
    cluster.change(0, create("/mcp/gone", &["a"]));
    assert_eq!(cluster.exchange(conn, &legacy(&session, &ping)).status, 404, "it is another endpoint now");
    assert_eq!(text(&call(&mut cluster, 1, "/mcp/gone", "who")), "a");
}

#[test]
fn idle_sessions_end_with_their_endpoint_on_every_core_and_others_do_not() {
    let mut cluster = pair();
    let open = |cluster: &mut Cluster, core: usize, path: &str| {
        let conn = cluster.connect(core);
        let opened = cluster.exchange(conn, &at(path, post("", &super::client::initialize("2025-11-25", "{}"))));
        assert_eq!(opened.status, 200);
    };
    for n in 0..16 {
        let (path, core) = (format!("/mcp/e{n}"), n % 2);
        cluster.change(core, create(&path, &["a"]));
        (0..300).for_each(|n| open(&mut cluster, n % 2, &path));
        open(&mut cluster, core, "/mcp");
        // What this core knew of the endpoint it has let go of, and it does not look again.
        cluster.change(n / 2 % 2, bind(&path, "b"));
        cluster.pass(WINDOW * 2);
        assert_eq!(cluster.shared.sessions().len(), 300 + n + 1);
        cluster.change(n / 4 % 2, delete(&path));
        cluster.pass(WINDOW);
        assert_eq!(cluster.shared.sessions().len(), n + 1, "{path}");
    }
}

#[test]
fn idle_sessions_end_when_their_core_was_told_of_too_much_to_name_it() {
    let mut cluster = pair();
    cluster.change(0, create("/mcp/gone", &["a"]));
    cluster.change(0, create("/mcp/stays", &["a"]));
    for path in ["/mcp/gone", "/mcp/stays"] {
        for core in 0..2 {
            let conn = cluster.connect(core);
            assert_eq!(cluster.exchange(conn, &at(path, post("", &super::client::initialize("2025-11-25", "{}")))).status, 200);
        }
    }
    let owner = usize::from(!cluster.engines[0].routes.registry().is_at_home("/mcp/gone"));
    cluster.begin_change(owner, delete("/mcp/gone"));
    while cluster.deliver(|frame| !matches!(frame, Frame::Registry(registry::Frame::Gone { .. } | registry::Frame::Changed { .. }))) {}
    assert_eq!(cluster.shared.sessions().len(), 3, "the owner's own is over");
    cluster.replace_frames(owner, 1 - owner, Frame::Registry(registry::Frame::AllChanged));
    cluster.settle();
    cluster.pass(WINDOW * 2);
    assert_eq!(cluster.shared.sessions().len(), 2);
}

#[test]
fn a_session_of_an_endpoint_that_was_made_anew_is_not_found() {
    let mut cluster = pair();
    cluster.change(0, create("/mcp/x", &["a"]));
    let conn = cluster.connect(1);
    let opened = cluster.exchange(conn, &at("/mcp/x", post("", &super::client::initialize("2025-11-25", "{}"))));
    let headers = format!("Mcp-Session-Id: {}\r\n", opened.field("mcp-session-id").expect("a session"));
    cluster.change(0, delete("/mcp/x"));
    cluster.change(0, create("/mcp/x", &["a"]));
    assert_eq!(cluster.exchange(conn, &at("/mcp/x", post(&headers, &request("1", "ping", "{}")))).status, 404);
}

#[test]
fn views_that_nobody_needs_are_let_go_of() {
    let mut cluster = Cluster::with_servers(1, &pair_config(), &[native("a", &[]), native("b", &[])]);
    let kept = listen(&mut cluster, 0, "/mcp");
    for n in 0..VIEWS_PER_CORE_MAX + 10 {
        let path = format!("/mcp/e{n}");
        cluster.change(0, create(&path, &[]));
        let conn = cluster.connect(0);
        assert_eq!(cluster.exchange(conn, &at(&path, modern("tools/list", None, ""))).status, 200);
    }
    cluster.pass(Duration::from_millis(200));
    assert!(cluster.engines[0].views_known() <= VIEWS_PER_CORE_MAX);
    cluster.take(kept);
    cluster.change(0, unbind("/mcp", "b"));
    cluster.pass(WINDOW * 2);
    assert_eq!(told(&cluster.take(kept)).len(), 3, "what is listened to is kept");
    assert!(listed(&mut cluster, 0, "/mcp/e1", "tools/list").is_empty());
}

#[test]
fn many_servers_at_home_elsewhere_are_asked_for_together() {
    let mut cluster = pair();
    let names: Vec<_> = (0..40).map(|n| format!("s{n}")).collect();
    for name in &names {
        cluster.change(0, Change::Register(upstream(name, &["get"])));
    }
    let servers: Vec<_> = names.iter().map(String::as_str).collect();
    cluster.change(0, create("/mcp/many", &servers));
    let conns: Vec<_> = (0..2).map(|core| cluster.connect(core)).collect();
    for &conn in &conns {
        let response = cluster.exchange(conn, &at("/mcp/many", modern("tools/list", None, "")));
        assert_eq!(response.json()["result"]["tools"].as_array().map(Vec::len), Some(40));
    }
    let sent = cluster.frames_sent;
    for &conn in &conns {
        cluster.exchange(conn, &at("/mcp/many", modern("tools/list", None, "")));
    }
    assert_eq!(cluster.frames_sent, sent, "the second time it is known");
}

/// An endpoint and a server bound to it, both at home on the first core. On the other one a connection asked to listen there; it waits, and the
/// answer that says what the server is comes later than all that follows until the cluster settles.
fn slow_listen(cluster: &mut Cluster) -> (String, ConnId) {
    let mut at_home = |prefix: &str| {
        let names = (0..).map(|n| format!("{prefix}{n}"));
        names.into_iter().find(|name| cluster.engines[0].routes.registry().is_at_home(name)).expect("half of them are")
    };
    let (path, server) = (at_home("/mcp/x"), at_home("far"));
    cluster.change(0, Change::Register(upstream(&server, &["get"])));
    cluster.change(0, create(&path, &[&server]));
    let conn = cluster.connect(1);
    cluster.begin_send(conn, &at(&path, modern("subscriptions/listen", None, ALL)));
    for _ in 0..3 {
        assert!(cluster.deliver(|_| true), "the endpoint is asked for and told, then the server asked for");
    }
    assert!(cluster.is_pending(conn));
    (path, conn)
}

/// Whether it is any other frame than the answer that says what the server is.
fn is_in_time(frame: &Frame) -> bool {
    let is_far = |answer: &Answer| matches!(answer, Answer::Server(Some(server)) if server.spec.name.starts_with("far"));
    !matches!(frame, Frame::Registry(registry::Frame::Found { answer, .. }) if is_far(answer))
}

#[test]
fn who_began_to_listen_during_a_change_hears_of_the_next() {
    let mut cluster = pair();
    let (path, conn) = slow_listen(&mut cluster);
    cluster.begin_change(0, bind(&path, "b"));
    while cluster.deliver(is_in_time) {}
    cluster.settle();
    assert_eq!(cluster.take(conn).status, 200);
    cluster.pass(WINDOW * 2);
    cluster.take_raw(conn);
    cluster.change(0, unbind(&path, "b"));
    cluster.pass(WINDOW * 2);
    assert!(cluster.take_raw(conn).contains("notifications/tools/list_changed"));
}

#[test]
fn who_began_to_listen_while_the_endpoint_was_made_anew_is_not_kept_waiting() {
    let mut cluster = pair();
    let (path, conn) = slow_listen(&mut cluster);
    for change in [delete(&path), create(&path, &["b"])] {
        cluster.begin_change(0, change);
        while cluster.deliver(is_in_time) {}
    }
    let other = cluster.connect(1);
    cluster.begin_send(other, &at(&path, modern("subscriptions/listen", None, ALL)));
    while cluster.deliver(is_in_time) {}
    assert_eq!(cluster.take(other).status, 200);
    cluster.settle();
    cluster.pass(WINDOW * 2);
    assert!(cluster.is_pending(other), "its endpoint is still there");
    assert!(!cluster.is_pending(conn), "its endpoint is no more");
}

/// Draws numbers that look random, the same for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}

/// What is listed on a core; none when that cannot be said just now.
fn try_listed(cluster: &mut Cluster, core: usize) -> Option<String> {
    let conn = cluster.connect(core);
    let request = at("/mcp/x", modern("tools/list", None, ""));
    let limit = std::mem::replace(&mut cluster.lane_frames_max, usize::MAX);
    cluster.send(conn, &request);
    cluster.lane_frames_max = limit;
    cluster.pass(Duration::from_millis(1));
    let response = cluster.take(conn);
    (response.status == 200).then(|| response.json()["result"]["tools"].to_string())
}

#[test]
fn whatever_happens_in_whatever_order_listeners_end_up_with_what_is_there() {
    const CORES: usize = 4;
    for seed in 0..200 {
        let mut dice = Dice(seed);
        let mut cluster = Cluster::with_servers(CORES as u16, &pair_config(), &[native("a", &[]), native("b", &[])]);
        cluster.change(0, create("/mcp/x", &["b", "far0"]));
        // Nobody listens on the last core.
        let listening: Vec<_> = (0..CORES - 1).map(|core| listen(&mut cluster, core, "/mcp/x")).collect();
        let mut seen: Vec<_> = (0..CORES - 1).map(|core| try_listed(&mut cluster, core)).collect();
        let mut hear = |cluster: &mut Cluster| {
            for (core, &conn) in listening.iter().enumerate() {
                if seen[core].is_none() || !told(&cluster.take(conn)).is_empty() {
                    seen[core] = try_listed(cluster, core);
                }
            }
            seen.clone()
        };
        for _ in 0..80 {
            let (core, far) = (dice.below(CORES), format!("far{}", dice.below(3)));
            match dice.below(12) {
                0 => cluster.begin_change(core, bind("/mcp/x", &far)),
                1 => cluster.begin_change(core, unbind("/mcp/x", &far)),
                2 => cluster.begin_change(core, Change::Register(upstream(&far, &["get"]))),
                3 => cluster.begin_change(core, unregister(&far)),
                4 => cluster.begin_change(core, update(&far, &["get", ["put", "set", "add"][dice.below(3)]])),
                5 => cluster.lane_frames_max = [0, 1, 3, usize::MAX][dice.below(4)],
                6 => cluster.settle(),
                7 => _ = try_listed(&mut cluster, core),
                _ => cluster.pass(Duration::from_millis(dice.below(120) as u64)),
            }
            if dice.below(4) == 0 {
                hear(&mut cluster);
            }
        }
        cluster.lane_frames_max = usize::MAX;
        for _ in 0..10 {
            cluster.pass(Duration::from_millis(400));
            hear(&mut cluster);
        }
        let there = try_listed(&mut cluster, CORES - 1);
        assert!(there.is_some());
        for (core, seen) in hear(&mut cluster).into_iter().enumerate() {
            assert_eq!(seen, there, "seed {seed}, core {core}");
        }
    }
}
