//! Which era a request belongs to, on an endpoint that serves both. The body decides; the version header can only contradict it.

use super::envelope::missing;
use super::{Era, Method, Version};
use crate::base::fault::Kind;
use crate::wire::jsonrpc::{Body, Message, Params};

/// What came in over HTTP.
#[derive(Clone, Copy, Debug)]
pub enum Inbound<'b, 'a> {
    /// A GET.
    Get,
    /// A DELETE.
    Delete,
    /// A POST with this body.
    Post(&'b Body<'a>),
}

/// Where it goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route {
    /// To the rules of sessions.
    Legacy,
    /// To the validation ladder of 2026-07-28, from the envelope on. A notification has nothing to climb: it is acknowledged and dropped.
    Modern,
    /// Nowhere: it is answered with this fault and message.
    Refuse(Kind, &'static str),
}

/// Whether parameters claim to be of the modern era: their `_meta` names a protocol version, whichever.
#[inline]
#[must_use]
pub const fn claims_modern(params: &Params<'_>) -> bool {
    params.meta.protocol_version.is_some()
}

/// Decides the era. `version` is the value of `MCP-Protocol-Version`, if given.
#[must_use]
pub fn classify(inbound: Inbound<'_, '_>, version: Option<&[u8]>) -> Route {
    let header_modern = || version.and_then(|value| Version::parse(value.trim_ascii())).is_some_and(|version| version.era() == Era::Modern);
    let body = match inbound {
        Inbound::Get | Inbound::Delete => return Route::Legacy,
        Inbound::Post(body) => body,
    };
    match body {
        Body::One(Message::Request(request)) => {
            let params = &request.params;
            if claims_modern(params) {
                return if params.meta.client_capabilities.is_some() || Method::parse(request.method) != Method::Initialize {
                    Route::Modern
                } else {
                    handshake(header_modern())
                };
            }
            if !header_modern() {
                Route::Legacy
            } else if Method::parse(request.method) == Method::Initialize {
                handshake(true)
            } else {
                Route::Refuse(Kind::BadEnvelope, missing(params))
            }
        }
        Body::One(Message::Notification(notification)) => {
            if claims_modern(&notification.params) || header_modern() {
                Route::Modern
            } else {
                Route::Legacy
            }
        }
        Body::One(Message::Response(_)) => Route::Legacy,
        Body::Batch(batch) => {
            let modern = |message: &Message<'_>| match message {
                Message::Request(request) => claims_modern(&request.params),
                Message::Notification(notification) => claims_modern(&notification.params),
                Message::Response(_) => false,
            };
            if batch.iter().flatten().any(|message| modern(&message)) {
                Route::Refuse(Kind::InvalidRequest, "Invalid request: this protocol version takes one message per request")
            } else {
                Route::Legacy
            }
        }
    }
}

/// `initialize` without a complete modern envelope.
const fn handshake(header_modern: bool) -> Route {
    if header_modern {
        Route::Refuse(Kind::HeaderMismatch, "Header mismatch: MCP-Protocol-Version names a version that has no initialize")
    } else {
        Route::Legacy
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;
    use crate::wire::jsonrpc::parse;

    const CLAIM: &str = r#""io.modelcontextprotocol/protocolVersion":"2026-07-28""#;
    const OLD_CLAIM: &str = r#""io.modelcontextprotocol/protocolVersion":"2025-11-25""#;
    const CAPABILITIES: &str = r#""io.modelcontextprotocol/clientCapabilities":{}"#;

    fn request(method: &str, meta: &str) -> String {
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{"_meta":{{{meta}}}}}}}"#)
    }

    fn notification(meta: &str) -> String {
        format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"_meta":{{{meta}}}}}}}"#)
    }

    fn post(body: &str, header: Option<&str>) -> Route {
        let Ok(body) = parse(body.as_bytes()) else { panic!("a body: {body}") };
        classify(Inbound::Post(&body), header.map(str::as_bytes))
    }

    #[test]
    fn get_and_delete_are_of_sessions() {
        for header in [None, Some(&b"2026-07-28"[..]), Some(b"2025-06-18"), Some(b"?")] {
            assert_eq!(classify(Inbound::Get, header), Route::Legacy);
            assert_eq!(classify(Inbound::Delete, header), Route::Legacy);
        }
    }

    #[test]
    fn every_row_of_the_table() {
        let modern = Some("2026-07-28");
        let full = format!("{CLAIM},{CAPABILITIES}");
        let call = request("tools/call", "");
        type Row = (&'static str, String, Option<&'static str>, Result<Route, Kind>);
        let rows: &[Row] = &[
            ("array, no claim", format!("[{call},{}]", notification("")), None, Ok(Route::Legacy)),
            ("array, a claim in a request", format!("[{call},{}]", request("ping", CLAIM)), None, Err(Kind::InvalidRequest)),
            ("array, a claim in a notification", format!("[1,{}]", notification(CLAIM)), modern, Err(Kind::InvalidRequest)),
            ("array of what is no message", "[1,2]".into(), None, Ok(Route::Legacy)),
            ("posted response", r#"{"jsonrpc":"2.0","id":1,"result":{}}"#.into(), modern, Ok(Route::Legacy)),
            ("initialize", request("initialize", ""), None, Ok(Route::Legacy)),
            ("initialize, legacy header", request("initialize", ""), Some("2025-11-25"), Ok(Route::Legacy)),
            ("initialize, complete envelope", request("initialize", &full), modern, Ok(Route::Modern)),
            ("initialize, half an envelope", request("initialize", CLAIM), None, Ok(Route::Legacy)),
            ("initialize, half an envelope, modern header", request("initialize", CLAIM), modern, Err(Kind::HeaderMismatch)),
            ("initialize, modern header", request("initialize", ""), modern, Err(Kind::HeaderMismatch)),
            ("initialize with an escape, modern header", request("init\\u0069alize", ""), modern, Err(Kind::HeaderMismatch)),
            ("claim, header agrees", request("tools/call", &full), modern, Ok(Route::Modern)),
            ("claim, no header: the ladder tells", request("tools/call", &full), None, Ok(Route::Modern)),
            ("claim, half an envelope: the ladder tells", request("tools/call", CLAIM), modern, Ok(Route::Modern)),
            ("claim of a legacy version", request("tools/call", OLD_CLAIM), Some("2025-11-25"), Ok(Route::Modern)),
            ("no claim, modern header", call.clone(), modern, Err(Kind::BadEnvelope)),
            ("no claim, capabilities alone, modern header", request("tools/call", CAPABILITIES), modern, Err(Kind::BadEnvelope)),
            ("no claim, no header", call.clone(), None, Ok(Route::Legacy)),
            ("no claim, legacy header", call.clone(), Some("2025-03-26"), Ok(Route::Legacy)),
            ("no claim, unknown header: the session's rules tell", call, Some("2099-01-01"), Ok(Route::Legacy)),
            ("notification, claim", notification(CLAIM), None, Ok(Route::Modern)),
            ("notification, modern header", notification(""), Some(" 2026-07-28 "), Ok(Route::Modern)),
            ("notification, no header", notification(""), None, Ok(Route::Legacy)),
            ("notification, legacy header", notification(""), Some("2025-06-18"), Ok(Route::Legacy)),
        ];
        for (name, body, header, expected) in rows {
            match (post(body, *header), expected) {
                (Route::Refuse(kind, why), Err(expected)) => {
                    assert_eq!(kind, *expected, "{name}");
                    assert!(!why.is_empty());
                }
                (route, Ok(expected)) => assert_eq!(route, *expected, "{name}"),
                (route, expected) => panic!("{name}: {route:?} is not {expected:?}"),
            }
        }
    }
}
