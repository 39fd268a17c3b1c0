//! What the admin port says when something is wrong: one shape (RFC 9457), with words that name the remedy.

use std::borrow::Cow;

use super::target::Wrong;
use crate::base::fault::Kind;
use crate::wire::json::{write_str, write_u64};

/// The media type.
pub(super) const PROBLEM: &str = "application/problem+json";

/// One refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub status: u16,
    /// What programs tell it by.
    pub code: &'static str,
    /// What is wrong, and what helps.
    pub detail: Cow<'static, str>,
    /// The entry's version, when another was named.
    pub current: Option<u64>,
    /// Methods that the path takes, when another was used.
    pub allow: Option<&'static str>,
}

impl Problem {
    pub fn new(status: u16, code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code, detail: detail.into(), current: None, allow: None }
    }

    pub fn no_such_path() -> Self {
        Self::new(404, "no_such_path", "Nothing is served at this path: /openapi.json says what is")
    }

    pub fn absent(what: &str, name: &str) -> Self {
        Self::new(404, "absent", format!("There is no {what} `{name}`"))
    }

    pub fn method(allow: &'static str) -> Self {
        Self { allow: Some(allow), ..Self::new(405, "method_not_allowed", format!("This path takes {allow}")) }
    }

    pub fn overloaded() -> Self {
        Self::new(503, "overloaded", "The registry is busy: try again after the seconds that Retry-After gives")
    }

    /// A fault of the framing, or of the node.
    pub fn of(kind: Kind) -> Self {
        Self::new(kind.status(), kind.label(), kind.message())
    }

    /// Seconds after which to try again, where that helps.
    pub const fn retry_after(&self) -> Option<&'static [u8]> {
        if self.status == 503 { Some(b"1") } else { None }
    }

    const fn title(&self) -> &'static str {
        match self.status {
            400 => "Bad Request",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            406 => "Not Acceptable",
            408 => "Request Timeout",
            409 => "Conflict",
            412 => "Precondition Failed",
            413 => "Content Too Large",
            414 => "URI Too Long",
            415 => "Unsupported Media Type",
            417 => "Expectation Failed",
            422 => "Unprocessable Content",
            431 => "Request Header Fields Too Large",
            501 => "Not Implemented",
            503 => "Service Unavailable",
            505 => "HTTP Version Not Supported",
            507 => "Insufficient Storage",
            _ => "Error",
        }
    }

    /// Appends the JSON object.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(br#"{"type":"about:blank","title":"#);
        write_str(out, self.title());
        out.extend_from_slice(br#","status":"#);
        write_u64(out, self.status.into());
        out.extend_from_slice(br#","code":"#);
        write_str(out, self.code);
        out.extend_from_slice(br#","detail":"#);
        write_str(out, &self.detail);
        if let Some(current) = self.current {
            out.extend_from_slice(br#","currentVersion":"#);
            write_u64(out, current);
        }
        out.push(b'}');
    }
}

impl From<Wrong> for Problem {
    fn from(Wrong(detail): Wrong) -> Self {
        Self::new(400, "bad_request", detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_json_and_says_what_helps() {
        let problem = Problem { current: Some(3), ..Problem::new(412, "version_mismatch", "say \"why\"") };
        let mut body = Vec::new();
        problem.write(&mut body);
        let json: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(
            (json["status"].as_u64(), json["title"].as_str(), json["currentVersion"].as_u64()),
            (Some(412), Some("Precondition Failed"), Some(3))
        );
        assert_eq!(json["detail"].as_str(), Some("say \"why\""));
        for kind in Kind::ALL.iter().filter(|kind| kind.status() >= 400) {
            assert_ne!(Problem::of(*kind).title(), "Error", "{kind:?}");
        }
    }
}
