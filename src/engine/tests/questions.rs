//! What a server asks of a legacy client, and how the answers come back.

use std::time::Duration;

use serde_json::{Value, json};

use super::client::{Client, call, cluster, cluster_with, event_ids, text};
use super::cluster::config;

fn posted(id: &Value, result: &Value) -> String {
    json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string()
}

#[test]
fn a_question_goes_out_on_the_call_s_stream_and_its_answer_comes_by_post() {
    for (tool, method, result, said) in [
        ("elicit", "elicitation/create", json!({"action": "accept", "content": {"name": "Ada"}}), "Ada"),
        (
            "sample",
            "sampling/createMessage",
            json!({"role": "assistant", "model": "m", "content": {"type": "text", "text": "A rose"}}),
            "A rose",
        ),
        ("roots", "roots/list", json!({"roots": [{"uri": "file:///a"}]}), "1"),
    ] {
        let mut cluster = cluster(1);
        let client = Client::open(&mut cluster, "2025-11-25");
        let (conn, asked) = client.post_aside(&mut cluster, &call("1", tool));
        let question = asked.events().pop().expect("a question");
        assert_eq!(question["method"], method);
        let answer = client.post(&mut cluster, &posted(&question["id"], &result));
        assert_eq!((answer.status, answer.body.as_str()), (202, ""));
        let reply = cluster.take(conn);
        assert!(text(&reply.events()[0]).contains(said), "{}", reply.body);
        assert!(!reply.is_open && !cluster.is_pending(conn));
    }
}

#[test]
fn an_error_is_an_answer_too() {
    let mut cluster = cluster(1);
    let client = Client::open(&mut cluster, "2025-06-18");
    let (conn, asked) = client.post_aside(&mut cluster, &call("1", "elicit"));
    let question = asked.events().pop().expect("a question");
    let error = json!({"jsonrpc": "2.0", "id": question["id"], "error": {"code": -1, "message": "no such user"}});
    assert_eq!(client.post(&mut cluster, &error.to_string()).status, 202);
    let reply = cluster.take(conn).events().pop().expect("a reply");
    assert_eq!(reply["result"]["isError"], true);
    assert!(text(&reply).contains("no such user"), "{reply}");
}

#[test]
fn another_session_s_answer_is_ignored() {
    let mut cluster = cluster(1);
    let client = Client::open(&mut cluster, "2025-11-25");
    let other = Client::open(&mut cluster, "2025-11-25");
    let (conn, asked) = client.post_aside(&mut cluster, &call("1", "roots"));
    let question = asked.events().pop().expect("a question");
    let answer = posted(&question["id"], &json!({"roots": []}));
    assert_eq!(other.post(&mut cluster, &answer).status, 202);
    assert!(cluster.is_pending(conn));
    client.post(&mut cluster, &answer);
    assert!(!cluster.is_pending(conn));
    assert_eq!(client.post(&mut cluster, &answer).status, 202, "a second answer is nobody's");
}

#[test]
fn a_client_without_the_capability_is_not_asked() {
    let mut cluster = cluster(1);
    for (version, capabilities) in [("2025-11-25", "{}"), ("2025-03-26", r#"{"elicitation":{}}"#)] {
        let client = Client::open_with(&mut cluster, 0, version, capabilities);
        let answer = client.post(&mut cluster, &call("1", "elicit"));
        assert!(answer.body.contains("elicitation") && !answer.body.contains("elicitation/create"), "{}", answer.body);
        assert!(!cluster.is_pending(client.conn));
    }
}

#[test]
fn a_question_outlives_the_deadline_of_its_request_and_not_its_own() {
    let mut config = config();
    config.request_timeout = Duration::from_secs(5);
    config.request_state_ttl = Duration::from_secs(60);
    let mut cluster = cluster_with(1, &config);
    let client = Client::open(&mut cluster, "2025-11-25");
    let (conn, _) = client.post_aside(&mut cluster, &call("1", "roots"));
    cluster.pass(Duration::from_secs(30));
    assert!(cluster.is_pending(conn));
    cluster.pass(Duration::from_secs(60));
    assert!(!cluster.is_pending(conn));
    let rest = cluster.take(conn).events();
    let withdrawn = rest.iter().find(|event| event["method"] == "notifications/cancelled").expect("the question is withdrawn");
    assert!(withdrawn["params"]["requestId"].as_str().unwrap().starts_with("ask-"));
    assert_eq!(rest.last().unwrap()["error"]["code"], -32603);
}

#[test]
fn nobody_is_asked_once_nobody_can_hear_it_and_a_lost_question_is_fetched() {
    let mut cluster = cluster(1);
    let client = Client::open(&mut cluster, "2025-11-25");
    let (conn, _) = client.post_aside(&mut cluster, &call("1", "ask_late"));
    cluster.gone(conn);
    cluster.pass(Duration::from_secs(2));
    assert!(cluster.engines[0].is_idle(), "without a stream there is nothing to come back to");
    let (conn, asked) = client.post_aside(&mut cluster, &call("2", "roots"));
    cluster.gone(conn);
    let prime = &event_ids(&asked)[0];
    let (resumed, replay) = client.get(&mut cluster, Some(prime));
    let question = replay.events().pop().expect("the question again");
    client.post(&mut cluster, &posted(&question["id"], &json!({"roots": []})));
    assert_eq!(text(&cluster.take(resumed).events()[0]), "0");
}
