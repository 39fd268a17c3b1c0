//! Resources of upstreams that clients subscribe to.

use std::time::Duration;

use serde_json::Value;

use super::client::{Client, request};
use super::cluster::{Cluster, config, modern, post};
use super::fixture;
use super::listening::listen;
use super::upstream::{Pair, settings};
use crate::base::ids::ConnId;
use crate::engine::{EngineConfig, Eras};
use crate::gateway::Dialect;
use crate::gateway::link::{Down, LinkEvent};

const UPDATED: &str = "notifications/resources/updated";

/// The URIs of which a client was told that they changed.
fn updated(cluster: &mut Cluster, conn: ConnId) -> Vec<String> {
    let events = cluster.take(conn).events();
    let told = events.iter().filter(|event| event["method"] == UPDATED);
    told.map(|event| event["params"]["uri"].as_str().expect("a URI").to_owned()).collect()
}

/// Has the server behind say that a resource changed.
fn update(pair: &mut Pair, tool: &str, uri: &str) {
    let conn = pair.front.connect(0);
    let params = format!(r#""name":"{tool}","arguments":{{"uri":"{uri}"}}"#);
    let told = pair.exchange(conn, &modern("tools/call", Some(tool), &params)).json();
    assert_eq!(told["result"]["content"][0]["text"], "updated", "{told}");
    pair.pass(Duration::from_millis(200));
}

fn subscribe(pair: &mut Pair, client: &Client, method: &str, uri: &str) -> Value {
    let body = request("5", method, &format!(r#"{{"uri":"{uri}"}}"#));
    pair.exchange(client.conn, &post(&client.headers(), &body)).json()
}

/// A session that hears of what changes: its stream.
fn session(pair: &mut Pair, core: usize) -> (Client, ConnId) {
    let client = Client::open_with(&mut pair.front, core, "2025-11-25", "{}");
    let (stream, opened) = client.get(&mut pair.front, None);
    assert_eq!(opened.status, 200);
    (client, stream)
}

/// Resources that the server behind is asked to tell of.
fn watched(pair: &Pair) -> usize {
    let back = &pair.back.engines[0];
    back.listens.uris() + back.legacy.sessions.subscriptions().len()
}

#[test]
fn updates_reach_those_who_subscribed_and_the_upstream_is_asked_once() {
    for era in [Eras::Modern, Eras::Legacy, Eras::Both] {
        let mut pair = Pair::new(2, Dialect::Auto, era);
        pair.pass(Duration::from_secs(1));
        let filter = r#"{"resourceSubscriptions":["test://text"]}"#;
        let listens = [0, 1].map(|core| listen(&mut pair.front, core, "1", filter));
        let others = listen(&mut pair.front, 1, "2", r#"{"toolsListChanged":true}"#);
        let (client, stream) = session(&mut pair, 1);
        let (_, silent) = session(&mut pair, 0);
        assert_eq!(subscribe(&mut pair, &client, "resources/subscribe", "test://text")["result"], serde_json::json!({}));
        let acknowledged = pair.front.take(listens[0]).events();
        assert_eq!(acknowledged[0]["params"]["notifications"]["resourceSubscriptions"][0], "test://text", "{era:?}");
        pair.pass(Duration::from_millis(500));
        assert_eq!(watched(&pair), 1, "{era:?}");
        update(&mut pair, "update", "test://text");
        update(&mut pair, "update", "test://other");
        for conn in [listens[0], listens[1], stream] {
            assert_eq!(updated(&mut pair.front, conn), ["test://text"], "{era:?}");
        }
        for conn in [others, silent] {
            assert_eq!(updated(&mut pair.front, conn), [""; 0], "{era:?}");
        }
        // One after the other leaves.
        pair.front.gone(listens[0]);
        assert_eq!(subscribe(&mut pair, &client, "resources/unsubscribe", "test://text")["result"], serde_json::json!({}));
        pair.pass(Duration::from_millis(500));
        assert_eq!(watched(&pair), 1, "{era:?}");
        update(&mut pair, "update", "test://text");
        assert_eq!(updated(&mut pair.front, listens[1]), ["test://text"], "{era:?}");
        assert_eq!(updated(&mut pair.front, stream), [""; 0], "{era:?}");
        pair.front.gone(listens[1]);
        pair.pass(Duration::from_millis(500));
        assert_eq!(watched(&pair), 0, "{era:?}");
        // With its session a subscription ends.
        subscribe(&mut pair, &client, "resources/subscribe", "test://text");
        pair.pass(Duration::from_millis(500));
        assert_eq!(watched(&pair), 1, "{era:?}");
        assert_eq!(client.delete(&mut pair.front).status, 200);
        pair.pass(Duration::from_millis(500));
        assert_eq!(watched(&pair), 0, "{era:?}");
        assert!(pair.front.engines.iter().all(|engine| engine.watches.holds_nothing()));
    }
}

#[test]
fn an_upstream_that_was_away_is_asked_again() {
    for era in [Eras::Modern, Eras::Legacy] {
        let mut pair = Pair::new(2, Dialect::Auto, era);
        pair.pass(Duration::from_secs(1));
        let conn = listen(&mut pair.front, 1, "1", r#"{"resourceSubscriptions":["test://text"]}"#);
        pair.pass(Duration::from_millis(500));
        assert_eq!(watched(&pair), 1, "{era:?}");
        // It is started anew, and knows nothing of before.
        let back = EngineConfig { era, ..config() };
        pair.replace(Cluster::new(1, &back, fixture::server));
        pair.pass(Duration::from_secs(30));
        assert_eq!(watched(&pair), 1, "{era:?}");
        update(&mut pair, "update", "test://text");
        assert_eq!(updated(&mut pair.front, conn), ["test://text"], "{era:?}");
    }
}

#[test]
fn a_resource_is_told_of_by_the_name_that_its_client_knows() {
    for era in [Eras::Modern, Eras::Legacy] {
        // Both are the same server, so that both have the same resources.
        let mut pair = Pair::with(2, vec![settings("u"), settings("v")], era);
        pair.pass(Duration::from_secs(1));
        let filter = r#"{"resourceSubscriptions":["v+test://text"]}"#;
        let conn = listen(&mut pair.front, 1, "1", filter);
        let (client, stream) = session(&mut pair, 0);
        subscribe(&mut pair, &client, "resources/subscribe", "test://text");
        pair.pass(Duration::from_millis(500));
        assert_eq!(watched(&pair), 2, "{era:?}: each is asked");
        update(&mut pair, "u.update", "test://text");
        assert_eq!(updated(&mut pair.front, conn), ["v+test://text"], "{era:?}");
        assert_eq!(updated(&mut pair.front, stream), ["test://text"], "{era:?}");
    }
}

#[test]
fn what_a_result_links_to_can_be_read_by_that_name() {
    for era in [Eras::Modern, Eras::Legacy] {
        let mut pair = Pair::with(2, vec![settings("u"), settings("v")], era);
        pair.pass(Duration::from_secs(1));
        let conn = pair.front.connect(1);
        for (server, name) in [("u", "test://text"), ("v", "v+test://text")] {
            let call = format!(r#""name":"{server}.link","arguments":{{"uri":"test://text"}}"#);
            let called = pair.exchange(conn, &modern("tools/call", Some(&format!("{server}.link")), &call)).json();
            let content = &called["result"]["content"];
            assert_eq!(content[0]["text"], "test://text", "a text is a text: {called}");
            assert_eq!((&content[1]["resource"]["uri"], &content[2]["uri"]), (&name.into(), &"test://unlisted".into()), "{era:?} {called}");
            let got =
                pair.exchange(conn, &modern("prompts/get", Some(&format!("{server}.see")), &format!(r#""name":"{server}.see""#))).json();
            assert_eq!(got["result"]["messages"][0]["content"]["uri"], name, "{era:?} {got}");
            let read = pair.exchange(conn, &modern("resources/read", Some(name), &format!(r#""uri":"{name}""#))).json();
            assert_eq!((&read["result"]["contents"][0]["uri"], &read["result"]["contents"][0]["text"]), (&name.into(), &"the text".into()));
            let client = Client::open(&mut pair.front, "2025-11-25");
            let called = request("7", "tools/call", &format!("{{{call}}}"));
            let called = pair.exchange(client.conn, &post(&client.headers(), &called)).json();
            assert_eq!(called["result"]["content"][1]["resource"]["uri"], name, "{era:?} {called}");
        }
        // Where one server is alone its results are as they are, and it is asked for what is in no list, too.
        let mut pair = Pair::new(1, Dialect::Auto, era);
        let conn = pair.front.connect(0);
        let read = pair.exchange(conn, &modern("resources/read", Some("test://unlisted"), r#""uri":"test://unlisted""#)).json();
        assert_eq!((&read["error"]["code"], &read["error"]["data"]["uri"]), (&(-32602).into(), &"test://unlisted".into()), "{read}");
        let asked = pair.front.shared.metrics()[0].counter(crate::base::metrics::Counter::Relayed);
        assert_eq!(asked, 1, "{era:?}");
    }
}

#[test]
fn the_end_of_a_stream_costs_no_subscription() {
    let mut pair = Pair::new(1, Dialect::Auto, Eras::Legacy);
    pair.pass(Duration::from_secs(1));
    let conn = listen(&mut pair.front, 0, "1", r#"{"resourceSubscriptions":["test://text"]}"#);
    pair.pass(Duration::from_millis(500));
    // The links break, and the upstream and its sessions stay.
    let links: Vec<_> = pair.front.links.keys().copied().collect();
    for (core, link) in links {
        pair.front.on_link(core, link, LinkEvent::Down(Down::Reset));
    }
    pair.disconnect();
    pair.pass(Duration::from_secs(30));
    assert_eq!(watched(&pair), 1);
    update(&mut pair, "update", "test://text");
    assert_eq!(updated(&mut pair.front, conn), ["test://text"]);
}
