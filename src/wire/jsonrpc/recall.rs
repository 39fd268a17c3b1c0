//! The `_meta` that came last, to find its members by comparison when it comes again.
//!
//! A client of 2026-07-28 says who it is and what it can do in each request, mostly in the very same bytes. A value that begins with the
//! bytes of an object that was found valid is that object, so comparing them is all there is to do.
//!
//! One is kept per core, and known again on its own connection alone: how long a comparison takes tells nobody what another client sent.

use std::ops::Range;

use super::Meta;
use crate::base::limits::META_RECALLED_BYTES_MAX;

/// The last `_meta` of one core.
#[derive(Debug, Default)]
pub struct LastMeta {
    /// The connection that sent it.
    conn: Option<u64>,
    /// The object as it stood in the message; empty when none is kept.
    raw: Vec<u8>,
    /// Where in it the members are, in the order of [`members`].
    members: [Option<Range<usize>>; 5],
}

/// What is looked for in `_meta`.
const fn members<'a>(meta: &Meta<'a>) -> [Option<&'a [u8]>; 5] {
    [meta.progress_token, meta.protocol_version, meta.client_capabilities, meta.client_info, meta.log_level]
}

impl LastMeta {
    /// This one, if the connection may know it again.
    pub(super) fn of(&self, conn: u64) -> Option<&Self> {
        (self.conn == Some(conn) && !self.raw.is_empty()).then_some(self)
    }

    /// What is found in the object at the start of `rest`, if that is the one kept, and its length.
    #[inline]
    pub(super) fn again<'a>(&self, rest: &'a [u8]) -> Option<Meta<'a>> {
        let raw = rest.get(..self.raw.len()).filter(|raw| *raw == self.raw)?;
        let [progress_token, protocol_version, client_capabilities, client_info, log_level] =
            self.members.each_ref().map(|at| at.as_ref().and_then(|at| raw.get(at.clone())));
        let (present, malformed) = (true, false);
        Some(Meta { raw: Some(raw), present, malformed, progress_token, protocol_version, client_capabilities, client_info, log_level })
    }

    /// Keeps what was found in a valid message, if the connection sent the one before it too.
    pub(super) fn keep(&mut self, conn: u64, meta: &Meta<'_>) {
        let is_closely_followed = self.conn == Some(conn);
        self.conn = Some(conn);
        let Some(raw) = meta.raw.filter(|raw| is_closely_followed && raw.len() <= META_RECALLED_BYTES_MAX) else {
            return self.raw.clear();
        };
        if self.raw == raw {
            return;
        }
        self.raw.clear();
        self.raw.extend_from_slice(raw);
        self.members = members(meta).map(|member| member.and_then(|member| place(raw, member)));
    }
}

/// Where `part` lies in `whole`.
fn place(whole: &[u8], part: &[u8]) -> Option<Range<usize>> {
    let start = (part.as_ptr() as usize).checked_sub(whole.as_ptr() as usize)?;
    let end = start.checked_add(part.len())?;
    (end <= whole.len()).then_some(start..end)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::super::{Body, Message, parse, parse_again};
    use super::*;

    fn call(meta: &str) -> String {
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"a","_meta":{meta},"arguments":{{}}}}}}"#)
    }

    const META: &str = r#"{"io.modelcontextprotocol/protocolVersion":"2026-07-28","x":[1],"io.modelcontextprotocol/clientInfo":{"name":"n"},"progressToken":"p"}"#;

    #[test]
    fn what_comes_again_is_found_as_before() {
        let mut last = LastMeta::default();
        let texts = [META, META, META, r#"{"progressToken":7}"#, META, "{}", META, META, r#"{"a":1,"a":2}"#, "null", META];
        for text in texts.map(call) {
            let (found, expected) = (format!("{:?}", parse_again(text.as_bytes(), &mut last, 1)), format!("{:?}", parse(text.as_bytes())));
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn it_is_kept_for_its_connection_and_on_its_second_time() {
        let mut last = LastMeta::default();
        let text = call(META);
        let mut parsed = |conn| {
            let known = last.of(conn).is_some();
            assert!(matches!(parse_again(text.as_bytes(), &mut last, conn), Ok(Body::One(Message::Request(_)))));
            known
        };
        assert_eq!([parsed(1), parsed(1), parsed(1), parsed(2), parsed(2), parsed(2)], [false, false, true, false, false, true]);
    }

    #[test]
    fn a_prefix_of_something_wrong_hides_nothing() {
        let mut last = LastMeta::default();
        for _ in 0..3 {
            parse_again(call(META).as_bytes(), &mut last, 1).unwrap();
        }
        for meta in [&format!("{META}x"), &format!("{META}{{}}"), &META.replace("[1]", "[1")] {
            let text = call(meta);
            assert_eq!(format!("{:?}", parse_again(text.as_bytes(), &mut last, 1)), format!("{:?}", parse(text.as_bytes())));
            assert!(parse(text.as_bytes()).is_err());
        }
        // A member that came twice is refused also when the first was known again.
        let twice = call(&format!(r#"{META},"_meta":{META}"#));
        assert_eq!(format!("{:?}", parse_again(twice.as_bytes(), &mut last, 1)), format!("{:?}", parse(twice.as_bytes())));
    }
}
