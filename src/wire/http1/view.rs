//! A whole request as slices of the input.

use std::mem::MaybeUninit;
use std::ops::Range;

use arrayvec::ArrayVec;

use super::accept::{Media, Preference, accepts};
use super::chunked;
use super::field::{elements, trim};
use super::frame::{BodyFrame, Frame};
use super::known::Known;
use super::request_line::{Method, Target};
use crate::base::fault::Kind;
use crate::base::limits::{HEAD_BYTES_MAX, HEADERS_MAX};

/// Marks a known field that did not come.
const ABSENT: u8 = u8::MAX;

const _: () = assert!(HEADERS_MAX <= ABSENT as usize, "a field's place is eight bits");

/// Room for the header fields of one request, on the caller's stack. It costs nothing to make.
#[derive(Debug)]
pub struct HeaderSlots {
    pub(super) fields: FieldList,
}

/// Where the fields of one head are.
pub(super) type FieldList = ArrayVec<Field, HEADERS_MAX>;

/// Where in its head one header field is: places, not slices, so that they are good for every head of the same text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    /// A token, as sent.
    name: Span,
    /// Without the white space around it.
    value: Span,
}

/// Part of a head.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: u16,
    len: u16,
}

const _: () = assert!(HEAD_BYTES_MAX <= u16::MAX as usize, "a place in a head is sixteen bits");

impl Span {
    /// Where `part` lies in `head`. None when it lies elsewhere, or too far behind.
    fn of(head: &[u8], part: &[u8]) -> Option<Self> {
        let start = (part.as_ptr() as usize).checked_sub(head.as_ptr() as usize)?;
        if start + part.len() > head.len() {
            return None;
        }
        Some(Self { start: u16::try_from(start).ok()?, len: u16::try_from(part.len()).ok()? })
    }

    fn range(self) -> Range<usize> {
        let start = usize::from(self.start);
        start..start + usize::from(self.len)
    }
}

impl Field {
    /// The field with this name and this value, both parts of `head`.
    pub fn of(head: &[u8], name: &[u8], value: &[u8]) -> Option<Self> {
        Some(Self { name: Span::of(head, name)?, value: Span::of(head, value)? })
    }

    fn name(self, head: &[u8]) -> &[u8] {
        head.get(self.name.range()).unwrap_or_default()
    }

    fn value(self, head: &[u8]) -> &[u8] {
        head.get(self.value.range()).unwrap_or_default()
    }

    /// Where its value is.
    pub fn value_range(self) -> Range<usize> {
        self.value.range()
    }
}

impl HeaderSlots {
    /// Empty room.
    #[must_use]
    pub const fn new() -> Self {
        Self { fields: ArrayVec::new_const() }
    }
}

impl Default for HeaderSlots {
    fn default() -> Self {
        Self::new()
    }
}

/// One request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The method.
    pub method: Method,
    /// The method as it stands in the request.
    pub method_text: &'a str,
    /// The whole target as it stands in the request.
    pub target: &'a str,
    /// The target's path, as sent (not decoded): begins with `/`; `*` for `OPTIONS *`; empty for CONNECT.
    pub path: &'a str,
    /// What follows the first `?` of the target.
    pub query: Option<&'a str>,
    /// Minor version: 0 or 1.
    pub minor: u8,
    /// Whether the connection may live on after the answer (RFC 9112 section 9.3). A client of HTTP/1.0 must then be told with [`super::KEEP_ALIVE`].
    pub keep_alive: bool,
    /// The header fields.
    pub headers: Headers<'a>,
    /// The body, joined if it was chunked.
    pub body: &'a [u8],
}

/// The header fields of one request.
#[derive(Clone, Copy, Debug)]
pub struct Headers<'a> {
    /// What the fields are parts of.
    head: &'a [u8],
    fields: &'a [Field],
    places: [u8; Known::ALL.len()],
    repeated: u32,
    authority: Option<&'a [u8]>,
}

impl<'a> Headers<'a> {
    /// No fields yet.
    pub(super) const fn empty() -> Self {
        Self { head: &[], fields: &[], places: [ABSENT; Known::ALL.len()], repeated: 0, authority: None }
    }

    /// Notes that the field with this name is at `place`. Places are noted in order.
    pub(super) fn place(&mut self, place: usize, name: &[u8]) -> Option<Known> {
        let known = Known::find(name)?;
        match (self.places.get_mut(known as usize), u8::try_from(place)) {
            (Some(first @ &mut ABSENT), Ok(place)) => *first = place,
            _ => self.repeated |= 1 << known as u32,
        }
        Some(known)
    }

    /// Whether a field with this name was noted.
    pub(super) fn has(&self, name: Known) -> bool {
        self.places.get(name as usize).is_some_and(|&place| place != ABSENT)
    }

    /// Where the value of a field that was noted is.
    pub(super) fn value_range(&self, name: Known, fields: &[Field]) -> Option<Range<usize>> {
        let place = *self.places.get(name as usize)?;
        fields.get(usize::from(place)).map(|field| field.value_range())
    }

    /// What was noted, without the fields. Of a target in absolute form, which is no usual one, the authority is lost.
    pub(super) const fn notes(&self) -> Headers<'static> {
        Headers { head: &[], fields: &[], places: self.places, repeated: self.repeated, authority: None }
    }

    /// These notes with the fields they are about, and the head that has them.
    pub(super) const fn over<'b>(self, head: &'b [u8], fields: &'b [Field]) -> Headers<'b>
    where
        'a: 'b,
    {
        Headers { head, fields, places: self.places, repeated: self.repeated, authority: self.authority }
    }

    /// The field's value without the white space around it; the first one when the field came more than once. Constant time.
    ///
    /// Of a target in absolute form, the authority is given as [`Known::Host`], whatever the field says (RFC 9112 section 3.2.2).
    #[must_use]
    pub fn get(&self, name: Known) -> Option<&'a [u8]> {
        if name == Known::Host && self.authority.is_some() {
            return self.authority;
        }
        let place = *self.places.get(name as usize)?;
        self.fields.get(usize::from(place)).map(|field| field.value(self.head))
    }

    /// Whether the field came more than once.
    #[must_use]
    pub const fn repeated(&self, name: Known) -> bool {
        self.repeated & (1 << name as u32) != 0
    }

    /// All values of the field, in order. For lists, which may stand in several fields (RFC 9110 section 5.3).
    pub fn values(&self, name: Known) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let (head, fields) = (self.head, if self.repeated(name) { self.fields } else { &[] });
        let first = if self.repeated(name) { None } else { self.get(name) };
        let all = fields.iter().filter(move |field| Known::find(field.name(head)) == Some(name)).map(move |field| field.value(head));
        first.into_iter().chain(all)
    }

    /// Whether Accept, in all its fields, lets this media type answer. True without the field (RFC 9110 section 12.5.1).
    #[must_use]
    pub fn accepts(&self, media: Media) -> bool {
        if !self.repeated(Known::Accept) {
            return accepts(self.get(Known::Accept), media);
        }
        let mut preference = Preference::new(media);
        self.values(Known::Accept).for_each(|value| preference.read(value));
        preference.is_accepted()
    }

    /// Every field in order: name as sent, value without the white space around it.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        let head = self.head;
        // A token is ASCII.
        self.fields.iter().map(move |field| (str::from_utf8(field.name(head)).unwrap_or_default(), field.value(head)))
    }

    /// How many fields there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there is no field.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }
}

/// Views the request that [`super::Framer::next`] found whole in this input.
///
/// `dechunked` is cleared and receives a chunked body; it stays as it is for every other.
///
/// # Errors
/// The fault to answer with, and the connection must then close. After the framer's own checks none is to be expected.
pub fn view<'s, 'a: 's>(
    input: &'a [u8],
    frame: &Frame,
    slots: &'s mut HeaderSlots,
    dechunked: &'s mut Vec<u8>,
) -> Result<Request<'s>, Kind> {
    let (head, rest) = input.split_at_checked(frame.head_len).ok_or(Kind::BadHttp)?;
    let mut parsed = httparse::Request::new(&mut []);
    let mut room = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    match parsed.parse_with_uninit_headers(head, &mut room) {
        Ok(httparse::Status::Complete(len)) if len == head.len() => {}
        Err(httparse::Error::TooManyHeaders) => return Err(Kind::HeadTooLarge),
        Err(httparse::Error::Version) => return Err(Kind::HttpVersion),
        _ => return Err(Kind::BadHttp),
    }
    let (Some(method_text), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version) else { return Err(Kind::BadHttp) };
    let method = Method::parse(method_text.as_bytes());
    let Target { authority, path, query } = Target::split(method, target)?;
    let mut headers = Headers { authority: authority.map(str::as_bytes), ..Headers::empty() };
    for field in &*parsed.headers {
        headers.place(slots.fields.len(), field.name.as_bytes());
        let field = Field::of(head, field.name.as_bytes(), trim(field.value)).ok_or(Kind::HeadTooLarge)?;
        slots.fields.try_push(field).map_err(|_| Kind::HeadTooLarge)?;
    }
    let headers = headers.over(head, &slots.fields);
    let body = body(rest, frame, dechunked)?;
    Ok(Request { method, method_text, target, path, query, minor, keep_alive: keep_alive(&headers, minor), headers, body })
}

fn body<'a>(rest: &'a [u8], frame: &Frame, dechunked: &'a mut Vec<u8>) -> Result<&'a [u8], Kind> {
    match frame.body {
        BodyFrame::None => Ok(&[]),
        BodyFrame::Length(len) => rest.get(..len).ok_or(Kind::BadHttp),
        BodyFrame::Chunked => {
            let raw = rest.get(..frame.consumed.saturating_sub(frame.head_len)).ok_or(Kind::BadHttp)?;
            dechunked.clear();
            chunked::join(raw, dechunked)?;
            Ok(dechunked)
        }
    }
}

/// RFC 9112 section 9.3: `close` wins over everything; without a word HTTP/1.1 persists and HTTP/1.0 does not.
pub(super) fn keep_alive(headers: &Headers<'_>, minor: u8) -> bool {
    if headers.get(Known::Connection).is_none() {
        return minor > 0;
    }
    let mut persists = minor > 0;
    for option in headers.values(Known::Connection).flat_map(elements) {
        if option.eq_ignore_ascii_case(b"close") {
            return false;
        }
        persists |= option.eq_ignore_ascii_case(b"keep-alive");
    }
    persists
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

    use super::super::{Framed, Framer, HttpLimits};
    use super::*;

    const LIMITS: HttpLimits = HttpLimits { head_bytes_max: 4096, body_bytes_max: 4096 };

    fn with<R>(input: &str, check: impl FnOnce(&Request<'_>) -> R) -> R {
        let Framed::Whole(frame) = Framer::default().next(input.as_bytes(), &LIMITS) else { panic!("not whole: {input:?}") };
        assert_eq!(frame.consumed, input.len());
        let (mut slots, mut dechunked) = (HeaderSlots::new(), b"stale".to_vec());
        check(&view(input.as_bytes(), &frame, &mut slots, &mut dechunked).expect(input))
    }

    #[test]
    fn a_request_is_seen_whole() {
        let input =
            "\r\nPOST /mcp?x=1 HTTP/1.1\r\nhOST: h:1\r\nMcp-Session-Id:\t abc \t\r\nX-A:1\r\nx-a: 2\r\nContent-Length: 3\r\n\r\nxyz";
        with(input, |r| {
            assert_eq!((r.method, r.method_text, r.target, r.path, r.query), (Method::Post, "POST", "/mcp?x=1", "/mcp", Some("x=1")));
            assert_eq!((r.minor, r.keep_alive, r.body), (1, true, &b"xyz"[..]));
            assert_eq!(r.headers.get(Known::Host), Some(&b"h:1"[..]));
            assert_eq!(r.headers.get(Known::SessionId), Some(&b"abc"[..]));
            assert_eq!(r.headers.get(Known::Origin), None);
            let extra: Vec<_> = r.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("x-a")).map(|(_, value)| value).collect();
            assert_eq!(extra, [b"1", b"2"]);
            assert_eq!((r.headers.len(), r.headers.is_empty()), (5, false));
        });
    }

    #[test]
    fn a_chunked_body_is_joined() {
        with("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nab\r\n1\r\nc\r\n0\r\nT: v\r\n\r\n", |r| {
            assert_eq!(r.body, b"abc")
        });
    }

    #[test]
    fn repetition_is_known() {
        with("GET / HTTP/1.1\r\nHost: h\r\nAccept: a/b\r\naccept: c/d\r\nOrigin: o\r\n\r\n", |r| {
            assert!(r.headers.repeated(Known::Accept) && !r.headers.repeated(Known::Origin) && !r.headers.repeated(Known::Host));
            assert_eq!(r.headers.get(Known::Accept), Some(&b"a/b"[..]));
            assert_eq!(r.headers.values(Known::Accept).collect::<Vec<_>>(), [b"a/b", b"c/d"]);
            assert_eq!(r.headers.values(Known::Origin).collect::<Vec<_>>(), [b"o"]);
            assert_eq!(r.headers.values(Known::Expect).count(), 0);
        });
    }

    #[test]
    fn accept_may_stand_in_several_fields() {
        let head = |fields: &str| format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
        let both = |r: &Request<'_>| (r.headers.accepts(Media::Json), r.headers.accepts(Media::EventStream));
        assert_eq!(with(&head(""), both), (true, true));
        assert_eq!(with(&head("Accept: application/json\r\nAccept: text/event-stream\r\n"), both), (true, true));
        assert_eq!(with(&head("Accept: */*\r\nAccept: text/event-stream;q=0\r\n"), both), (true, false));
        assert_eq!(with(&head("Accept:\r\n"), both), (false, false));
    }

    #[test]
    fn the_connection_field_decides_on_persistence() {
        let cases = [
            ("1.1", "", true),
            ("1.0", "", false),
            ("1.1", "Connection: close\r\n", false),
            ("1.1", "Connection: Keep-Alive\r\n", true),
            ("1.0", "Connection: Keep-Alive\r\n", true),
            ("1.0", "Connection: keep-alive, close\r\n", false),
            ("1.1", "Connection: upgrade ,\tCLOSE\r\n", false),
            ("1.1", "Connection: upgrade\r\nConnection: close\r\n", false),
            ("1.0", "Connection: te,, keep-alive\r\n", true),
            ("1.1", "Connection: closed\r\n", true),
        ];
        for (version, field, expected) in cases {
            let input = format!("GET / HTTP/{version}\r\nHost: h\r\n{field}\r\n");
            assert_eq!(with(&input, |r| r.keep_alive), expected, "{input:?}");
        }
    }

    #[test]
    fn the_authority_of_an_absolute_target_is_the_host() {
        with("GET http://real:1/a?b HTTP/1.1\r\nHost: other\r\n\r\n", |r| {
            assert_eq!(r.headers.get(Known::Host), Some(&b"real:1"[..]));
            assert_eq!((r.target, r.path, r.query), ("http://real:1/a?b", "/a", Some("b")));
        });
        with("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", |r| assert_eq!((r.method, r.path), (Method::Options, "*")));
        with("CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n", |r| assert_eq!((r.method, r.path), (Method::Connect, "")));
        with("BREW /pot HTTP/1.1\r\nHost: h\r\n\r\n", |r| assert_eq!((r.method, r.method_text), (Method::Other, "BREW")));
    }

    #[test]
    fn a_frame_of_other_bytes_is_a_fault_and_no_panic() {
        let (mut slots, mut dechunked) = (HeaderSlots::new(), Vec::new());
        let frame = Frame { head_len: 10, body: BodyFrame::Length(usize::MAX), consumed: 0 };
        assert_eq!(view(b"GET", &frame, &mut slots, &mut dechunked).err(), Some(Kind::BadHttp));
        let head = b"GET / HTTP/1.1\r\n\r\n";
        for body in [BodyFrame::Length(usize::MAX), BodyFrame::Chunked] {
            let (mut slots, mut dechunked) = (HeaderSlots::new(), Vec::new());
            let frame = Frame { head_len: head.len(), body, consumed: head.len() };
            assert_eq!(view(head, &frame, &mut slots, &mut dechunked).err(), Some(Kind::BadHttp));
        }
    }
}
