//! Requests for input: what is asked, what comes back, and what is not believed.

use std::time::Duration;

use serde_json::{Value, json};

use super::cluster::{Cluster, Response, config, modern_with};
use super::fixture::server;

const CAN_ELICIT: &str = r#"{"elicitation":{"form":{}}}"#;

fn cluster() -> Cluster {
    Cluster::new(2, &config(), server)
}

/// One round of a call, on a new connection to this core.
fn round(cluster: &mut Cluster, core: usize, tool: &str, more: &str) -> Response {
    round_as(cluster, core, tool, more, "")
}

fn round_as(cluster: &mut Cluster, core: usize, tool: &str, more: &str, headers: &str) -> Response {
    let params = format!(r#""name":"{tool}","arguments":{{}}{more}"#);
    let conn = cluster.connect(core);
    cluster.send(conn, &modern_with("tools/call", Some(tool), &params, "", CAN_ELICIT, headers));
    cluster.pass(Duration::from_millis(100));
    cluster.take(conn)
}

fn accept(key: &str, name: &str) -> String {
    format!(r#""{key}":{{"action":"accept","content":{{"name":"{name}"}}}}"#)
}

fn state(response: &Response) -> String {
    let result = &response.json()["result"];
    assert_eq!(result["resultType"], "input_required", "{}", response.body);
    result["requestState"].as_str().expect("a state").to_owned()
}

fn text(response: &Response) -> Value {
    response.json()["result"]["content"][0]["text"].clone()
}

#[test]
fn a_question_is_asked_and_its_answer_ends_the_call_on_any_core() {
    let mut cluster = cluster();
    for tool in ["ask", "ask_late"] {
        let asked = round(&mut cluster, 0, tool, "");
        assert_eq!(asked.status, 200);
        let result = asked.json()["result"].clone();
        assert_eq!(result["inputRequests"]["who"]["method"], "elicitation/create");
        assert_eq!(result["inputRequests"]["who"]["params"]["message"], "What is your name?");
        assert!(result.get("ttlMs").is_none() && result["inputRequests"]["who"].get("id").is_none());
        assert!(result["_meta"]["io.modelcontextprotocol/serverInfo"].is_object());
        assert!(cluster.engines[0].is_idle());
        let state = state(&asked);
        let answered = round(&mut cluster, 1, tool, &format!(r#","inputResponses":{{{}}},"requestState":"{state}""#, accept("who", "Ada")));
        assert_eq!(answered.json()["result"]["resultType"], "complete", "{}", answered.body);
        assert!(text(&answered).as_str().expect("text").contains("Ada"));
    }
}

#[test]
fn answers_and_what_was_remembered_come_back_in_later_rounds() {
    let mut cluster = cluster();
    let first = state(&round(&mut cluster, 0, "ask_twice", ""));
    let answer = accept("first", "Ada");
    let second = round(&mut cluster, 0, "ask_twice", &format!(r#","inputResponses":{{{answer}}},"requestState":"{first}""#));
    assert_eq!(second.json()["result"]["inputRequests"].as_object().expect("an object").keys().collect::<Vec<_>>(), ["second"]);
    let second = state(&second);
    assert_ne!(first, second);
    let answer = accept("second", "Bob");
    let last = round(&mut cluster, 0, "ask_twice", &format!(r#","inputResponses":{{{answer}}},"requestState":"{second}""#));
    assert_eq!(text(&last), "Ada Bob Ada");
}

#[test]
fn what_is_missing_unknown_or_unreadable_is_asked_again() {
    let mut cluster = cluster();
    let first = state(&round(&mut cluster, 0, "ask", ""));
    for responses in ["{}", r#"{"other":{"action":"accept"}}"#, r#"{"who":7}"#, r#"{"who":{"action":"accept","content":{}}}"#, "[]"] {
        let again = round(&mut cluster, 0, "ask", &format!(r#","inputResponses":{responses},"requestState":"{first}""#));
        assert_eq!(again.json()["result"]["inputRequests"]["who"]["method"], "elicitation/create", "{responses}: {}", again.body);
    }
    let declined =
        round(&mut cluster, 0, "ask", &format!(r#","inputResponses":{{"who":{{"action":"decline"}}}},"requestState":"{first}""#));
    assert_eq!(text(&declined), "Hello, nobody!");
    let without_state = round(&mut cluster, 0, "ask", &format!(r#","inputResponses":{{{}}}"#, accept("who", "Eve")));
    assert_eq!(text(&without_state), "Hello, Eve!");
}

#[test]
fn a_state_is_good_for_its_request_its_principal_and_its_time_alone() {
    let mut cluster = cluster();
    let good = state(&round_as(&mut cluster, 0, "ask", "", "Authorization: Bearer one\r\n"));
    let mut tampered = good.clone().into_bytes();
    tampered[40] = if tampered[40] == b'A' { b'B' } else { b'A' };
    let tampered = String::from_utf8(tampered).expect("ASCII");
    let answer = accept("who", "Ada");
    let retry = |state: &str| format!(r#","inputResponses":{{{answer}}},"requestState":"{state}""#);
    let rows = [
        ("tampered", "ask", tampered.as_str(), "Authorization: Bearer one\r\n"),
        ("another principal", "ask", &good, "Authorization: Bearer two\r\n"),
        ("no token", "ask", &good, ""),
        ("another tool", "ask_late", &good, "Authorization: Bearer one\r\n"),
        ("empty", "ask", "", "Authorization: Bearer one\r\n"),
    ];
    for (name, tool, state, headers) in rows {
        let refused = round_as(&mut cluster, 0, tool, &retry(state), headers);
        assert_eq!((refused.status, refused.code()), (200, -32602), "{name}");
    }
    let fine = round_as(&mut cluster, 0, "ask", &retry(&good), "Authorization: Bearer one\r\n");
    assert_eq!(text(&fine), "Hello, Ada!");
    cluster.pass(config().request_state_ttl + Duration::from_secs(1));
    let late = round_as(&mut cluster, 0, "ask", &retry(&good), "Authorization: Bearer one\r\n");
    assert_eq!(late.code(), -32602);
}

#[test]
fn a_state_is_good_at_its_endpoint_alone() {
    let mut config = config();
    config.endpoints.push(crate::engine::Endpoint { path: "/other".into(), ..config.endpoints[0].clone() });
    let mut cluster = Cluster::new(1, &config, server);
    let good = state(&round(&mut cluster, 0, "ask", ""));
    let params = format!(r#""name":"ask","arguments":{{}},"inputResponses":{{{}}},"requestState":"{good}""#, accept("who", "Ada"));
    let retry = String::from_utf8(modern_with("tools/call", Some("ask"), &params, "", CAN_ELICIT, "")).expect("UTF-8");
    let conn = cluster.connect(0);
    assert_eq!(cluster.exchange(conn, retry.replacen("/mcp", "/other", 1).as_bytes()).code(), -32602);
    assert_eq!(text(&cluster.exchange(conn, retry.as_bytes())), "Hello, Ada!");
}

#[test]
fn a_client_that_cannot_be_asked_is_told_what_is_needed() {
    let mut cluster = cluster();
    let conn = cluster.connect(0);
    let params = r#""name":"ask","arguments":{}"#;
    let response = cluster.exchange(conn, &modern_with("tools/call", Some("ask"), params, "", r#"{"sampling":{}}"#, ""));
    assert_eq!((response.status, response.code()), (400, -32021));
    assert_eq!(response.json()["error"]["data"]["requiredCapabilities"], json!({"elicitation": {"form": {}}}));
}

#[test]
fn rounds_are_counted() {
    let mut cluster = cluster();
    let mut state = state(&round(&mut cluster, 0, "ask", ""));
    for _ in 1..crate::base::limits::ASK_ROUNDS_MAX {
        state = self::state(&round(&mut cluster, 0, "ask", &format!(r#","inputResponses":{{}},"requestState":"{state}""#)));
    }
    let refused = round(&mut cluster, 0, "ask", &format!(r#","inputResponses":{{}},"requestState":"{state}""#));
    assert_eq!(refused.code(), -32603);
}
