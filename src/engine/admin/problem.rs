//! What the admin port says when something is wrong: one shape (RFC 9457), with words that name the remedy.

use std::borrow::Cow;

use super::target::Wrong;
use crate::base::fault::Kind;
use crate::base::metrics::{CoreMetrics, Refused};
use crate::wire::http1::reason;
use crate::wire::json::{write_str, write_u64};

/// The media type.
pub(super) const PROBLEM: &str = "application/problem+json";

/// What programs tell a problem by, and what it is counted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    Fault(Kind),
    Refused(Refused),
}

impl Code {
    const fn label(self) -> &'static str {
        match self {
            Self::Fault(kind) => kind.label(),
            Self::Refused(refused) => refused.label(),
        }
    }

    pub fn count(self, metrics: &CoreMetrics) {
        match self {
            Self::Fault(kind) => metrics.fault(kind),
            Self::Refused(refused) => metrics.refused(refused),
        }
    }
}

/// One refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub status: u16,
    /// What programs tell it by.
    pub code: Code,
    /// What is wrong, and what helps.
    pub detail: Cow<'static, str>,
    /// The entry's version, when another was named.
    pub current: Option<u64>,
    /// Methods that the path takes, when another was used.
    pub allow: Option<&'static str>,
}

impl Problem {
    pub fn new(status: u16, refused: Refused, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code: Code::Refused(refused), detail: detail.into(), current: None, allow: None }
    }

    /// A fault, in words of its own.
    pub fn with(kind: Kind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { status: kind.status(), code: Code::Fault(kind), detail: detail.into(), current: None, allow: None }
    }

    pub fn no_such_path() -> Self {
        Self::with(Kind::NoSuchPath, "Nothing is served at this path: /openapi.json says what is")
    }

    pub fn absent(what: &str, name: &str) -> Self {
        Self::new(404, Refused::Absent, format!("There is no {what} `{name}`"))
    }

    pub fn method(allow: &'static str) -> Self {
        Self { allow: Some(allow), ..Self::with(Kind::MethodNotAllowed, format!("This path takes {allow}")) }
    }

    pub fn overloaded() -> Self {
        Self::with(Kind::Overloaded, "The registry is busy: try again after the seconds that Retry-After gives")
    }

    /// A fault of the framing, or of the node.
    pub fn of(kind: Kind) -> Self {
        Self::with(kind, kind.message())
    }

    /// Seconds after which to try again, where that helps.
    pub const fn retry_after(&self) -> Option<&'static [u8]> {
        if self.status == 503 { Some(b"1") } else { None }
    }

    /// Appends the JSON object.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(br#"{"type":"about:blank","title":"#);
        write_str(out, reason(self.status));
        out.extend_from_slice(br#","status":"#);
        write_u64(out, self.status.into());
        out.extend_from_slice(br#","code":"#);
        write_str(out, self.code.label());
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
        Self::new(400, Refused::BadRequest, detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_json_and_says_what_helps() {
        let problem = Problem { current: Some(3), ..Problem::new(412, Refused::VersionMismatch, "say \"why\"") };
        let mut body = Vec::new();
        problem.write(&mut body);
        let json: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(
            (json["status"].as_u64(), json["title"].as_str(), json["currentVersion"].as_u64()),
            (Some(412), Some("Precondition Failed"), Some(3))
        );
        assert_eq!(json["detail"].as_str(), Some("say \"why\""));
    }
}
