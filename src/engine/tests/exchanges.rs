//! How a response comes to be: at once, later, as JSON, as a stream; and what becomes of it when the client leaves.

use std::time::Duration;

use super::cluster::{Cluster, Response, config, modern, modern_with};
use super::fixture::server;
use crate::base::ids::ConnId;
use crate::base::metrics::{Counter, Gauge};

fn cluster() -> Cluster {
    Cluster::new(1, &config(), server)
}

fn call(tool: &str) -> Vec<u8> {
    modern("tools/call", Some(tool), &format!(r#""name":"{tool}","arguments":{{}}"#))
}

/// A call that wants progress and logs.
fn eager(tool: &str, headers: &str) -> Vec<u8> {
    let meta = r#","progressToken":"p","io.modelcontextprotocol/logLevel":"debug""#;
    modern_with("tools/call", Some(tool), &format!(r#""name":"{tool}","arguments":{{}}"#), meta, "{}", headers)
}

fn begin(cluster: &mut Cluster, request: &[u8]) -> ConnId {
    let conn = cluster.connect(0);
    cluster.send(conn, request);
    conn
}

fn text(response: &Response) -> String {
    response.json()["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("no text: {}", response.body)).to_owned()
}

fn is_idle(cluster: &Cluster) -> bool {
    let calls = cluster.shared.metrics()[0].gauge(Gauge::Calls);
    cluster.engines[0].is_idle() && calls == 0
}

#[test]
fn a_call_that_takes_time_is_answered_later_as_json() {
    let mut cluster = cluster();
    let conn = begin(&mut cluster, &call("wait"));
    assert!(cluster.is_pending(conn) && !cluster.engines[0].is_idle());
    assert_eq!(cluster.shared.metrics()[0].gauge(Gauge::Calls), 1);
    cluster.pass(Duration::from_millis(900));
    assert!(cluster.take(conn).head.is_empty());
    cluster.pass(Duration::from_millis(200));
    let response = cluster.take(conn);
    assert_eq!((response.status, text(&response).as_str()), (200, "waited"));
    assert_eq!(response.field("content-type").as_deref(), Some("application/json"));
    assert!(!cluster.is_pending(conn) && cluster.is_open(conn) && is_idle(&cluster));
}

#[test]
fn progress_makes_a_stream_and_the_result_ends_it() {
    let mut cluster = cluster();
    let conn = begin(&mut cluster, &eager("steps", ""));
    let first = cluster.take(conn);
    assert_eq!(first.field("content-type").as_deref(), Some("text/event-stream"));
    assert_eq!(first.field("cache-control").as_deref(), Some("no-cache"));
    assert_eq!(first.field("x-accel-buffering").as_deref(), Some("no"));
    assert_eq!(first.events()[0]["params"], serde_json::json!({"progressToken": "p", "progress": 1.0, "total": 3.0}));
    assert!(first.is_open && !first.body.contains("id:"), "no event ids: {}", first.body);
    cluster.pass(Duration::from_millis(120));
    let more = cluster.take(conn);
    assert_eq!(more.events().len(), 2);
    assert!(more.is_open);
    cluster.pass(Duration::from_millis(100));
    let last = cluster.take(conn);
    assert_eq!(last.events()[0]["result"]["content"][0]["text"], "stepped");
    assert_eq!(last.events()[0]["result"]["resultType"], "complete");
    assert!(!last.is_open && !cluster.is_pending(conn) && cluster.is_open(conn) && is_idle(&cluster));
}

#[test]
fn a_handler_that_tells_and_is_done_at_once_makes_a_whole_stream() {
    let mut cluster = cluster();
    let conn = begin(&mut cluster, &eager("tell", ""));
    let response = cluster.take(conn);
    let methods: Vec<_> = response.events().iter().map(|event| event["method"].as_str().map(str::to_owned)).collect();
    assert_eq!(methods, [Some("notifications/progress".to_owned()), Some("notifications/message".to_owned()), None]);
    assert!(!response.is_open && !cluster.is_pending(conn) && is_idle(&cluster));
}

#[test]
fn nothing_is_told_to_who_did_not_ask_or_cannot_hear() {
    let mut cluster = cluster();
    let conn = begin(&mut cluster, &call("tell"));
    assert_eq!(text(&cluster.take(conn)), "told");
    let conn = begin(&mut cluster, &eager("steps", "Accept: application/json\r\n"));
    cluster.pass(Duration::from_secs(1));
    assert_eq!(text(&cluster.take(conn)), "stepped");
}

#[test]
fn who_takes_no_json_gets_a_stream_of_one_event() {
    let mut cluster = cluster();
    for tool in ["tell", "wait"] {
        let meta = format!(r#""name":"{tool}","arguments":{{}}"#);
        let conn = begin(&mut cluster, &modern_with("tools/call", Some(tool), &meta, "", "{}", "Accept: text/event-stream\r\n"));
        cluster.pass(Duration::from_secs(2));
        let response = cluster.take(conn);
        assert_eq!(response.events().len(), 1, "{tool}");
        assert!(!response.is_open && response.rest.is_empty());
    }
}

#[test]
fn a_client_that_leaves_calls_its_request_off() {
    let mut cluster = cluster();
    let conn = begin(&mut cluster, &call("forever"));
    cluster.gone(conn);
    assert!(is_idle(&cluster));
    assert_eq!(cluster.shared.metrics()[0].counter(Counter::Cancelled), 1);
    cluster.pass(Duration::from_secs(200));
}

#[test]
fn a_half_closed_client_is_probed_by_a_comment_or_waited_for() {
    let mut cluster = cluster();
    let conn = begin(&mut cluster, &call("wait"));
    cluster.half_close(conn);
    let probe = cluster.take(conn);
    assert_eq!(probe.field("content-type").as_deref(), Some("text/event-stream"));
    assert!(probe.body.starts_with(':') && probe.events().is_empty(), "{}", probe.body);
    cluster.pass(Duration::from_secs(2));
    assert_eq!(cluster.take(conn).events()[0]["result"]["content"][0]["text"], "waited");
    let deaf = modern_with("tools/call", Some("wait"), r#""name":"wait","arguments":{}"#, "", "{}", "Accept: application/json\r\n");
    let conn = begin(&mut cluster, &deaf);
    cluster.half_close(conn);
    assert!(cluster.take(conn).head.is_empty());
    cluster.pass(Duration::from_secs(2));
    assert_eq!(text(&cluster.take(conn)), "waited");
}

#[test]
fn the_deadline_answers_and_drops_the_handler() {
    let mut config = config();
    config.request_timeout = Duration::from_secs(5);
    let mut cluster = Cluster::new(1, &config, server);
    let conn = begin(&mut cluster, &call("forever"));
    cluster.pass(Duration::from_millis(4900));
    assert!(cluster.is_pending(conn));
    cluster.pass(Duration::from_millis(200));
    let response = cluster.take(conn);
    assert_eq!((response.status, response.code()), (200, -32603));
    assert_eq!(response.json()["id"], 1);
    assert!(is_idle(&cluster));
}

#[test]
fn blocking_work_runs_on_the_pool_and_its_notices_come_first() {
    let mut cluster = cluster();
    let conn = begin(&mut cluster, &eager("block", ""));
    assert_eq!(cluster.blocking.len(), 1);
    assert!(cluster.take(conn).head.is_empty());
    cluster.run_blocking();
    let events = cluster.take(conn).events();
    assert_eq!(events[0]["method"], "notifications/progress");
    assert_eq!(events[1]["result"]["content"][0]["text"], "blocked");
    assert!(is_idle(&cluster));
}

#[test]
fn blocking_work_of_a_client_that_left_keeps_its_place_until_it_is_done() {
    let mut config = config();
    config.request_timeout = Duration::from_secs(5);
    let mut cluster = Cluster::new(1, &config, server);
    let gone = begin(&mut cluster, &eager("block", ""));
    let late = begin(&mut cluster, &eager("block", ""));
    cluster.gone(gone);
    assert!(!cluster.engines[0].is_idle());
    cluster.pass(Duration::from_secs(6));
    assert_eq!(cluster.take(late).code(), -32603);
    assert!(!cluster.is_pending(late));
    assert_eq!(cluster.shared.metrics()[0].gauge(Gauge::Calls), 2);
    cluster.run_blocking();
    assert!(is_idle(&cluster) && cluster.take(late).head.is_empty());
}

#[test]
fn a_panic_costs_its_caller_an_error_and_nobody_else() {
    let mut cluster = cluster();
    for tool in ["panic", "panic_later"] {
        let conn = begin(&mut cluster, &call(tool));
        cluster.pass(Duration::from_millis(10));
        let response = cluster.take(conn);
        assert_eq!((response.status, response.code()), (200, -32603), "{tool}");
    }
    assert_eq!(cluster.shared.metrics()[0].counter(Counter::Panics), 2);
    let conn = begin(&mut cluster, &call("tell"));
    assert_eq!(text(&cluster.take(conn)), "told");
}

#[test]
fn a_missing_capability_is_told_before_a_stream_is_committed() {
    let mut cluster = cluster();
    let conn = begin(&mut cluster, &eager("sample_after_progress", ""));
    let response = cluster.take(conn);
    assert_eq!((response.status, response.code()), (400, -32021));
    assert_eq!(response.json()["error"]["data"]["requiredCapabilities"], serde_json::json!({"roots": {}}));
}

#[test]
fn a_tool_s_own_failure_is_a_result() {
    let mut cluster = cluster();
    let conn = begin(&mut cluster, &call("fail"));
    let response = cluster.take(conn);
    assert_eq!(response.json()["result"]["isError"], true);
    assert_eq!(cluster.shared.metrics()[0].counter(Counter::ToolErrors), 1);
    assert_eq!(cluster.shared.metrics()[0].counter(Counter::ToolCalls), 1);
}

#[test]
fn a_silent_stream_gets_comments() {
    let mut config = config();
    config.keepalive_comment = Duration::from_secs(10);
    config.request_timeout = Duration::from_secs(1000);
    let mut cluster = Cluster::new(1, &config, server);
    let conn = begin(&mut cluster, &call("forever"));
    cluster.half_close(conn);
    cluster.take(conn);
    cluster.pass(Duration::from_secs(35));
    let response = cluster.take(conn);
    assert_eq!(response.body.matches(':').count(), 3, "{:?}", response.body);
}

#[test]
fn requests_behind_a_pending_one_wait_and_are_answered_in_order() {
    let mut cluster = cluster();
    let conn = begin(&mut cluster, &[call("tell"), call("wait"), call("tell")].concat());
    let first = cluster.take(conn);
    assert_eq!(text(&first), "told");
    assert!(first.rest.is_empty());
    cluster.pass(Duration::from_secs(2));
    let second = cluster.take(conn);
    assert_eq!(text(&second), "waited");
    assert_eq!(text(&Response::parse(second.rest)), "told");
}
