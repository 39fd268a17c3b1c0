//! `initialize` of the legacy era (2025-11-25, lifecycle, "Initialization"): the version is agreed on and a session opened.

use super::ladder::Fall;
use super::modern::Post;
use super::session::{Found, Opening};
use super::session_id::ConnMemo;
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
    let opening = Opening {
        endpoint: post.view.endpoint.id.number,
        version,
        capabilities: known_to(version, declared),
        client_info: info.as_deref(),
    };
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
    body.extend_from_slice(br#"{"protocolVersion":"#);
    json::write_str(&mut body, version.as_str());
    body.push(b',');
    body.extend_from_slice(&post.view.initialize);
    body.push(b'}');
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

#[cfg(test)]
mod tests {
    use super::*;

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
