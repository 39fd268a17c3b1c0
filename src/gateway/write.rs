//! Requests as an upstream is sent them.
//!
//! What a client sent goes on byte for byte, except for what the upstream must see differently: the name of a tool or the URI of a resource that
//! is called something else there, and, from one era to the other, `_meta` and the members that the other era does not know.

use super::owner::Owner;
use super::trip::Verb;
use super::upstream::Starts;
use crate::base::ids::{CallId, CoreId};
use crate::wire::http1::{Ask, Unsendable};
use crate::wire::json::{self, key_is, write_str, write_u64};
use crate::wire::jsonrpc::Id;
use crate::wire::mcp::{self, ClientCapabilities, Era, HeaderParam, Level, Method, NameParam, PARAM_PREFIX, Version, meta_key};

/// What a client can do and is not asked for through this gateway: an upstream that answered with a task could not be asked for it later.
pub(super) const UNRELAYED: ClientCapabilities = ClientCapabilities::TASKS.with(ClientCapabilities::TASKS_EXTENSION);

/// A request of a client that is to be relayed.
#[derive(Clone, Copy, Debug)]
pub struct Forward<'a> {
    /// The core where it is in work.
    pub core: CoreId,
    /// Its id there. Both come back with everything that is heard of it.
    pub call: CallId,
    /// The client's era: it decides what is handed back.
    pub era: Era,
    /// What is asked for.
    pub method: Method,
    /// The client's id.
    pub id: Id<'a>,
    /// The parameters, a raw object.
    pub params: &'a [u8],
    /// The slice of `params` in whose place `name` is to stand.
    pub renamed: Option<&'a [u8]>,
    /// What the upstream calls what is asked for; empty for a completion.
    pub name: &'a str,
    /// What the client calls it.
    pub exposed: &'a str,
    /// `progressToken`, raw.
    pub progress_token: Option<&'a [u8]>,
    /// The lowest level that the client wants to hear of.
    pub level: Option<Level>,
    /// The level that it has asked for itself.
    pub wanted: Option<Level>,
    /// The client's `Implementation` object: of a legacy session; a modern request brings it itself.
    pub client_info: Option<&'a [u8]>,
    /// What a client of a legacy session can be asked for; a modern request says it itself.
    pub capabilities: ClientCapabilities,
    /// Who calls: it decides in which session of the upstream.
    pub owner: Owner,
    /// The version that the client speaks.
    pub speaks: Version,
    /// Those fields say what the arguments do, as the list of tools that the client knows asks for.
    pub agrees: bool,
    /// Further header fields for the upstream: `Mcp-Param-*`.
    pub fields: &'a [(&'a str, &'a [u8])],
}

/// A message that this gateway sends in place of the client's id and progress token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Number(pub u64);

/// Writes the fields that mirror the body (2026-07-28, transports, "Standard Request Headers").
///
/// # Errors
/// One cannot be sent.
pub(super) fn mirrors(head: &mut Ask<'_>, version: Version, method: Method, name: &str, space: &mut Vec<u8>) -> Result<(), Unsendable> {
    head.field("MCP-Protocol-Version", version.as_str().as_bytes())?;
    head.field("Mcp-Method", method.name().as_bytes())?;
    if matches!(method.name_param(), Some(NameParam::Name | NameParam::Uri)) {
        space.clear();
        mcp::encode(space, name);
        head.field("Mcp-Name", space)?;
    }
    Ok(())
}

/// Writes the whole head of a client's request to an upstream of the modern era.
///
/// # Errors
/// One of the client's fields cannot be sent.
pub(super) fn modern_head(
    out: &mut Vec<u8>,
    starts: &Starts,
    ask: &Forward<'_>,
    version: Version,
    len: usize,
    space: &mut Vec<u8>,
) -> Result<(), Unsendable> {
    let mut head = starts.begin(out, Verb::Post);
    mirrors(&mut head, version, ask.method, ask.name, space)?;
    ask.fields.iter().try_for_each(|(name, value)| head.field(name, value))?;
    head.end(Some(len));
    Ok(())
}

/// Appends the message for an upstream that speaks `version`. With a `number`, that is its id and its progress token.
pub(super) fn message(out: &mut Vec<u8>, ask: &Forward<'_>, version: Version, number: Option<Number>) {
    out.extend_from_slice(br#"{"jsonrpc":"2.0","id":"#);
    match number {
        Some(Number(number)) => write_u64(out, number),
        None => out.extend_from_slice(ask.id.raw()),
    }
    out.extend_from_slice(br#","method":""#);
    out.extend_from_slice(ask.method.name().as_bytes());
    out.extend_from_slice(br#"","params":"#);
    let is_as_it_came = number.is_none() && ask.capabilities.without(UNRELAYED) == ask.capabilities;
    if ask.era == Era::Modern && version.era() == Era::Modern && is_as_it_came {
        value(out, ask.params, ask);
    } else {
        params(out, ask, version, number, b"");
    }
    out.push(b'}');
}

/// Has the head of a request say what its tool wants to have mirrored of these arguments: other fields of the same names go.
pub(super) fn mirror_anew(head: &mut Vec<u8>, params: &[HeaderParam], arguments: &[u8]) {
    let name_of = |line: &[u8]| memchr::memchr(b':', line).map(|colon| String::from_utf8_lossy(&line[..colon]).into_owned());
    let is_mirrored = |name: &str| {
        let prefix = name.get(..PARAM_PREFIX.len()).is_some_and(|prefix| prefix.eq_ignore_ascii_case(PARAM_PREFIX));
        prefix && params.iter().any(|param| name[PARAM_PREFIX.len()..].eq_ignore_ascii_case(&param.name))
    };
    let old = std::mem::take(head);
    for line in old.split_inclusive(|byte| *byte == b'\n') {
        let name = name_of(line);
        if name.as_deref() == Some("Content-Length") {
            for (name, value) in params.iter().filter_map(|param| param.field(arguments)) {
                head.extend_from_slice(name.as_bytes());
                head.extend_from_slice(b": ");
                head.extend_from_slice(&value);
                head.extend_from_slice(b"\r\n");
            }
        }
        if !name.is_some_and(|name| is_mirrored(&name)) {
            head.extend_from_slice(line);
        }
    }
}

/// Appends a modern request again, with what its upstream asked for: `members` are `inputResponses` and `requestState`.
pub(super) fn again(out: &mut Vec<u8>, ask: &Forward<'_>, version: Version, number: Number, members: &[u8]) {
    out.extend_from_slice(br#"{"jsonrpc":"2.0","id":"#);
    write_u64(out, number.0);
    out.extend_from_slice(br#","method":""#);
    out.extend_from_slice(ask.method.name().as_bytes());
    out.extend_from_slice(br#"","params":"#);
    params(out, ask, version, Some(number), members);
    out.push(b'}');
}

/// Has the head of a request say another length. It is the last thing that is said there.
pub(super) fn set_length(head: &mut Vec<u8>, len: usize) {
    let name = b"Content-Length: ";
    let Some(at) = memchr::memmem::rfind(head, name) else { return debug_assert!(false, "every POST has a length") };
    head.truncate(at + name.len());
    write_u64(head, len as u64);
    head.extend_from_slice(b"\r\n\r\n");
}

/// Appends a value, with the upstream's name in the place of the client's if that is in there.
fn value(out: &mut Vec<u8>, value: &[u8], ask: &Forward<'_>) {
    let place = ask.renamed.and_then(|part| Some((place(value, part)?, part.len())));
    let Some((at, len)) = place else { return out.extend_from_slice(value) };
    out.extend_from_slice(&value[..at]);
    write_str(out, ask.name);
    out.extend_from_slice(&value[at + len..]);
}

/// Where in `outer` its slice `part` begins; none when it is not one.
fn place(outer: &[u8], part: &[u8]) -> Option<usize> {
    let at = (part.as_ptr() as usize).wrapping_sub(outer.as_ptr() as usize);
    (at <= outer.len() && part.len() <= outer.len() - at).then_some(at)
}

/// Appends the parameters with a `_meta` of the upstream's era. `members` take the place of what was answered before.
fn params(out: &mut Vec<u8>, ask: &Forward<'_>, version: Version, number: Option<Number>, members: &[u8]) {
    let keeps_answers = version.era() == Era::Modern && members.is_empty();
    let mut object = Object::open(out);
    let mut meta = None;
    for (key, raw) in json::members(ask.params) {
        if key_is(key, "_meta") {
            meta = Some(raw);
        } else if key_is(key, "task") {
            // Nobody was told that a call may be made a task: who asks for one all the same gets a call (2025-11-25, tasks, "Capabilities").
        } else if keeps_answers || !(key_is(key, "inputResponses") || key_is(key, "requestState")) {
            object.key(key);
            value(object.out, raw, ask);
        }
    }
    if !members.is_empty() {
        object.comma();
        object.out.extend_from_slice(members);
    }
    let is_modern = ask.era == Era::Modern && version.era() == Era::Modern;
    let kept = |key: &[u8]| !((!is_modern && meta_key_is_ours(key)) || key_is(key, meta_key::PROGRESS_TOKEN));
    let mut kept = json::members(meta.unwrap_or_default()).filter(|(key, _)| kept(key)).peekable();
    if version.era() == Era::Legacy && kept.peek().is_none() && ask.progress_token.is_none() {
        return object.close();
    }
    object.name("_meta");
    let mut inner = Object::open(object.out);
    for (key, raw) in kept {
        inner.key(key);
        if key_is(key, meta_key::CLIENT_CAPABILITIES) {
            relayed_capabilities(raw, inner.out);
        } else {
            inner.out.extend_from_slice(raw);
        }
    }
    if let Some(token) = ask.progress_token {
        inner.name(meta_key::PROGRESS_TOKEN);
        match number {
            Some(Number(number)) => write_u64(inner.out, number),
            None => inner.out.extend_from_slice(token),
        }
    }
    if version.era() == Era::Modern && !is_modern {
        envelope(&mut inner, version, ask.client_info, ask.level, ask.capabilities);
    }
    inner.close();
    object.close();
}

/// Whether the raw name is one of those that the modern era alone has in `_meta`.
fn meta_key_is_ours(key: &[u8]) -> bool {
    let names = [meta_key::PROTOCOL_VERSION, meta_key::CLIENT_CAPABILITIES, meta_key::CLIENT_INFO, meta_key::LOG_LEVEL];
    names.into_iter().any(|name| key_is(key, name))
}

/// The capabilities of a modern client, a raw object, but for [`UNRELAYED`].
fn relayed_capabilities(raw: &[u8], out: &mut Vec<u8>) {
    let mut object = Object::open(out);
    for (key, raw) in json::members(raw).filter(|(key, _)| !key_is(key, "tasks")) {
        object.key(key);
        if !key_is(key, "extensions") || !raw.starts_with(b"{") {
            object.out.extend_from_slice(raw);
            continue;
        }
        let mut extensions = Object::open(object.out);
        for (key, raw) in json::members(raw).filter(|(key, _)| !key_is(key, meta_key::TASKS_EXTENSION)) {
            extensions.key(key);
            extensions.out.extend_from_slice(raw);
        }
        extensions.close();
    }
    object.close();
}

/// What every modern request says of its sender.
fn envelope(meta: &mut Object<'_>, version: Version, client_info: Option<&[u8]>, level: Option<Level>, capabilities: ClientCapabilities) {
    meta.name(meta_key::PROTOCOL_VERSION);
    write_str(meta.out, version.as_str());
    meta.name(meta_key::CLIENT_CAPABILITIES);
    capabilities.without(UNRELAYED).write(meta.out);
    meta.name(meta_key::CLIENT_INFO);
    match client_info {
        Some(info) => meta.out.extend_from_slice(info),
        None => own_info(meta.out),
    }
    if let Some(level) = level {
        meta.name(meta_key::LOG_LEVEL);
        write_str(meta.out, level.as_str());
    }
}

/// The `Implementation` object of this gateway.
fn own_info(out: &mut Vec<u8>) {
    out.extend_from_slice(concat!(r#"{"name":"ringhub","version":""#, env!("CARGO_PKG_VERSION"), r#""}"#).as_bytes());
}

/// Appends a request of this gateway's own to an upstream that speaks `version`. `members` are those of the parameters besides `_meta`.
pub(super) fn own_request(out: &mut Vec<u8>, number: Number, method: Method, version: Version, members: &[u8]) {
    out.extend_from_slice(br#"{"jsonrpc":"2.0","id":"#);
    write_u64(out, number.0);
    out.extend_from_slice(br#","method":""#);
    out.extend_from_slice(method.name().as_bytes());
    out.push(b'"');
    if version.era() == Era::Legacy && members.is_empty() {
        return out.push(b'}');
    }
    out.extend_from_slice(br#","params":"#);
    let mut object = Object::open(out);
    if !members.is_empty() {
        object.is_first = false;
        object.out.extend_from_slice(members);
    }
    if version.era() == Era::Modern {
        object.name("_meta");
        let mut meta = Object::open(object.out);
        envelope(&mut meta, version, None, None, ClientCapabilities::NONE);
        meta.close();
    }
    object.close();
    out.push(b'}');
}

/// The parameters of `initialize` besides `_meta`.
pub(super) fn initialize_members(version: Version, capabilities: ClientCapabilities, client_info: Option<&[u8]>) -> Vec<u8> {
    let mut out = br#""protocolVersion":"#.to_vec();
    write_str(&mut out, version.as_str());
    out.extend_from_slice(br#","capabilities":"#);
    capabilities.write(&mut out);
    out.extend_from_slice(br#","clientInfo":"#);
    match client_info {
        Some(info) => out.extend_from_slice(info),
        None => own_info(&mut out),
    }
    out
}

/// A JSON object in the making.
pub(super) struct Object<'o> {
    pub out: &'o mut Vec<u8>,
    is_first: bool,
}

impl<'o> Object<'o> {
    pub fn open(out: &'o mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, is_first: true }
    }

    fn comma(&mut self) {
        if !std::mem::take(&mut self.is_first) {
            self.out.push(b',');
        }
    }

    /// Begins a member; its value is to follow.
    pub fn key(&mut self, raw: &[u8]) {
        self.comma();
        self.out.extend_from_slice(raw);
        self.out.push(b':');
    }

    /// The same, of a name that needs no escapes.
    pub fn name(&mut self, name: &str) {
        self.comma();
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    pub fn close(self) {
        self.out.push(b'}');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::http1;

    const PARAMS: &[u8] = br#"{"name":"s.echo","arguments":{"a":[1]},"x":"\u0061","requestState":"q","_meta":{"progressToken":"t","io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"sampling":{}},"traceparent":"00"}}"#;

    fn ask(era: Era) -> Forward<'static> {
        Forward {
            core: CoreId(0),
            call: CallId { index: 0, generation: 0 },
            era,
            method: Method::ToolsCall,
            id: Id::String(b"\"i\""),
            params: PARAMS,
            renamed: json::get(PARAMS, "name"),
            name: "echo",
            exposed: "s.echo",
            progress_token: Some(b"\"t\""),
            level: Some(Level::Debug),
            wanted: None,
            client_info: None,
            capabilities: ClientCapabilities::NONE,
            owner: Owner::Shared,
            speaks: Version::V2026_07_28,
            agrees: true,
            fields: &[],
        }
    }

    fn written(ask: &Forward<'_>, version: Version, number: Option<Number>) -> String {
        let mut out = Vec::new();
        message(&mut out, ask, version, number);
        let text = String::from_utf8(out).expect("UTF-8");
        assert!(json::validate(text.as_bytes()).is_ok(), "{text}");
        text
    }

    #[test]
    fn within_the_modern_era_the_name_alone_differs() {
        let params = std::str::from_utf8(PARAMS).expect("UTF-8").replace("s.echo", "echo");
        let wanted = format!(r#"{{"jsonrpc":"2.0","id":"i","method":"tools/call","params":{params}}}"#);
        assert_eq!(written(&ask(Era::Modern), Version::V2026_07_28, None), wanted);
    }

    #[test]
    fn on_a_shared_pipe_the_token_is_this_gateways_too() {
        let params = std::str::from_utf8(PARAMS).expect("UTF-8").replace("s.echo", "echo").replace(r#""progressToken":"t","#, "");
        let params = params.replace(r#""traceparent":"00""#, r#""traceparent":"00","progressToken":7"#);
        let wanted = format!(r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{params}}}"#);
        assert_eq!(written(&ask(Era::Modern), Version::V2026_07_28, Some(Number(7))), wanted);
    }

    #[test]
    fn a_legacy_upstream_sees_no_modern_member_and_numbers_of_this_gateway() {
        assert_eq!(
            written(&ask(Era::Modern), Version::V2025_11_25, Some(Number(7))),
            r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"echo","arguments":{"a":[1]},"x":"\u0061","_meta":{"traceparent":"00","progressToken":7}}}"#
        );
        let bare = Forward { params: br#"{"name":"echo"}"#, renamed: None, progress_token: None, ..ask(Era::Legacy) };
        assert_eq!(
            written(&bare, Version::V2025_06_18, Some(Number(8))),
            r#"{"jsonrpc":"2.0","id":8,"method":"tools/call","params":{"name":"echo"}}"#
        );
    }

    #[test]
    fn a_modern_upstream_is_told_what_a_legacy_session_knows() {
        let info = br#"{"name":"c","version":"1"}"#;
        let legacy = Forward {
            params: br#"{"name":"echo","_meta":{"progressToken":"t"}}"#,
            renamed: None,
            level: Some(Level::Warning),
            client_info: Some(info),
            ..ask(Era::Legacy)
        };
        assert_eq!(
            written(&legacy, Version::V2026_07_28, None),
            r#"{"jsonrpc":"2.0","id":"i","method":"tools/call","params":{"name":"echo","_meta":{"progressToken":"t","io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/clientInfo":{"name":"c","version":"1"},"io.modelcontextprotocol/logLevel":"warning"}}}"#
        );
    }

    #[test]
    fn an_upstream_does_not_hear_of_tasks() {
        let params = br#"{"name":"t","task":{"ttl":1},"_meta":{"io.modelcontextprotocol/clientCapabilities":{"sampling":{},"tasks":{},"extensions":{"io.modelcontextprotocol/tasks":{},"x/y":{"a":1}}},"a":"b"}}"#;
        let capabilities = ClientCapabilities::SAMPLING.with(ClientCapabilities::TASKS_EXTENSION);
        let modern = Forward { params, renamed: None, progress_token: None, capabilities, ..ask(Era::Modern) };
        assert_eq!(
            written(&modern, Version::V2026_07_28, None),
            r#"{"jsonrpc":"2.0","id":"i","method":"tools/call","params":{"name":"t","_meta":{"io.modelcontextprotocol/clientCapabilities":{"sampling":{},"extensions":{"x/y":{"a":1}}},"a":"b"}}}"#
        );
        let legacy = written(&Forward { era: Era::Legacy, ..modern }, Version::V2026_07_28, None);
        assert!(legacy.contains(r#"{"sampling":{}}"#) && !legacy.contains("task"), "{legacy}");
        assert!(!written(&modern, Version::V2025_11_25, Some(Number(1))).contains("task"));
    }

    #[test]
    fn names_that_a_field_cannot_hold_are_encoded() {
        let headed = |method, name| {
            let mut out = Vec::new();
            let mut head = Ask::begin(&mut out, http1::Method::Post, "/", "h").expect("a head");
            mirrors(&mut head, Version::V2026_07_28, method, name, &mut Vec::new()).expect("fields");
            head.end(None);
            String::from_utf8(out).expect("ASCII")
        };
        let read = headed(Method::ResourcesRead, "a:\u{e9}\r\nX: y");
        assert!(read.ends_with("Mcp-Method: resources/read\r\nMcp-Name: =?base64?YTrDqQ0KWDogeQ==?=\r\n\r\n"), "{read}");
        assert!(headed(Method::CompletionComplete, "").ends_with("Mcp-Method: completion/complete\r\n\r\n"));
    }

    #[test]
    fn a_request_goes_again_with_what_was_asked_for() {
        let mut out = Vec::new();
        again(&mut out, &ask(Era::Modern), Version::V2026_07_28, Number(9), br#""inputResponses":{"k":{}},"requestState":"new""#);
        let text = String::from_utf8(out).expect("UTF-8");
        assert!(json::validate(text.as_bytes()).is_ok(), "{text}");
        assert!(text.contains(r#""id":9,"#) && text.contains(r#","inputResponses":{"k":{}},"requestState":"new","_meta":{"#), "{text}");
        assert!(
            !text.contains(r#""requestState":"q""#) && text.contains(r#""progressToken":9"#) && text.contains(r#"{"sampling":{}}"#),
            "{text}"
        );
        let mut head = b"POST / HTTP/1.1\r\nMcp-Name: Content-Length: 7\r\nContent-Length: 7\r\n\r\n".to_vec();
        set_length(&mut head, 12);
        assert_eq!(head, b"POST / HTTP/1.1\r\nMcp-Name: Content-Length: 7\r\nContent-Length: 12\r\n\r\n");
    }

    #[test]
    fn what_is_mirrored_is_what_the_tool_wants_now() {
        let params = mcp::header_params_of(
            br#"{"inputSchema":{"type":"object","properties":{"a":{"type":"string","x-mcp-header":"A"},"b":{"type":"integer","x-mcp-header":"B"},"c":{"type":"string","x-mcp-header":"C"}}}}"#,
        );
        let mut head =
            b"POST / HTTP/1.1\r\nMcp-Name: Content-Length: 7\r\nmcp-param-a: old\r\nMcp-Param-X: x\r\nContent-Length: 7\r\n\r\n".to_vec();
        mirror_anew(&mut head, &params, "{\"a\":\"\u{e9}\",\"b\":7}".as_bytes());
        assert_eq!(
            String::from_utf8(head).expect("ASCII"),
            "POST / HTTP/1.1\r\nMcp-Name: Content-Length: 7\r\nMcp-Param-X: x\r\nMcp-Param-A: =?base64?w6k=?=\r\nMcp-Param-B: 7\r\nContent-Length: 7\r\n\r\n"
        );
    }

    #[test]
    fn requests_of_its_own_say_who_asks() {
        let mut out = Vec::new();
        own_request(&mut out, Number(1), Method::ToolsList, Version::V2025_11_25, b"");
        assert_eq!(out, br#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#);
        out.clear();
        own_request(&mut out, Number(2), Method::ToolsList, Version::V2026_07_28, br#""cursor":"c""#);
        assert!(json::validate(&out).is_ok());
        let params = json::get(&out, "params").expect("params");
        assert_eq!(json::get(params, "cursor"), Some(&b"\"c\""[..]));
        assert!(json::get(params, "_meta").and_then(|meta| json::get(meta, meta_key::CLIENT_INFO)).is_some());
    }
}
