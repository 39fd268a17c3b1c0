//! Finding a message in its bytes.

use super::recall::LastRequest;
use super::{Batch, Body, Id, Message, Meta, Notification, Params, Refusal, Request, Response};
use crate::base::fault::Kind;
use crate::base::limits::{BATCH_MESSAGES_MAX, JSON_DEPTH_MAX};
use crate::wire::json::{self, Malformed, Scanner, plain_key, utf8};
use crate::wire::mcp;
use crate::wire::mcp::meta_key;

/// Levels left for the values of an envelope's members, of the parameters, and of `_meta`.
pub(super) const ROOM_IN_ENVELOPE: usize = JSON_DEPTH_MAX - 1;
pub(super) const ROOM_IN_PARAMS: usize = JSON_DEPTH_MAX - 2;
pub(super) const ROOM_IN_META: usize = JSON_DEPTH_MAX - 3;

/// Finds the message, or the batch, in a body.
///
/// # Errors
/// The body is not JSON, or is no JSON-RPC message as MCP has them: `jsonrpc` is not `"2.0"`; the id is neither a string nor an integer;
/// the parameters are not an object (`null` passes for none); a member that is looked at here came twice; a batch is empty or longer
/// than [`BATCH_MESSAGES_MAX`].
pub fn parse(body: &[u8]) -> Result<Body<'_>, Refusal<'_>> {
    utf8(body).map_err(not_json)?;
    find(body)
}

/// The same as [`parse`], and quickest with a request that differs little from the last one of this connection, named by a number.
///
/// # Errors
/// As [`parse`].
#[inline]
pub fn parse_again<'a>(body: &'a [u8], last: &mut LastRequest, conn: u64) -> Result<Body<'a>, Refusal<'a>> {
    utf8(body).map_err(not_json)?;
    if let Some(request) = last.again(conn, body) {
        return Ok(Body::One(Message::Request(request)));
    }
    let found = find(body)?;
    if let Body::One(Message::Request(request)) = &found {
        last.keep(conn, body, request);
    }
    Ok(found)
}

/// Finds the message, or the batch, in UTF-8.
fn find(body: &[u8]) -> Result<Body<'_>, Refusal<'_>> {
    let mut scan = Scanner::new(body);
    match scan.next() {
        b'{' => {
            let mut envelope = Envelope::default();
            envelope.read(&mut scan).and_then(|()| scan.end()).map_err(not_json)?;
            envelope.message().map(Body::One)
        }
        b'[' => batch(&mut scan),
        _ => {
            scan.value(JSON_DEPTH_MAX).and_then(|()| scan.end()).map_err(not_json)?;
            Err(no_message(None, "the body is neither an object nor an array"))
        }
    }
}

/// The messages in a batch that [`parse`] found.
pub(super) fn elements(raw: &[u8]) -> impl Iterator<Item = Result<Message<'_>, Refusal<'_>>> {
    json::elements(raw).map(|element| {
        let mut scan = Scanner::new(element);
        if scan.next() != b'{' {
            return Err(no_message(None, "an element of the batch is not an object"));
        }
        let mut envelope = Envelope::default();
        envelope.read(&mut scan).map_err(not_json)?;
        envelope.message()
    })
}

fn batch<'a>(scan: &mut Scanner<'a>) -> Result<Body<'a>, Refusal<'a>> {
    let start = scan.at();
    let mut whole = scan.clone();
    whole.value(JSON_DEPTH_MAX).and_then(|()| whole.end()).map_err(not_json)?;
    let raw = whole.since(start);
    match json::elements(raw).take(BATCH_MESSAGES_MAX + 1).count() {
        0 => Err(no_message(None, "the batch is empty")),
        len if len > BATCH_MESSAGES_MAX => Err(no_message(None, "the batch holds too many messages")),
        len => Ok(Body::Batch(Batch { raw, len })),
    }
}

#[cold]
const fn not_json<'a>(malformed: Malformed) -> Refusal<'a> {
    Refusal { kind: Kind::Parse, id: None, why: malformed.why }
}

#[cold]
const fn no_message<'a>(id: Option<Id<'a>>, why: &'static str) -> Refusal<'a> {
    Refusal { kind: Kind::InvalidRequest, id, why }
}

/// Which members of one object have come.
#[derive(Default)]
struct Seen(u32);

impl Seen {
    /// Whether this is the first time that member `bit` comes.
    #[inline(always)]
    const fn first(&mut self, bit: u32) -> bool {
        let before = self.0;
        self.0 |= 1 << bit;
        before != self.0
    }
}

/// What is found of an envelope. Faults of the shape are kept until the whole body proves to be JSON: the code for what is not JSON
/// comes first.
#[derive(Default)]
struct Envelope<'a> {
    jsonrpc: Option<&'a [u8]>,
    id: Option<&'a [u8]>,
    method: Option<&'a [u8]>,
    result: Option<&'a [u8]>,
    error: Option<&'a [u8]>,
    params: Params<'a>,
    id_repeated: bool,
    fault: Option<&'static str>,
}

/// Passes a value; the value.
#[inline(always)]
fn raw_value<'a>(scan: &mut Scanner<'a>, room: usize) -> Result<&'a [u8], Malformed> {
    scan.next();
    let start = scan.at();
    scan.value(room)?;
    Ok(scan.since(start))
}

/// Passes the members of the object that the scan stands at; `member` passes each value.
#[inline(always)]
fn each_member<'a>(
    scan: &mut Scanner<'a>,
    mut member: impl FnMut(&mut Scanner<'a>, &[u8]) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    let mut space = [0; 64];
    let mut more = scan.open_object();
    while more {
        let (key, escaped) = scan.key()?;
        // One call, so that it is worth inlining.
        let key = if escaped { plain_key(key, &mut space) } else { key };
        member(scan, key)?;
        more = scan.more_members()?;
    }
    Ok(())
}

impl<'a> Envelope<'a> {
    #[inline]
    fn read(&mut self, scan: &mut Scanner<'a>) -> Result<(), Malformed> {
        let mut seen = Seen::default();
        each_member(scan, |scan, key| {
            let first = match key {
                b"jsonrpc" => {
                    self.jsonrpc = Some(raw_value(scan, ROOM_IN_ENVELOPE)?);
                    seen.first(0)
                }
                b"id" => {
                    self.id = Some(raw_value(scan, ROOM_IN_ENVELOPE)?);
                    let first = seen.first(1);
                    self.id_repeated |= !first;
                    first
                }
                b"method" => {
                    self.method = Some(raw_value(scan, ROOM_IN_ENVELOPE)?);
                    seen.first(2)
                }
                b"params" => {
                    self.read_params(scan)?;
                    seen.first(3)
                }
                b"result" => {
                    self.result = Some(raw_value(scan, ROOM_IN_ENVELOPE)?);
                    seen.first(4)
                }
                b"error" => {
                    self.error = Some(raw_value(scan, ROOM_IN_ENVELOPE)?);
                    seen.first(5)
                }
                _ => {
                    scan.value(ROOM_IN_ENVELOPE)?;
                    true
                }
            };
            if !first {
                self.refuse("a member of the message came twice");
            }
            Ok(())
        })
    }

    fn read_params(&mut self, scan: &mut Scanner<'a>) -> Result<(), Malformed> {
        if scan.next() != b'{' {
            if raw_value(scan, ROOM_IN_ENVELOPE)? != b"null" {
                self.refuse("the parameters are not an object");
            }
            return Ok(());
        }
        let start = scan.at();
        let mut seen = Seen::default();
        each_member(scan, |scan, key| {
            if key == b"_meta" {
                self.read_meta(scan)?;
            } else {
                self.params.put(key, raw_value(scan, ROOM_IN_PARAMS)?);
            }
            if param_bit(key).is_some_and(|bit| !seen.first(bit)) {
                self.refuse("a parameter came twice");
            }
            Ok(())
        })?;
        self.params.raw = Some(scan.since(start));
        Ok(())
    }

    fn read_meta(&mut self, scan: &mut Scanner<'a>) -> Result<(), Malformed> {
        if scan.next() != b'{' {
            self.params.meta.malformed |= raw_value(scan, ROOM_IN_PARAMS)? != b"null";
            return Ok(());
        }
        let start = scan.at();
        let mut seen = Seen::default();
        each_member(scan, |scan, key| {
            let raw = raw_value(scan, ROOM_IN_META)?;
            match self.params.meta.put(key, raw) {
                Some(bit) if !seen.first(bit) => self.refuse("a member of _meta came twice"),
                Some(META_PROGRESS) if Id::from_raw(raw).is_none() => {
                    self.refuse("the progress token is neither a string nor an integer of acceptable length");
                }
                _ => {}
            }
            Ok(())
        })?;
        self.params.meta.raw = Some(scan.since(start));
        self.params.meta.present = true;
        Ok(())
    }

    /// Notes a fault of the shape; the first one is told.
    #[cold]
    fn refuse(&mut self, why: &'static str) {
        self.fault.get_or_insert(why);
    }

    #[inline(always)]
    fn message(self) -> Result<Message<'a>, Refusal<'a>> {
        let id = self.id.and_then(Id::from_raw).filter(|_| !self.id_repeated);
        if let Some(why) = self.fault {
            return Err(no_message(id, why));
        }
        if !self.jsonrpc.is_some_and(|raw| raw == b"\"2.0\"" || json::key_is(raw, "2.0")) {
            return Err(no_message(id, "jsonrpc is not \"2.0\""));
        }
        let Some(method_raw) = self.method else { return self.response(id) };
        if self.result.is_some() || self.error.is_some() {
            return Err(no_message(id, "a message has a method and a result or error"));
        }
        let Some(method) = method_name(method_raw) else { return Err(no_message(id, "the method is not a string")) };
        match (self.id, id) {
            (None, _) => Ok(Message::Notification(Notification { method, method_raw, params: self.params })),
            (_, Some(id)) => Ok(Message::Request(Request { id, method, method_raw, params: self.params })),
            _ => Err(no_message(None, "the id is neither a string nor an integer of acceptable length")),
        }
    }

    fn response(self, id: Option<Id<'a>>) -> Result<Message<'a>, Refusal<'a>> {
        match (self.result, self.error) {
            (None, None) => return Err(no_message(id, "the message has no method, no result and no error")),
            (Some(_), Some(_)) => return Err(no_message(id, "the message has a result and an error")),
            (None, Some(error)) if !error.starts_with(b"{") => return Err(no_message(id, "the error is not an object")),
            _ => {}
        }
        let nameless = self.error.is_some() && matches!(self.id, None | Some(b"null"));
        if id.is_none() && !nameless {
            return Err(no_message(None, "the id is neither a string nor an integer of acceptable length"));
        }
        Ok(Message::Response(Response { id, result: self.result, error: self.error }))
    }
}

/// The method a raw string names; see [`Request::method`].
pub(super) fn method_name(raw: &[u8]) -> Option<&str> {
    // The usual ones spare their conversion.
    match raw {
        b"\"tools/call\"" => return Some("tools/call"),
        b"\"tools/list\"" => return Some("tools/list"),
        b"\"resources/read\"" => return Some("resources/read"),
        b"\"prompts/get\"" => return Some("prompts/get"),
        b"\"ping\"" => return Some("ping"),
        _ => {}
    }
    let inner = raw.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if memchr::memchr(b'\\', inner).is_some() {
        let mut space = [0; 64];
        let plain = std::str::from_utf8(plain_key(inner, &mut space)).ok()?;
        if let Some(name) = mcp::name_of(plain) {
            return Some(name);
        }
    }
    std::str::from_utf8(inner).ok()
}

/// The bit of `progressToken` among the members of `_meta`.
const META_PROGRESS: u32 = 0;

impl<'a> Meta<'a> {
    /// Keeps a member that is looked for; its bit.
    #[inline]
    fn put(&mut self, key: &[u8], raw: &'a [u8]) -> Option<u32> {
        if key == b"progressToken" {
            self.progress_token = Some(raw);
            return Some(META_PROGRESS);
        }
        let name = key.strip_prefix(meta_key::PREFIX.as_bytes())?;
        let (slot, bit) = match name {
            b"protocolVersion" => (&mut self.protocol_version, 1),
            b"clientCapabilities" => (&mut self.client_capabilities, 2),
            b"clientInfo" => (&mut self.client_info, 3),
            b"logLevel" => (&mut self.log_level, 4),
            _ => return None,
        };
        *slot = Some(raw);
        Some(bit)
    }
}

impl<'a> Params<'a> {
    /// Keeps a parameter that routing needs.
    #[inline]
    fn put(&mut self, key: &[u8], raw: &'a [u8]) {
        let slot = match key {
            b"name" => &mut self.name,
            b"uri" => &mut self.uri,
            b"arguments" => &mut self.arguments,
            b"cursor" => &mut self.cursor,
            b"requestState" => &mut self.request_state,
            b"inputResponses" => &mut self.input_responses,
            _ => return,
        };
        *slot = Some(raw);
    }
}

/// The bit of a parameter that some method of MCP reads: it may come only once.
#[inline]
fn param_bit(key: &[u8]) -> Option<u32> {
    Some(match key {
        b"name" => 0,
        b"arguments" => 1,
        b"_meta" => 2,
        b"uri" => 3,
        b"cursor" => 4,
        b"requestState" => 5,
        b"inputResponses" => 6,
        b"ref" => 7,
        b"argument" => 8,
        b"context" => 9,
        b"level" => 10,
        b"requestId" => 11,
        b"reason" => 12,
        b"protocolVersion" => 13,
        b"capabilities" => 14,
        b"clientInfo" => 15,
        b"taskId" => 16,
        b"task" => 17,
        b"notifications" => 18,
        b"progressToken" => 19,
        b"progress" => 20,
        b"total" => 21,
        b"message" => 22,
        _ => return None,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;
    use crate::base::limits::REQUEST_ID_BYTES_MAX;

    fn request(body: &str) -> Request<'_> {
        match parse(body.as_bytes()) {
            Ok(Body::One(Message::Request(request))) => request,
            other => panic!("{body}: {other:?}"),
        }
    }

    /// The kind, the echoed id and the words of a refusal.
    fn refusal(body: &str) -> (Kind, Option<&str>, &'static str) {
        let refusal = parse(body.as_bytes()).expect_err(body);
        (refusal.kind, refusal.id.map(|id| std::str::from_utf8(id.raw()).unwrap()), refusal.why)
    }

    #[test]
    fn a_request_is_found_whatever_the_order_of_its_members() {
        for body in [
            r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"a","arguments":{"x":[1]},"_meta":{"progressToken":"t"}}}"#,
            r#" {"params" : {"_meta":{"progressToken":"t"},"arguments":{"x":[1]},"name":"a"}, "method":"tools/call","id":7 ,"jsonrpc":"2.0"} "#,
            r#"{"\u006aso\u006erpc":"2\u002e0","i\u0064":7,"\u006dethod":"tools\/call","p\u0061rams":{"n\u0061me":"a","\u0061rguments":{"x":[1]},"\u005fmeta":{"progress\u0054oken":"t"}}}"#,
        ] {
            let request = request(body);
            assert_eq!(request.id, Id::Number(b"7"));
            assert_eq!(request.method, "tools/call");
            assert_eq!(request.params.name, Some(&b"\"a\""[..]));
            assert_eq!(request.params.arguments, Some(&b"{\"x\":[1]}"[..]));
            assert_eq!(request.params.meta.progress_token, Some(&b"\"t\""[..]));
            assert!(request.params.meta.present && request.params.raw.is_some());
        }
    }

    #[test]
    fn every_located_member_has_its_place() {
        let body = r#"{"jsonrpc":"2.0","id":"i","method":"x","params":{"name":1,"uri":2,"arguments":3,"cursor":4,"requestState":5,"inputResponses":6,"level":7,
            "_meta":{"io.modelcontextprotocol/protocolVersion":1,"io.modelcontextprotocol/clientCapabilities":2,"io.modelcontextprotocol/clientInfo":3,
            "io.modelcontextprotocol/logLevel":4,"traceparent":"00-x","io.modelcontextprotocol/other":6}}}"#;
        let request = request(body);
        let params = &request.params;
        let located = [params.name, params.uri, params.arguments, params.cursor, params.request_state, params.input_responses];
        assert_eq!(located.map(Option::unwrap), [b"1", b"2", b"3", b"4", b"5", b"6"]);
        let meta = params.meta;
        let located = [meta.protocol_version, meta.client_capabilities, meta.client_info, meta.log_level];
        assert_eq!(located.map(Option::unwrap), [b"1", b"2", b"3", b"4"]);
        assert_eq!(params.get("level"), Some(&b"7"[..]));
        assert_eq!(meta.get("traceparent"), Some(&b"\"00-x\""[..]));
        assert_eq!((params.get("nope"), meta.get("nope")), (None, None));
        assert!(meta.raw.unwrap().starts_with(b"{\"io.") && params.raw.unwrap().ends_with(b"}}"));
        assert_eq!((request.id, request.method, request.method_raw), (Id::String(b"\"i\""), "x", &b"\"x\""[..]));
    }

    #[test]
    fn messages_are_told_apart() {
        let message = |body: &'static str| match parse(body.as_bytes()) {
            Ok(Body::One(message)) => message,
            other => panic!("{body}: {other:?}"),
        };
        assert!(
            matches!(message(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#), Message::Notification(n) if n.params.raw.is_none())
        );
        assert!(
            matches!(message(r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":null}"#), Message::Request(r) if r.params.raw.is_none())
        );
        assert!(
            matches!(message(r#"{"jsonrpc":"2.0","id":"1","result":{"a":1}}"#), Message::Response(r) if r.result == Some(b"{\"a\":1}") && r.id.is_some())
        );
        assert!(
            matches!(message(r#"{"jsonrpc":"2.0","id":1,"error":{"code":1}}"#), Message::Response(r) if r.error == Some(b"{\"code\":1}"))
        );
        assert!(matches!(message(r#"{"jsonrpc":"2.0","id":null,"error":{}}"#), Message::Response(r) if r.id.is_none()));
        assert!(matches!(message(r#"{"jsonrpc":"2.0","error":{}}"#), Message::Response(r) if r.id.is_none()));
    }

    #[test]
    fn what_is_no_message_is_refused_with_its_id() {
        for (body, id) in [
            ("1", None),
            ("null", None),
            ("\"x\"", None),
            ("[]", None),
            ("{}", None),
            (r#"{"id":1,"method":"x"}"#, Some("1")),
            (r#"{"jsonrpc":"1.0","id":1,"method":"x"}"#, Some("1")),
            (r#"{"jsonrpc":2.0,"id":"a","method":"x"}"#, Some("\"a\"")),
            (r#"{"jsonrpc":"2.0","id":1}"#, Some("1")),
            (r#"{"jsonrpc":"2.0","id":1,"method":7}"#, Some("1")),
            (r#"{"jsonrpc":"2.0","id":null,"method":"x"}"#, None),
            (r#"{"jsonrpc":"2.0","id":1.0,"method":"x"}"#, None),
            (r#"{"jsonrpc":"2.0","id":1e3,"method":"x"}"#, None),
            (r#"{"jsonrpc":"2.0","id":{},"method":"x"}"#, None),
            (r#"{"jsonrpc":"2.0","id":true,"method":"x"}"#, None),
            (r#"{"jsonrpc":"2.0","id":1,"method":"x","params":[]}"#, Some("1")),
            (r#"{"jsonrpc":"2.0","id":1,"method":"x","params":"p"}"#, Some("1")),
            (r#"{"jsonrpc":"2.0","id":1,"method":"x","result":{}}"#, Some("1")),
            (r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{}}"#, Some("1")),
            (r#"{"jsonrpc":"2.0","id":1,"error":"e"}"#, Some("1")),
            (r#"{"jsonrpc":"2.0","result":{}}"#, None),
            (r#"{"jsonrpc":"2.0","id":null,"result":{}}"#, None),
            (r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{"_meta":{"progressToken":1.5}}}"#, Some("1")),
            (r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{"_meta":{"progressToken":{}}}}"#, Some("1")),
        ] {
            let (kind, echoed, why) = refusal(body);
            assert_eq!((kind, echoed), (Kind::InvalidRequest, id), "{body}");
            assert!(!why.is_empty());
        }
    }

    #[test]
    fn a_member_that_is_looked_at_comes_once() {
        for (body, id) in [
            (r#"{"jsonrpc":"2.0","id":1,"method":"x","method":"y"}"#, Some("1")),
            (r#"{"jsonrpc":"2.0","id":1,"method":"x","\u006dethod":"y"}"#, Some("1")),
            (r#"{"jsonrpc":"2.0","jsonrpc":"2.0","id":1,"method":"x"}"#, Some("1")),
            (r#"{"jsonrpc":"2.0","id":1,"id":1,"method":"x"}"#, None),
            (r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{},"params":{}}"#, Some("1")),
            (r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{"name":"a","name":"b"}}"#, Some("1")),
            (r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{"name":"a","n\u0061me":"b"}}"#, Some("1")),
            (r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{"requestId":1,"requestId":2}}"#, Some("1")),
            (r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{"_meta":{},"_meta":null}}"#, Some("1")),
            (r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{"_meta":{"progressToken":1,"progressToken":1}}}"#, Some("1")),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{"_meta":{"io.modelcontextprotocol/logLevel":1,"io.modelcontextprotocol\/logLevel":1}}}"#,
                Some("1"),
            ),
        ] {
            let (kind, echoed, why) = refusal(body);
            assert_eq!((kind, echoed), (Kind::InvalidRequest, id), "{body}");
            assert!(why.ends_with("twice"), "{why}");
        }
        request(r#"{"jsonrpc":"2.0","id":1,"method":"x","other":1,"other":2,"params":{"x":1,"x":2,"arguments":{"name":1,"name":2}}}"#);
    }

    #[test]
    fn what_is_not_json_comes_before_what_is_no_message() {
        for body in
            ["", " ", "{", r#"{"id":1"#, r#"{"jsonrpc":"1.0","id":1,"id":2,}"#, r#"{"jsonrpc":"2.0","id":1,"method":"x"}x"#, "[1,]", "tru"]
        {
            assert_eq!((refusal(body).0, refusal(body).1), (Kind::Parse, None), "{body}");
        }
        assert_eq!(parse(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\"}").unwrap_err().kind, Kind::Parse);
    }

    #[test]
    fn every_cut_of_a_message_is_not_json() {
        let body = r#"{"jsonrpc":"2.0","id":"é\u00e9","method":"tools/call","params":{"name":"a","_meta":{"progressToken":-1},"uri":[1,{"a":null}]}}"#;
        request(body);
        for end in 0..body.len() {
            assert_eq!(parse(&body.as_bytes()[..end]).unwrap_err().kind, Kind::Parse, "{end}");
        }
    }

    #[test]
    fn the_depth_limit_counts_from_the_envelope() {
        for (before, after, inside) in [
            (r#"{"jsonrpc":"2.0","id":1,"method":"x","other":"#, "}", 1),
            (r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{"a":"#, "}}", 2),
            (r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{"_meta":{"a":"#, "}}}", 3),
            (r#"[{"jsonrpc":"2.0","id":1,"method":"x","params":{"a":"#, "}}]", 3),
        ] {
            let body = |levels: usize| format!("{before}{}{}{after}", "[".repeat(levels), "]".repeat(levels));
            assert!(parse(body(JSON_DEPTH_MAX - inside).as_bytes()).is_ok(), "{before}");
            assert_eq!(parse(body(JSON_DEPTH_MAX - inside + 1).as_bytes()).unwrap_err().kind, Kind::Parse, "{before}");
        }
    }

    #[test]
    fn ids_have_a_longest_length_and_are_compared_by_what_they_say() {
        let body = |len: usize| format!(r#"{{"jsonrpc":"2.0","id":{},"method":"x"}}"#, "1".repeat(len));
        assert_eq!(request(&body(REQUEST_ID_BYTES_MAX)).id.raw().len(), REQUEST_ID_BYTES_MAX);
        assert_eq!(refusal(&body(REQUEST_ID_BYTES_MAX + 1)).1, None);
        assert!(Id::String(br#""a""#).same(Id::String(br#""\u0061""#)));
        assert!(!Id::String(br#""1""#).same(Id::Number(b"1")));
        assert_eq!(Id::from_raw(b"-5"), Some(Id::Number(b"-5")));
        assert_eq!(Id::from_raw(b""), None);
    }

    #[test]
    fn a_batch_is_taken_one_by_one() {
        let body =
            r#" [ {"jsonrpc":"2.0","id":1,"method":"ping"}, 7, {"jsonrpc":"2.0","method":"notifications/initialized"}, {"id":2},[] ] "#;
        let Ok(Body::Batch(batch)) = parse(body.as_bytes()) else { panic!("a batch") };
        assert_eq!(batch.len(), 5);
        let found: Vec<_> = batch.iter().collect();
        assert!(matches!(&found[0], Ok(Message::Request(request)) if request.method == "ping"));
        assert!(matches!(&found[1], Err(Refusal { kind: Kind::InvalidRequest, id: None, .. })));
        assert!(matches!(&found[2], Ok(Message::Notification(_))));
        assert!(matches!(&found[3], Err(Refusal { kind: Kind::InvalidRequest, id: Some(Id::Number(b"2")), .. })));
        assert!(found[4].is_err());
        let of = |len: usize| format!("[{}]", vec!["1"; len].join(","));
        assert!(parse(of(BATCH_MESSAGES_MAX).as_bytes()).is_ok());
        assert_eq!(refusal(&of(BATCH_MESSAGES_MAX + 1)).2, "the batch holds too many messages");
    }

    #[test]
    fn what_is_no_object_in_meta_is_told() {
        let meta = |value: &str| format!(r#"{{"jsonrpc":"2.0","id":1,"method":"x","params":{{"_meta":{value}}}}}"#);
        for (value, malformed) in [("null", false), ("[]", true), ("1", true)] {
            let body = meta(value);
            let found = request(&body).params.meta;
            assert_eq!((found.malformed, found.present, found.raw), (malformed, false, None), "{value}");
        }
    }

    #[test]
    fn an_unknown_method_with_escapes_keeps_them() {
        let body = r#"{"jsonrpc":"2.0","id":1,"method":"skills\/list"}"#;
        assert_eq!(request(body).method, r"skills\/list");
        assert_eq!(json::unescape(request(body).method_raw), "skills/list");
    }
}
