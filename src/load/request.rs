//! The requests that are sent, written beforehand: sending one is copying it and putting its id in.

use memchr::memmem;
use serde::{Deserialize, Serialize};

use super::LoadError;
use crate::wire::http1::{Ask, Method as Verb, Unsendable};
use crate::wire::json::write_str;
use crate::wire::jsonrpc::{self, Id};
use crate::wire::mcp::{Method, Version, encode};

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// `ping`, 131 bytes long. Only the legacy era has it.
    Ping,
    /// `server/discover`: only the modern era has it.
    Discover,
    /// `tools/call`
    ToolsCall,
    /// `tools/list`
    ToolsList,
    /// `resources/list`
    ResourcesList,
    /// `resources/read`
    ResourcesRead,
}

impl Kind {
    /// The method it asks for.
    #[must_use]
    pub const fn method(self) -> Method {
        match self {
            Self::Ping => Method::Ping,
            Self::Discover => Method::ServerDiscover,
            Self::ToolsCall => Method::ToolsCall,
            Self::ToolsList => Method::ToolsList,
            Self::ResourcesList => Method::ResourcesList,
            Self::ResourcesRead => Method::ResourcesRead,
        }
    }

    /// What is nearest to it in a version that does not have it: a `ping` asks whether the server is there, and so does `server/discover`.
    #[must_use]
    pub const fn nearest(self, version: Version) -> Self {
        match self {
            Self::Ping if !Method::Ping.exists_in(version) => Self::Discover,
            Self::Discover if !Method::ServerDiscover.exists_in(version) => Self::Ping,
            kind => kind,
        }
    }
}

/// What is asked of the server, and what it answers to it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Target {
    /// The revision that is spoken.
    pub version: String,
    /// What requests begin with: see [`Place`].
    pub place: Place,
    /// The tool that is called.
    pub tool: String,
    /// Its arguments: a raw object.
    pub arguments: String,
    /// What a right answer of the tool contains, raw; empty when that is not known.
    pub tool_expect: String,
    /// The resource that is read.
    pub uri: String,
    /// What a right answer to reading it contains, raw; empty when that is not known.
    pub read_expect: String,
}

/// Where requests go, and what is in the head of each.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Place {
    /// The path.
    pub target: String,
    /// The host and the port.
    pub authority: String,
    /// Header fields that were given on the command line.
    pub fields: Vec<(String, String)>,
}

/// Ids have ten digits, so that a request's length does not depend on its id.
pub const ID_FIRST: u64 = 1_000_000_000;
const ID_LAST: u64 = 9_999_999_999;
const ID_DIGITS: usize = 10;
/// The original's bombs were this long, bytes.
const PING_BYTES: usize = 131;

/// The id that follows. After nine thousand million requests of one connection the first ones are used again.
#[must_use]
pub const fn id_after(id: u64) -> u64 {
    if id >= ID_LAST { ID_FIRST } else { id + 1 }
}

/// One request, written beforehand.
#[derive(Clone, Debug)]
pub struct Template {
    /// Up to where a session's header field stands.
    start: Box<[u8]>,
    /// From there on.
    rest: Box<[u8]>,
    /// Where the id is in `rest`, if there is one.
    id_at: Option<usize>,
    /// What a right answer contains, if it is known.
    expect: Option<memmem::Finder<'static>>,
}

impl Template {
    /// The request of a kind.
    ///
    /// # Errors
    /// [`LoadError::Unsendable`] when a name or a header field cannot be sent.
    pub fn of(kind: Kind, version: Version, target: &Target) -> Result<Self, LoadError> {
        let (params, named, expect) = match kind {
            Kind::ToolsCall => {
                let mut params = br#"{"name":"#.to_vec();
                write_str(&mut params, &target.tool);
                params.extend_from_slice(br#","arguments":"#);
                params.extend_from_slice(target.arguments.as_bytes());
                params.push(b'}');
                (params, Some(target.tool.as_str()), target.tool_expect.as_str())
            }
            Kind::ResourcesRead => {
                let mut params = br#"{"uri":"#.to_vec();
                write_str(&mut params, &target.uri);
                params.push(b'}');
                (params, Some(target.uri.as_str()), target.read_expect.as_str())
            }
            Kind::Ping => (ping_params(), None, ""),
            Kind::ToolsList => (Vec::new(), None, r#""tools""#),
            Kind::ResourcesList => (Vec::new(), None, r#""resources""#),
            Kind::Discover => (Vec::new(), None, r#""supportedVersions""#),
        };
        let expect = (!expect.is_empty()).then_some(expect.as_bytes());
        Self::request(kind.method(), &params, named, version, &target.place, expect)
    }

    /// A request for `method`. `params` is a raw object or empty; to it belongs what a version wants in it.
    ///
    /// # Errors
    /// [`LoadError::Unsendable`].
    pub fn request(
        method: Method,
        params: &[u8],
        named: Option<&str>,
        version: Version,
        place: &Place,
        expect: Option<&[u8]>,
    ) -> Result<Self, LoadError> {
        let mut first = itoa::Buffer::new();
        let first = first.format(ID_FIRST).as_bytes();
        let mut body = Vec::new();
        jsonrpc::request(&mut body, Id::Number(first), method.name(), &with_meta(params, version));
        let id_at = memmem::find(&body, first);
        let (start, mut rest) =
            head(method.name(), named, method == Method::Initialize, version, place, body.len()).map_err(LoadError::Unsendable)?;
        let id_at = id_at.map(|at| rest.len() + at);
        rest.extend_from_slice(&body);
        let expect = expect.map(|text| memmem::Finder::new(text).into_owned());
        Ok(Self { start: start.into(), rest: rest.into(), id_at, expect })
    }

    /// The notification that ends a legacy handshake.
    ///
    /// # Errors
    /// [`LoadError::Unsendable`].
    pub fn initialized(version: Version, place: &Place) -> Result<Self, LoadError> {
        let mut body = Vec::new();
        jsonrpc::notification(&mut body, "notifications/initialized", b"");
        let (start, mut rest) = head("", None, false, version, place, body.len()).map_err(LoadError::Unsendable)?;
        rest.extend_from_slice(&body);
        Ok(Self { start: start.into(), rest: rest.into(), id_at: None, expect: None })
    }

    /// Appends the request. `session` is a whole header field, or empty.
    pub fn write(&self, out: &mut Vec<u8>, session: &[u8], id: u64) {
        out.extend_from_slice(&self.start);
        out.extend_from_slice(session);
        let at = self.id_at.map(|at| out.len() + at);
        out.extend_from_slice(&self.rest);
        let Some(digits) = at.and_then(|at| out.get_mut(at..at + ID_DIGITS)) else { return };
        let mut left = id;
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (left % 10) as u8;
            left /= 10;
        }
    }

    /// Whether a result is what this request is answered.
    #[must_use]
    pub fn is_answered_by(&self, result: &[u8]) -> bool {
        self.expect.as_ref().is_none_or(|expect| expect.find(result).is_some())
    }

    /// Length of the request without a session's field, bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.start.len() + self.rest.len()
    }

    /// Whether it is empty, which it never is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Parameters of a ping that is as long as the original's: `_meta` may hold anything under a name with a prefix.
fn ping_params() -> Vec<u8> {
    let mut bare = Vec::new();
    jsonrpc::request(&mut bare, Id::Number(b"1000000000"), Method::Ping.name(), br#"{"_meta":{"load/pad":""}}"#);
    format!(r#"{{"_meta":{{"load/pad":"{}"}}}}"#, "x".repeat(PING_BYTES - bare.len())).into_bytes()
}

/// Adds what each request of the modern era says of itself.
fn with_meta(params: &[u8], version: Version) -> Vec<u8> {
    if version != Version::MODERN_NEWEST {
        return params.to_vec();
    }
    let meta = format!(
        r#""_meta":{{"io.modelcontextprotocol/protocolVersion":"{}","io.modelcontextprotocol/clientInfo":{{"name":"ringhub-load","version":"{}"}},"io.modelcontextprotocol/clientCapabilities":{{}}}}}}"#,
        version.as_str(),
        env!("CARGO_PKG_VERSION"),
    );
    let mut whole = match params.strip_suffix(b"}") {
        None | Some(b"{") => b"{".to_vec(),
        Some(members) => [members, b","].concat(),
    };
    whole.extend_from_slice(meta.as_bytes());
    whole
}

/// The head of a request in two parts, between which a session's field may stand.
fn head(
    method: &str,
    named: Option<&str>,
    is_first: bool,
    version: Version,
    place: &Place,
    body_len: usize,
) -> Result<(Vec<u8>, Vec<u8>), Unsendable> {
    let mut whole = Vec::new();
    let mut ask = Ask::begin(&mut whole, Verb::Post, &place.target, &place.authority)?;
    ask.field("Content-Type", b"application/json")?;
    ask.field("Accept", b"application/json, text/event-stream")?;
    for (name, value) in &place.fields {
        ask.field(name, value.as_bytes())?;
    }
    if version.version_header() && !is_first {
        ask.field("MCP-Protocol-Version", version.as_str().as_bytes())?;
    }
    if version.mirror_headers() {
        ask.field("Mcp-Method", method.as_bytes())?;
        if let Some(named) = named {
            let mut value = Vec::new();
            encode(&mut value, named);
            ask.field("Mcp-Name", &value)?;
        }
    }
    ask.end(Some(body_len));
    let at = memmem::rfind(&whole, b"Content-Length: ").unwrap_or(whole.len());
    let rest = whole.split_off(at);
    Ok((whole, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::http1::{Framed, Framer, HeaderSlots, HttpLimits, view};
    use crate::wire::jsonrpc::{Body, Message};

    fn target() -> Target {
        let place = Place { target: "/mcp".into(), authority: "h:1".into(), fields: vec![("Authorization".into(), "Bearer x".into())] };
        Target { place, tool: "echo\"\u{e9}".into(), arguments: "{\"a\":1}".into(), uri: "x://y".into(), ..Target::default() }
    }

    #[test]
    fn requests_are_what_servers_read() {
        for version in [Version::V2025_03_26, Version::V2025_11_25, Version::V2026_07_28] {
            for kind in [Kind::Ping, Kind::ToolsCall, Kind::ToolsList, Kind::ResourcesList, Kind::ResourcesRead] {
                let kind = kind.nearest(version);
                let template = Template::of(kind, version, &target()).expect("it can be sent");
                let mut bytes = Vec::new();
                template.write(&mut bytes, b"Mcp-Session-Id: s\r\n", 1_234_567_890);
                template.write(&mut bytes, b"Mcp-Session-Id: s\r\n", 9_999_999_999);
                let limits = HttpLimits { head_bytes_max: 4096, body_bytes_max: 4096 };
                let mut framer = Framer::default();
                let mut rest = bytes.as_slice();
                for id in [&b"1234567890"[..], b"9999999999"] {
                    let Framed::Whole(frame) = framer.next(rest, &limits) else { panic!("{}", rest.escape_ascii()) };
                    let (mut slots, mut dechunked) = (HeaderSlots::new(), Vec::new());
                    let request = view(rest, &frame, &mut slots, &mut dechunked).expect("a request");
                    let field = |name: &str| request.headers.iter().find(|(own, _)| *own == name).map(|(_, value)| value);
                    assert_eq!(field("Mcp-Session-Id"), Some(&b"s"[..]));
                    assert_eq!(field("Authorization"), Some(&b"Bearer x"[..]));
                    assert_eq!(field("MCP-Protocol-Version").is_some(), version.version_header());
                    assert_eq!(field("Mcp-Method").is_some(), version == Version::V2026_07_28);
                    let Ok(Body::One(Message::Request(message))) = jsonrpc::parse(request.body) else {
                        panic!("{}", request.body.escape_ascii())
                    };
                    assert_eq!((message.id.raw(), Method::parse(message.method)), (id, kind.method()));
                    assert_eq!(message.params.meta.protocol_version.is_some(), version == Version::V2026_07_28);
                    if kind == Kind::Ping {
                        assert_eq!(request.body.len(), PING_BYTES);
                    }
                    if kind == Kind::ToolsCall {
                        assert_eq!(message.params.arguments, Some(&b"{\"a\":1}"[..]));
                    }
                    rest = &rest[frame.consumed..];
                    framer = Framer::default();
                }
                assert!(rest.is_empty());
            }
        }
    }

    #[test]
    fn a_bomb_has_the_length_of_the_original() {
        assert_eq!(Kind::Ping.nearest(Version::V2026_07_28), Kind::Discover);
        assert_eq!(Kind::Discover.nearest(Version::V2025_11_25), Kind::Ping);
        assert_eq!(Kind::Ping.nearest(Version::V2025_11_25), Kind::Ping);
    }

    #[test]
    fn an_answer_is_judged_by_what_it_says() {
        let target = Target { tool_expect: "\"text\":\"hi\"".into(), ..target() };
        let template = Template::of(Kind::ToolsCall, Version::V2025_11_25, &target).expect("it can be sent");
        assert!(template.is_answered_by(br#"{"content":[{"type":"text","text":"hi"}]}"#));
        assert!(!template.is_answered_by(br#"{"content":[{"type":"text","text":"ho"}]}"#));
        assert!(Template::of(Kind::Ping, Version::V2025_11_25, &target).expect("it can be sent").is_answered_by(b"{}"));
    }

    #[test]
    fn ids_never_run_out() {
        assert_eq!(id_after(ID_FIRST), ID_FIRST + 1);
        assert_eq!(id_after(ID_LAST), ID_FIRST);
    }

    #[test]
    fn what_cannot_be_sent_is_said_beforehand() {
        let mut bad = target();
        bad.place.fields = vec![("X".into(), "a\r\nY: b".into())];
        assert!(matches!(Template::of(Kind::ToolsList, Version::V2025_11_25, &bad), Err(LoadError::Unsendable(Unsendable::Value))));
    }
}
