//! JSON-RPC 2.0 messages: found in the bytes they came in, and written.
//!
//! [`parse`] validates a whole body in one pass and, in the same pass, finds the members that routing needs. Everything found is a
//! slice of the body ("raw": strings with their quotes and escapes). A member's name counts however it is escaped, and a name that
//! ringhub looks at may come only once in its object: so no two readers of a message can disagree about it.

mod encode;
mod parse;
mod recall;

pub use encode::{begin_error, begin_result, end, error, notification, request, result};
pub use parse::{parse, parse_again};
pub use recall::LastRequest;

use crate::base::fault::Kind;
use crate::base::limits::REQUEST_ID_BYTES_MAX;
use crate::wire::json;

/// A request's id, as it stands in the message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Id<'a> {
    /// An integer.
    Number(&'a [u8]),
    /// A string, with its quotes.
    String(&'a [u8]),
}

impl<'a> Id<'a> {
    /// A raw value as an id; `None` when it is neither a string nor an integer, or too long.
    #[must_use]
    pub fn from_raw(raw: &'a [u8]) -> Option<Self> {
        if raw.len() > REQUEST_ID_BYTES_MAX {
            return None;
        }
        match raw.first()? {
            b'"' => Some(Self::String(raw)),
            b'-' | b'0'..=b'9' if !raw.iter().any(|byte| matches!(byte, b'.' | b'e' | b'E')) => Some(Self::Number(raw)),
            _ => None,
        }
    }

    /// As it stands in a message.
    #[must_use]
    pub const fn raw(self) -> &'a [u8] {
        match self {
            Self::Number(raw) | Self::String(raw) => raw,
        }
    }

    /// Whether both are the same id, however their strings are escaped.
    #[must_use]
    pub fn same(self, other: Id<'_>) -> bool {
        json::same_string(self.raw(), other.raw())
    }
}

/// What one body holds.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "it lives on the stack for one turn; a box would be a heap allocation per message")]
pub enum Body<'a> {
    /// One message.
    One(Message<'a>),
    /// An array of messages (2025-03-26).
    Batch(Batch<'a>),
}

/// One JSON-RPC message.
#[derive(Clone, Debug)]
pub enum Message<'a> {
    /// Something to be answered.
    Request(Request<'a>),
    /// Something that is never answered.
    Notification(Notification<'a>),
    /// The answer to something asked of the sender.
    Response(Response<'a>),
}

/// A request.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Its id, to be echoed.
    pub id: Id<'a>,
    /// Its method. A method of MCP is given plain even when it came with escapes; any other that came with escapes keeps them.
    pub method: &'a str,
    /// Its method, raw.
    pub method_raw: &'a [u8],
    /// Its parameters.
    pub params: Params<'a>,
}

/// A notification.
#[derive(Clone, Debug)]
pub struct Notification<'a> {
    /// Its method; see [`Request::method`].
    pub method: &'a str,
    /// Its method, raw.
    pub method_raw: &'a [u8],
    /// Its parameters.
    pub params: Params<'a>,
}

/// A response.
#[derive(Clone, Debug)]
pub struct Response<'a> {
    /// The id of the request it answers; absent only in an error about a request whose id could not be read.
    pub id: Option<Id<'a>>,
    /// The result, raw. Exactly one of result and error is there.
    pub result: Option<&'a [u8]>,
    /// The error object, raw.
    pub error: Option<&'a [u8]>,
}

/// The parameters of a request or notification; all values raw.
#[derive(Clone, Copy, Debug, Default)]
pub struct Params<'a> {
    /// The whole object; `None` when there are no parameters (or `null`).
    pub raw: Option<&'a [u8]>,
    /// `name`
    pub name: Option<&'a [u8]>,
    /// `uri`
    pub uri: Option<&'a [u8]>,
    /// `arguments`
    pub arguments: Option<&'a [u8]>,
    /// `cursor`
    pub cursor: Option<&'a [u8]>,
    /// `requestState`
    pub request_state: Option<&'a [u8]>,
    /// `inputResponses`
    pub input_responses: Option<&'a [u8]>,
    /// `_meta`
    pub meta: Meta<'a>,
}

impl<'a> Params<'a> {
    /// Any other parameter by its name, raw. Looks through the parameters anew.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        json::get(self.raw?, name)
    }

    /// What a parameter that is a string says; `None` when it is absent or no string.
    #[must_use]
    pub fn get_str(&self, name: &str) -> Option<std::borrow::Cow<'a, str>> {
        json::string(self.get(name)?)
    }
}

/// The `_meta` object of the parameters; all values raw.
#[derive(Clone, Copy, Debug, Default)]
pub struct Meta<'a> {
    /// The whole value, when it is an object.
    pub raw: Option<&'a [u8]>,
    /// Whether `_meta` is there and is an object.
    pub present: bool,
    /// Whether `_meta` is there and is something else than an object or `null`.
    pub malformed: bool,
    /// `progressToken`: a string or an integer, no longer than an id may be.
    pub progress_token: Option<&'a [u8]>,
    /// `io.modelcontextprotocol/protocolVersion`
    pub protocol_version: Option<&'a [u8]>,
    /// `io.modelcontextprotocol/clientCapabilities`
    pub client_capabilities: Option<&'a [u8]>,
    /// `io.modelcontextprotocol/clientInfo`
    pub client_info: Option<&'a [u8]>,
    /// `io.modelcontextprotocol/logLevel`
    pub log_level: Option<&'a [u8]>,
}

impl<'a> Meta<'a> {
    /// Any other member by its name (`traceparent`, …), raw. Looks through `_meta` anew.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        json::get(self.raw?, name)
    }
}

/// An array of messages. The array as a whole is valid JSON with at least one and at most
/// [`BATCH_MESSAGES_MAX`](crate::base::limits::BATCH_MESSAGES_MAX) elements; each element is looked at when it is taken.
#[derive(Clone, Debug)]
pub struct Batch<'a> {
    raw: &'a [u8],
    len: usize,
}

impl<'a> Batch<'a> {
    /// How many elements there are.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "an empty batch is refused")]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// The elements in order: messages, or why one is none.
    pub fn iter(&self) -> impl Iterator<Item = Result<Message<'a>, Refusal<'a>>> + use<'a> {
        parse::elements(self.raw)
    }
}

/// Why a body, or an element of a batch, is no message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refusal<'a> {
    /// [`Kind::Parse`] (not JSON) or [`Kind::InvalidRequest`] (JSON, but no message).
    pub kind: Kind,
    /// The id to echo, when it could be read.
    pub id: Option<Id<'a>>,
    /// What is wrong, for a person.
    pub why: &'static str,
}
