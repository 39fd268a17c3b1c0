//! Streams of events (WHATWG HTML, section 9.2 "Server-sent events"): a writer, and an incremental parser of bounded memory.

use crate::base::limits::LINK_LONG_BYTES;
use crate::base::long;

/// Appends one event of type `message`. `data` is one JSON text; should it have line breaks, it is carried on as many lines.
/// An id with a line break or NUL cannot be carried and is left out.
pub fn event(out: &mut Vec<u8>, id: Option<&[u8]>, data: &[u8]) {
    out.reserve(data.len() + 64);
    write_id(out, id);
    out.extend_from_slice(b"event: message\n");
    let mut rest = data;
    while let Some(at) = memchr::memchr2(b'\r', b'\n', rest) {
        let (line, after) = rest.split_at_checked(at).unwrap_or((rest, &[]));
        write_data(out, line);
        rest = after.strip_prefix(b"\r\n").or_else(|| after.get(1..)).unwrap_or_default();
    }
    write_data(out, rest);
    out.push(b'\n');
}

/// Appends an event that has an id and empty data: the point from which a client can resume before anything was said.
pub fn prime(out: &mut Vec<u8>, id: &[u8]) {
    write_id(out, Some(id));
    out.extend_from_slice(b"data: \n\n");
}

/// Appends how long a client is to wait before it reconnects, milliseconds.
pub fn retry(out: &mut Vec<u8>, ms: u64) {
    out.extend_from_slice(b"retry: ");
    out.extend_from_slice(itoa::Buffer::new().format(ms).as_bytes());
    out.extend_from_slice(b"\n\n");
}

/// Appends an empty comment: it keeps the connection alive and means nothing.
pub fn comment(out: &mut Vec<u8>) {
    out.extend_from_slice(b":\n\n");
}

fn write_id(out: &mut Vec<u8>, id: Option<&[u8]>) {
    if let Some(id) = id.filter(|id| memchr::memchr3(b'\r', b'\n', 0, id).is_none()) {
        out.extend_from_slice(b"id: ");
        out.extend_from_slice(id);
        out.push(b'\n');
    }
}

fn write_data(out: &mut Vec<u8>, line: &[u8]) {
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(line);
    out.push(b'\n');
}

/// One event, as long as the parser is not asked for the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'p> {
    /// Its type: `message` when the stream named none.
    pub name: &'p [u8],
    /// Its data, lines joined by LF.
    pub data: &'p [u8],
    /// The last id that the stream gave, up to this event; empty when none.
    pub id: &'p [u8],
}

/// An event, or a line, is longer than the parser was told to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

impl std::fmt::Display for TooLong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an event of the stream is longer than allowed")
    }
}

impl std::error::Error for TooLong {}

/// Reads a stream as its bytes arrive.
#[derive(Debug)]
pub struct Parser {
    bytes_max: usize,
    /// A line whose end has not come.
    line: Vec<u8>,
    name: Vec<u8>,
    data: Vec<u8>,
    id: Vec<u8>,
    last_id: Vec<u8>,
    retry_ms: Option<u64>,
    /// The last line was ended by CR: a LF that follows belongs to it.
    after_cr: bool,
    /// Past the first line, which may begin with a byte order mark.
    after_first: bool,
    is_given: bool,
    is_overrun: bool,
}

impl Parser {
    /// A parser that holds at most about `bytes_max` bytes of one event, and as many of one line.
    #[must_use]
    pub const fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            line: Vec::new(),
            name: Vec::new(),
            data: Vec::new(),
            id: Vec::new(),
            last_id: Vec::new(),
            retry_ms: None,
            after_cr: false,
            after_first: false,
            is_given: false,
            is_overrun: false,
        }
    }

    /// Takes bytes off the front of `input` until an event is complete; `None` when all are taken. Call it until then.
    ///
    /// # Errors
    /// [`TooLong`], now and on every later call: the stream cannot be followed further.
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<Event<'_>>, TooLong> {
        self.forget_given();
        loop {
            if self.is_overrun {
                return Err(TooLong);
            }
            self.skip_lf(input);
            let Some(end) = memchr::memchr2(b'\r', b'\n', input) else {
                self.hold(input);
                *input = &[];
                return if self.is_overrun { Err(TooLong) } else { Ok(None) };
            };
            let Some((piece, [terminator, rest @ ..])) = input.split_at_checked(end) else { return Ok(None) };
            self.after_cr = *terminator == b'\r';
            *input = rest;
            if self.end_line(piece) {
                self.is_given = true;
                let name: &[u8] = if self.name.is_empty() { b"message" } else { &self.name };
                return Ok(Some(Event { name, data: &self.data, id: &self.last_id }));
            }
        }
    }

    /// The id to resume from: that of the last complete event which gave one; empty when none did.
    #[must_use]
    pub fn last_id(&self) -> &[u8] {
        &self.last_id
    }

    /// Bytes of an event, and of a line, that are not complete.
    #[must_use]
    pub const fn held_bytes(&self) -> usize {
        // What was given is complete.
        self.line.len() + if self.is_given { 0 } else { self.data.len() }
    }

    /// How long the stream asked to wait before reconnecting, milliseconds.
    #[must_use]
    pub const fn retry_ms(&self) -> Option<u64> {
        self.retry_ms
    }

    fn forget_given(&mut self) {
        if std::mem::take(&mut self.is_given) {
            self.name.clear();
            self.data.clear();
        }
    }

    fn skip_lf(&mut self, input: &mut &[u8]) {
        if self.after_cr
            && let [first, rest @ ..] = *input
        {
            self.after_cr = false;
            if *first == b'\n' {
                *input = rest;
            }
        }
    }

    fn hold(&mut self, piece: &[u8]) {
        if self.line.len() + piece.len() > self.bytes_max {
            self.is_overrun = true;
        } else {
            long::extend(&mut self.line, piece, self.bytes_max);
        }
    }

    /// Handles the line that ends with `piece`; true when it completes an event. A line that came in one piece is not copied first.
    fn end_line(&mut self, piece: &[u8]) -> bool {
        if self.line.len() + piece.len() > self.bytes_max {
            self.is_overrun = true;
            return false;
        }
        if self.line.is_empty() {
            return self.whole_line(piece);
        }
        let mut line = std::mem::take(&mut self.line);
        long::extend(&mut line, piece, self.bytes_max);
        let is_complete = self.whole_line(&line);
        line.clear();
        line.shrink_to(LINK_LONG_BYTES);
        self.line = line;
        is_complete
    }

    fn whole_line(&mut self, mut line: &[u8]) -> bool {
        if !std::mem::replace(&mut self.after_first, true) {
            line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        }
        if line.is_empty() {
            return self.end_block();
        }
        let colon = memchr::memchr(b':', line).unwrap_or(line.len());
        let (field, value) = line.split_at_checked(colon).unwrap_or((line, &[]));
        let value = value.strip_prefix(b":").unwrap_or(value);
        self.field(field, value.strip_prefix(b" ").unwrap_or(value));
        false
    }

    fn field(&mut self, field: &[u8], value: &[u8]) {
        match field {
            b"data" => self.add_data(value),
            b"event" => value.clone_into(&mut self.name),
            b"id" if !value.contains(&0) => value.clone_into(&mut self.id),
            b"retry" if !value.is_empty() && value.iter().all(u8::is_ascii_digit) => {
                self.retry_ms = std::str::from_utf8(value).ok().and_then(|digits| digits.parse().ok()).or(self.retry_ms);
            }
            _ => {}
        }
    }

    /// Each line is kept with a LF behind it, of which the last is dropped when the event ends: one empty line of data is data too.
    fn add_data(&mut self, value: &[u8]) {
        if self.data.len() + value.len() > self.bytes_max {
            self.is_overrun = true;
            return;
        }
        self.data.extend_from_slice(value);
        self.data.push(b'\n');
    }

    /// An empty line: true when there is an event to give.
    fn end_block(&mut self) -> bool {
        self.last_id.clone_from(&self.id);
        if self.data.pop().is_none() {
            self.name.clear();
            return false;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

    use super::*;

    type Owned = (String, String, String);

    fn owned(event: Event<'_>) -> Owned {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (text(event.name), text(event.data), text(event.id))
    }

    fn drain(parser: &mut Parser, mut input: &[u8], events: &mut Vec<Owned>) -> Result<(), TooLong> {
        while let Some(event) = parser.next(&mut input)? {
            events.push(owned(event));
        }
        assert!(input.is_empty());
        Ok(())
    }

    fn parse(stream: &[u8]) -> Vec<Owned> {
        let mut events = Vec::new();
        assert_eq!(drain(&mut Parser::new(1024), stream, &mut events), Ok(()));
        events
    }

    fn of(name: &str, data: &str, id: &str) -> Owned {
        (name.into(), data.into(), id.into())
    }

    const STREAM: &[u8] = b"\xef\xbb\xbfdata: a\r\ndata:b\n: note\rid: 1\n\r\nevent: x\ndata\n\nid\ndata:  y\n\nid: 9\n\nid: 1\0\ndata: z\r\rretry: 25\nretry: 2x\nunknown: 1\ndata: cut";

    fn expected() -> Vec<Owned> {
        vec![of("message", "a\nb", "1"), of("x", "", "1"), of("message", " y", ""), of("message", "z", "9")]
    }

    #[test]
    fn a_stream_split_anywhere_gives_the_same_events() {
        assert_eq!(parse(STREAM), expected());
        for first in 0..=STREAM.len() {
            for second in first..=STREAM.len() {
                let (mut parser, mut events) = (Parser::new(64), Vec::new());
                for piece in [&STREAM[..first], &STREAM[first..second], &STREAM[second..]] {
                    assert_eq!(drain(&mut parser, piece, &mut events), Ok(()));
                }
                assert_eq!(events, expected(), "split at {first} and {second}");
                assert_eq!((parser.retry_ms(), parser.last_id()), (Some(25), &b"9"[..]));
            }
        }
    }

    #[test]
    fn a_byte_order_mark_counts_as_part_of_its_line() {
        let stream = [b"\xef\xbb\xbf:".as_slice(), &b"x".repeat(60), b"\n"].concat();
        for (bytes_max, expected) in [(64, Ok(())), (63, Err(TooLong))] {
            for piece_len in [1, stream.len()] {
                let mut parser = Parser::new(bytes_max);
                assert_eq!(stream.chunks(piece_len).try_for_each(|piece| drain(&mut parser, piece, &mut Vec::new())), expected);
            }
        }
    }

    #[test]
    fn an_id_counts_when_its_event_is_complete() {
        let mut parser = Parser::new(64);
        let mut events = Vec::new();
        assert_eq!(drain(&mut parser, b"id: 1\ndata: a\n\nid: 2\ndata: b\n", &mut events), Ok(()));
        assert_eq!(parser.last_id(), b"1");
        assert_eq!(drain(&mut parser, b"\n", &mut events), Ok(()));
        assert_eq!(parser.last_id(), b"2");
    }

    #[test]
    fn memory_is_bounded() {
        for stream in [b"data: ".repeat(20), b"data: 12345\n".repeat(20), b"x".repeat(100), [b"x".repeat(100), b"\n".to_vec()].concat()] {
            for piece_len in [1, 7, stream.len()] {
                let mut parser = Parser::new(64);
                let result = stream.chunks(piece_len).try_for_each(|piece| drain(&mut parser, piece, &mut Vec::new()));
                assert_eq!(result, Err(TooLong));
                assert_eq!(parser.next(&mut &b"data: x\n\n"[..]), Err(TooLong));
                assert!(parser.line.capacity() + parser.data.capacity() <= 512);
            }
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let mut out = Vec::new();
        event(&mut out, Some(b"7-1"), b"{\"a\":1}");
        event(&mut out, None, b"x\ny\r\nz\rw\n");
        event(&mut out, Some(b"bad\nid"), b"");
        comment(&mut out);
        retry(&mut out, 1500);
        prime(&mut out, b"8");
        let events =
            [of("message", "{\"a\":1}", "7-1"), of("message", "x\ny\nz\nw\n", "7-1"), of("message", "", "7-1"), of("message", "", "8")];
        assert_eq!(parse(&out), events);
    }

    #[test]
    fn the_writer_is_exact() {
        let mut out = Vec::new();
        event(&mut out, Some(b"1"), b"{}");
        retry(&mut out, 5);
        comment(&mut out);
        prime(&mut out, b"2");
        assert_eq!(out, b"id: 1\nevent: message\ndata: {}\n\nretry: 5\n\n:\n\nid: 2\ndata: \n\n");
    }
}
