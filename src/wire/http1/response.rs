//! Responses as a client reads them (RFC 9112), taken off the stream as their bytes arrive. A head is bounded and kept only while it is
//! partial; a body is passed on in the pieces it came in, never gathered. What another recipient could read differently is refused.
//!
//! The requests they answer are never HEAD or CONNECT, whose responses would be delimited otherwise.

#[cfg(test)]
mod tests;

use std::fmt;

use super::accept::Media;
use super::chunked;
use super::field::{self, content_length, transfer_encoding, trim};
use super::known::Known;
use super::view::{Field, FieldList, Headers, keep_alive};
use crate::base::fault::Kind;
use crate::base::limits::{HEAD_BYTES_MAX, HEADERS_MAX, INTERIM_RESPONSES_MAX};

/// Why a response cannot be read further. The connection is of no use any more: the bytes that follow have no certain meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Broken {
    /// It is no HTTP/1 response.
    Syntax,
    /// It is of another version of HTTP.
    Version,
    /// Its head, or its trailers, are longer than [`HEAD_BYTES_MAX`] or have more than [`HEADERS_MAX`] fields.
    HeadTooLarge,
    /// How long its body is can be read in more than one way (RFC 9112 section 6.3).
    Framing,
    /// Its transfer coding is not known here.
    Coding,
    /// It changes the protocol (101), which was not asked for.
    Upgrade,
    /// More interim responses (1xx) came before it than [`INTERIM_RESPONSES_MAX`].
    TooManyInterim,
    /// The peer ended in its midst.
    Truncated,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Syntax => "what it sent is no HTTP/1.1 response",
            Self::Version => "it answered in another version of HTTP",
            Self::HeadTooLarge => "the head of its response is too large",
            Self::Framing => "the length of its response is ambiguous",
            Self::Coding => "the transfer coding of its response is unknown",
            Self::Upgrade => "it changed the protocol without being asked",
            Self::TooManyInterim => "it sent too many interim responses",
            Self::Truncated => "it ended in the midst of its response",
        })
    }
}

impl std::error::Error for Broken {}

impl From<Kind> for Broken {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::HeadTooLarge => Self::HeadTooLarge,
            Kind::UnknownCoding => Self::Coding,
            _ => Self::Syntax,
        }
    }
}

/// What the next bytes of the stream are.
#[derive(Debug)]
pub enum Part<'r, 'i> {
    /// The head of the final response. Interim ones are not shown.
    Head(ResponseHead<'r>),
    /// Some of the body's data, never empty. Where one part ends and the next begins has no meaning.
    Data(&'i [u8]),
    /// The response is whole.
    End,
}

/// The head of a response.
#[derive(Clone, Copy, Debug)]
pub struct ResponseHead<'r> {
    /// Status code, 200 to 999.
    pub status: u16,
    /// What the body is, if it is one of the two that answer MCP, and not encoded (Content-Encoding).
    pub media: Option<Media>,
    /// The header fields.
    pub headers: Headers<'r>,
}

impl<'r> ResponseHead<'r> {
    /// Mcp-Session-Id, if it came once and is one: visible ASCII (MCP 2025-11-25, Transports, Session Management).
    #[must_use]
    pub fn session_id(&self) -> Option<&'r [u8]> {
        if self.headers.repeated(Known::SessionId) {
            return None;
        }
        self.headers.get(Known::SessionId).filter(|id| !id.is_empty() && id.iter().all(u8::is_ascii_graphic))
    }

    /// Retry-After, seconds (RFC 9110 section 10.2.3). `None` when it is a date, too: the wire has no clock.
    #[must_use]
    pub fn retry_after_s(&self) -> Option<u64> {
        let value = self.headers.get(Known::RetryAfter).filter(|value| !value.is_empty())?;
        value.iter().try_fold(0_u64, |total, digit| {
            let digit = Some(digit.wrapping_sub(b'0')).filter(|digit| *digit <= 9)?;
            Some(total.saturating_mul(10).saturating_add(u64::from(digit)))
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// At a status line, or within the head it begins.
    Head,
    /// In a body of known length: so much is left.
    Length(usize),
    /// In a body that ends with the connection.
    UntilClose,
    ChunkLine,
    /// In a chunk: so much of its data is left.
    ChunkData(usize),
    /// At the CRLF behind a chunk's data.
    ChunkEnd,
    Trailers,
    /// Whole, which is still to be said.
    Whole,
    /// For good.
    Broken(Broken),
}

/// Reads the responses of one connection, one behind another.
#[derive(Debug)]
pub struct ResponseReader {
    phase: Phase,
    scan: HeadScan,
    /// The head while it is partial, and until it was shown; in a chunked body, a line that is partial.
    held: Vec<u8>,
    /// How much of the body's line in work was searched for its end.
    searched: usize,
    trailers: u8,
    trailers_len: usize,
    interim: u8,
    /// What is held is a head that was shown.
    holds_shown: bool,
    keeps_alive: bool,
}

const _: () = assert!(HEADERS_MAX < u8::MAX as usize, "trailers are counted in eight bits");

impl Default for ResponseReader {
    fn default() -> Self {
        Self::new()
    }
}

impl ResponseReader {
    /// A reader for a fresh connection.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            phase: Phase::Head,
            scan: HeadScan::new(),
            held: Vec::new(),
            searched: 0,
            trailers: 0,
            trailers_len: 0,
            interim: 0,
            holds_shown: false,
            keeps_alive: true,
        }
    }

    /// Takes bytes off the front of `input` up to the next part; `None` when more are needed, and then all are taken. Call it until then,
    /// with no bytes left, too: the end of a response needs none.
    ///
    /// # Errors
    /// [`Broken`], now and on every later call.
    pub fn next<'r, 'i: 'r>(&'r mut self, input: &mut &'i [u8]) -> Result<Option<Part<'r, 'i>>, Broken> {
        loop {
            match self.step(input) {
                Ok(Step::Wait) => return Ok(None),
                Ok(Step::On) => {}
                Ok(Step::Head(head)) => return Ok(Some(Part::Head(self.scan.view(head.unwrap_or(&self.held))))),
                Ok(Step::Data(data)) => return Ok(Some(Part::Data(data))),
                Ok(Step::End) => return Ok(Some(Part::End)),
                Err(broken) => {
                    *self = Self { phase: Phase::Broken(broken), keeps_alive: false, ..Self::new() };
                    return Err(broken);
                }
            }
        }
    }

    /// The peer has ended and all it sent was taken. `Ok` between responses, and when the end is what makes the one in work whole: then
    /// [`Part::End`] is not given. Ask [`Self::is_idle`] before to know which. The reader is of no use afterwards.
    ///
    /// # Errors
    /// [`Broken::Truncated`] in the midst of a response, and what broke it when it was broken before.
    pub fn on_end(&mut self) -> Result<(), Broken> {
        let result = match self.phase {
            Phase::Broken(broken) => Err(broken),
            Phase::UntilClose | Phase::Whole => Ok(()),
            _ if self.is_idle() => Ok(()),
            _ => Err(Broken::Truncated),
        };
        self.phase = Phase::Broken(result.err().unwrap_or(Broken::Truncated));
        self.keeps_alive = false;
        result
    }

    /// Whether the connection may carry another request when the response in work (or else the last one) is whole (RFC 9112 section 9.3).
    #[must_use]
    pub const fn keeps_alive(&self) -> bool {
        self.keeps_alive
    }

    /// How much of the body is to come, bytes, when that was said beforehand (Content-Length).
    #[must_use]
    pub const fn body_left(&self) -> Option<usize> {
        match self.phase {
            Phase::Length(left) => Some(left),
            _ => None,
        }
    }

    /// Whether it is between responses: not a byte of the next one has come.
    #[must_use]
    pub const fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Head) && self.scan.is_at_start() && self.held.is_empty() && self.interim == 0
    }

    /// One step per line, so that what is found depends on the bytes and never on where deliveries were cut.
    fn step<'i>(&mut self, input: &mut &'i [u8]) -> Result<Step<'i>, Broken> {
        if std::mem::take(&mut self.holds_shown) {
            self.let_go();
        }
        match self.phase {
            Phase::Head => self.head(input),
            Phase::Length(left) => Ok(self.data(input, left, Phase::Whole, Phase::Length)),
            Phase::ChunkData(left) => Ok(self.data(input, left, Phase::ChunkEnd, Phase::ChunkData)),
            Phase::UntilClose => Ok(match std::mem::take(input) {
                [] => Step::Wait,
                data => Step::Data(data),
            }),
            Phase::ChunkLine => self.chunk_line(input),
            Phase::ChunkEnd => self.chunk_end(input),
            Phase::Trailers => self.trailer(input),
            Phase::Whole => {
                self.begin();
                Ok(Step::End)
            }
            Phase::Broken(broken) => Err(broken),
        }
    }

    /// Ready for the next response.
    fn begin(&mut self) {
        self.phase = Phase::Head;
        self.scan = HeadScan::new();
        self.let_go();
        (self.trailers, self.trailers_len, self.interim) = (0, 0, 0);
    }

    /// Empties what is held, and gives its memory back when that grew large.
    fn let_go(&mut self) {
        self.held.clear();
        self.searched = 0;
        self.held.shrink_to(HELD_BYTES_KEPT);
    }

    fn head<'i>(&mut self, input: &mut &'i [u8]) -> Result<Step<'i>, Broken> {
        if self.held.is_empty() {
            // Most heads come whole and are read where they are.
            if let Some(len) = self.scan.take(input)? {
                let (head, rest) = input.split_at_checked(len).unwrap_or((input, &[]));
                *input = rest;
                return self.end_head(Some(head));
            }
            self.held.extend_from_slice(std::mem::take(input));
            return Ok(Step::Wait);
        }
        let (known, part_len) = (self.held.len(), input.len().min(HEAD_BYTES_MAX.saturating_sub(self.held.len())));
        let (part, rest) = input.split_at_checked(part_len).unwrap_or((input, &[]));
        self.held.extend_from_slice(part);
        let Some(len) = self.scan.take(&self.held)? else {
            *input = rest;
            return Ok(Step::Wait);
        };
        *input = input.get(len.saturating_sub(known)..).unwrap_or_default();
        self.held.truncate(len);
        self.end_head(None)
    }

    /// How the body is delimited, in the order of RFC 9112 section 6.3. `head` is where the head is unless it is held.
    fn end_head<'i>(&mut self, head: Option<&'i [u8]>) -> Result<Step<'i>, Broken> {
        let (status, minor) = (self.scan.status, self.scan.minor);
        let headers = self.scan.headers(head.unwrap_or(&self.held));
        if status == 101 {
            return Err(Broken::Upgrade);
        }
        let coding = headers.get(Known::TransferEncoding);
        let is_coded = coding.is_some();
        let has_two = headers.repeated(Known::ContentLength) || headers.repeated(Known::TransferEncoding);
        let length = headers.get(Known::ContentLength).map(content_length).transpose().map_err(|_| Broken::Framing)?;
        if has_two || (is_coded && (length.is_some() || minor == 0)) {
            return Err(Broken::Framing);
        }
        if let Some(coding) = coding {
            transfer_encoding(coding).map_err(|_| Broken::Coding)?;
        }
        self.keeps_alive = keep_alive(&headers, minor);
        if status < 200 {
            self.interim = self.interim.saturating_add(1);
            if self.interim > INTERIM_RESPONSES_MAX {
                return Err(Broken::TooManyInterim);
            }
            self.scan = HeadScan::new();
            self.let_go();
            return Ok(Step::On);
        }
        self.phase = match (status, length) {
            (204 | 304, _) => {
                // It has no content whatever it says; a peer that says otherwise may send some.
                self.keeps_alive &= !is_coded && (status == 304 || length.unwrap_or_default() == 0);
                Phase::Whole
            }
            _ if is_coded => Phase::ChunkLine,
            (_, Some(0)) => Phase::Whole,
            (_, Some(length)) => Phase::Length(length),
            (_, None) => {
                self.keeps_alive = false;
                Phase::UntilClose
            }
        };
        self.holds_shown = head.is_none();
        Ok(Step::Head(head))
    }

    /// Data of which `left` bytes are to come; behind them `after` begins.
    fn data<'i>(&mut self, input: &mut &'i [u8], left: usize, after: Phase, on: fn(usize) -> Phase) -> Step<'i> {
        let (data, rest) = input.split_at_checked(left).unwrap_or((input, &[]));
        if data.is_empty() {
            return Step::Wait;
        }
        *input = rest;
        self.phase = if data.len() == left { after } else { on(left - data.len()) };
        Step::Data(data)
    }

    fn chunk_line<'i>(&mut self, input: &mut &'i [u8]) -> Result<Step<'i>, Broken> {
        let size = |line: &[u8]| chunked::size(line).map_err(Broken::from);
        let Some(size) = self.line(input, chunked::LINE_BYTES_MAX + 2, Broken::Syntax, size)? else { return Ok(Step::Wait) };
        self.phase = if size == 0 { Phase::Trailers } else { Phase::ChunkData(size) };
        Ok(Step::On)
    }

    fn chunk_end<'i>(&mut self, input: &mut &'i [u8]) -> Result<Step<'i>, Broken> {
        let Some(()) = self.line(input, 2, Broken::Syntax, |_| Ok(()))? else { return Ok(Step::Wait) };
        self.phase = Phase::ChunkLine;
        Ok(Step::On)
    }

    /// Trailer fields are held to the syntax and the limits of header fields, and dropped.
    fn trailer<'i>(&mut self, input: &mut &'i [u8]) -> Result<Step<'i>, Broken> {
        let len_max = HEAD_BYTES_MAX.saturating_sub(self.trailers_len);
        let checked = |line: &[u8]| if line.is_empty() { Ok(0) } else { field::split(line).map(|_| line.len() + 2).map_err(Broken::from) };
        let Some(len) = self.line(input, len_max, Broken::HeadTooLarge, checked)? else { return Ok(Step::Wait) };
        self.trailers += 1;
        self.trailers_len += len;
        if len == 0 {
            self.phase = Phase::Whole;
        } else if usize::from(self.trailers) > HEADERS_MAX {
            return Err(Broken::HeadTooLarge);
        }
        Ok(Step::On)
    }

    /// Takes a body's next line and reads it without its CRLF; `None`, and the part that came is held, when it has not ended. One that does
    /// not end within `len_max` bytes is `too_long`.
    fn line<T>(
        &mut self,
        input: &mut &[u8],
        len_max: usize,
        too_long: Broken,
        read: impl FnOnce(&[u8]) -> Result<T, Broken>,
    ) -> Result<Option<T>, Broken> {
        let known = self.held.len();
        let bytes = if known == 0 {
            *input
        } else {
            self.held.extend_from_slice(input.get(..len_max.saturating_sub(known)).unwrap_or(input));
            &self.held
        };
        if let Some(len) = find_line(bytes, &mut self.searched, len_max, too_long)? {
            let value = read(bytes.get(..len).unwrap_or_default())?;
            *input = input.get((len + 2).saturating_sub(known)..).unwrap_or_default();
            self.let_go();
            return Ok(Some(value));
        }
        if known == 0 {
            self.held.extend_from_slice(input);
        }
        *input = &[];
        Ok(None)
    }
}

/// Memory that an idle reader keeps for the next head or line that comes in pieces, bytes.
const HELD_BYTES_KEPT: usize = 2 * 1024;

enum Step<'i> {
    Wait,
    On,
    /// The head: where it is in the input, unless it is held.
    Head(Option<&'i [u8]>),
    Data(&'i [u8]),
    End,
}

/// The head in work.
#[derive(Debug)]
struct HeadScan {
    /// Where the line in work begins.
    at: usize,
    /// How much of that line was searched for its end.
    searched: usize,
    /// 0 before the status line was read.
    status: u16,
    minor: u8,
    fields: FieldList,
    notes: Headers<'static>,
}

impl HeadScan {
    const fn new() -> Self {
        Self { at: 0, searched: 0, status: 0, minor: 0, fields: FieldList::new_const(), notes: Headers::empty() }
    }

    const fn is_at_start(&self) -> bool {
        self.at == 0 && self.searched == 0
    }

    /// Reads on in a head that begins where `bytes` begin, to its length when it is whole.
    fn take(&mut self, bytes: &[u8]) -> Result<Option<usize>, Broken> {
        loop {
            let rest = bytes.get(self.at..).unwrap_or_default();
            if self.status == 0 {
                check_start(rest)?;
            }
            let len_max = HEAD_BYTES_MAX.saturating_sub(self.at);
            let Some(len) = find_line(rest, &mut self.searched, len_max, Broken::HeadTooLarge)? else { return Ok(None) };
            let line = rest.get(..len).unwrap_or_default();
            self.at += len + 2;
            if self.status == 0 {
                (self.status, self.minor) = status_line(line)?;
            } else if line.is_empty() {
                return Ok(Some(self.at));
            } else {
                let (name, value) = field::split(line)?;
                self.notes.place(self.fields.len(), name);
                let field = Field::of(bytes, name, trim(value)).ok_or(Broken::HeadTooLarge)?;
                self.fields.try_push(field).map_err(|_| Broken::HeadTooLarge)?;
            }
        }
    }

    /// The fields of the head, whose text is `head`.
    fn headers<'r>(&'r self, head: &'r [u8]) -> Headers<'r> {
        self.notes.over(head, &self.fields)
    }

    fn view<'r>(&'r self, head: &'r [u8]) -> ResponseHead<'r> {
        let headers = self.headers(head);
        let is_plain = headers.values(Known::ContentEncoding).all(|coding| coding.eq_ignore_ascii_case(b"identity"));
        let is_one = !headers.repeated(Known::ContentType);
        let media = headers.get(Known::ContentType).filter(|_| is_plain && is_one).and_then(Media::of_content_type);
        ResponseHead { status: self.status, media, headers }
    }
}

/// Looks for the end of the line at the start of `bytes`: how long it is without its CRLF, if that is there. The rules are those of requests:
/// every control byte but HTAB is refused where it stands, CR and LF too unless they stand together.
fn find_line(bytes: &[u8], searched: &mut usize, len_max: usize, too_long: Broken) -> Result<Option<usize>, Broken> {
    let within = bytes.get(..len_max).unwrap_or(bytes);
    let is_full = within.len() >= len_max;
    while let Some(found) = field::find_control(within.get(*searched..).unwrap_or_default()) {
        *searched += found;
        match within.get(*searched..).unwrap_or_default() {
            [b'\t', ..] => *searched += 1,
            [b'\r', b'\n', ..] => return Ok(Some(std::mem::take(searched))),
            [b'\r'] if is_full => return Err(too_long),
            [b'\r'] => return Ok(None),
            _ => return Err(Broken::Syntax),
        }
    }
    *searched = within.len();
    if is_full { Err(too_long) } else { Ok(None) }
}

const PROTOCOL: &[u8] = b"HTTP/";

/// Refuses first bytes that cannot begin a status line before the line ends, if it ever does.
fn check_start(bytes: &[u8]) -> Result<(), Broken> {
    let is_begun = PROTOCOL.iter().zip(bytes).all(|(expected, byte)| expected == byte);
    if is_begun { Ok(()) } else { Err(Broken::Syntax) }
}

/// Status code and minor version (RFC 9112 section 4). The reason may be missing, with the space before it.
fn status_line(line: &[u8]) -> Result<(u16, u8), Broken> {
    let (minor, rest) = match line.strip_prefix(PROTOCOL).unwrap_or_default() {
        [b'1', b'.', b'1', b' ', rest @ ..] => (1, rest),
        [b'1', b'.', b'0', b' ', rest @ ..] => (0, rest),
        [b'0'..=b'9', b'.', b'0'..=b'9', b' ', ..] | [b'2'..=b'9', b' ', ..] => return Err(Broken::Version),
        _ => return Err(Broken::Syntax),
    };
    match rest {
        [hundreds @ b'1'..=b'9', tens @ b'0'..=b'9', ones @ b'0'..=b'9']
        | [hundreds @ b'1'..=b'9', tens @ b'0'..=b'9', ones @ b'0'..=b'9', b' ', ..] => {
            let digit = |byte: &u8| u16::from(byte.wrapping_sub(b'0'));
            Ok((digit(hundreds) * 100 + digit(tens) * 10 + digit(ones), minor))
        }
        _ => Err(Broken::Syntax),
    }
}
