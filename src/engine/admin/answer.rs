//! One answer of the admin port, whether it is written at once or when another core has replied.

use super::problem::{PROBLEM, Problem};
use crate::base::ids::ConnId;
use crate::engine::out::{Effect, Out};
use crate::engine::reply::{self, Date, Terms};
use crate::registry;

/// Plain text.
pub(super) const TEXT: &str = "text/plain; charset=utf-8";
/// JSON.
pub(super) const JSON: &str = "application/json";

/// A whole answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: u16,
    pub content_type: &'static str,
    pub body: Vec<u8>,
    /// Fields that only some answers have: two at most.
    pub extra: Vec<(&'static str, Vec<u8>)>,
    /// The entry's version.
    pub version: Option<u64>,
    /// Pages of every origin may read it.
    pub is_public: bool,
}

/// What follows when the registry has spoken.
#[derive(Debug)]
pub(super) enum Next {
    Answer(Answer),
    /// This list is needed besides.
    List(registry::Query),
}

impl Answer {
    pub fn json(status: u16, body: Vec<u8>) -> Self {
        Self { status, content_type: JSON, body, extra: Vec::new(), version: None, is_public: false }
    }

    pub fn no_content() -> Self {
        Self::json(204, Vec::new())
    }

    pub fn with_version(self, version: u64) -> Self {
        Self { version: Some(version), ..self }
    }

    /// Appends the response.
    pub fn write(&self, out: &mut Vec<u8>, terms: &Terms<'_>, date: &Date) {
        let tag = self.version.map(|version| format!("\"{version}\""));
        let mut fields: arrayvec::ArrayVec<(&str, &[u8]), 5> = arrayvec::ArrayVec::new_const();
        fields.push(("Cache-Control", b"no-store"));
        if let Some(tag) = &tag {
            fields.push(("ETag", tag.as_bytes()));
        }
        for (name, value) in self.extra.iter().take(2) {
            fields.push((name, value));
        }
        if self.is_public {
            fields.push(("Access-Control-Allow-Origin", b"*"));
        }
        let content_type = (self.status != 204).then_some(self.content_type);
        reply::plain(out, terms, date, self.status, content_type, &fields, &self.body);
    }

    /// Completes the response of a connection that waits.
    pub fn complete(&self, conn: ConnId, terms: &Terms<'_>, date: &Date, out: &mut Out) {
        out.write(conn, |bytes| self.write(bytes, terms, date));
        out.effects.push(Effect::End { conn, close: terms.close });
    }
}

impl From<Problem> for Answer {
    fn from(problem: Problem) -> Self {
        let mut body = Vec::new();
        problem.write(&mut body);
        let extra = match problem.status {
            401 => Some(("WWW-Authenticate", b"Bearer realm=\"ringhub\"".to_vec())),
            405 => problem.allow.map(|allow| ("Allow", allow.as_bytes().to_vec())),
            _ => problem.retry_after().map(|seconds| ("Retry-After", seconds.to_vec())),
        };
        Self { content_type: PROBLEM, extra: extra.into_iter().collect(), version: problem.current, ..Self::json(problem.status, body) }
    }
}
