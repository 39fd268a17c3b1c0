//! `subscriptions/listen`: acknowledged at once, told what was wanted, ended gracefully.

use std::time::Duration;

use serde_json::{Value, json};

use super::cluster::{Cluster, config, modern};
use super::fixture::server;
use crate::base::ids::ConnId;
use crate::base::metrics::Gauge;

pub fn listen(cluster: &mut Cluster, core: usize, id: &str, filter: &str) -> ConnId {
    let request = modern("subscriptions/listen", None, &format!(r#""notifications":{filter}"#));
    let text = String::from_utf8(request).expect("UTF-8");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let body = body.replacen(r#""id":1"#, &format!(r#""id":{id}"#), 1);
    let head = head.lines().filter(|line| !line.starts_with("Content-Length")).collect::<Vec<_>>().join("\r\n");
    let conn = cluster.connect(core);
    cluster.send(conn, format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
    conn
}

fn run(cluster: &mut Cluster, core: usize, tool: &str, arguments: &str) {
    let conn = cluster.connect(core);
    let response = cluster.exchange(conn, &modern("tools/call", Some(tool), &format!(r#""name":"{tool}","arguments":{arguments}"#)));
    assert!(response.body.contains("result"), "{}", response.body);
}

fn named(events: &[Value]) -> Vec<(String, Value)> {
    let id = |event: &Value| event["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"].clone();
    events.iter().map(|event| (event["method"].as_str().unwrap_or("result").to_owned(), id(event))).collect()
}

const ALL: &str =
    r#"{"toolsListChanged":true,"promptsListChanged":true,"resourcesListChanged":true,"resourceSubscriptions":["test://text"]}"#;

#[test]
fn the_first_frame_says_what_was_granted_with_the_id_s_own_type() {
    let mut cluster = Cluster::new(1, &config(), server);
    for (id, value) in [("7", json!(7)), (r#""7""#, json!("7")), (r#""L\n1""#, json!("L\n1"))] {
        let conn = listen(&mut cluster, 0, id, ALL);
        let ack = cluster.take(conn);
        assert_eq!(ack.field("content-type").as_deref(), Some("text/event-stream"));
        assert!(ack.is_open && cluster.is_pending(conn));
        assert_eq!(named(&ack.events()), [("notifications/subscriptions/acknowledged".to_owned(), value)]);
        assert_eq!(ack.events()[0]["params"]["notifications"], serde_json::from_str::<Value>(ALL).expect("JSON"));
    }
    let conn = listen(&mut cluster, 0, "1", r#"{"toolsListChanged":false,"other":true}"#);
    assert_eq!(cluster.take(conn).events()[0]["params"]["notifications"], json!({}));
    assert_eq!(cluster.shared.metrics()[0].gauge(Gauge::Listens), 4);
}

#[test]
fn changes_reach_every_core_and_only_who_wanted_them() {
    let mut cluster = Cluster::new(3, &config(), server);
    let tools: Vec<ConnId> = (0..3).map(|core| listen(&mut cluster, core, "1", r#"{"toolsListChanged":true}"#)).collect();
    let prompts = listen(&mut cluster, 1, "2", r#"{"promptsListChanged":true}"#);
    let resources = listen(&mut cluster, 2, "3", r#"{"resourceSubscriptions":["test://text"]}"#);
    tools.iter().chain([&prompts, &resources]).for_each(|&conn| drop(cluster.take(conn)));
    run(&mut cluster, 1, "change", "{}");
    for &conn in &tools {
        assert_eq!(named(&cluster.take(conn).events()), [("notifications/tools/list_changed".to_owned(), json!(1))]);
    }
    cluster.pass(Duration::from_millis(50));
    run(&mut cluster, 0, "update", r#"{"uri":"test://other"}"#);
    cluster.pass(Duration::from_millis(50));
    run(&mut cluster, 0, "update", r#"{"uri":"test://text"}"#);
    let events = cluster.take(resources).events();
    assert_eq!(named(&events), [("notifications/resources/updated".to_owned(), json!(3))]);
    assert_eq!(events[0]["params"]["uri"], "test://text");
    assert!(cluster.take(prompts).events().is_empty());
    assert!(cluster.take(tools[0]).events().is_empty());
}

#[test]
fn many_changes_are_told_as_few_and_none_is_lost() {
    let mut cluster = Cluster::new(2, &config(), server);
    let conn = listen(&mut cluster, 1, "1", r#"{"toolsListChanged":true}"#);
    cluster.take(conn);
    for _ in 0..100 {
        run(&mut cluster, 0, "change", "{}");
    }
    cluster.pass(Duration::from_millis(100));
    let told = cluster.take(conn).events().len();
    assert!((1..=3).contains(&told), "{told}");
    cluster.lane_frames_max = 0;
    run(&mut cluster, 0, "change", "{}");
    cluster.pass(Duration::from_millis(300));
    assert!(cluster.take(conn).events().is_empty());
    cluster.lane_frames_max = usize::MAX;
    cluster.pass(Duration::from_millis(300));
    assert_eq!(cluster.take(conn).events().len(), 1);
}

#[test]
fn a_bad_filter_is_refused_and_so_is_a_client_that_takes_no_stream() {
    let mut cluster = Cluster::new(1, &config(), server);
    for filter in ["[]", r#"{"toolsListChanged":1}"#, r#"{"resourceSubscriptions":"x"}"#, r#"{"resourceSubscriptions":[1]}"#] {
        let conn = listen(&mut cluster, 0, "1", filter);
        assert_eq!(cluster.take(conn).code(), -32602, "{filter}");
    }
    let many: Vec<String> = (0..=crate::base::limits::SUBSCRIPTIONS_MAX).map(|number| format!("\"r:{number}\"")).collect();
    let conn = listen(&mut cluster, 0, "1", &format!(r#"{{"resourceSubscriptions":[{}]}}"#, many.join(",")));
    assert_eq!(cluster.take(conn).code(), -32602);
    let long = "x".repeat(crate::base::limits::SUBSCRIPTION_BYTES_MAX);
    let conn = listen(&mut cluster, 0, "1", &format!(r#"{{"resourceSubscriptions":["r:","{long}"]}}"#));
    assert_eq!(cluster.take(conn).code(), -32602, "what one client makes the server keep is bounded");
    let conn = listen(&mut cluster, 0, "1", &format!(r#"{{"resourceSubscriptions":["r:1","r:1",{}]}}"#, many[2..].join(",")));
    assert!(cluster.take(conn).is_open, "a URI that stands there twice counts once");
    cluster.gone(conn);
    let conn = cluster.connect(0);
    let request =
        super::cluster::modern_with("subscriptions/listen", None, r#""notifications":{}"#, "", "{}", "Accept: application/json\r\n");
    assert_eq!(cluster.exchange(conn, &request).status, 406);
    assert!(cluster.engines[0].is_idle());
}

#[test]
fn draining_ends_listens_with_their_result_and_opens_no_more() {
    let mut cluster = Cluster::new(1, &config(), server);
    let conn = listen(&mut cluster, 0, r#""L""#, ALL);
    cluster.take(conn);
    cluster.drain();
    let refused = listen(&mut cluster, 0, "2", ALL);
    assert_eq!(cluster.take(refused).status, 503, "it would hold the drain up");
    let end = cluster.take(conn);
    let result = &end.events()[0]["result"];
    assert_eq!(*result, json!({"resultType": "complete", "_meta": {"io.modelcontextprotocol/subscriptionId": "L"}}));
    assert!(!end.is_open && !cluster.is_pending(conn) && cluster.engines[0].is_idle());
    // The stream's head did not say that the connection closes: what came behind it is answered.
    let last = cluster.exchange(conn, &modern("tools/list", None, ""));
    assert_eq!((last.status, last.field("connection").as_deref()), (200, Some("close")));
    assert!(!cluster.is_open(conn));
}

#[test]
fn a_listener_that_leaves_is_forgotten() {
    let mut cluster = Cluster::new(1, &config(), server);
    let conn = listen(&mut cluster, 0, "1", ALL);
    cluster.gone(conn);
    assert!(cluster.engines[0].is_idle());
    assert_eq!(cluster.shared.metrics()[0].gauge(Gauge::Listens), 0);
    run(&mut cluster, 0, "change", "{}");
}
