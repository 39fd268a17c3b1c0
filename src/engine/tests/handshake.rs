//! Initialization, and the life of sessions.

use std::time::Duration;

use super::client::{Client, INITIALIZED, call, cluster, cluster_with, initialize, request};
use super::cluster::{config, post};

#[test]
fn a_served_version_is_agreed_to_and_any_other_gets_the_newest_legacy_one() {
    let mut cluster = cluster(1);
    for (offered, agreed) in [
        ("2024-11-05", "2024-11-05"),
        ("2025-03-26", "2025-03-26"),
        ("2025-06-18", "2025-06-18"),
        ("2025-11-25", "2025-11-25"),
        ("2026-07-28", "2025-11-25"),
        ("1999-01-01", "2025-11-25"),
    ] {
        let conn = cluster.connect(0);
        let answer = cluster.exchange(conn, &post("", &initialize(offered, "{}")));
        assert_eq!(answer.status, 200);
        let result = &answer.json()["result"];
        assert_eq!(result["protocolVersion"], agreed, "{offered}");
        assert_eq!(result["serverInfo"]["name"], "test");
        assert_eq!(result["instructions"], "Be gentle.");
        assert!(result["capabilities"]["tools"].is_object());
        assert!(result.get("resultType").is_none(), "nothing of the modern era");
        let id = answer.field("mcp-session-id").unwrap();
        assert!(id.len() <= crate::base::limits::SESSION_ID_BYTES_MAX && id.bytes().all(|b| b.is_ascii_graphic()));
    }
}

#[test]
fn a_second_initialize_within_a_session_is_refused() {
    let mut cluster = cluster(2);
    let client = Client::open(&mut cluster, "2025-11-25");
    let again = client.post(&mut cluster, &initialize("2025-11-25", "{}"));
    assert_eq!((again.status, again.code()), (400, -32600));
    let elsewhere = cluster.connect(1);
    let again = cluster.exchange(elsewhere, &post(&client.headers(), &initialize("2025-11-25", "{}")));
    assert_eq!((again.status, again.code()), (400, -32600));
    client.delete(&mut cluster);
    let anew = client.post(&mut cluster, &initialize("2025-11-25", "{}"));
    assert_eq!(anew.status, 200, "a dead session is no reason to refuse a new one");
}

#[test]
fn initialize_needs_a_version() {
    let mut cluster = cluster(1);
    let conn = cluster.connect(0);
    for params in ["{}", r#"{"protocolVersion":7}"#] {
        let answer = cluster.exchange(conn, &post("", &request("1", "initialize", params)));
        assert_eq!(answer.code(), -32602);
        assert_eq!(answer.field("mcp-session-id"), None);
    }
}

#[test]
fn sessions_are_bounded() {
    let mut config = config();
    config.sessions_max = 2;
    let mut cluster = cluster_with(1, &config);
    Client::open(&mut cluster, "2025-11-25");
    let last = Client::open(&mut cluster, "2025-11-25");
    let conn = cluster.connect(0);
    let refused = cluster.exchange(conn, &post("", &initialize("2025-11-25", "{}")));
    assert_eq!(refused.status, 503);
    last.delete(&mut cluster);
    Client::open(&mut cluster, "2025-11-25");
}

#[test]
fn an_idle_session_ends_and_one_with_a_call_in_work_does_not() {
    let mut config = config();
    config.session_idle_timeout = Duration::from_secs(10);
    config.request_timeout = Duration::from_secs(300);
    let mut cluster = cluster_with(1, &config);
    let idle = Client::open(&mut cluster, "2025-11-25");
    let listening = Client::open(&mut cluster, "2025-11-25");
    let (_, stream) = listening.get(&mut cluster, None);
    assert_eq!(stream.status, 200);
    cluster.pass(Duration::from_secs(30));
    assert_eq!(idle.post(&mut cluster, INITIALIZED).status, 404);
    assert_eq!(listening.post(&mut cluster, &call("1", "change")).status, 200);
}
