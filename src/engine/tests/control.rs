//! The control API where sockets cannot show it: full lanes, listeners that leave, what is left behind.

use std::time::Duration;

use super::cluster::{Cluster, Response, config};
use super::fixture::server;
use crate::base::ids::ConnId;
use crate::engine::Role;
use crate::engine::admin::Token;
use crate::registry::Change;

const CORES: u16 = 3;

fn cluster() -> Cluster {
    let mut config = config();
    config.admin_token = Some(Token::new("a-token-for-tests"));
    Cluster::new(CORES, &config, server)
}

fn request(method: &str, target: &str, body: &str) -> Vec<u8> {
    let fields = "Host: localhost\r\nAuthorization: Bearer a-token-for-tests\r\nContent-Type: application/json\r\n";
    format!("{method} {target} HTTP/1.1\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn ask(cluster: &mut Cluster, method: &str, target: &str, body: &str) -> Response {
    let conn = cluster.connect_as(0, Role::Admin);
    cluster.exchange(conn, &request(method, target, body))
}

fn register(cluster: &mut Cluster, count: usize) {
    for number in 0..count {
        let made = ask(cluster, "POST", "/v1/servers", &format!(r#"{{"name":"s{number}","target":"http://x/"}}"#));
        assert_eq!(made.status, 201, "{}", made.body);
    }
}

fn listen(cluster: &mut Cluster) -> ConnId {
    let conn = cluster.connect_as(0, Role::Admin);
    cluster.send(conn, &request("GET", "/v1/changes", ""));
    conn
}

#[test]
fn full_lanes_are_told_and_leave_nothing_behind() {
    let mut cluster = cluster();
    register(&mut cluster, 9);
    cluster.lane_frames_max = 0;
    for target in ["/v1/shards", "/v1/sessions", "/v1/servers"] {
        let conn = cluster.connect_as(0, Role::Admin);
        cluster.send(conn, &request("GET", target, ""));
        cluster.pass(Duration::from_secs(30));
        let answer = cluster.take(conn);
        assert_eq!((answer.status, answer.field("retry-after").as_deref()), (503, Some("1")), "{target}: {}", answer.body);
    }
    let mut statuses = Vec::new();
    for number in 0..9 {
        let conn = cluster.connect_as(0, Role::Admin);
        cluster.send(conn, &request("GET", &format!("/v1/servers/s{number}"), ""));
        cluster.pass(Duration::from_secs(1));
        statuses.push(cluster.take(conn).status);
    }
    assert!(statuses.iter().all(|status| matches!(status, 200 | 503)) && statuses.contains(&503), "{statuses:?}");
    cluster.lane_frames_max = usize::MAX;
    cluster.pass(Duration::from_secs(30));
    assert_eq!(ask(&mut cluster, "GET", "/v1/shards", "").status, 200);
    assert_eq!(ask(&mut cluster, "GET", "/v1/servers", "").json()["items"].as_array().map(Vec::len), Some(10));
    assert!(cluster.engines.iter().all(crate::engine::Engine::is_idle));
}

#[test]
fn a_command_is_registered_only_where_that_is_allowed() {
    let body = r#"{"name":"c","target":"stdio:sh -c 'exit 0'"}"#;
    let mut closed = cluster();
    let refused = ask(&mut closed, "POST", "/v1/servers", body);
    assert_eq!(refused.status, 403);
    assert!(refused.body.contains("--allow-stdio-api"), "{}", refused.body);
    register(&mut closed, 1);
    assert_eq!(ask(&mut closed, "PUT", "/v1/servers/s0", r#"{"target":"stdio:x"}"#).status, 403);
    for bad in ["", "x", "sh -c x", "ftp://h/", "http://u@h/", "https://h/#f"] {
        let refused = ask(&mut closed, "POST", "/v1/servers", &format!(r#"{{"name":"c","target":"{bad}"}}"#));
        assert_eq!(refused.status, 422, "{bad}: {}", refused.body);
    }
    let mut config = config();
    (config.admin_token, config.stdio_api) = (Some(Token::new("a-token-for-tests")), true);
    let mut open = Cluster::new(CORES, &config, server);
    assert_eq!(ask(&mut open, "POST", "/v1/servers", body).status, 201);
    assert_eq!(ask(&mut open, "POST", "/v1/servers", r#"{"name":"d","target":"stdio:'a"}"#).status, 422);
}

#[test]
fn an_upstream_of_the_configuration_is_fixed() {
    let mut config = super::upstream::front(vec![super::upstream::settings("u")]);
    config.admin_token = Some(Token::new("a-token-for-tests"));
    let mut cluster = Cluster::new(CORES, &config, server);
    let entry = ask(&mut cluster, "GET", "/v1/servers/u", "").json();
    assert_eq!((entry["target"].as_str(), entry["state"].as_str()), (Some("http://u.test/mcp"), Some("offline")));
    for (method, body) in [("PUT", r#"{"target":"http://elsewhere/"}"#), ("DELETE", "")] {
        let refused = ask(&mut cluster, method, "/v1/servers/u", body);
        assert_eq!(refused.status, 403, "{method}: {}", refused.body);
        assert!(refused.body.contains("configuration"), "{}", refused.body);
    }
    assert_eq!(ask(&mut cluster, "POST", "/v1/servers", r#"{"name":"u","target":"http://x/"}"#).status, 409);
    assert_eq!(ask(&mut cluster, "GET", "/v1/servers/u", "").json()["version"], entry["version"]);
}

#[test]
fn a_connection_that_goes_takes_its_question_with_it() {
    let mut cluster = cluster();
    register(&mut cluster, 6);
    cluster.lane_frames_max = 0;
    let conn = cluster.connect_as(0, Role::Admin);
    cluster.send(conn, &request("GET", "/v1/shards", ""));
    assert!(cluster.is_pending(conn) && !cluster.engines[0].is_idle());
    cluster.gone(conn);
    assert!(cluster.engines[0].is_idle());
}

#[test]
fn changes_at_every_core_reach_the_listener_however_full_the_lanes_are() {
    let mut cluster = cluster();
    let listener = listen(&mut cluster);
    register(&mut cluster, 12);
    let told = cluster.take_raw(listener);
    assert!((0..12).all(|number| told.contains(&format!(r#""name":"s{number}""#))), "{told}");
    cluster.lane_frames_max = 0;
    for number in 0..12 {
        // Made where it is at home, refused elsewhere.
        let name: Box<str> = format!("s{number}").into();
        (0..CORES).for_each(|core| cluster.begin_change(core.into(), Change::Unregister { name: name.clone(), if_version: None }));
    }
    cluster.lane_frames_max = usize::MAX;
    cluster.pass(Duration::from_secs(1));
    let told = cluster.take_raw(listener);
    assert!((0..12).all(|number| told.contains(&format!(r#""name":"s{number}""#))), "late, and not lost: {told}");
    cluster.pass(Duration::from_secs(20));
    assert!(cluster.take_raw(listener).contains(":\n\n"), "a comment keeps it alive");
    cluster.gone(listener);
    let frames = cluster.frames_sent;
    let at_home = ask(&mut cluster, "GET", "/v1/cores", "").status;
    assert_eq!((at_home, cluster.frames_sent), (200, frames), "cores are known without a question");
    let last = listen(&mut cluster);
    cluster.drain();
    assert!(cluster.take_raw(last).ends_with("0\r\n\r\n"), "a drain ends it well");
}
