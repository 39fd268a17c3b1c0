//! How a response is written once it is known what it is: one JSON body, no body, or a stream of events.

use std::borrow::Cow;

use arrayvec::ArrayVec;

use crate::base::fault::Kind;
use crate::wire::{http1, jsonrpc, sse};

/// How one request wants to be answered.
#[derive(Clone, Debug)]
pub(super) struct Terms<'a> {
    /// Minor version of HTTP: 0 knows no chunks.
    pub minor: u8,
    /// The connection ends with this response.
    pub close: bool,
    /// The body is left out (HEAD).
    pub is_head: bool,
    /// `application/json` is acceptable.
    pub json: bool,
    /// `text/event-stream` is acceptable.
    pub sse: bool,
    /// An allowed Origin, to be told that the response may be read.
    pub origin: Option<Cow<'a, [u8]>>,
}

impl Terms<'_> {
    /// The same, for a response that is still to come when the request is gone.
    pub fn kept(&self) -> Terms<'static> {
        Terms { origin: self.origin.as_ref().map(|origin| Cow::Owned(origin.to_vec())), ..*self }
    }
}

/// The text of the Date field.
pub(super) type Date = [u8; 29];

const EXPOSED: &[u8] = b"Mcp-Session-Id, MCP-Protocol-Version, WWW-Authenticate";

/// Four of the caller's own, one about the connection, three for browsers.
const FIELDS_MAX: usize = 8;

/// Header fields of one response, on the stack.
struct Fields<'h> {
    list: ArrayVec<(&'h str, &'h [u8]), FIELDS_MAX>,
}

impl<'h> Fields<'h> {
    fn new(terms: &'h Terms<'_>, extra: &[(&'h str, &'h [u8])]) -> Self {
        let mut fields = Self { list: ArrayVec::new_const() };
        for &(name, value) in extra {
            fields.push(name, value);
        }
        if terms.minor == 0 && !terms.close {
            fields.push(http1::KEEP_ALIVE.0, http1::KEEP_ALIVE.1);
        }
        if let Some(origin) = terms.origin.as_deref() {
            fields.push("Access-Control-Allow-Origin", origin);
            fields.push("Access-Control-Expose-Headers", EXPOSED);
            fields.push("Vary", b"Origin");
        }
        fields
    }

    fn push(&mut self, name: &'h str, value: &'h [u8]) {
        self.list.push((name, value));
    }

    fn as_slice(&self) -> &[(&'h str, &'h [u8])] {
        &self.list
    }
}

/// A whole response with a JSON body. At most four `extra` fields.
pub(super) fn json(out: &mut Vec<u8>, terms: &Terms<'_>, date: &Date, status: u16, extra: &[(&str, &[u8])], body: &[u8]) {
    let fields = Fields::new(terms, extra);
    let head = http1::Head { status, content_type: Some(http1::JSON), close: terms.close, extra: fields.as_slice(), date };
    if terms.is_head {
        http1::response_head_only(out, &head, body.len());
    } else {
        http1::response(out, &head, body);
    }
}

/// A whole response with another body, or with none. At most four `extra` fields.
pub(super) fn plain(
    out: &mut Vec<u8>,
    terms: &Terms<'_>,
    date: &Date,
    status: u16,
    content_type: Option<&str>,
    extra: &[(&str, &[u8])],
    body: &[u8],
) {
    let fields = Fields::new(terms, extra);
    let head = http1::Head { status, content_type, close: terms.close, extra: fields.as_slice(), date };
    if terms.is_head {
        http1::response_head_only(out, &head, body.len());
    } else {
        http1::response(out, &head, body);
    }
}

/// Commits a response to being a stream of events. At most four `extra` fields.
pub(super) fn stream_head(out: &mut Vec<u8>, terms: &Terms<'_>, date: &Date, extra: &[(&str, &[u8])]) {
    let fields = Fields::new(terms, extra);
    let head = http1::Head { status: 200, content_type: Some(http1::EVENT_STREAM), close: terms.close, extra: fields.as_slice(), date };
    http1::stream_head(out, &head, terms.minor);
}

/// Appends stream bytes, in a chunk of their own where there are chunks.
pub(super) fn stream_part(out: &mut Vec<u8>, minor: u8, write: impl FnOnce(&mut Vec<u8>)) {
    if minor == 0 {
        write(out);
    } else {
        let mark = http1::begin_chunk(out);
        write(out);
        http1::end_chunk(out, mark);
    }
}

/// Appends one event without an id: one JSON message.
pub(super) fn event(out: &mut Vec<u8>, minor: u8, message: &[u8]) {
    stream_part(out, minor, |out| sse::event(out, None, message));
}

/// Ends a stream. One of HTTP/1.0 ends with its connection.
pub(super) fn stream_end(out: &mut Vec<u8>, minor: u8) {
    if minor > 0 {
        http1::last_chunk(out);
    }
}

/// A whole response that says what is wrong as a JSON-RPC error object. `message` replaces the kind's own.
pub(super) fn fault(
    out: &mut Vec<u8>,
    body: &mut Vec<u8>,
    terms: &Terms<'_>,
    date: &Date,
    kind: Kind,
    extra: &[(&str, &[u8])],
    error: &RpcFault<'_>,
) {
    body.clear();
    error.write(body, kind);
    let retry_after = kind.retry_after_s().map(|seconds| [("Retry-After", seconds.as_bytes())]);
    json(out, terms, date, kind.status(), retry_after.as_ref().map_or(extra, |field| field), body);
}

/// What a JSON-RPC error says beyond its kind.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RpcFault<'a> {
    /// The id of the request, when it is known.
    pub id: Option<jsonrpc::Id<'a>>,
    /// More exact than the kind's own message.
    pub message: Option<&'a str>,
    /// The error's data, raw.
    pub data: Option<&'a [u8]>,
}

impl RpcFault<'_> {
    /// Appends the error response.
    pub fn write(&self, body: &mut Vec<u8>, kind: Kind) {
        jsonrpc::error(body, self.id, kind.code(), self.message.unwrap_or_else(|| kind.message()), self.data);
    }
}
