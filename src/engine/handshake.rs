//! `initialize` of the legacy era (2025-11-25, lifecycle, "Initialization"): the version is agreed on and a session opened.

use super::ladder::Fall;
use super::modern::Post;
use super::session::{ConnMemo, Found, Opening};
use super::{Engine, Verdict, legacy, reply};
use crate::base::fault::Kind;
use crate::base::limits::{CLIENT_INFO_BYTES_MAX, SESSION_ID_BYTES_MAX};
use crate::base::metrics::{Counter, Gauge};
use crate::base::time::Now;
use crate::wire::http1::Known;
use crate::wire::json;
use crate::wire::jsonrpc::{self, Request};
use crate::wire::mcp::{ClientCapabilities, Version};

/// Opens a session and answers with its id.
pub(super) fn on_initialize(
    engine: &mut Engine,
    now: Now,
    post: &Post<'_>,
    memo: &mut ConnMemo,
    request: &Request<'_>,
    reply: &mut Vec<u8>,
) -> Verdict {
    let fault = |engine: &mut Engine, kind: Kind, why: &'static str, reply: &mut Vec<u8>| {
        engine.refuse(now, &post.terms, Some(request.id), &Fall::new(kind, why), reply)
    };
    if names_living_session(engine, post, memo) {
        return fault(engine, Kind::InvalidRequest, "Invalid request: this session is initialized already", reply);
    }
    let Some(offered) = request.params.get("protocolVersion").filter(|raw| raw.starts_with(b"\"")) else {
        return fault(engine, Kind::InvalidParams, "Invalid params: initialize needs protocolVersion, a string", reply);
    };
    let version = Version::negotiate(offered);
    let declared = request.params.get("capabilities").map_or(ClientCapabilities::NONE, ClientCapabilities::parse);
    let info = request.params.get("clientInfo").filter(|raw| raw.starts_with(b"{")).and_then(kept_info);
    let opening =
        Opening { endpoint: post.endpoint, version, capabilities: known_to(version, declared), client_info: info.as_deref() };
    let Ok(key) = engine.legacy.sessions.open(now.mono, &opening) else {
        return legacy::refuse(engine, now, post, Kind::Overloaded, reply);
    };
    engine.metrics.count(Counter::SessionsOpened);
    engine.metrics.set(Gauge::Sessions, engine.legacy.sessions.len() as u64);
    let mut id = Vec::with_capacity(SESSION_ID_BYTES_MAX);
    engine.legacy.sessions.write_id(key, &mut engine.sealer, &mut id);
    let mut body = std::mem::take(&mut engine.scratch.body);
    body.clear();
    jsonrpc::begin_result(&mut body, request.id);
    write_result(engine, post.server, version, &mut body);
    jsonrpc::end(&mut body);
    let date = engine.date_at(now);
    reply::json(reply, &post.terms, &date, 200, &[("Mcp-Session-Id", &id)], &body);
    engine.scratch.body = body;
    Verdict::Answered { close: post.terms.close }
}

/// Whether the request comes within a session that lives, here or on another core.
fn names_living_session(engine: &mut Engine, post: &Post<'_>, memo: &mut ConnMemo) -> bool {
    let Some(id) = post.headers.get(Known::SessionId) else { return false };
    engine.legacy.sessions.find(&mut engine.sealer, memo, id) != Found::Dead
}

/// What a client of this version can be asked for: it may not know what came later, whatever it declares.
fn known_to(version: Version, declared: ClientCapabilities) -> ClientCapabilities {
    let without = |capability: ClientCapabilities, from: ClientCapabilities| capability.missing(from);
    let mut known = declared;
    if !version.elicitation() {
        known = without(ClientCapabilities::ELICITATION_FORM, known);
    }
    if !version.elicitation_url() {
        known = without(ClientCapabilities::ELICITATION_URL, known);
    }
    if !version.sampling_tools() {
        known = without(ClientCapabilities::SAMPLING_TOOLS, known);
    }
    known
}

/// What a session keeps of `clientInfo`: all of it, or the name and the version of a long one, or nothing.
fn kept_info(raw: &[u8]) -> Option<Vec<u8>> {
    if raw.len() <= CLIENT_INFO_BYTES_MAX {
        return Some(raw.to_vec());
    }
    let mut short = br#"{"name":"#.to_vec();
    short.extend_from_slice(json::get(raw, "name")?);
    short.extend_from_slice(br#","version":"#);
    short.extend_from_slice(json::get(raw, "version")?);
    short.push(b'}');
    (short.len() <= CLIENT_INFO_BYTES_MAX).then_some(short)
}

fn write_result(engine: &Engine, server: u32, version: Version, body: &mut Vec<u8>) {
    body.extend_from_slice(br#"{"protocolVersion":"#);
    json::write_str(body, version.as_str());
    if let Some(hosted) = engine.hosted.get(server as usize) {
        body.extend_from_slice(br#","capabilities":"#);
        hosted.server.write_capabilities_legacy(body);
        body.extend_from_slice(br#","serverInfo":"#);
        body.extend_from_slice(&hosted.info);
        if let Some(instructions) = hosted.server.instructions() {
            body.extend_from_slice(br#","instructions":"#);
            json::write_str(body, instructions);
        }
    }
    body.push(b'}');
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::engine::testing::{config, post};
    use crate::engine::testing_legacy::{Client, INITIALIZED, call, cluster, cluster_with, initialize, request};

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
            assert!(id.len() <= SESSION_ID_BYTES_MAX && id.bytes().all(|b| b.is_ascii_graphic()));
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

    #[test]
    fn what_a_version_does_not_know_its_client_is_not_asked_for() {
        let declared = ClientCapabilities::ELICITATION_FORM | ClientCapabilities::ELICITATION_URL | ClientCapabilities::ROOTS;
        assert_eq!(known_to(Version::V2025_03_26, declared), ClientCapabilities::ROOTS);
        assert!(known_to(Version::V2025_06_18, declared).elicitation_form());
        assert!(!known_to(Version::V2025_06_18, declared).elicitation_url());
        assert_eq!(known_to(Version::V2025_11_25, declared), declared);
    }

    #[test]
    fn of_a_long_client_info_the_name_stays() {
        let long = format!(r#"{{"icons":"{}","name":"n","version":"v"}}"#, "x".repeat(CLIENT_INFO_BYTES_MAX));
        assert_eq!(kept_info(long.as_bytes()).as_deref(), Some(&br#"{"name":"n","version":"v"}"#[..]));
        let endless = format!(r#"{{"name":"{}","version":"v"}}"#, "x".repeat(CLIENT_INFO_BYTES_MAX));
        assert_eq!(kept_info(endless.as_bytes()), None);
    }
}
