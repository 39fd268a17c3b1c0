//! Where a request ends, found as its bytes arrive: no byte is searched twice, and what two parsers could read differently is refused.

use super::field::{self, content_length, is_host, transfer_encoding, trim};
use super::known::Known;
use super::{chunked, request_line};
use crate::base::fault::Kind;
use crate::base::limits::HEADERS_MAX;

/// Empty lines let pass before a request line (RFC 9112 section 2.2).
const BLANK_LINES_MAX: u8 = 4;
/// What the framing of a chunked body may take beyond the body limit, bytes.
const CHUNK_FRAMING_BYTES_MAX: usize = 16 * 1024;

/// What one request may be long.
#[derive(Clone, Copy, Debug)]
pub struct HttpLimits {
    /// Longest head (request line, fields and the empty line after them), bytes; also the longest trailer section. At most 4 GiB count.
    pub head_bytes_max: usize,
    /// Longest body, bytes: without its framing when it is chunked.
    pub body_bytes_max: usize,
}

/// What the bytes so far amount to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framed {
    /// Bring more bytes.
    More {
        /// True once per request that asked for it and whose body has not begun: answer [`super::CONTINUE`].
        expect_continue: bool,
        /// The head is complete: from now on the deadline of the body applies.
        in_body: bool,
    },
    /// One whole request stands at the start of the input.
    Whole(Frame),
    /// Answer with this fault and close: the bytes that follow have no certain meaning.
    Reject(Kind),
}

/// How a body is delimited (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFrame {
    /// There is none.
    None,
    /// By Content-Length, bytes.
    Length(usize),
    /// By the chunked transfer coding.
    Chunked,
}

/// One whole request at the start of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Length of the head with the empty line that ends it, and with empty lines that came before it, bytes.
    pub head_len: usize,
    /// How the body is delimited.
    pub body: BodyFrame,
    /// Length of the whole request, bytes: the next one begins there.
    pub consumed: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    RequestLine,
    Fields,
    Length,
    /// At a chunk line.
    ChunkLine,
    /// Waiting for a chunk's data and the CRLF behind it; `at` is the end of the data.
    ChunkData,
    Trailers,
    /// For good: the bytes behind what was refused have no certain meaning.
    Refused(Kind),
}

/// What the head has said so far.
#[derive(Clone, Copy, Debug, Default)]
struct Seen(u8);

impl Seen {
    const MINOR_1: u8 = 1;
    const HOST: u8 = 1 << 1;
    const LENGTH: u8 = 1 << 2;
    const CHUNKED: u8 = 1 << 3;
    const OTHER_CODING: u8 = 1 << 4;
    const EXPECT_CONTINUE: u8 = 1 << 5;
    const EXPECT_OTHER: u8 = 1 << 6;

    const fn has(self, any_of: u8) -> bool {
        self.0 & any_of != 0
    }

    const fn add(&mut self, flag: u8) {
        self.0 |= flag;
    }

    const fn take(&mut self, flag: u8) -> bool {
        let had = self.has(flag);
        self.0 &= !flag;
        had
    }
}

/// A connection's framing state. The input of [`Framer::next`] always begins with the first byte of a request and grows
/// until the request is whole.
#[derive(Debug, Default)]
pub struct Framer {
    /// Where the line in work begins; in a chunk's data, where the data ends.
    at: usize,
    /// Content-Length; of a chunked body, the length of its data so far.
    body: usize,
    /// How much of the line in work was searched for its end.
    searched: u32,
    head_len: u32,
    trailers_len: u32,
    fields: u8,
    blank_lines: u8,
    seen: Seen,
    phase: Phase,
}

const _: () = assert!(size_of::<Framer>() <= 32, "every idle connection holds one");
const _: () = assert!(HEADERS_MAX < u8::MAX as usize, "fields are counted in eight bits");

impl Framer {
    /// Looks at the bytes that are new since the last call. After [`Framed::Whole`] it is ready for the next request, whose
    /// bytes the caller must then bring to the front of the input.
    pub fn next(&mut self, input: &[u8], limits: &HttpLimits) -> Framed {
        match self.advance(input, limits) {
            Ok(Some(frame)) => {
                *self = Self::default();
                Framed::Whole(frame)
            }
            Ok(None) => self.more(input),
            Err(kind) => {
                self.phase = Phase::Refused(kind);
                Framed::Reject(kind)
            }
        }
    }

    /// Whether a request has begun: false between requests, when only an idle deadline applies.
    #[must_use]
    pub const fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::RequestLine) && self.searched == 0
    }

    fn more(&mut self, input: &[u8]) -> Framed {
        let in_body = !matches!(self.phase, Phase::RequestLine | Phase::Fields);
        let expect_continue = in_body && self.seen.take(Seen::EXPECT_CONTINUE) && input.len() <= self.head_len as usize;
        Framed::More { expect_continue, in_body }
    }

    /// One step per line, so that the answer depends on the bytes and never on where deliveries were cut.
    fn advance(&mut self, input: &[u8], limits: &HttpLimits) -> Result<Option<Frame>, Kind> {
        loop {
            let step = match self.phase {
                Phase::RequestLine => self.request_line(input, limits)?,
                Phase::Fields => self.field(input, limits)?,
                Phase::Length => return Ok(self.length_frame(input)),
                Phase::ChunkLine => self.chunk_line(input, limits)?,
                Phase::ChunkData => self.chunk_data(input)?,
                Phase::Trailers => self.trailer(input, limits)?,
                Phase::Refused(kind) => return Err(kind),
            };
            match step {
                Step::Wait => return Ok(None),
                Step::Next => {}
                Step::Whole(frame) => return Ok(Some(frame)),
            }
        }
    }

    fn request_line(&mut self, input: &[u8], limits: &HttpLimits) -> Result<Step, Kind> {
        let rest = input.get(self.at..).unwrap_or_default();
        if matches!(rest, [] | [b'\r']) {
            return Ok(Step::Wait);
        }
        let len_max = (request_line::LINE_BYTES_MAX + 2).min(head_bytes_max(limits).saturating_sub(self.at));
        let is_start_open = request_line::start_is_open(self.searched as usize);
        let line = self.line(input, len_max, Kind::TargetTooLong);
        // What cannot become a request line is refused before it ends, if it ever does.
        if is_start_open && !matches!(line, Ok(Some(_))) {
            request_line::check_start(rest)?;
        }
        let Some(line) = line? else { return Ok(Step::Wait) };
        if line.is_empty() {
            self.blank_lines += 1;
            return if self.blank_lines > BLANK_LINES_MAX { Err(Kind::BadHttp) } else { Ok(Step::Next) };
        }
        if request_line::parse(line)?.minor > 0 {
            self.seen.add(Seen::MINOR_1);
        }
        self.phase = Phase::Fields;
        Ok(Step::Next)
    }

    fn field(&mut self, input: &[u8], limits: &HttpLimits) -> Result<Step, Kind> {
        let len_max = head_bytes_max(limits).saturating_sub(self.at);
        let Some(line) = self.line(input, len_max, Kind::HeadTooLarge)? else { return Ok(Step::Wait) };
        if line.is_empty() {
            return self.end_head(limits);
        }
        self.count_field()?;
        let (name, value) = field::split(line)?;
        match Known::find(name) {
            Some(Known::Host) => self.host(trim(value))?,
            Some(Known::Expect) => self.expect(trim(value)),
            Some(Known::ContentLength) => self.content_length(trim(value))?,
            Some(Known::TransferEncoding) => self.transfer_encoding(trim(value))?,
            _ => {}
        }
        Ok(Step::Next)
    }

    fn count_field(&mut self) -> Result<(), Kind> {
        self.fields += 1;
        if usize::from(self.fields) > HEADERS_MAX { Err(Kind::HeadTooLarge) } else { Ok(()) }
    }

    fn host(&mut self, value: &[u8]) -> Result<(), Kind> {
        if self.seen.has(Seen::HOST) || !is_host(value) {
            return Err(Kind::BadHttp);
        }
        self.seen.add(Seen::HOST);
        Ok(())
    }

    /// HTTP/1.0 knows no expectations: they are ignored there (RFC 9110 section 10.1.1).
    fn expect(&mut self, value: &[u8]) {
        if self.seen.has(Seen::MINOR_1) {
            self.seen.add(if value.eq_ignore_ascii_case(b"100-continue") { Seen::EXPECT_CONTINUE } else { Seen::EXPECT_OTHER });
        }
    }

    fn content_length(&mut self, value: &[u8]) -> Result<(), Kind> {
        if self.seen.has(Seen::LENGTH) {
            return Err(Kind::BadHttp);
        }
        self.seen.add(Seen::LENGTH);
        self.body = content_length(value)?;
        Ok(())
    }

    /// A coding that is only unknown is reported when the head is complete: what makes the framing ambiguous comes first.
    fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), Kind> {
        if self.seen.has(Seen::CHUNKED | Seen::OTHER_CODING) || !self.seen.has(Seen::MINOR_1) {
            return Err(Kind::BadHttp);
        }
        match transfer_encoding(value) {
            Ok(()) => self.seen.add(Seen::CHUNKED),
            Err(Kind::UnknownCoding) => self.seen.add(Seen::OTHER_CODING),
            Err(kind) => return Err(kind),
        }
        Ok(())
    }

    fn end_head(&mut self, limits: &HttpLimits) -> Result<Step, Kind> {
        let seen = self.seen;
        let has_two_lengths = seen.has(Seen::LENGTH) && seen.has(Seen::CHUNKED | Seen::OTHER_CODING);
        if has_two_lengths || (seen.has(Seen::MINOR_1) && !seen.has(Seen::HOST)) {
            return Err(Kind::BadHttp);
        }
        if seen.has(Seen::OTHER_CODING) {
            return Err(Kind::UnknownCoding);
        }
        if self.body > limits.body_bytes_max {
            return Err(Kind::BodyTooLarge);
        }
        if seen.has(Seen::EXPECT_OTHER) {
            return Err(Kind::BadExpectation);
        }
        self.head_len = u32::try_from(self.at).map_err(|_| Kind::HeadTooLarge)?;
        self.phase = if seen.has(Seen::CHUNKED) { Phase::ChunkLine } else { Phase::Length };
        Ok(Step::Next)
    }

    fn length_frame(&self, input: &[u8]) -> Option<Frame> {
        let head_len = self.head_len as usize;
        let body = if self.seen.has(Seen::LENGTH) { BodyFrame::Length(self.body) } else { BodyFrame::None };
        let consumed = head_len.checked_add(self.body)?;
        (input.len() >= consumed).then_some(Frame { head_len, body, consumed })
    }

    fn chunk_line(&mut self, input: &[u8], limits: &HttpLimits) -> Result<Step, Kind> {
        let Some(line) = self.line(input, chunked::LINE_BYTES_MAX + 2, Kind::BadHttp)? else { return Ok(Step::Wait) };
        let size = chunked::size(line)?;
        if size == 0 {
            self.phase = Phase::Trailers;
            return Ok(Step::Next);
        }
        let body = self.body.checked_add(size).filter(|&body| body <= limits.body_bytes_max).ok_or(Kind::BodyTooLarge)?;
        let framing_len = self.at.saturating_sub(self.head_len as usize).saturating_sub(self.body);
        if framing_len > limits.body_bytes_max.saturating_add(CHUNK_FRAMING_BYTES_MAX) {
            return Err(Kind::BodyTooLarge);
        }
        self.body = body;
        self.at = self.at.checked_add(size).ok_or(Kind::BodyTooLarge)?;
        self.phase = Phase::ChunkData;
        Ok(Step::Next)
    }

    fn chunk_data(&mut self, input: &[u8]) -> Result<Step, Kind> {
        match input.get(self.at..).unwrap_or_default() {
            [] | [b'\r'] => Ok(Step::Wait),
            [b'\r', b'\n', ..] => {
                self.at += 2;
                self.phase = Phase::ChunkLine;
                Ok(Step::Next)
            }
            _ => Err(Kind::BadHttp),
        }
    }

    /// Trailer fields are held to the syntax and the limits of header fields, and dropped.
    fn trailer(&mut self, input: &[u8], limits: &HttpLimits) -> Result<Step, Kind> {
        let begin = self.at;
        let len_max = head_bytes_max(limits).saturating_sub(self.trailers_len as usize);
        let Some(line) = self.line(input, len_max, Kind::HeadTooLarge)? else { return Ok(Step::Wait) };
        if line.is_empty() {
            return Ok(Step::Whole(Frame { head_len: self.head_len as usize, body: BodyFrame::Chunked, consumed: self.at }));
        }
        self.count_field()?;
        field::split(line)?;
        let line_len = u32::try_from(self.at - begin).map_err(|_| Kind::HeadTooLarge)?;
        self.trailers_len = self.trailers_len.saturating_add(line_len);
        Ok(Step::Next)
    }

    /// Takes the next line, without its CRLF. Every control byte but HTAB is refused where it stands, CR and LF too unless they stand
    /// together; so is, as `too_long`, a line that does not end within `len_max` bytes.
    fn line<'i>(&mut self, input: &'i [u8], len_max: usize, too_long: Kind) -> Result<Option<&'i [u8]>, Kind> {
        let rest = input.get(self.at..).unwrap_or_default();
        let rest = rest.get(..len_max).unwrap_or(rest);
        let mut searched = self.searched as usize;
        while let Some(found) = field::find_control(rest.get(searched..).unwrap_or_default()) {
            searched += found;
            match rest.get(searched..).unwrap_or_default() {
                [b'\t', ..] => searched += 1,
                [b'\r', b'\n', ..] => {
                    self.at += searched + 2;
                    self.searched = 0;
                    return Ok(rest.get(..searched));
                }
                [b'\r'] => return self.unended(searched, rest.len() >= len_max, too_long),
                _ => return Err(Kind::BadHttp),
            }
        }
        self.unended(rest.len(), rest.len() >= len_max, too_long)
    }

    fn unended<'i>(&mut self, searched: usize, is_too_long: bool, too_long: Kind) -> Result<Option<&'i [u8]>, Kind> {
        self.searched = u32::try_from(searched).map_err(|_| too_long)?;
        if is_too_long { Err(too_long) } else { Ok(None) }
    }
}

enum Step {
    /// The next line, or the rest of the body, is not there yet.
    Wait,
    /// Go on in the phase that is set now.
    Next,
    Whole(Frame),
}

fn head_bytes_max(limits: &HttpLimits) -> usize {
    limits.head_bytes_max.min(u32::MAX as usize)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

    use super::*;

    const LIMITS: HttpLimits = HttpLimits { head_bytes_max: 1024, body_bytes_max: 64 };
    const POST: &str = "POST /mcp HTTP/1.1\r\nHost: h\r\n";

    #[test]
    fn a_client_that_waits_is_told_once_to_go_on() {
        let limits = &LIMITS;
        let head = format!("{POST}Expect: 100-Continue\r\nContent-Length: 2\r\n\r\n");
        let mut framer = Framer::default();
        let more = |expect_continue, in_body| Framed::More { expect_continue, in_body };
        assert_eq!(framer.next(&head.as_bytes()[..head.len() - 1], limits), more(false, false));
        assert_eq!(framer.next(head.as_bytes(), limits), more(true, true));
        assert_eq!(framer.next(head.as_bytes(), limits), more(false, true));
        assert_eq!(framer.next(format!("{head}a").as_bytes(), limits), more(false, true));
        assert!(matches!(framer.next(format!("{head}ab").as_bytes(), limits), Framed::Whole(_)));
        assert_eq!(framer.next(format!("{head}a").as_bytes(), limits), more(false, true), "the body has begun");
        let chunked = format!("{POST}Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert_eq!(Framer::default().next(chunked.as_bytes(), limits), more(true, true));
        let bodiless = format!("{POST}Expect: 100-continue\r\n\r\n");
        assert!(matches!(Framer::default().next(bodiless.as_bytes(), limits), Framed::Whole(_)));
        let older = "POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n";
        assert_eq!(Framer::default().next(older.as_bytes(), limits), more(false, true));
        let large = format!("{POST}Expect: 100-continue\r\nContent-Length: 65\r\n\r\n");
        assert_eq!(Framer::default().next(large.as_bytes(), limits), Framed::Reject(Kind::BodyTooLarge));
    }
}
