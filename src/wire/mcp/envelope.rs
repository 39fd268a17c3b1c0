//! What a modern request says of itself (2026-07-28, basic, "_meta").

use super::{ClientCapabilities, Level, Version};
use crate::wire::jsonrpc::Params;

/// The modern envelope of a request, complete and well-formed.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    /// The version claimed, when it is one that exists.
    pub version: Option<Version>,
    /// The version claimed: the raw string.
    pub version_raw: &'a [u8],
    /// What the client can be asked for.
    pub capabilities: ClientCapabilities,
    /// Its name and version: the raw object.
    pub client_info: Option<&'a [u8]>,
    /// The least severe log level that it wants to hear.
    pub level: Option<Level>,
}

/// Reads the envelope in `_meta`.
///
/// # Errors
/// What is missing or malformed, for the message of a [`BadEnvelope`](crate::base::fault::Kind::BadEnvelope).
pub fn envelope<'a>(params: &Params<'a>) -> Result<Envelope<'a>, &'static str> {
    let meta = &params.meta;
    if meta.malformed {
        return Err("Invalid params: _meta must be an object");
    }
    let (Some(version_raw), Some(capabilities)) = (meta.protocol_version, meta.client_capabilities) else {
        return Err(missing(params));
    };
    if !version_raw.starts_with(b"\"") {
        return Err("Invalid params: _meta io.modelcontextprotocol/protocolVersion must be a string");
    }
    if !capabilities.starts_with(b"{") {
        return Err("Invalid params: _meta io.modelcontextprotocol/clientCapabilities must be an object");
    }
    let level = match meta.log_level.map(Level::from_raw) {
        Some(None) => return Err("Invalid params: _meta io.modelcontextprotocol/logLevel is not a log level"),
        Some(level) => level,
        None => None,
    };
    Ok(Envelope {
        version: Version::from_raw(version_raw),
        version_raw,
        capabilities: ClientCapabilities::parse(capabilities),
        client_info: meta.client_info.filter(|raw| raw.starts_with(b"{")),
        level,
    })
}

/// Which required members `_meta` lacks.
pub(super) const fn missing(params: &Params<'_>) -> &'static str {
    if params.meta.malformed {
        return "Invalid params: _meta must be an object";
    }
    match (params.meta.protocol_version.is_some(), params.meta.client_capabilities.is_some()) {
        (false, false) => {
            "Invalid params: _meta lacks io.modelcontextprotocol/protocolVersion and io.modelcontextprotocol/clientCapabilities"
        }
        (false, true) => "Invalid params: _meta lacks io.modelcontextprotocol/protocolVersion",
        _ => "Invalid params: _meta lacks io.modelcontextprotocol/clientCapabilities",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;
    use crate::wire::jsonrpc::{Body, Message, parse};

    fn read(meta: &str) -> Result<(Option<Version>, ClientCapabilities, Option<Level>), &'static str> {
        let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"ping","params":{{"_meta":{meta}}}}}"#);
        let Ok(Body::One(Message::Request(request))) = parse(body.as_bytes()) else { panic!("a request: {body}") };
        envelope(&request.params).map(|envelope| (envelope.version, envelope.capabilities, envelope.level))
    }

    #[test]
    fn a_complete_envelope_is_read() {
        let claim = r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"roots":{}}"#;
        assert_eq!(read(&format!("{{{claim}}}")), Ok((Some(Version::V2026_07_28), ClientCapabilities::ROOTS, None)));
        let level = format!(r#"{{{claim},"io.modelcontextprotocol/logLevel":"error"}}"#);
        assert_eq!(read(&level).map(|read| read.2), Ok(Some(Level::Error)));
        let level = format!(r#"{{{claim},"io.modelcontextprotocol/logLevel":"loud"}}"#);
        assert!(read(&level).is_err_and(|why| why.contains("logLevel")));
    }

    #[test]
    fn what_is_missing_is_named() {
        assert!(read("{}").is_err_and(|why| why.contains("protocolVersion and")));
        assert!(read("null").is_err_and(|why| why.contains("protocolVersion and")));
        assert!(read("[]").is_err_and(|why| why.contains("an object")));
        assert!(
            read(r#"{"io.modelcontextprotocol/protocolVersion":"x"}"#)
                .is_err_and(|why| why.ends_with("lacks io.modelcontextprotocol/clientCapabilities"))
        );
        assert!(
            read(r#"{"io.modelcontextprotocol/clientCapabilities":{}}"#)
                .is_err_and(|why| why.ends_with("lacks io.modelcontextprotocol/protocolVersion"))
        );
        assert!(read(r#"{"io.modelcontextprotocol/protocolVersion":1,"io.modelcontextprotocol/clientCapabilities":{}}"#).is_err());
        assert!(read(r#"{"io.modelcontextprotocol/protocolVersion":"x","io.modelcontextprotocol/clientCapabilities":[]}"#).is_err());
    }
}
