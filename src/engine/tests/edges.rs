//! HTTP around the messages: other methods, browsers, old clients, the admin listener.

use std::time::Duration;

use super::cluster::{Cluster, Response, config, modern, modern_with, post};
use super::fixture::server;
use crate::base::fault::Kind;
use crate::engine::Role;

fn cluster() -> Cluster {
    Cluster::new(2, &config(), server)
}

fn admin(cluster: &mut Cluster, request: &str) -> Response {
    let conn = cluster.connect_as(0, Role::Admin);
    cluster.exchange(conn, format!("{request} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())
}

#[test]
fn browsers_of_this_host_are_told_that_they_may() {
    let mut cluster = cluster();
    let origin = "Origin: http://localhost:3000\r\n";
    let conn = cluster.connect(0);
    let preflight = cluster.exchange(
        conn,
        format!("OPTIONS /mcp HTTP/1.1\r\nHost: localhost\r\n{origin}Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: mcp-method, mcp-param-x\r\n\r\n").as_bytes(),
    );
    assert_eq!((preflight.status, preflight.body.as_str()), (204, ""));
    assert_eq!(preflight.field("access-control-allow-origin").as_deref(), Some("http://localhost:3000"));
    assert_eq!(preflight.field("access-control-allow-headers").as_deref(), Some("mcp-method, mcp-param-x"));
    assert!(preflight.field("access-control-allow-methods").is_some_and(|methods| methods.contains("POST")));
    let response = cluster.exchange(conn, &modern_with("tools/list", None, "", "", "{}", origin));
    assert_eq!(response.field("access-control-allow-origin").as_deref(), Some("http://localhost:3000"));
    assert_eq!(response.field("vary").as_deref(), Some("Origin"));
    assert!(response.field("access-control-expose-headers").is_some_and(|names| names.contains("Mcp-Session-Id")));
    let later = modern_with("tools/call", Some("wait"), r#""name":"wait","arguments":{}"#, "", "{}", origin);
    cluster.send(conn, &later);
    cluster.pass(Duration::from_secs(2));
    assert_eq!(cluster.take(conn).field("access-control-allow-origin").as_deref(), Some("http://localhost:3000"));
    let evil = cluster.exchange(conn, &modern_with("tools/list", None, "", "", "{}", "Origin: http://evil.example\r\n"));
    assert_eq!((evil.status, evil.field("access-control-allow-origin")), (403, None));
    let both = format!("{origin}Origin: http://evil.example\r\n");
    let both = cluster.exchange(conn, &modern_with("tools/list", None, "", "", "{}", &both));
    assert_eq!((both.status, both.field("access-control-allow-origin")), (403, None));
    let plain = cluster.exchange(conn, b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!((plain.status, plain.field("access-control-max-age")), (204, None));
}

#[test]
fn what_is_refused_is_told_why_and_what_helps() {
    let mut cluster = cluster();
    let conn = cluster.connect(0);
    let mut why = |request: &[u8]| cluster.exchange(conn, request).json()["error"]["message"].as_str().expect("a message").to_owned();
    assert!(why(&post("", "{")).starts_with("Parse error: the body is not valid JSON: "));
    assert_eq!(why(&post("", "{}")), r#"Invalid request: jsonrpc is not "2.0""#);
    assert!(why(&post("Content-Encoding: gzip\r\n", "{}")).contains("Content-Encoding"));
    assert!(why(&post("Origin: http://evil.example\r\n", "{}")).contains("--allowed-origin"));
    assert!(why(&post("", r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#)).contains("initialize"));
    assert!(why(b"GET /mcp HTTP/1.1\r\nHost: localhost\r\n\r\n").ends_with("a GET must accept text/event-stream"));
    let bare = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":[]}}"#;
    assert!(why(&post("MCP-Protocol-Version: 2026-07-28\r\n", bare)).ends_with("_meta must be an object"));
}

#[test]
fn head_gets_a_head_alone() {
    let mut cluster = cluster();
    let conn = cluster.connect(0);
    cluster.send(conn, b"HEAD /mcp HTTP/1.1\r\nHost: localhost\r\n\r\nHEAD /none HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let conn = {
        let text = cluster.take_raw(conn);
        let heads: Vec<&str> = text.split("\r\n\r\n").filter(|head| !head.is_empty()).collect();
        assert_eq!(heads.len(), 2, "{text}");
        assert!(heads[0].starts_with("HTTP/1.1 405") && heads[1].starts_with("HTTP/1.1 404"));
        cluster.connect_as(0, Role::Admin)
    };
    cluster.send(conn, b"HEAD /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let text = cluster.take_raw(conn);
    assert!(text.starts_with("HTTP/1.1 200") && text.ends_with("\r\n\r\n") && text.contains("Content-Length: 5\r\n"), "{text}");
}

#[test]
fn old_clients_get_streams_that_end_with_the_connection() {
    let mut cluster = cluster();
    let as_old = |request: Vec<u8>| String::from_utf8(request).expect("UTF-8").replacen("HTTP/1.1", "HTTP/1.0", 1).into_bytes();
    let conn = cluster.connect(0);
    let response = cluster.exchange(conn, &as_old(modern("tools/list", None, "")));
    assert_eq!((response.status, response.field("connection").as_deref()), (200, Some("close")));
    assert!(!cluster.is_open(conn));
    let conn = cluster.connect(0);
    let keep = modern_with("tools/list", None, "", "", "{}", "Connection: keep-alive\r\n");
    let response = cluster.exchange(conn, &as_old(keep));
    assert_eq!(response.field("connection").as_deref(), Some("keep-alive"));
    assert!(cluster.is_open(conn));
    let meta = r#","progressToken":1"#;
    let eager = modern_with("tools/call", Some("tell"), r#""name":"tell","arguments":{}"#, meta, "{}", "Connection: keep-alive\r\n");
    cluster.send(conn, &as_old(eager));
    let text = cluster.take_raw(conn);
    assert!(!text.contains("Transfer-Encoding") && text.contains("Connection: close"), "{text}");
    assert!(text.contains("\"result\"") && !text.contains("\r\n0\r\n"), "{text}");
    assert!(!cluster.is_open(conn));
}

#[test]
fn broken_framing_is_answered_and_closes() {
    let mut cluster = cluster();
    let conn = cluster.connect(0);
    let response = cluster.exchange(conn, b"POST /mcp HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n");
    assert_eq!((response.status, response.field("connection").as_deref()), (400, Some("close")));
    assert_eq!(response.code(), -32000);
    assert_eq!(cluster.shared.metrics()[0].faults(Kind::BadHttp), 1);
}

#[test]
fn every_split_of_a_request_gives_the_same_answer() {
    let request = modern("tools/call", Some("echo"), r#""name":"echo","arguments":{"message":"hi"}"#);
    let mut cluster = cluster();
    let conn = cluster.connect(0);
    let whole = cluster.exchange(conn, &request);
    for at in 1..request.len() {
        cluster.send(conn, &request[..at]);
        assert!(cluster.take(conn).head.is_empty(), "at {at}");
        let split = cluster.exchange(conn, &request[at..]);
        assert_eq!((split.head, split.body), (whole.head.clone(), whole.body.clone()), "at {at}");
    }
}

#[test]
fn the_admin_listener_tells_health_and_metrics() {
    let mut cluster = cluster();
    assert_eq!(admin(&mut cluster, "GET /health/live").status, 200);
    assert_eq!(admin(&mut cluster, "GET /health/ready").status, 503);
    cluster.shared.set_ready(true);
    assert_eq!(admin(&mut cluster, "GET /health/ready").status, 200);
    let metrics = admin(&mut cluster, "GET /metrics");
    assert_eq!(metrics.field("content-type").as_deref(), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert!(metrics.body.contains("ringhub_http_requests_total{core=\"0\"} 4\n"), "{}", metrics.body);
    assert_eq!(admin(&mut cluster, "POST /metrics").field("allow").as_deref(), Some("GET, HEAD"));
    assert_eq!(admin(&mut cluster, "GET /mcp").status, 404);
    let conn = cluster.connect(0);
    assert_eq!(cluster.exchange(conn, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").status, 404, "not on the public listener");
    cluster.drain();
    assert_eq!(admin(&mut cluster, "GET /health/ready").status, 503);
    assert_eq!(admin(&mut cluster, "GET /health/live").status, 200);
}
