//! Answers to requests of this gateway's own, as far as they are read everywhere.

use super::failure::Failure;
use crate::base::fault::code;
use crate::wire::json;
use crate::wire::jsonrpc::{self, Body, Message};
use crate::wire::mcp::{Era, Version};

/// An answer to a request of this gateway's own.
pub(super) struct Reply<'a> {
    pub status: u16,
    pub session: Option<Box<[u8]>>,
    pub body: &'a [u8],
}

impl<'a> Reply<'a> {
    /// The result.
    pub fn result(&self) -> Result<&'a [u8], Failure> {
        self.outcome()?.map_err(|_| Failure::Garbage("an error instead of a result"))
    }

    /// The result, or the error object.
    pub fn outcome(&self) -> Result<Result<&'a [u8], &'a [u8]>, Failure> {
        match jsonrpc::parse(self.body) {
            Ok(Body::One(Message::Response(response))) => match (response.result, response.error) {
                (Some(result), _) if (200..300).contains(&self.status) => Ok(Ok(result)),
                (_, Some(error)) => Ok(Err(error)),
                _ => Err(Failure::Status(self.status)),
            },
            _ if !(200..300).contains(&self.status) => Err(Failure::Status(self.status)),
            Ok(_) => Err(Failure::Garbage("no response")),
            Err(refusal) => Err(Failure::Garbage(refusal.why)),
        }
    }

    /// Whether it is the result that ends a stream of changes in good order.
    pub fn is_end_of_listen(&self) -> bool {
        self.result().is_ok_and(|result| json::get(result, "resultType").is_some())
    }
}

/// Whether a result of `server/discover` names a modern version that is spoken here.
pub(super) fn is_modern(result: &[u8]) -> bool {
    json::elements(json::get(result, "supportedVersions").unwrap_or_default()).any(is_spoken)
}

fn is_spoken(version: &[u8]) -> bool {
    Version::from_raw(version).is_some_and(|version| version.era() == Era::Modern)
}

/// The list of the versions that an error says are spoken there; empty when it says nothing of the kind.
pub(super) fn versions_named(error: &[u8]) -> &[u8] {
    let data = json::get(error, "data").filter(|_| error_code(error) == Some(code::UNSUPPORTED_VERSION));
    data.and_then(|data| json::get(data, "supported")).unwrap_or_default()
}

/// Whether an error says that versions are spoken there, of which one is spoken here, too.
pub(super) fn names_spoken(error: &[u8]) -> bool {
    json::elements(versions_named(error)).any(is_spoken)
}

/// Whether an error says that only versions are spoken there of which none is spoken here.
pub(super) fn speaks_nothing_known(error: &[u8]) -> bool {
    let named = versions_named(error);
    json::elements(named).next().is_some() && json::elements(named).all(|version| Version::from_raw(version).is_none())
}

pub(super) fn error_code(error: &[u8]) -> Option<i32> {
    std::str::from_utf8(json::get(error, "code")?).ok()?.parse().ok()
}
