//! Legacy sessions with many cores: whichever core a connection lands on, the session is found, and what has ended is gone.

use crate::client::{Client, initialize, post};
use crate::server::{Server, in_both_ring_modes};

const MANY_CORES: &[&str] = &["--cores", "8", "--no-pin"];

/// Opens a session and returns its id.
fn open(server: &Server, version: &str) -> String {
    let answer = Client::connect(server.address()).ask(initialize(version));
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["result"]["protocolVersion"], version);
    let id = answer.header("mcp-session-id").expect("a session id").to_owned();
    assert!(id.bytes().all(|byte| (0x21..=0x7e).contains(&byte)), "{id}");
    let initialized = with_session(&id, version, r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    assert_eq!(Client::connect(server.address()).ask(initialized).status, 202);
    id
}

fn with_session(id: &str, version: &str, body: &str) -> String {
    post(&[("mcp-session-id", id), ("mcp-protocol-version", version)], body)
}

fn call(id: &str, number: usize) -> String {
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":{number},"method":"tools/call","params":{{"name":"echo","arguments":{{"message":"m{number}"}}}}}}"#
    );
    with_session(id, "2025-11-25", &body)
}

#[test]
fn a_session_is_found_from_any_core() {
    in_both_ring_modes(MANY_CORES, |server| {
        let id = open(server, "2025-11-25");
        let mut clients: Vec<_> = (0..64).map(|_| Client::connect(server.address())).collect();
        for (number, client) in clients.iter_mut().enumerate() {
            let answer = client.ask(call(&id, number));
            assert_eq!(answer.json()["result"]["content"][0]["text"], format!("m{number}"));
        }
        // Once more, pipelined: now each connection is where its session is.
        for (number, client) in clients.iter_mut().enumerate() {
            client.send(call(&id, number) + &call(&id, number + 1000));
            assert_eq!(client.response().json()["id"], number);
            assert_eq!(client.response().json()["id"], number + 1000);
        }
    });
}

#[test]
fn one_connection_may_speak_for_many_sessions() {
    in_both_ring_modes(MANY_CORES, |server| {
        let ids: Vec<_> = (0..16).map(|_| open(server, "2025-06-18")).collect();
        let mut client = Client::connect(server.address());
        for round in 0..4 {
            for (number, id) in ids.iter().enumerate() {
                let number = round * 100 + number;
                let body = format!(r#"{{"jsonrpc":"2.0","id":{number},"method":"ping"}}"#);
                let answer = client.ask(with_session(id, "2025-06-18", &body));
                assert_eq!(answer.json()["id"], number, "{answer:?}");
            }
        }
        // Pipelined over all of them: the connection moves between requests, and the order of replies holds.
        let burst: String = ids
            .iter()
            .enumerate()
            .map(|(n, id)| with_session(id, "2025-06-18", &format!(r#"{{"jsonrpc":"2.0","id":{n},"method":"ping"}}"#)))
            .collect();
        client.send(burst);
        for number in 0..ids.len() {
            assert_eq!(client.response().json()["id"], number);
        }
    });
}

#[test]
fn an_ended_session_is_gone_on_every_core() {
    let server = Server::start(MANY_CORES);
    let id = open(&server, "2025-11-25");
    let delete = format!("DELETE /mcp HTTP/1.1\r\nhost: localhost\r\nmcp-session-id: {id}\r\n\r\n");
    assert!(matches!(Client::connect(server.address()).ask(&delete).status, 200 | 204));
    for number in 0..32 {
        assert_eq!(Client::connect(server.address()).ask(call(&id, number)).status, 404);
    }
    assert_eq!(Client::connect(server.address()).ask(&delete).status, 404);
}

#[test]
fn made_up_and_foreign_ids_are_not_found() {
    let server = Server::start(MANY_CORES);
    let other = Server::start(&[]);
    let foreign = open(&other, "2025-11-25");
    let mut tampered = open(&server, "2025-11-25");
    let place = tampered.len() - 20..tampered.len() - 19;
    let other_char = if &tampered[place.clone()] == "A" { "B" } else { "A" };
    tampered.replace_range(place, other_char);
    for id in ["x", &foreign, &tampered, &"A".repeat(104), &"A".repeat(4000)] {
        assert_eq!(Client::connect(server.address()).ask(call(id, 1)).status, 404, "{id}");
    }
}

#[test]
fn an_unused_session_expires() {
    let server = Server::start(&["--session-timeout", "0.3"]);
    let id = open(&server, "2025-11-25");
    crate::server::until("the session has expired", || {
        std::thread::sleep(std::time::Duration::from_millis(500));
        Client::connect(server.address()).ask(call(&id, 1)).status == 404
    });
}

#[test]
fn every_legacy_version_is_served_and_a_newer_offer_is_countered() {
    let server = Server::start(&[]);
    for version in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
        open(&server, version);
    }
    for version in ["2026-07-28", "2099-01-01"] {
        let answer = Client::connect(server.address()).ask(initialize(version));
        assert_eq!(answer.json()["result"]["protocolVersion"], "2025-11-25");
    }
}
