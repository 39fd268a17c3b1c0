//! Requests of the legacy era, method by method.

use std::time::Duration;

use super::client::{Client, call, cluster, cluster_with, paged, request, text};
use super::cluster::{Cluster, config};

#[test]
fn every_method_answers_within_a_session() {
    let mut cluster = cluster(1);
    let client = Client::open(&mut cluster, "2025-11-25");
    let mut ask = |method: &str, params: &str| client.post(&mut cluster, &request("\"x\"", method, params)).json();
    assert_eq!(ask("ping", "{}"), serde_json::json!({"jsonrpc": "2.0", "id": "x", "result": {}}));
    assert!(ask("tools/list", "{}")["result"]["tools"].as_array().unwrap().len() > 5);
    assert_eq!(ask("resources/list", "{}")["result"]["resources"][0]["uri"], "test://a");
    assert_eq!(ask("resources/read", r#"{"uri":"test://a"}"#)["result"]["contents"][0]["text"], "contents");
    assert_eq!(text(&ask("tools/call", r#"{"name":"echo","arguments":{"message":"hi"}}"#)), "hi");
    for (method, params) in [
        ("logging/setLevel", r#"{"level":"warning"}"#),
        ("resources/subscribe", r#"{"uri":"test://a"}"#),
        ("resources/unsubscribe", r#"{"uri":"test://a"}"#),
    ] {
        assert_eq!(ask(method, params)["result"], serde_json::json!({}), "{method}");
    }
}

#[test]
fn results_have_nothing_of_the_modern_era() {
    let mut cluster = cluster(1);
    let client = Client::open(&mut cluster, "2025-11-25");
    for body in [request("1", "tools/list", "{}"), call("1", "change"), request("1", "resources/read", r#"{"uri":"test://a"}"#)] {
        let answer = client.post(&mut cluster, &body);
        for member in ["resultType", "ttlMs", "cacheScope", "serverInfo"] {
            assert!(!answer.body.contains(member), "{}", answer.body);
        }
    }
}

#[test]
fn what_is_wrong_is_said_with_its_code() {
    let mut cluster = cluster(1);
    let client = Client::open(&mut cluster, "2025-11-25");
    for (method, params, code, status) in [
        ("tools/nope", "{}", -32601, 200),
        ("server/discover", "{}", -32601, 200),
        ("subscriptions/listen", "{}", -32601, 200),
        ("tasks/list", "{}", -32601, 200),
        ("tools/call", r#"{"name":"nope"}"#, -32602, 200),
        ("tools/call", "{}", -32602, 200),
        ("tools/call", r#"{"name":7}"#, -32602, 200),
        ("tools/call", r#"{"name":"boom","arguments":{}}"#, -32603, 200),
        ("prompts/get", r#"{"name":"nope"}"#, -32601, 200),
        ("resources/read", r#"{"uri":"test://nope"}"#, -32002, 200),
        ("resources/subscribe", "{}", -32602, 200),
        ("tools/list", r#"{"cursor":"nope"}"#, -32602, 200),
        ("tools/list", r#"{"cursor":7}"#, -32602, 200),
        ("logging/setLevel", r#"{"level":"loud"}"#, -32602, 200),
    ] {
        let answer = client.post(&mut cluster, &request("7", method, params));
        assert_eq!((answer.code(), answer.status), (code, status), "{method} {params}");
        assert_eq!(answer.json()["id"], 7);
    }
    let missing = client.post(&mut cluster, &request("7", "resources/read", r#"{"uri":"test://nope"}"#));
    assert_eq!(missing.json()["error"]["data"]["uri"], "test://nope");
}

#[test]
fn wrong_arguments_are_told_to_the_model() {
    let mut cluster = cluster(1);
    let client = Client::open(&mut cluster, "2025-11-25");
    let answer = client.post(&mut cluster, &request("1", "tools/call", r#"{"name":"echo","arguments":{}}"#));
    assert_eq!(answer.json()["result"]["isError"], true, "{}", answer.body);
}

#[test]
fn lists_come_in_pages() {
    let mut cluster = Cluster::new(1, &config(), paged);
    let client = Client::open(&mut cluster, "2025-06-18");
    let (mut cursor, mut names) = ("{}".to_owned(), Vec::new());
    for _ in 0..10 {
        let page = client.post(&mut cluster, &request("1", "tools/list", &cursor)).json();
        names.extend(page["result"]["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap().to_owned()));
        match page["result"]["nextCursor"].as_str() {
            Some(next) => cursor = format!(r#"{{"cursor":"{next}"}}"#),
            None => break,
        }
    }
    assert!(names.len() > 5 && names.iter().any(|name| name == "echo") && names.iter().any(|name| name == "block"));
}

#[test]
fn the_id_of_a_request_in_work_cannot_be_used_again() {
    let mut cluster = cluster(1);
    let client = Client::open(&mut cluster, "2025-11-25");
    let (conn, _) = client.post_aside(&mut cluster, &call("\"a\"", "slow"));
    let again = client.post(&mut cluster, &call(r#""\u0061""#, "slow"));
    assert_eq!((again.status, again.code()), (400, -32600));
    assert!(!cluster.is_pending(client.conn));
    cluster.pass(Duration::from_secs(2));
    assert_eq!(text(&cluster.take(conn).json()), "late");
    let (later, _) = client.post_aside(&mut cluster, &call("\"a\"", "slow"));
    cluster.pass(Duration::from_secs(2));
    assert_eq!(text(&cluster.take(later).json()), "late");
}

#[test]
fn blocking_work_and_deadlines_end_a_request() {
    let mut config = config();
    config.request_timeout = Duration::from_millis(500);
    let mut cluster = cluster_with(1, &config);
    let client = Client::open(&mut cluster, "2025-11-25");
    let (conn, _) = client.post_aside(&mut cluster, &call("1", "block"));
    cluster.run_blocking();
    assert_eq!(text(&cluster.take(conn).json()), "unblocked");
    let (late, _) = client.post_aside(&mut cluster, &call("2", "slow"));
    cluster.pass(Duration::from_secs(2));
    let answer = cluster.take(late);
    assert_eq!((answer.status, answer.code()), (200, -32603));
    assert!(cluster.engines[0].is_idle());
    assert!(cluster.engines[0].legacy.pendings.is_empty());
}

#[test]
fn the_log_level_of_the_session_decides() {
    let mut cluster = cluster(1);
    let client = Client::open(&mut cluster, "2025-11-25");
    let levels = |answer: super::cluster::Response| -> Vec<String> {
        let events = answer.events();
        let messages = events.iter().filter(|event| event["method"] == "notifications/message");
        messages.map(|event| event["params"]["level"].as_str().unwrap().to_owned()).collect()
    };
    let answer = client.post(&mut cluster, &call("1", "talk"));
    assert!(!answer.is_open && answer.events().last().unwrap()["result"].is_object());
    assert_eq!(levels(answer), ["debug", "error"]);
    client.post(&mut cluster, &request("2", "logging/setLevel", r#"{"level":"error"}"#));
    assert_eq!(levels(client.post(&mut cluster, &call("3", "talk"))), ["error"]);
}
