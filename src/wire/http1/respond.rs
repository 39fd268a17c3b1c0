//! Responses (RFC 9112 section 4), appended to an outbound buffer.

use super::field::is_tchar;

/// The interim answer to `Expect: 100-continue`.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// The media type of JSON answers.
pub const JSON: &str = "application/json";
/// The media type of streams of events.
pub const EVENT_STREAM: &str = "text/event-stream";
/// The extra field that a persistent answer to HTTP/1.0 needs (RFC 9112 section 9.3).
pub const KEEP_ALIVE: (&str, &[u8]) = ("Connection", b"keep-alive");

/// What a response head says.
#[derive(Clone, Copy, Debug)]
pub struct Head<'h> {
    /// Status code, 200 to 599.
    pub status: u16,
    /// Content-Type, if there is content.
    pub content_type: Option<&'h str>,
    /// Tells the client that the connection ends after this answer.
    pub close: bool,
    /// Further fields. A line break or NUL in a value becomes a space (RFC 9110 section 5.5); a name that is no token is left out with its value.
    pub extra: &'h [(&'h str, &'h [u8])],
    /// Date, from [`super::DateCache`].
    pub date: &'h [u8; 29],
}

/// The head of most answers: the date, the length and the empty line follow.
const COMMON: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: ";
const COMMON_LENGTH: &[u8] = b"\r\nContent-Length: ";
/// All of the common head: the longest length has 20 digits.
const COMMON_BYTES_MAX: usize = COMMON.len() + 29 + COMMON_LENGTH.len() + 20 + 4;

/// Appends a whole response. A status that allows no content (204, 205, 304) gets none, whatever `body` is.
pub fn response(out: &mut Vec<u8>, head: &Head<'_>, body: &[u8]) {
    let body = if allows_content(head.status) { body } else { &[] };
    out.reserve(COMMON_BYTES_MAX + body.len());
    response_head_only(out, head, body.len());
    out.extend_from_slice(body);
}

/// Appends the response to HEAD: the head that GET would get for a body of this length, bytes.
pub fn response_head_only(out: &mut Vec<u8>, head: &Head<'_>, body_len: usize) {
    if head.status == 200 && !head.close && head.extra.is_empty() && head.content_type == Some(JSON) {
        return common_head(out, head.date, body_len);
    }
    begin_head(out, head);
    // RFC 9110 section 8.6: never with 1xx or 204. A 304 would have to give the length of another answer.
    if !matches!(head.status, 100..=199 | 204 | 304) {
        let body_len = if allows_content(head.status) { body_len } else { 0 };
        field(out, "Content-Length", itoa::Buffer::new().format(body_len).as_bytes());
    }
    end_head(out, head);
}

/// Appends the head of a stream whose length is not known: chunked for HTTP/1.1, ended by close for HTTP/1.0 (which `minor` 0 means; the caller then closes).
pub fn stream_head(out: &mut Vec<u8>, head: &Head<'_>, minor: u8) {
    let is_chunked = minor > 0;
    begin_head(out, head);
    out.extend_from_slice(b"Cache-Control: no-cache\r\nX-Accel-Buffering: no\r\n");
    if is_chunked {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    end_head(out, &Head { close: head.close || !is_chunked, ..*head });
}

/// Appends one chunk. Nothing for no data, since an empty chunk would end the body.
pub fn chunk(out: &mut Vec<u8>, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    out.reserve(data.len() + SIZE_PLACE.len() + 2);
    let mark = begin_chunk(out);
    out.extend_from_slice(data);
    end_chunk(out, mark);
}

/// Appends the end of a chunked body.
pub fn last_chunk(out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n\r\n");
}

/// Room for the size of a chunk that is written in place. Leading zeros are part of the grammar (RFC 9112 section 7.1).
const SIZE_PLACE: &[u8; 10] = b"00000000\r\n";

/// Where an open chunk begins.
#[derive(Debug)]
#[must_use = "an open chunk must be ended"]
pub struct ChunkMark(usize);

/// Opens a chunk, so that its data can be appended in place; [`end_chunk`] closes it.
pub fn begin_chunk(out: &mut Vec<u8>) -> ChunkMark {
    let mark = ChunkMark(out.len());
    out.extend_from_slice(SIZE_PLACE);
    mark
}

/// Closes the chunk that [`begin_chunk`] opened in the same buffer. Without data since then it is as if it had never been opened.
pub fn end_chunk(out: &mut Vec<u8>, mark: ChunkMark) {
    let size = out.len().saturating_sub(mark.0 + SIZE_PLACE.len());
    debug_assert!(u32::try_from(size).is_ok(), "a chunk is written within one turn: never 4 GiB");
    if size == 0 {
        return out.truncate(mark.0);
    }
    for (place, digit) in out.iter_mut().skip(mark.0).zip((0..8).rev().map(|i| (size >> (4 * i)) & 0xf)) {
        *place = HEX.get(digit).copied().unwrap_or_default();
    }
    out.extend_from_slice(b"\r\n");
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Copied to the stack, completed there and appended in one piece.
fn common_head(out: &mut Vec<u8>, date: &[u8; 29], body_len: usize) {
    let mut digits = itoa::Buffer::new();
    let pieces: [&[u8]; 5] = [COMMON, date, COMMON_LENGTH, digits.format(body_len).as_bytes(), b"\r\n\r\n"];
    out.reserve(COMMON_BYTES_MAX);
    for piece in pieces {
        out.extend_from_slice(piece);
    }
}

fn begin_head(out: &mut Vec<u8>, head: &Head<'_>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(itoa::Buffer::new().format(head.status).as_bytes());
    out.push(b' ');
    out.extend_from_slice(reason(head.status).as_bytes());
    out.extend_from_slice(b"\r\n");
    if let Some(content_type) = head.content_type {
        field(out, "Content-Type", content_type.as_bytes());
    }
    field(out, "Date", head.date);
}

fn end_head(out: &mut Vec<u8>, head: &Head<'_>) {
    if head.close {
        out.extend_from_slice(b"Connection: close\r\n");
    }
    for &(name, value) in head.extra {
        // One word on persistence: the answer must not say both.
        let is_contradiction = head.close && name.eq_ignore_ascii_case("Connection");
        if !is_contradiction {
            field(out, name, value);
        }
    }
    out.extend_from_slice(b"\r\n");
}

fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    if name.is_empty() || !name.bytes().all(is_tchar) {
        return;
    }
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend(value.iter().map(|&b| if matches!(b, b'\r' | b'\n' | 0) { b' ' } else { b }));
    out.extend_from_slice(b"\r\n");
}

const fn allows_content(status: u16) -> bool {
    !matches!(status, 100..=199 | 204 | 205 | 304)
}

/// Reason phrase. A client must not act on it (RFC 9112 section 4): a status without one here is as good.
#[must_use]
pub const fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        205 => "Reset Content",
        302 => "Found",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

    use super::*;
    use crate::base::fault::Kind;

    const DATE: &[u8; 29] = b"Sun, 06 Nov 1994 08:49:37 GMT";
    const HEAD: Head<'_> = Head { status: 200, content_type: Some(JSON), close: false, extra: &[], date: DATE };

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = b"|".to_vec();
        write(&mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn the_common_head_is_exact() {
        let expected =
            "|HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(text(|out| response(out, &HEAD, b"{}")), expected);
        assert_eq!(text(|out| response_head_only(out, &HEAD, 2)), expected.strip_suffix("{}").expect("a body"));
    }

    #[test]
    fn common_and_general_heads_say_the_same() {
        let general = text(|out| response(out, &Head { extra: &[("X-A", b"b")], ..HEAD }, b"{}"));
        assert_eq!(general.replace("X-A: b\r\n", ""), text(|out| response(out, &HEAD, b"{}")));
    }

    #[test]
    fn a_status_without_content_gets_none() {
        let head = |status| Head { status, content_type: None, ..HEAD };
        let date = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
        assert_eq!(text(|out| response(out, &head(204), b"x")), format!("|HTTP/1.1 204 No Content\r\n{date}\r\n"));
        assert_eq!(text(|out| response(out, &head(304), b"x")), format!("|HTTP/1.1 304 Not Modified\r\n{date}\r\n"));
        assert_eq!(text(|out| response(out, &head(205), b"x")), format!("|HTTP/1.1 205 Reset Content\r\n{date}Content-Length: 0\r\n\r\n"));
        assert_eq!(text(|out| response(out, &head(202), b"")), format!("|HTTP/1.1 202 Accepted\r\n{date}Content-Length: 0\r\n\r\n"));
        assert_eq!(
            text(|out| response_head_only(out, &head(404), 7)),
            format!("|HTTP/1.1 404 Not Found\r\n{date}Content-Length: 7\r\n\r\n")
        );
    }

    #[test]
    fn a_head_ends_the_connection_in_one_word() {
        let head = Head { status: 503, close: true, extra: &[KEEP_ALIVE, ("Retry-After", b"1")], ..HEAD };
        let answer = text(|out| response(out, &head, b"{}"));
        assert!(answer.contains("\r\nConnection: close\r\nRetry-After: 1\r\n\r\n{}"), "{answer}");
        assert!(!answer.contains("keep-alive"), "{answer}");
    }

    #[test]
    fn no_value_can_break_out_of_its_line() {
        let head = Head { extra: &[("X", b"a\r\nY: b\0\n"), ("Bad Name", b"x"), ("", b"x"), ("A\r\nB", b"x")], ..HEAD };
        let answer = text(|out| response(out, &head, b""));
        assert!(answer.ends_with("Content-Length: 0\r\nX: a  Y: b  \r\n\r\n"), "{answer:?}");
    }

    #[test]
    fn a_stream_is_chunked_or_ended_by_close() {
        let head = Head { content_type: Some(EVENT_STREAM), ..HEAD };
        let newer = text(|out| stream_head(out, &head, 1));
        assert!(
            newer.contains("Content-Type: text/event-stream\r\n") && newer.contains("Cache-Control: no-cache\r\nX-Accel-Buffering: no\r\n"),
            "{newer}"
        );
        assert!(
            newer.ends_with("Transfer-Encoding: chunked\r\n\r\n") && !newer.contains("Content-Length") && !newer.contains("close"),
            "{newer}"
        );
        let older = text(|out| stream_head(out, &head, 0));
        assert!(older.ends_with("Connection: close\r\n\r\n") && !older.contains("Transfer-Encoding"), "{older}");
    }

    #[test]
    fn chunks_carry_their_size() {
        assert_eq!(text(|out| chunk(out, b"")), "|");
        assert_eq!(text(|out| chunk(out, b"abc")), "|00000003\r\nabc\r\n");
        assert_eq!(text(|out| chunk(out, &[b'x'; 0x1a2b])).get(..11), Some("|00001a2b\r\n"));
        assert_eq!(text(last_chunk), "|0\r\n\r\n");
        let unused = text(|out| {
            let mark = begin_chunk(out);
            end_chunk(out, mark);
        });
        assert_eq!(unused, "|");
    }

    #[test]
    fn every_fault_has_a_reason_phrase() {
        for kind in Kind::ALL {
            assert_ne!(reason(kind.status()), "", "{kind:?}");
        }
    }
}
