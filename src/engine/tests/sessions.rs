//! What POST, GET and DELETE mean to a session, and batches.

use super::client::{Client, INITIALIZED, call, cluster, cluster_with, initialize, request, text};
use super::cluster::{Cluster, config, post};

const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;

fn status(cluster: &mut Cluster, headers: &str, body: &str) -> (u16, i64) {
    let conn = cluster.connect(0);
    let answer = cluster.exchange(conn, &post(headers, body));
    (answer.status, answer.code())
}

#[test]
fn a_request_needs_a_session_and_a_living_one() {
    let mut cluster = cluster(1);
    assert_eq!(status(&mut cluster, "", PING), (400, -32000));
    assert_eq!(status(&mut cluster, "", INITIALIZED), (400, -32000));
    assert_eq!(status(&mut cluster, "Mcp-Session-Id: nonsense\r\n", PING), (404, -32001));
    let client = Client::open(&mut cluster, "2025-11-25");
    assert_eq!(client.post(&mut cluster, PING).json()["result"], serde_json::json!({}));
    let forged = format!("Mcp-Session-Id: {}A\r\n", &client.session[..client.session.len() - 1]);
    let twice = format!("{0}{0}", format_args!("Mcp-Session-Id: {}\r\n", client.session));
    assert_eq!(status(&mut cluster, &twice, PING).0, 400);
    if !client.session.ends_with('A') {
        assert_eq!(status(&mut cluster, &forged, PING), (404, -32001));
    }
}

#[test]
fn a_deleted_session_is_gone_for_every_method() {
    let mut cluster = cluster(1);
    let client = Client::open(&mut cluster, "2025-11-25");
    assert_eq!(client.delete(&mut cluster).status, 200);
    assert_eq!(client.post(&mut cluster, PING).status, 404);
    assert_eq!(client.get(&mut cluster, None).1.status, 404);
    assert_eq!(client.delete(&mut cluster).status, 404);
    let conn = cluster.connect(0);
    let without = cluster.exchange(conn, b"DELETE /mcp HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(without.status, 400);
    assert_eq!(cluster.shared.sessions().len(), 0);
}

#[test]
fn a_connection_moves_to_the_home_of_its_session_and_a_dead_id_is_answered_where_it_comes() {
    let mut cluster = cluster(3);
    let client = Client::open_with(&mut cluster, 2, "2025-11-25", "{}");
    let conn = cluster.connect(0);
    let answer = cluster.exchange(conn, &post(&client.headers(), &call("1", "boom")));
    assert_eq!((answer.status, cluster.core_of(conn)), (200, 2));
    client.delete(&mut cluster);
    let other = cluster.connect(1);
    assert_eq!(cluster.exchange(other, &post(&client.headers(), PING)).status, 404);
    assert_eq!(cluster.core_of(other), 1, "no move for a dead session");
    assert_eq!(cluster.exchange(conn, &post(&client.headers(), PING)).status, 404);
}

#[test]
fn a_session_is_good_at_its_endpoint_alone() {
    let mut config = config();
    let other = crate::engine::Endpoint { path: "/other".into(), ..config.endpoints[0].clone() };
    config.endpoints.push(other);
    let mut cluster = cluster_with(1, &config);
    let client = Client::open(&mut cluster, "2025-11-25");
    let elsewhere = String::from_utf8(post(&client.headers(), PING)).unwrap().replacen("/mcp", "/other", 1);
    let conn = cluster.connect(0);
    assert_eq!(cluster.exchange(conn, elsewhere.as_bytes()).status, 404);
}

#[test]
fn the_version_header_must_name_a_legacy_version() {
    let mut cluster = cluster(1);
    let client = Client::open(&mut cluster, "2025-11-25");
    let session = format!("Mcp-Session-Id: {}\r\n", client.session);
    let conn = cluster.connect(0);
    for (version, wanted) in [("", 200), ("2025-06-18", 200), ("2025-11-25", 200), ("1999-01-01", 400), ("nonsense", 400)] {
        let header = if version.is_empty() { String::new() } else { format!("MCP-Protocol-Version: {version}\r\n") };
        let answer = cluster.exchange(conn, &post(&format!("{session}{header}"), PING));
        assert_eq!(answer.status, wanted, "{version}");
    }
    let twice = format!("{session}MCP-Protocol-Version: 2025-11-25\r\nMCP-Protocol-Version: nonsense\r\n");
    assert_eq!(cluster.exchange(conn, &post(&twice, PING)).status, 400, "every value counts");
    let unknown = cluster.exchange(conn, &post("MCP-Protocol-Version: 2025-11-25\r\n", &initialize("2025-11-25", "{}")));
    assert_eq!(unknown.status, 200);
}

#[test]
fn both_media_types_must_be_acceptable_to_a_post_and_a_stream_to_a_get() {
    let mut cluster = cluster(1);
    let client = Client::open(&mut cluster, "2025-11-25");
    for accept in ["application/json", "text/event-stream", "text/html"] {
        let headers = format!("Accept: {accept}\r\n{}", client.headers());
        assert_eq!(status(&mut cluster, &headers, PING), (406, -32000), "{accept}");
    }
    let conn = cluster.connect(0);
    for accept in ["", "Accept: application/json\r\n"] {
        let get = format!("GET /mcp HTTP/1.1\r\nHost: localhost\r\n{accept}{}\r\n", client.headers());
        assert_eq!(cluster.exchange(conn, get.as_bytes()).status, 406);
    }
}

#[test]
fn what_is_no_request_is_accepted_without_a_body() {
    let mut cluster = cluster(1);
    let client = Client::open(&mut cluster, "2025-11-25");
    for body in [
        INITIALIZED,
        r#"{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/unheard"}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":99}}"#,
        r#"{"jsonrpc":"2.0","id":"ask-0000000000000000","result":{}}"#,
        r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"no"}}"#,
    ] {
        let answer = client.post(&mut cluster, body);
        assert_eq!((answer.status, answer.body.as_str()), (202, ""), "{body}");
    }
}

#[test]
fn a_batch_is_answered_as_an_array() {
    let mut cluster = cluster(1);
    let client = Client::open(&mut cluster, "2025-03-26");
    let answer = client.post(&mut cluster, &format!("[{PING},{INITIALIZED},{}]", request("2", "tools/list", "{}")));
    assert_eq!(answer.status, 200);
    let replies = answer.json();
    assert_eq!(replies.as_array().unwrap().len(), 2);
    assert_eq!((&replies[0]["id"], &replies[1]["id"]), (&1.into(), &2.into()));
    assert_eq!(client.post(&mut cluster, &format!("[{INITIALIZED},{INITIALIZED}]")).status, 202);
    assert_eq!(client.post(&mut cluster, r#"[{"jsonrpc":"2.0","id":5,"result":{}}]"#).status, 202);
    let inside = client.post(&mut cluster, &format!("[{}]", initialize("2025-03-26", "{}")));
    assert_eq!((inside.status, inside.code()), (400, -32600));
    let mixed = client.post(&mut cluster, &format!(r#"[{PING},{{"jsonrpc":"2.0","id":5,"result":{{}}}}]"#));
    assert_eq!((mixed.status, mixed.code()), (400, -32600));
}

#[test]
fn later_versions_have_no_batches() {
    let mut cluster = cluster(1);
    for version in ["2025-06-18", "2025-11-25"] {
        let client = Client::open(&mut cluster, version);
        let answer = client.post(&mut cluster, &format!("[{PING}]"));
        assert_eq!((answer.status, answer.code()), (400, -32600));
    }
}

#[test]
fn a_batch_with_slow_requests_is_answered_when_all_are_done() {
    let mut cluster = cluster(1);
    let client = Client::open(&mut cluster, "2025-03-26");
    let (conn, first) = client.post_aside(&mut cluster, &format!("[{PING},{},{}]", call("2", "slow"), call("3", "nope")));
    assert_eq!(first.status, 0, "nothing yet");
    cluster.pass(std::time::Duration::from_secs(2));
    let answer = cluster.take(conn);
    let replies = answer.json();
    let ids: Vec<_> = replies.as_array().unwrap().iter().map(|reply| reply["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, [1, 3, 2]);
    assert_eq!(text(&replies[2]), "late");
    assert!(!cluster.is_pending(conn));
}

#[test]
fn a_cancelled_request_of_a_batch_is_missing_from_the_replies() {
    let mut cluster = cluster(1);
    let client = Client::open(&mut cluster, "2025-03-26");
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":2}}"#;
    let (conn, _) = client.post_aside(&mut cluster, &format!("[{},{}]", call("2", "slow"), call("3", "slow")));
    client.post(&mut cluster, cancel);
    cluster.pass(std::time::Duration::from_secs(2));
    let answer = cluster.take(conn).json();
    assert_eq!((answer.as_array().unwrap().len(), &answer[0]["id"]), (1, &3.into()));
    let (all, _) = client.post_aside(&mut cluster, &format!("[{}]", call("2", "slow")));
    client.post(&mut cluster, cancel);
    let answer = cluster.take(all);
    assert!(answer.events().is_empty() && !answer.is_open && !cluster.is_pending(all));
}

#[test]
fn a_batch_that_has_something_to_say_becomes_a_stream() {
    let mut cluster = cluster(1);
    let client = Client::open(&mut cluster, "2025-03-26");
    let (conn, first) = client.post_aside(&mut cluster, &format!("[{PING},{},{}]", call("2", "steps"), call("3", "slow")));
    assert_eq!(first.field("content-type").as_deref(), Some("text/event-stream"));
    assert!(first.events()[0].is_array(), "what was gathered before: {:?}", first.events());
    cluster.pass(std::time::Duration::from_secs(4));
    let rest = cluster.take(conn);
    let replies: Vec<_> = rest.events().into_iter().filter(|event| event.get("id").is_some()).collect();
    assert_eq!(replies.iter().map(text).collect::<Vec<_>>(), ["late", "arrived"]);
    assert!(!rest.is_open && !cluster.is_pending(conn));
}

#[test]
fn pipelined_requests_of_a_session_are_answered_in_order() {
    let mut cluster = cluster(1);
    let client = Client::open(&mut cluster, "2025-11-25");
    let mut both = post(&client.headers(), &call("1", "slow"));
    both.extend_from_slice(&post(&client.headers(), &call("2", "boom")));
    cluster.send(client.conn, &both);
    assert!(cluster.is_pending(client.conn));
    cluster.pass(std::time::Duration::from_secs(2));
    let first = cluster.take(client.conn);
    assert_eq!(text(&first.json()), "late");
    let second = super::cluster::Response::parse(first.rest);
    assert_eq!(second.json()["id"], 2);
}
