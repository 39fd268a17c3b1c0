//! Requests as a client writes them (RFC 9112), appended to an outbound buffer. What cannot be said safely is refused, never altered: a value
//! with a line break in it would be another header.

use std::fmt;

use super::field::{find_control, is_host, is_tchar};
use super::known::Known;
use super::request_line::Method;
use crate::base::limits::TARGET_BYTES_MAX;

/// What of a request cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsendable {
    /// The method is no token that has a name here.
    Method,
    /// The target is no path (RFC 9112 section 3.2.1), or longer than [`TARGET_BYTES_MAX`].
    Target,
    /// The host is none (RFC 9110 section 7.2).
    Host,
    /// A field's name is no token, or is one that [`Ask`] writes itself.
    Name,
    /// A field's value has a line break or another control byte in it (RFC 9110 section 5.5).
    Value,
}

impl fmt::Display for Unsendable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Method => "the method cannot be sent",
            Self::Target => "the target cannot be sent",
            Self::Host => "the host cannot be sent",
            Self::Name => "the name of a header cannot be sent",
            Self::Value => "the value of a header cannot be sent",
        })
    }
}

impl std::error::Error for Unsendable {}

/// The head of one request, being written. Unless it is ended, the buffer is as if it had never begun.
///
/// ```
/// # use ringhub::wire::http1::{Ask, Method};
/// let mut out = Vec::new();
/// let mut ask = Ask::begin(&mut out, Method::Post, "/mcp", "127.0.0.1:3001")?;
/// ask.field("Content-Type", b"application/json")?;
/// ask.end(Some(2));
/// out.extend_from_slice(b"{}");
/// assert_eq!(out, b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:3001\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}");
/// # Ok::<_, ringhub::wire::http1::Unsendable>(())
/// ```
#[derive(Debug)]
#[must_use = "a head must be ended"]
pub struct Ask<'o> {
    out: &'o mut Vec<u8>,
    start: usize,
}

impl<'o> Ask<'o> {
    /// Begins the head of a request for `target` (a path, with its query if any) of `host` (a name or an address, with its port unless it is
    /// the scheme's own).
    ///
    /// # Errors
    /// [`Unsendable`]; nothing was written.
    pub fn begin(out: &'o mut Vec<u8>, method: Method, target: &str, host: &str) -> Result<Self, Unsendable> {
        let method = method.name().ok_or(Unsendable::Method)?;
        check_target(target)?;
        if host.is_empty() || !is_host(host.as_bytes()) {
            return Err(Unsendable::Host);
        }
        let start = out.len();
        for piece in [method, " ", target, " HTTP/1.1\r\nHost: ", host, "\r\n"] {
            out.extend_from_slice(piece.as_bytes());
        }
        Ok(Self { out, start })
    }

    /// Begins a head with what another one began with: see [`Self::into_start`].
    pub fn begin_with(out: &'o mut Vec<u8>, start_text: &AskStart) -> Self {
        let start = out.len();
        out.extend_from_slice(&start_text.0);
        Self { out, start }
    }

    /// Appends a field.
    ///
    /// # Errors
    /// [`Unsendable`]: a name that is no token or that decides where the message ends (Host, Content-Length, Transfer-Encoding), or a value with
    /// control bytes. The field is not written.
    pub fn field(&mut self, name: &str, value: &[u8]) -> Result<(), Unsendable> {
        check_field(name, value)?;
        for piece in [name.as_bytes(), b": ", value, b"\r\n"] {
            self.out.extend_from_slice(piece);
        }
        Ok(())
    }

    /// Takes back what was written, to begin any number of heads with it: what is the same for all requests to an upstream is checked once.
    #[must_use]
    pub fn into_start(self) -> AskStart {
        AskStart(self.out.get(self.start..).unwrap_or_default().into())
    }

    /// Ends the head. A request that has a body gives its length, bytes: 0, too.
    pub fn end(self, body_len: Option<usize>) {
        if let Some(len) = body_len {
            self.out.extend_from_slice(b"Content-Length: ");
            self.out.extend_from_slice(itoa::Buffer::new().format(len).as_bytes());
            self.out.extend_from_slice(b"\r\n");
        }
        self.out.extend_from_slice(b"\r\n");
        std::mem::forget(self);
    }
}

impl Drop for Ask<'_> {
    fn drop(&mut self) {
        self.out.truncate(self.start);
    }
}

/// The request line and the first fields of a head.
#[derive(Clone, PartialEq, Eq)]
pub struct AskStart(Box<[u8]>);

/// It may have credentials in it.
impl fmt::Debug for AskStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AskStart({} bytes)", self.0.len())
    }
}

/// Whether it is a path in origin form. Not UTF-8 (which a URI must escape), not a control, and not a fragment (which a client keeps to itself).
///
/// # Errors
/// [`Unsendable::Target`].
pub fn check_target(target: &str) -> Result<(), Unsendable> {
    let is_path = target.starts_with('/') && target.len() <= TARGET_BYTES_MAX;
    let is_plain = target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    if is_path && is_plain { Ok(()) } else { Err(Unsendable::Target) }
}

/// Whether [`Ask::field`] would write it.
///
/// # Errors
/// [`Unsendable::Name`] or [`Unsendable::Value`].
pub fn check_field(name: &str, value: &[u8]) -> Result<(), Unsendable> {
    let is_token = !name.is_empty() && name.bytes().all(is_tchar);
    let is_own = matches!(Known::find(name.as_bytes()), Some(Known::Host | Known::ContentLength | Known::TransferEncoding));
    if !is_token || is_own {
        return Err(Unsendable::Name);
    }
    let mut rest = value;
    while let Some(at) = find_control(rest) {
        match rest.split_at_checked(at) {
            Some((_, [b'\t', after @ ..])) => rest = after,
            _ => return Err(Unsendable::Value),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

    use super::super::{Framed, Framer, HeaderSlots, HttpLimits, view};
    use super::*;

    const LIMITS: HttpLimits = HttpLimits { head_bytes_max: 4096, body_bytes_max: 4096 };

    #[test]
    fn what_is_written_is_what_a_server_reads() {
        let mut out = b"before".to_vec();
        let mut ask = Ask::begin(&mut out, Method::Post, "/a/b?c=d", "[::1]:8080").expect("it can be sent");
        ask.field("Mcp-Name", b"x\t\xc3\xa9 y").expect("it can be sent");
        ask.field("Empty", b"").expect("it can be sent");
        ask.end(Some(3));
        out.extend_from_slice(b"abc");
        let input = out.strip_prefix(b"before").expect("what stood there stands there");
        let Framed::Whole(frame) = Framer::default().next(input, &LIMITS) else { panic!("{}", input.escape_ascii()) };
        assert_eq!(frame.consumed, input.len());
        let (mut slots, mut dechunked) = (HeaderSlots::new(), Vec::new());
        let request = view(input, &frame, &mut slots, &mut dechunked).expect("it is a request");
        assert_eq!((request.method, request.target, request.body), (Method::Post, "/a/b?c=d", &b"abc"[..]));
        let fields: Vec<_> = request.headers.iter().collect();
        let expected: [(&str, &[u8]); 4] =
            [("Host", b"[::1]:8080"), ("Mcp-Name", b"x\t\xc3\xa9 y"), ("Empty", b""), ("Content-Length", b"3")];
        assert_eq!(fields, expected);
        assert!(request.keep_alive);
    }

    #[test]
    fn a_request_without_a_body_says_no_length() {
        let mut out = Vec::new();
        Ask::begin(&mut out, Method::Delete, "/mcp", "h").expect("it can be sent").end(None);
        assert_eq!(out, b"DELETE /mcp HTTP/1.1\r\nHost: h\r\n\r\n");
    }

    #[test]
    fn what_is_the_same_is_written_once() {
        let mut first = Vec::new();
        let mut ask = Ask::begin(&mut first, Method::Get, "/mcp", "h").expect("it can be sent");
        ask.field("Accept", b"text/event-stream").expect("it can be sent");
        let start = ask.into_start();
        assert_eq!(first, b"", "it was taken back");
        assert!(!format!("{start:?}").contains("Accept"));
        let mut out = Vec::new();
        for id in [b"1", b"2"] {
            let mut ask = Ask::begin_with(&mut out, &start);
            ask.field("Last-Event-ID", id).expect("it can be sent");
            ask.end(None);
        }
        let one = |id| format!("GET /mcp HTTP/1.1\r\nHost: h\r\nAccept: text/event-stream\r\nLast-Event-ID: {id}\r\n\r\n");
        assert_eq!(out, format!("{}{}", one(1), one(2)).as_bytes());
    }

    #[test]
    fn nothing_is_smuggled() {
        fn begin(method: Method, target: &str, host: &str) -> Unsendable {
            Ask::begin(&mut Vec::new(), method, target, host).map(|_| ()).expect_err(target)
        }
        for bad in ["", "mcp", "*", "http://h/", "/a b", "/a\r\nX: y", "/a\tb", "/\0", "/a#b", "/\u{e9}", "/\u{7f}"] {
            assert_eq!(begin(Method::Get, bad, "h"), Unsendable::Target, "{bad:?}");
        }
        assert_eq!(begin(Method::Get, &format!("/{}", "x".repeat(TARGET_BYTES_MAX)), "h"), Unsendable::Target);
        for bad in ["", "h\r\nX: y", "h h", "u@h", "h/", "h:x", "a,b"] {
            assert_eq!(begin(Method::Get, "/", bad), Unsendable::Host, "{bad:?}");
        }
        assert_eq!(begin(Method::Other, "/", "h"), Unsendable::Method);
        let mut out = b"x".to_vec();
        let mut ask = Ask::begin(&mut out, Method::Post, "/", "h").expect("it can be sent");
        for bad in ["", "a b", "a:", "a\r\nb", "\u{e9}", "Host", "content-length", "TRANSFER-ENCODING"] {
            assert_eq!(ask.field(bad, b"v"), Err(Unsendable::Name), "{bad:?}");
        }
        for bad in [&b"a\r\nX: y"[..], b"a\n", b"\r", b"\0", b"a\tb\x1f", b"\x7f"] {
            assert_eq!(ask.field("X", bad), Err(Unsendable::Value), "{}", bad.escape_ascii());
        }
        drop(ask);
        assert_eq!(out, b"x", "an unfinished head leaves nothing");
    }
}
