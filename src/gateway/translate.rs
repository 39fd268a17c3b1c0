//! What an upstream says, as the client's era has it.
//!
//! Between a client and an upstream of the modern era nothing is touched but the URI of a resource that the client knows by another. An
//! upstream of the legacy era gets ids and progress tokens of this gateway, since its session may be shared; the client's are put back. From one era to
//! the other, results gain or lose the members that the modern era alone has (2026-07-28, basic, "Results"), and the code for a resource
//! that is not found changes.

use super::failure::Failure;
use super::write::{Number, Object};
use crate::base::fault::code;
use crate::wire::json::{self, key_is, write_i64, write_str};
use crate::wire::jsonrpc::{self, Body, Id, Message, Notification, Request, Response};
use crate::wire::mcp::{self, Era, Level, Method, Version, meta_key};

/// What is to be known of a request to read what is said of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms<'a> {
    pub client: Era,
    pub version: Version,
    pub method: Method,
    /// The client's id, raw.
    pub id: &'a [u8],
    /// What the upstream was sent in its place.
    pub number: Option<Number>,
    /// The client's progress token, raw; empty for none.
    pub token: &'a [u8],
    /// What the upstream and the client call a resource; alike unless it was renamed.
    pub names: (&'a str, &'a str),
    pub level: Option<Level>,
    /// Its fields say what its arguments do, as the list of tools that its client knows asks for.
    pub agrees: bool,
    /// Its client knows tasks, which are not relayed.
    pub knows_tasks: bool,
    /// The upstream's `Implementation` object, for what a legacy one does not say.
    pub server_info: &'a [u8],
}

/// How a message goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Said {
    /// Byte for byte as it came.
    AsIs,
    /// As it was written anew.
    Anew,
    /// It asks the client something (2026-07-28, basic, "Multi Round-Trip Requests"), and a client of the legacy era must be asked in another way.
    Asks,
}

/// An answer, and the HTTP status that goes with it.
pub(super) type Answered = (u16, Said);

/// One message of an upstream about a request.
pub(super) enum Heard<'a> {
    Answer(Response<'a>),
    Notice(Notification<'a>),
    /// It asks something.
    Question(Request<'a>),
    /// An answer to something else, or no single message.
    Stray,
}

/// Takes a message apart.
///
/// # Errors
/// It is no JSON-RPC.
pub(super) fn hear<'a>(message: &'a [u8], terms: &Terms<'_>) -> Result<Heard<'a>, Failure> {
    match jsonrpc::parse(message).map_err(|refusal| Failure::Garbage(refusal.why))? {
        Body::One(Message::Response(response)) => {
            // An error without an id is about the only request that was sent there.
            let is_its = response.id.is_none_or(|id| terms.is_id(id));
            Ok(if is_its { Heard::Answer(response) } else { Heard::Stray })
        }
        Body::One(Message::Notification(notification)) => Ok(Heard::Notice(notification)),
        Body::One(Message::Request(request)) => Ok(Heard::Question(request)),
        Body::Batch(_) => Ok(Heard::Stray),
    }
}

impl Terms<'_> {
    fn is_id(&self, id: Id<'_>) -> bool {
        match self.number {
            Some(Number(number)) => matches!(id, Id::Number(raw) if raw == itoa::Buffer::new().format(number).as_bytes()),
            None => Id::from_raw(self.id).is_some_and(|own| own.same(id)),
        }
    }

    /// The response as the client is to have it: appended to `out` unless it is [`Said::AsIs`].
    ///
    /// # Errors
    /// It is none that the client can have.
    pub fn answer(&self, response: &Response<'_>, out: &mut Vec<u8>) -> Result<Answered, Failure> {
        match (response.result, response.error) {
            (Some(result), _) => self.result(result, out).map(|said| (200, said)),
            (None, Some(error)) => self.error(error, response.id.is_some(), out),
            (None, None) => Err(Failure::Garbage("neither a result nor an error")),
        }
    }

    fn result(&self, result: &[u8], out: &mut Vec<u8>) -> Result<Said, Failure> {
        if !result.starts_with(b"{") {
            return Err(Failure::Garbage("the result is not an object"));
        }
        let (is_renamed, upstream) = (self.names.0 != self.names.1, self.version.era());
        let is_task = || json::get(result, "resultType").is_some_and(|kind| key_is(kind, "task"));
        if self.knows_tasks && upstream == Era::Modern && is_task() {
            return Err(Failure::Task);
        }
        if self.client == Era::Modern && upstream == Era::Modern && !is_renamed && self.number.is_none() {
            return Ok(Said::AsIs);
        }
        let kind = json::get(result, "resultType").filter(|_| upstream == Era::Modern && self.client == Era::Legacy);
        match kind {
            Some(kind) if key_is(kind, "input_required") => return Ok(Said::Asks),
            Some(kind) if key_is(kind, "task") => return Err(Failure::Task),
            // Of what nobody knows the client could make nothing.
            Some(kind) if !key_is(kind, "complete") => return Err(Failure::Asks),
            _ => {}
        }
        out.extend_from_slice(br#"{"jsonrpc":"2.0","id":"#);
        out.extend_from_slice(self.id);
        out.extend_from_slice(br#","result":"#);
        match (self.client, upstream) {
            (Era::Modern, Era::Legacy) => self.complete(result, out),
            (Era::Legacy, Era::Modern) => self.strip(result, out),
            _ => self.rename_members(result, out),
        }
        out.push(b'}');
        Ok(Said::Anew)
    }

    /// A legacy result with what every modern one has. How long it may be kept is not known: not at all.
    fn complete(&self, result: &[u8], out: &mut Vec<u8>) {
        let mut object = Object::open(out);
        let mut meta = None;
        for (key, raw) in json::members(result) {
            if key_is(key, "_meta") {
                meta = Some(raw);
            } else if !["resultType", "ttlMs", "cacheScope"].into_iter().any(|name| key_is(key, name)) {
                object.key(key);
                self.contents(key, raw, object.out);
            }
        }
        object.name("resultType");
        object.out.extend_from_slice(br#""complete""#);
        if self.method == Method::ResourcesRead {
            object.name("ttlMs");
            object.out.extend_from_slice(br#"0,"cacheScope":"private""#);
        }
        object.name("_meta");
        let mut inner = Object::open(object.out);
        for (key, raw) in json::members(meta.unwrap_or_default()).filter(|(key, _)| !key_is(key, meta_key::SERVER_INFO)) {
            inner.key(key);
            inner.out.extend_from_slice(raw);
        }
        inner.name(meta_key::SERVER_INFO);
        inner.out.extend_from_slice(self.server_info);
        inner.close();
        object.close();
    }

    /// A modern result without what the legacy era does not know.
    fn strip(&self, result: &[u8], out: &mut Vec<u8>) {
        let mut object = Object::open(out);
        for (key, raw) in json::members(result) {
            let is_modern = ["resultType", "ttlMs", "cacheScope"].into_iter().any(|name| key_is(key, name));
            if is_modern || (key_is(key, "structuredContent") && !raw.starts_with(b"{")) {
                continue;
            }
            if !key_is(key, "_meta") {
                object.key(key);
                self.contents(key, raw, object.out);
                continue;
            }
            let mut kept = json::members(raw).filter(|(key, _)| !key_is(key, meta_key::SERVER_INFO)).peekable();
            if kept.peek().is_none() {
                continue;
            }
            object.key(key);
            let mut inner = Object::open(object.out);
            for (key, raw) in kept {
                inner.key(key);
                inner.out.extend_from_slice(raw);
            }
            inner.close();
        }
        object.close();
    }

    fn rename_members(&self, result: &[u8], out: &mut Vec<u8>) {
        if self.names.0 == self.names.1 {
            return out.extend_from_slice(result);
        }
        let mut object = Object::open(out);
        for (key, raw) in json::members(result) {
            object.key(key);
            self.contents(key, raw, object.out);
        }
        object.close();
    }

    /// A member of a result. What was read is named as the client names it.
    fn contents(&self, key: &[u8], raw: &[u8], out: &mut Vec<u8>) {
        let (own, exposed) = self.names;
        if own == exposed || !key_is(key, "contents") || !raw.starts_with(b"[") {
            return out.extend_from_slice(raw);
        }
        out.push(b'[');
        for (at, element) in json::elements(raw).enumerate() {
            if at > 0 {
                out.push(b',');
            }
            let is_it = json::get(element, "uri").and_then(json::string).is_some_and(|uri| uri == own);
            if !is_it {
                out.extend_from_slice(element);
                continue;
            }
            let mut object = Object::open(out);
            for (key, raw) in json::members(element) {
                object.key(key);
                if key_is(key, "uri") {
                    write_str(object.out, exposed);
                } else {
                    object.out.extend_from_slice(raw);
                }
            }
            object.close();
        }
        out.push(b']');
    }

    fn error(&self, error: &[u8], has_id: bool, out: &mut Vec<u8>) -> Result<Answered, Failure> {
        let code = json::get(error, "code").and_then(|raw| std::str::from_utf8(raw).ok()?.parse::<i32>().ok());
        let code = code.ok_or(Failure::Garbage("an error without a code"))?;
        // What is wrong between the gateway and its upstream is no business of the client's: see `mend`. Fields that contradict the client's
        // own arguments are.
        match code {
            code::UNSUPPORTED_VERSION => return Err(Failure::Version),
            code::HEADER_MISMATCH if self.agrees || self.client == Era::Legacy || self.number.is_some() => return Err(Failure::Headers),
            _ => {}
        }
        let status = match (self.client, code) {
            (Era::Modern, code::MISSING_CAPABILITY | code::HEADER_MISMATCH) => 400,
            (Era::Modern, code::METHOD_NOT_FOUND) => 404,
            _ => 200,
        };
        let is_read = self.method == Method::ResourcesRead;
        let told = match (self.client, code) {
            (Era::Modern, code::RESOURCE_NOT_FOUND) => code::INVALID_PARAMS,
            (Era::Legacy, code::INVALID_PARAMS) if is_read && self.version.era() == Era::Modern && says_which(error) => {
                code::RESOURCE_NOT_FOUND
            }
            _ => code,
        };
        if told == code && self.number.is_none() && has_id {
            return Ok((status, Said::AsIs));
        }
        jsonrpc::begin_error(out, Id::from_raw(self.id));
        let mut object = Object::open(out);
        for (key, raw) in json::members(error) {
            object.key(key);
            if key_is(key, "code") {
                write_i64(object.out, i64::from(told));
            } else {
                object.out.extend_from_slice(raw);
            }
        }
        object.close();
        jsonrpc::end(out);
        Ok((status, Said::Anew))
    }

    /// A notification on the request's stream as the client is to have it; `None` when it is none of its business.
    pub fn notice(&self, notice: &Notification<'_>, out: &mut Vec<u8>) -> Option<Said> {
        let kind = mcp::Notification::parse(notice.method);
        match kind {
            mcp::Notification::Message if !self.wants(notice) => None,
            mcp::Notification::Progress if self.token.is_empty() => None,
            mcp::Notification::Progress if self.number.is_some() => {
                out.extend_from_slice(br#"{"jsonrpc":"2.0","method":"notifications/progress","params":"#);
                let mut object = Object::open(out);
                for (key, raw) in json::members(notice.params.raw.unwrap_or_default()) {
                    object.key(key);
                    object.out.extend_from_slice(if key_is(key, "progressToken") { self.token } else { raw });
                }
                object.close();
                out.push(b'}');
                Some(Said::Anew)
            }
            mcp::Notification::Progress | mcp::Notification::Message => Some(Said::AsIs),
            // What is said of lists and resources is for those who listen, and what is unknown may be anything.
            mcp::Notification::Unknown if self.client == Era::Modern && self.version.era() == Era::Modern => Some(Said::AsIs),
            _ => None,
        }
    }

    /// Whether the client wants to hear a log message. A modern upstream was told from which level on.
    fn wants(&self, notice: &Notification<'_>) -> bool {
        let said = notice.params.get("level").and_then(Level::from_raw);
        match (self.level, said) {
            (Some(wanted), Some(said)) => said >= wanted,
            (Some(_), None) => true,
            (None, _) => false,
        }
    }
}

/// Whether an error is about a resource that there is not (2026-07-28, resources, "Error Handling").
fn says_which(error: &[u8]) -> bool {
    json::get(error, "data").and_then(|data| json::get(data, "uri")).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(client: Era, version: Version) -> Terms<'static> {
        Terms {
            client,
            version,
            method: Method::ToolsCall,
            id: b"\"c\"",
            number: (version.era() == Era::Legacy).then_some(Number(7)),
            token: b"\"t\"",
            names: ("", ""),
            level: Some(Level::Info),
            agrees: false,
            knows_tasks: false,
            server_info: br#"{"name":"u","version":"1"}"#,
        }
    }

    fn answered(terms: &Terms<'_>, message: &str) -> Result<(u16, String), Failure> {
        let Heard::Answer(response) = hear(message.as_bytes(), terms)? else { panic!("an answer: {message}") };
        let mut out = Vec::new();
        let (status, said) = terms.answer(&response, &mut out)?;
        let text = if said == Said::AsIs { message.to_owned() } else { String::from_utf8(out).expect("UTF-8") };
        assert!(json::validate(text.as_bytes()).is_ok(), "{text}");
        Ok((status, text))
    }

    fn told(terms: &Terms<'_>, message: &str) -> Option<String> {
        let Ok(Heard::Notice(notice)) = hear(message.as_bytes(), terms) else { panic!("a notification: {message}") };
        let mut out = Vec::new();
        let said = terms.notice(&notice, &mut out)?;
        Some(if said == Said::AsIs { message.to_owned() } else { String::from_utf8(out).expect("UTF-8") })
    }

    #[test]
    fn within_the_modern_era_a_result_is_not_touched() {
        let terms = terms(Era::Modern, Version::V2026_07_28);
        let message = r#" {"id":"\u0063","result":{"resultType":"task","x":1},"jsonrpc":"2.0"} "#;
        assert_eq!(answered(&terms, message), Ok((200, message.to_owned())));
        assert!(matches!(hear(br#"{"jsonrpc":"2.0","id":"d","result":{}}"#, &terms), Ok(Heard::Stray)));
        assert!(matches!(hear(b"<html>", &terms), Err(Failure::Garbage(_))));
    }

    #[test]
    fn a_legacy_result_is_completed() {
        let terms = terms(Era::Modern, Version::V2025_11_25);
        let (_, text) = answered(&terms, r#"{"jsonrpc":"2.0","id":7,"result":{"content":[],"_meta":{"a":1}}}"#).expect("an answer");
        assert_eq!(
            text,
            r#"{"jsonrpc":"2.0","id":"c","result":{"content":[],"resultType":"complete","_meta":{"a":1,"io.modelcontextprotocol/serverInfo":{"name":"u","version":"1"}}}}"#
        );
        let read = Terms { method: Method::ResourcesRead, names: ("a:1", "u+a:1"), ..terms };
        let (_, text) =
            answered(&read, r#"{"jsonrpc":"2.0","id":7,"result":{"contents":[{"uri":"a:1"},{"uri":"b"}]}}"#).expect("an answer");
        assert!(
            text.contains(r#""contents":[{"uri":"u+a:1"},{"uri":"b"}]"#) && text.contains(r#""ttlMs":0,"cacheScope":"private""#),
            "{text}"
        );
    }

    #[test]
    fn a_modern_result_loses_what_the_legacy_era_does_not_know() {
        let terms = terms(Era::Legacy, Version::V2026_07_28);
        let modern = r#"{"jsonrpc":"2.0","id":"c","result":{"content":[],"structuredContent":[1],"resultType":"complete","ttlMs":1,"cacheScope":"public","_meta":{"io.modelcontextprotocol/serverInfo":{}}}}"#;
        assert_eq!(answered(&terms, modern), Ok((200, r#"{"jsonrpc":"2.0","id":"c","result":{"content":[]}}"#.to_owned())));
        let asks = r#"{"jsonrpc":"2.0","id":"c","result":{"resultType":"input_required","requestState":"s"}}"#;
        let Ok(Heard::Answer(response)) = hear(asks.as_bytes(), &terms) else { panic!("an answer") };
        assert_eq!(terms.answer(&response, &mut Vec::new()), Ok((200, Said::Asks)));
        assert_eq!(answered(&terms, &asks.replace("input_required", "task")), Err(Failure::Task));
        let knowing = Terms { client: Era::Modern, knows_tasks: true, ..terms };
        assert_eq!(answered(&knowing, &asks.replace("input_required", "task")), Err(Failure::Task));
    }

    #[test]
    fn codes_are_those_of_the_client() {
        let missing = r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32002,"message":"m","data":{"uri":"a"}}}"#;
        let wanted = r#"{"jsonrpc":"2.0","id":"c","error":{"code":-32602,"message":"m","data":{"uri":"a"}}}"#;
        assert_eq!(answered(&terms(Era::Modern, Version::V2025_06_18), missing), Ok((200, wanted.to_owned())));
        let read = Terms { method: Method::ResourcesRead, ..terms(Era::Legacy, Version::V2026_07_28) };
        let (_, text) = answered(&read, wanted).expect("an answer");
        assert!(text.contains("-32002"), "{text}");
        let modern = terms(Era::Modern, Version::V2026_07_28);
        let capability = r#"{"jsonrpc":"2.0","id":"c","error":{"code":-32021,"message":"m"}}"#;
        assert_eq!(answered(&modern, capability), Ok((400, capability.to_owned())));
        let headers = r#"{"jsonrpc":"2.0","id":"c","error":{"code":-32020,"message":"m"}}"#;
        assert_eq!(answered(&modern, headers), Ok((400, headers.to_owned())));
        assert_eq!(answered(&Terms { client: Era::Legacy, ..modern }, headers), Err(Failure::Headers));
        assert_eq!(answered(&Terms { agrees: true, ..modern }, headers), Err(Failure::Headers));
        let version = headers.replace("-32020", "-32022");
        assert_eq!(answered(&modern, &version), Err(Failure::Version));
        let nameless = r#"{"jsonrpc":"2.0","error":{"code":-32600,"message":"m"}}"#;
        assert_eq!(answered(&modern, nameless).map(|(_, text)| text.contains(r#""id":"c""#)), Ok(true));
    }

    #[test]
    fn a_client_hears_its_own_token_and_no_more_than_it_wants() {
        let modern = terms(Era::Modern, Version::V2026_07_28);
        let legacy = terms(Era::Modern, Version::V2025_11_25);
        let progress = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":7,"progress":1}}"#;
        let restored = progress.replace(":7,", r#":"t","#);
        assert_eq!(told(&legacy, progress), Some(restored.clone()));
        assert_eq!(told(&modern, &restored), Some(restored));
        assert_eq!(told(&Terms { token: b"", ..legacy }, progress), None);
        let log = |level: &str| format!(r#"{{"jsonrpc":"2.0","method":"notifications/message","params":{{"level":"{level}","data":1}}}}"#);
        assert_eq!(told(&legacy, &log("debug")), None);
        assert_eq!(told(&legacy, &log("error")), Some(log("error")));
        assert_eq!(told(&Terms { level: None, ..legacy }, &log("error")), None);
        assert_eq!(told(&legacy, r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#), None);
    }
}
