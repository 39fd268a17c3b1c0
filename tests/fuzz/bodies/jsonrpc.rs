// Body of the fuzz target `jsonrpc`, also replayed over the corpus by the unit tests.
//
// Whatever the bytes are: nothing panics; the verdict on what is JSON is serde_json's; what parses is found again, unchanged, when it is
// written anew; and what the scanner accepts is decoded or refused cleanly.

use ringhub::base::fault::Kind;
use ringhub::wire::json::{self, Decoder};
use ringhub::wire::jsonrpc::{self, Body, Id, Message, Params, Response};
use ringhub::wire::mcp::{self, ClientCapabilities, Inbound, Mirrors};

/// Runs every check on `data`.
pub fn run(data: &[u8]) {
    let verdict = json::validate(data);
    // The depth limit is ours alone.
    if verdict.is_ok() || verdict.is_err_and(|malformed| malformed.why != "the nesting is too deep") {
        assert_eq!(verdict.is_ok(), serde_json_accepts(data), "verdicts differ: {verdict:?}");
    }
    match jsonrpc::parse(data) {
        Ok(body) => {
            assert!(verdict.is_ok(), "parsed what is not JSON");
            check_body(&body);
        }
        Err(refusal) => {
            assert_eq!(refusal.kind == Kind::Parse, verdict.is_err(), "{refusal:?} against {verdict:?}");
            assert!(refusal.id.is_none_or(|id| Id::from_raw(id.raw()) == Some(id)));
        }
    }
    if verdict.is_ok() {
        check_value(data);
    }
}

/// serde_json's verdict on the grammar. It skips over strings without looking at their UTF-8.
fn serde_json_accepts(data: &[u8]) -> bool {
    std::str::from_utf8(data).is_ok_and(|text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok())
}

fn check_body(body: &Body<'_>) {
    for header in [None, Some(&b"2026-07-28"[..]), Some(b"2025-06-18"), Some(b"\xff")] {
        let _ = mcp::classify(Inbound::Post(body), header);
    }
    match body {
        Body::One(message) => check_message(message),
        Body::Batch(batch) => {
            assert_eq!(batch.iter().count(), batch.len());
            for message in batch.iter() {
                match message {
                    Ok(message) => check_message(&message),
                    Err(refusal) => assert_eq!(refusal.kind, Kind::InvalidRequest, "{}", refusal.why),
                }
            }
        }
    }
}

fn check_message(message: &Message<'_>) {
    let mut written = Vec::new();
    match message {
        Message::Request(request) => {
            let method = json::unescape(request.method_raw);
            jsonrpc::request(&mut written, request.id, &method, request.params.raw.unwrap_or_default());
            let Ok(Body::One(Message::Request(again))) = jsonrpc::parse(&written) else { panic!("a request is one no more") };
            assert_eq!(again.id, request.id);
            assert_eq!(json::unescape(again.method_raw), method);
            check_params(&request.params, &again.params);
            let header = method.as_bytes();
            let _ = Mirrors { version: Some(header), method: Some(header), name: Some(header) }.check(request);
        }
        Message::Notification(notification) => {
            let method = json::unescape(notification.method_raw);
            jsonrpc::notification(&mut written, &method, notification.params.raw.unwrap_or_default());
            let Ok(Body::One(Message::Notification(again))) = jsonrpc::parse(&written) else { panic!("a notification is one no more") };
            assert_eq!(json::unescape(again.method_raw), method);
            check_params(&notification.params, &again.params);
        }
        Message::Response(response) => check_response(response, written),
    }
}

fn check_response(response: &Response<'_>, mut written: Vec<u8>) {
    match (response.id, response.result) {
        (Some(id), Some(result)) => jsonrpc::result(&mut written, id, result),
        (id, _) => {
            jsonrpc::begin_error(&mut written, id);
            written.extend_from_slice(response.error.expect("a response without a result has an error"));
            jsonrpc::end(&mut written);
        }
    }
    let Ok(Body::One(Message::Response(again))) = jsonrpc::parse(&written) else { panic!("a response is one no more") };
    assert_eq!((again.id, again.result, again.error), (response.id, response.result, response.error));
}

fn check_params(params: &Params<'_>, again: &Params<'_>) {
    let slices = |params: &Params<'_>| {
        let meta = params.meta;
        let located = [params.raw, params.name, params.uri, params.arguments, params.cursor, params.request_state, params.input_responses];
        let of_meta = [meta.raw, meta.progress_token, meta.protocol_version, meta.client_capabilities, meta.client_info, meta.log_level];
        [&located[..], &of_meta[..]].concat().into_iter().map(|raw| raw.map(<[u8]>::to_vec)).collect::<Vec<_>>()
    };
    assert_eq!(slices(params), slices(again));
    for (name, located) in [("name", params.name), ("arguments", params.arguments), ("requestState", params.request_state)] {
        assert_eq!(params.get(name), located, "the two ways to find {name} differ");
    }
    assert!(slices(params).into_iter().flatten().all(|raw| json::validate(&raw).is_ok()), "a slice is not JSON");
    let _ = mcp::envelope(params);
    for raw in [params.name, params.uri, params.arguments].into_iter().flatten() {
        let said = json::unescape(raw);
        let mut header = Vec::new();
        mcp::encode(&mut header, &said);
        if raw.starts_with(b"\"") {
            assert_eq!(mcp::agree(Some(&header), Some(raw)), Ok(()), "a header made from a value differs from it");
        }
        let _ = mcp::agree(Some(raw), Some(raw));
    }
}

/// What holds for any JSON text.
fn check_value(data: &[u8]) {
    let mut decoder = Decoder::new();
    if let Ok(value) = decoder.decode::<serde_json::Value>(data) {
        let text = serde_json::to_vec(&value).expect("a value can be written");
        assert!(json::validate(&text).is_ok(), "what was decoded is written as something else");
    }
    if let Some(said) = json::string(data.trim_ascii()) {
        let mut written = Vec::new();
        json::write_str(&mut written, &said);
        assert_eq!(json::string(&written).as_deref(), Some(&*said), "a string does not survive being written");
        assert_eq!(serde_json::from_slice::<String>(&written).ok().as_deref(), Some(&*said));
    }
    let capabilities = ClientCapabilities::parse(data);
    let mut written = Vec::new();
    capabilities.write(&mut written);
    assert!(ClientCapabilities::parse(&written).contains(capabilities));
    for (key, value) in json::members(data) {
        assert!(json::string(key).is_some() && json::validate(value).is_ok());
    }
    assert!(json::elements(data).all(|value| json::validate(value).is_ok()));
}
