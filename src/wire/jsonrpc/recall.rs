//! The request that came last, to find the members of the next one by comparison when it differs in its id, its arguments and its
//! progress token alone.
//!
//! A client writes its requests alike. A text that is a valid message but for the values in those three places, and has valid values
//! there, is a valid message too, and its members are where they were, moved by as much as the values before them have grown. So
//! comparing what stands between, and scanning the three, is all there is to do.
//!
//! One is kept per core, and known again on its own connection alone: how long a comparison takes tells nobody what another client sent.

use arrayvec::ArrayVec;

use super::parse::{ROOM_IN_ENVELOPE, ROOM_IN_META, ROOM_IN_PARAMS, method_name};
use super::{Id, Meta, Params, Request};
use crate::base::limits::MESSAGE_RECALLED_BYTES_MAX;
use crate::wire::json::Scanner;

/// The last request of one core.
#[derive(Debug, Default)]
pub struct LastRequest {
    /// The connection that sent it.
    conn: Option<u64>,
    /// The message; empty when none is kept.
    text: Vec<u8>,
    /// Where in it values may differ, in order.
    holes: ArrayVec<Hole, HOLES_MAX>,
    method: Span,
    members: [Option<Span>; MEMBERS],
    meta_present: bool,
    meta_malformed: bool,
}

const HOLES_MAX: usize = 3;

/// Which value may differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum What {
    Id,
    Arguments,
    ProgressToken,
}

#[derive(Clone, Copy, Debug)]
struct Hole {
    what: What,
    start: usize,
    end: usize,
}

/// A place in the text, and how many holes end before it: it moves with them.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    at: usize,
    holes_before: usize,
}

/// From one place to another.
type Span = (Place, Place);

const MEMBERS: usize = 13;

/// All that a request is made of besides its id and its method.
const fn members<'a>(params: &Params<'a>) -> [Option<&'a [u8]>; MEMBERS] {
    let meta = &params.meta;
    [
        params.raw,
        params.name,
        params.uri,
        params.arguments,
        params.cursor,
        params.request_state,
        params.input_responses,
        meta.raw,
        meta.progress_token,
        meta.protocol_version,
        meta.client_capabilities,
        meta.client_info,
        meta.log_level,
    ]
}

impl LastRequest {
    /// The request that `body` is, if this connection sent the one that is kept and it differs in its holes alone. None says nothing
    /// about the body. The body must be UTF-8.
    #[inline]
    pub(super) fn again<'a>(&self, conn: u64, body: &'a [u8]) -> Option<Request<'a>> {
        if self.conn != Some(conn) || self.text.is_empty() {
            return None;
        }
        let mut scan = Scanner::new(body);
        let mut passed = 0;
        let mut id = None;
        // How far what follows so many holes has moved.
        let mut moved = [0_usize; HOLES_MAX + 1];
        for (hole, number) in self.holes.iter().zip(1..) {
            let same = self.text.get(passed..hole.start)?;
            if !scan.rest().starts_with(same) {
                return None;
            }
            scan.skip(same.len());
            let raw = hole.fill(&mut scan)?;
            if hole.what == What::Id {
                id = Id::from_raw(raw);
            }
            *moved.get_mut(number)? = scan.at().wrapping_sub(hole.end);
            passed = hole.end;
        }
        if scan.rest() != self.text.get(passed..)? {
            return None;
        }
        let find = |(from, to): Span| body.get(from.after(&moved)?..to.after(&moved)?);
        let method_raw = find(self.method)?;
        Some(Request { id: id?, method: method_name(method_raw)?, method_raw, params: self.params(find) })
    }

    #[inline(always)]
    fn params<'a>(&self, find: impl Fn(Span) -> Option<&'a [u8]>) -> Params<'a> {
        let [
            raw,
            name,
            uri,
            arguments,
            cursor,
            request_state,
            input_responses,
            meta_raw,
            progress_token,
            protocol_version,
            client_capabilities,
            client_info,
            log_level,
        ] = self.members.map(|member| member.and_then(&find));
        let (present, malformed) = (self.meta_present, self.meta_malformed);
        let meta =
            Meta { raw: meta_raw, present, malformed, progress_token, protocol_version, client_capabilities, client_info, log_level };
        Params { raw, name, uri, arguments, cursor, request_state, input_responses, meta }
    }

    /// Keeps a request that was found in `body`, if the connection sent the one before it too.
    pub(super) fn keep(&mut self, conn: u64, body: &[u8], request: &Request<'_>) {
        let is_closely_followed = self.conn == Some(conn);
        self.conn = Some(conn);
        self.text.clear();
        if is_closely_followed && body.len() <= MESSAGE_RECALLED_BYTES_MAX {
            // Without all of its places it is not kept.
            let _ = self.take_down(body, request);
        }
    }

    fn take_down(&mut self, body: &[u8], request: &Request<'_>) -> Option<()> {
        let params = &request.params;
        let values =
            [(What::Id, Some(request.id.raw())), (What::Arguments, params.arguments), (What::ProgressToken, params.meta.progress_token)];
        self.holes.clear();
        for (what, raw) in values {
            if let Some((start, end)) = raw.and_then(|raw| place(body, raw)) {
                self.holes.push(Hole { what, start, end });
            }
        }
        self.holes.sort_unstable_by_key(|hole| hole.start);
        let holes = &self.holes;
        let fix = |at| Place { at, holes_before: holes.iter().filter(|hole| hole.end <= at).count() };
        let span = |raw: &[u8]| place(body, raw).map(|(start, end)| (fix(start), fix(end)));
        self.method = span(request.method_raw)?;
        self.members = members(params).map(|member| member.and_then(span));
        (self.meta_present, self.meta_malformed) = (params.meta.present, params.meta.malformed);
        self.text.extend_from_slice(body);
        Some(())
    }
}

impl Hole {
    /// Passes the value that is here this time, if it is one that may be here.
    #[inline(always)]
    fn fill<'a>(self, scan: &mut Scanner<'a>) -> Option<&'a [u8]> {
        let room = match self.what {
            What::Id => ROOM_IN_ENVELOPE,
            What::Arguments => ROOM_IN_PARAMS,
            What::ProgressToken => ROOM_IN_META,
        };
        let start = scan.at();
        // White space would be no part of the value.
        if scan.rest().first()? <= &b' ' {
            return None;
        }
        scan.value(room).ok()?;
        let raw = scan.since(start);
        (self.what == What::Arguments || Id::from_raw(raw).is_some()).then_some(raw)
    }
}

impl Place {
    #[inline(always)]
    fn after(self, moved: &[usize; HOLES_MAX + 1]) -> Option<usize> {
        Some(self.at.wrapping_add(*moved.get(self.holes_before)?))
    }
}

/// Where `part` lies in `whole`.
fn place(whole: &[u8], part: &[u8]) -> Option<(usize, usize)> {
    let start = (part.as_ptr() as usize).checked_sub(whole.as_ptr() as usize)?;
    let end = start.checked_add(part.len())?;
    (end <= whole.len()).then_some((start, end))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::super::{parse, parse_again};
    use super::*;

    const META: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","x":[1],"io.modelcontextprotocol/clientInfo":{"name":"n"},"progressToken":TOKEN}"#;

    /// The members in several orders.
    fn shapes() -> [String; 5] {
        [
            format!(r#"{{"jsonrpc":"2.0","id":ID,"method":"tools/call","params":{{"name":"a","arguments":ARGS,{META}}}}}"#),
            format!(r#" {{"method":"tools/call","params":{{{META}, "arguments": ARGS,"name":"a"}},"jsonrpc":"2.0","id": ID }} "#),
            r#"{"id":ID,"jsonrpc":"2.0","method":"resources/read","params":{"uri":"a:b","cursor":"c","requestState":"s","inputResponses":{}}}"#.into(),
            r#"{"jsonrpc":"2.0","method":"ping","id":ID}"#.into(),
            r#"{"jsonrpc":"2.0","method":"to\u006fls/call","id":ID,"params":{"arguments":ARGS,"_meta":7}}"#.into(),
        ]
    }

    fn fill(shape: &str, id: &str, arguments: &str, token: &str) -> String {
        shape.replace("ID", id).replace("ARGS", arguments).replace("TOKEN", token)
    }

    fn says_the_same(last: &mut LastRequest, conn: u64, text: &str) {
        let (found, expected) = (format!("{:?}", parse_again(text.as_bytes(), last, conn)), format!("{:?}", parse(text.as_bytes())));
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn what_differs_in_its_holes_is_known_and_found_as_before() {
        for shape in shapes() {
            let mut last = LastRequest::default();
            let first = fill(&shape, "1", "{}", "1");
            says_the_same(&mut last, 1, &first);
            says_the_same(&mut last, 1, &first);
            for (id, arguments, token) in [
                ("1", "{}", "1"),
                ("22", r#"{"x":[1,{"y":"z\u0041"}]}"#, "\"t\""),
                ("\"long id\"", "null", "-7"),
                ("3", r#"{"a" : 1}"#, "4"),
                ("0", "[]", "\"\""),
            ] {
                let text = fill(&shape, id, arguments, token);
                assert!(last.again(1, text.as_bytes()).is_some(), "{text}");
                says_the_same(&mut last, 1, &text);
            }
        }
    }

    #[test]
    fn what_is_wrong_is_as_wrong_as_before() {
        for shape in shapes() {
            let mut last = LastRequest::default();
            let first = fill(&shape, "1", "{}", "1");
            for (id, arguments, token) in [
                ("1.5", "{}", "1"),
                ("null", "{}", "1"),
                ("1,\"id\":2", "{}", "1"),
                ("1", "{", "1"),
                ("1", "{},\"arguments\":{}", "1"),
                ("1", "{}}", "1"),
                ("1", "", "1"),
                ("1", "  {}", "1"),
                (" 1", "{} ", " 1 "),
                ("1", "{}", "{}"),
                ("1", "{}", "1e5"),
                ("1", &format!("{}1{}", "[".repeat(200), "]".repeat(200)), "1"),
                (&"9".repeat(300), "{}", "1"),
            ] {
                says_the_same(&mut last, 1, &first);
                says_the_same(&mut last, 1, &first);
                says_the_same(&mut last, 1, &fill(&shape, id, arguments, token));
            }
        }
    }

    #[test]
    fn any_other_byte_is_looked_at_anew() {
        for shape in shapes() {
            let first = fill(&shape, "1", "{}", "1");
            for at in 0..first.len() {
                for byte in [b'"', b'\\', b'}', b' ', b'a', b'0'] {
                    let mut last = LastRequest::default();
                    says_the_same(&mut last, 1, &first);
                    says_the_same(&mut last, 1, &first);
                    let mut other = first.clone().into_bytes();
                    other[at] = byte;
                    says_the_same(&mut last, 1, &String::from_utf8(other).unwrap());
                }
                says_the_same(&mut LastRequest::default(), 1, &first[..at]);
            }
        }
    }

    #[test]
    fn it_is_kept_for_its_connection_and_on_its_second_time() {
        let mut last = LastRequest::default();
        let text = fill(&shapes()[0], "1", "{}", "1");
        let mut known = |conn| {
            let known = last.again(conn, text.as_bytes()).is_some();
            says_the_same(&mut last, conn, &text);
            known
        };
        assert_eq!([known(1), known(1), known(1), known(2), known(2), known(2)], [false, false, true, false, false, true]);
    }
}
