//! The usual request, whole in its first delivery, taken in one pass.
//!
//! What [`super::Framer`] and [`super::view`] find in two passes is found here in one, for requests with nothing unusual about them:
//! HTTP/1.1, a plain path, fields of visible text, a Content-Length or no body. Everything else, the incomplete and the wrong
//! included, is left to those two, so that this file refuses nothing and decides nothing: it is right as long as it says the same
//! as they do, which a fuzz target holds it to.

use crate::base::fault::Kind;

use super::field::{content_length, find_byte, find_control, is_host, is_tchar, trim};
use super::frame::{Framed, Framer, HttpLimits};
use super::known::Known;
use super::recall::LastHead;
use super::request_line::Method;
use super::view::{Field, HeaderSlots, Headers, Request, keep_alive, view};

/// Whether each byte may stand in the path or the query of a usual request.
#[expect(clippy::indexing_slicing, reason = "evaluated when compiled: an index out of bounds is an error there")]
const PLAIN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = (byte as u8).is_ascii_alphanumeric() || matches!(byte as u8, b'/' | b'-' | b'.' | b'_' | b'~' | b'=' | b'&');
        byte += 1;
    }
    table
};

/// Where an MCP endpoint usually is.
const USUAL_TARGET: &str = "/mcp";

/// What the bytes at the start of an input amount to.
#[derive(Debug)]
pub enum Taken<'s> {
    /// Bring more bytes; see [`Framed::More`].
    More {
        /// Answer [`super::CONTINUE`].
        expect_continue: bool,
        /// The deadline of the body applies.
        in_body: bool,
    },
    /// One whole request, and its length in bytes.
    Whole(Request<'s>, usize),
    /// Answer with this fault and close.
    Reject(Kind),
}

/// Takes the request at the start of `input`: [`Framer::next`] and [`view`] in one, and in one pass if the request is a usual one;
/// without a pass over its head if that is the connection's last one again.
///
/// `framer` is the connection's, `conn` its number, and `input` what it demands. `dechunked` receives a chunked body.
pub fn take<'s, 'a: 's>(
    framer: &mut Framer,
    conn: u64,
    input: &'a [u8],
    limits: &HttpLimits,
    slots: &'s mut HeaderSlots,
    last: &'s mut LastHead,
    dechunked: &'s mut Vec<u8>,
) -> Taken<'s> {
    if framer.is_idle() {
        if last.is_again(conn, input, limits) {
            return last.request(input).map_or(Taken::Reject(Kind::BadHttp), |(request, len)| Taken::Whole(request, len));
        }
        if let Some(seen) = glance(input, limits, slots) {
            let method_text = seen.method_text;
            let (request, len) = seen.over(input, slots);
            last.keep(conn, &request, method_text, input, len, slots);
            return Taken::Whole(request, len);
        }
        slots.fields.clear();
    }
    match framer.next(input, limits) {
        Framed::Whole(frame) => match view(input, &frame, slots, dechunked) {
            Ok(request) => Taken::Whole(request, frame.consumed),
            Err(kind) => Taken::Reject(kind),
        },
        Framed::More { expect_continue, in_body } => Taken::More { expect_continue, in_body },
        Framed::Reject(kind) => Taken::Reject(kind),
    }
}

/// A usual request, but for its fields.
struct Seen<'a> {
    method: Method,
    method_text: &'static str,
    target: &'a str,
    /// Without the query and its question mark.
    path_len: usize,
    headers: Headers<'a>,
    body: &'a [u8],
    len: usize,
}

impl<'a> Seen<'a> {
    fn over<'s>(self, input: &'s [u8], slots: &'s HeaderSlots) -> (Request<'s>, usize)
    where
        'a: 's,
    {
        let Self { method, method_text, target, path_len, body, len, .. } = self;
        let headers = self.headers.over(input.get(..len - body.len()).unwrap_or_default(), &slots.fields);
        let (path, query) = (target.get(..path_len).unwrap_or_default(), target.get(path_len + 1..));
        let keep_alive = keep_alive(&headers, 1);
        (Request { method, method_text, target, path, query, minor: 1, keep_alive, headers, body }, len)
    }
}

/// Looks for a whole and usual request at the start of `input`, whose first byte must be the first of a request. Its fields go
/// into `slots`. `None` says nothing about the request.
#[inline]
fn glance<'a>(input: &'a [u8], limits: &HttpLimits, slots: &mut HeaderSlots) -> Option<Seen<'a>> {
    let (method, method_text, after_method) = method(input)?;
    let (target, path_len, after_target) = target(after_method)?;
    let mut rest = after_target.strip_prefix(b" HTTP/1.1\r\n")?;
    let mut headers = Headers::empty();
    let mut body_len = None;
    loop {
        if let Some(after_head) = rest.strip_prefix(b"\r\n") {
            rest = after_head;
            break;
        }
        let (name, value, after_field) = field(rest)?;
        match headers.place(slots.fields.len(), name) {
            // The name of a known field is a token. Of any other it must be seen.
            None if name.is_empty() || !name.iter().all(|&byte| is_tchar(byte)) => return None,
            Some(Known::Host) if headers.repeated(Known::Host) || !is_host(value) => return None,
            Some(Known::ContentLength) if body_len.is_some() => return None,
            Some(Known::ContentLength) => body_len = Some(content_length(value).ok()?),
            Some(Known::TransferEncoding | Known::Expect) => return None,
            _ => {}
        }
        slots.fields.try_push(Field::of(input, name, value)?).ok()?;
        rest = after_field;
    }
    let head_len = input.len() - rest.len();
    let body = rest.get(..body_len.unwrap_or(0))?;
    if !headers.has(Known::Host) || head_len > limits.head_bytes_max || body.len() > limits.body_bytes_max {
        return None;
    }
    Some(Seen { method, method_text, target, path_len, headers, body, len: head_len + body.len() })
}

/// A method that MCP uses, and what follows the space behind it.
fn method(input: &[u8]) -> Option<(Method, &'static str, &[u8])> {
    match input {
        [b'P', b'O', b'S', b'T', b' ', rest @ ..] => Some((Method::Post, "POST", rest)),
        [b'G', b'E', b'T', b' ', rest @ ..] => Some((Method::Get, "GET", rest)),
        [b'D', b'E', b'L', b'E', b'T', b'E', b' ', rest @ ..] => Some((Method::Delete, "DELETE", rest)),
        _ => None,
    }
}

/// A target in origin form without anything that would need a closer look, the length of its path, and what follows it.
#[expect(clippy::indexing_slicing, reason = "a u8 cannot miss a table of 256")]
fn target(input: &[u8]) -> Option<(&str, usize, &[u8])> {
    const LEN_MAX: usize = 256;
    let plain = |bytes: &[u8]| bytes.iter().take(LEN_MAX).position(|&byte| !PLAIN[byte as usize]);
    let path_len = plain(input)?;
    let len = match input.get(path_len) {
        Some(b'?') => path_len + 1 + plain(input.get(path_len + 1..)?)?,
        _ => path_len,
    };
    let (target, rest) = input.split_at_checked(len)?;
    if target.first() != Some(&b'/') {
        return None;
    }
    // The usual path spares its conversion.
    let target = if target == USUAL_TARGET.as_bytes() { USUAL_TARGET } else { str::from_utf8(target).ok()? };
    Some((target, path_len, rest))
}

/// The name and the value of a field line with a value of visible text, and what follows its CRLF. The name is yet to be checked.
#[inline]
fn field(input: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (name, after_name) = input.split_at_checked(find_byte(b':', input)?)?;
    let after_colon = after_name.get(1..)?;
    let (value, after_value) = after_colon.split_at_checked(find_control(after_colon)?)?;
    let [b'\r', b'\n', rest @ ..] = after_value else { return None };
    Some((name, trim(value), rest))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

    use super::*;

    const LIMITS: HttpLimits = HttpLimits { head_bytes_max: 1024, body_bytes_max: 64 };

    /// Whether the glance took it; if so, it must say what the framer and the view say.
    fn taken(input: &str) -> bool {
        let (mut slots, mut others, mut joined) = (HeaderSlots::new(), HeaderSlots::new(), Vec::new());
        let Some(seen) = glance(input.as_bytes(), &LIMITS, &mut slots) else { return false };
        let (request, consumed) = seen.over(input.as_bytes(), &slots);
        let Framed::Whole(frame) = Framer::default().next(input.as_bytes(), &LIMITS) else { panic!("not whole: {input:?}") };
        let other = view(input.as_bytes(), &frame, &mut others, &mut joined).expect(input);
        assert_eq!(consumed, frame.consumed, "{input:?}");
        assert_eq!(format!("{request:?}"), format!("{other:?}"));
        true
    }

    #[test]
    fn the_usual_request_is_taken_as_the_framer_takes_it() {
        for input in [
            "POST /mcp HTTP/1.1\r\nHost: localhost:8080\r\nContent-Length: 2\r\n\r\n{}next",
            "POST /mcp HTTP/1.1\r\nhost: [::1]:80\r\nAccept: a/b, c/d\r\naccept:  e/f  \r\nMcp-Name: =?base64?eA==?=\r\ncontent-length: 0\r\n\r\n",
            "GET /mcp?a=b&c HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            "DELETE /mcp/a_b-c.d~e HTTP/1.1\r\nHost: x\r\nX-Empty:\r\nX: caf\u{e9}\r\n\r\n",
        ] {
            assert!(taken(input), "{input:?}");
        }
    }

    #[test]
    fn the_unusual_is_left_alone() {
        let post = |fields: &str, body: &str| format!("POST /mcp HTTP/1.1\r\n{fields}\r\n{body}");
        for input in [
            String::new(),
            "\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n".into(),
            "GET / HTTP/1.0\r\nHost: x\r\n\r\n".into(),
            "PUT / HTTP/1.1\r\nHost: x\r\n\r\n".into(),
            "GET http://x/ HTTP/1.1\r\nHost: x\r\n\r\n".into(),
            "GET /%41 HTTP/1.1\r\nHost: x\r\n\r\n".into(),
            "GET /?a?b HTTP/1.1\r\nHost: x\r\n\r\n".into(),
            "GET / HTTP/1.1\nHost: x\r\n\r\n".into(),
            "GET / HTTP/1.1\r\nHost: x\n\r\n".into(),
            post("", ""),
            post("Host: x\r\nHost: x\r\n", ""),
            post("Host: a,b\r\n", ""),
            post("Host: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n", "a"),
            post("Host: x\r\nContent-Length: +1\r\n", "a"),
            post("Host: x\r\nContent-Length: 65\r\n", &"a".repeat(65)),
            post("Host: x\r\nContent-Length: 2\r\n", "a"),
            post("Host: x\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
            post("Host: x\r\nExpect: 100-continue\r\nContent-Length: 1\r\n", "a"),
            post("Host: x\r\nA\t: b\r\n", ""),
            post("Host: x\r\nA: b\r\n c\r\n", ""),
            post("Host: x\r\nA: b\rc\r\n", ""),
            post("Host: x\r\nA: b\tc\r\n", ""),
            post("Host: x\r\nA: b\0\r\n", ""),
            post("Host: x\r\n: b\r\n", ""),
            post(&format!("Host: x\r\nA: {}\r\n", "b".repeat(1024)), ""),
            post(&format!("Host: x\r\n{}", "A: b\r\n".repeat(100)), ""),
        ] {
            assert!(!taken(&input), "{input:?}");
        }
    }
}
