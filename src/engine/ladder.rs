//! What a request of 2026-07-28 must pass before anything is done for it. The first failure wins.
//!
//! The order is the official SDKs': the envelope, then headers that contradict the body, then the version, then headers that are missing.
//! Whether the method exists, and what its own headers say, comes after that, with the method.

use std::borrow::Cow;

use super::reply::RpcFault;
use crate::base::fault::Kind;
use crate::wire::http1::{Headers, Known};
use crate::wire::jsonrpc::{Id, Request};
use crate::wire::mcp::{Disagreement, Envelope, Era, Mirrors, envelope};

/// Versions of the modern era, as `supported` and `supportedVersions` list them.
pub(super) const SUPPORTED: &str = r#"["2026-07-28"]"#;

/// Why a request goes no further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fall {
    pub kind: Kind,
    pub message: Cow<'static, str>,
    /// The error's data, raw.
    pub data: Option<Vec<u8>>,
}

impl Fall {
    pub fn new(kind: Kind, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, message: message.into(), data: None }
    }

    /// The version is none that is served (2026-07-28, versioning, "Unsupported Protocol Version"). `requested` is raw.
    pub fn unsupported(requested: Option<&[u8]>) -> Self {
        let mut data = format!(r#"{{"supported":{SUPPORTED}"#).into_bytes();
        if let Some(requested) = requested {
            data.extend_from_slice(br#","requested":"#);
            data.extend_from_slice(requested);
        }
        data.push(b'}');
        Self { data: Some(data), ..Self::new(Kind::UnsupportedVersion, Kind::UnsupportedVersion.message()) }
    }

    /// As it is written for the request `id`.
    pub fn as_fault<'a>(&'a self, id: Option<Id<'a>>) -> RpcFault<'a> {
        RpcFault { id, message: Some(&self.message), data: self.data.as_deref() }
    }
}

/// Checks everything up to the method.
///
/// # Errors
/// What to answer.
pub(super) fn climb<'a>(request: &Request<'a>, headers: &Headers<'_>) -> Result<Envelope<'a>, Fall> {
    let envelope = envelope(&request.params).map_err(|why| Fall::new(Kind::BadEnvelope, why))?;
    for field in [Known::ProtocolVersion, Known::McpMethod, Known::McpName] {
        if headers.repeated(field) {
            return Err(Fall::new(Kind::HeaderMismatch, format!("Header mismatch: {} came more than once", field.name())));
        }
    }
    let mirrors =
        Mirrors { version: headers.get(Known::ProtocolVersion), method: headers.get(Known::McpMethod), name: headers.get(Known::McpName) };
    let checked = mirrors.check(request);
    let is_served = envelope.version.is_some_and(|version| version.era() == Era::Modern);
    match checked {
        Ok(()) if is_served => Ok(envelope),
        Err((field, how)) if is_served || contradicts(&mirrors, field, how) => Err(mismatch(field, how)),
        _ => Err(Fall::unsupported(Some(envelope.version_raw))),
    }
}

/// Whether a header says something else than the body, as opposed to being absent or about a method that may not exist.
fn contradicts(mirrors: &Mirrors<'_>, field: &str, how: Disagreement) -> bool {
    match field {
        "MCP-Protocol-Version" => mirrors.version.is_some(),
        "Mcp-Method" => mirrors.method.is_some() && how == Disagreement::Value,
        _ => false,
    }
}

/// A header that does not say what the body says.
pub(super) fn mismatch(field: &str, how: Disagreement) -> Fall {
    Fall::new(Kind::HeaderMismatch, format!("Header mismatch: the {field} {}", how.text()))
}

/// What a request without a modern claim gets where the modern era alone is served (2026-07-28, versioning).
pub(super) fn not_modern(request: &Request<'_>) -> Fall {
    if request.method == "initialize" {
        return Fall::unsupported(request.params.get("protocolVersion").filter(|raw| raw.starts_with(b"\"")));
    }
    let why = envelope(&request.params).err().unwrap_or("Invalid params: the request's _meta is incomplete");
    Fall::new(Kind::BadEnvelope, why)
}
