//! Getting to know a server before the load begins: what it speaks, what it has, and what its right answers are.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::conn::initialize;
use super::request::{ID_FIRST, Kind, Place, Target, Template};
use super::{EraWish, LoadError};
use crate::base::limits::LOAD_ANSWER_BYTES_MAX;
use crate::wire::http1::{Media, Part, ResponseReader, Url};
use crate::wire::jsonrpc::{self, Body, Message};
use crate::wire::mcp::{Era, Method, Version};
use crate::wire::{json, sse};

/// How long connecting, and one answer, may take.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// Longest piece of a right answer that is looked for in each, bytes.
const EXPECT_BYTES_MAX: usize = 256;
const FOX: &str = "The quick brown fox jumps over the lazy dog";

/// What the command line says of the target.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Where it is.
    pub url: String,
    /// What to speak.
    pub era: EraWish,
    /// What is going to be sent.
    pub kinds: Vec<Kind>,
    /// The tool to call.
    pub tool: Option<String>,
    /// Its arguments: a JSON object.
    pub arguments: Option<String>,
    /// What its right answers contain.
    pub expect: Option<String>,
    /// The resource to read.
    pub resource: Option<String>,
    /// Header fields.
    pub fields: Vec<(String, String)>,
}

/// What was learned.
#[derive(Clone, Debug)]
pub struct Known {
    /// Where it is.
    pub address: SocketAddr,
    /// What is asked of it.
    pub target: Target,
    /// What of it can be sent to this server.
    pub kinds: Vec<Kind>,
    /// The server's own name and version.
    pub server: String,
    /// What a reader of the report should know.
    pub notes: Vec<String>,
}

/// Talks with the server.
///
/// # Errors
/// When it is not there, is no MCP server, or has nothing of what is to be sent.
pub fn learn(wanted: &Wanted) -> Result<Known, LoadError> {
    let url = Url::parse(&wanted.url).ok_or_else(|| LoadError::Url(wanted.url.clone()))?;
    if url.is_tls {
        return Err(LoadError::Tls(wanted.url.clone()));
    }
    let unreachable = |error: io::Error| LoadError::Unreachable(wanted.url.clone(), error);
    let host = url.host.trim_start_matches('[').trim_end_matches(']');
    let addresses: Vec<_> = (host, url.port).to_socket_addrs().map_err(unreachable)?.collect();
    let address = reachable(&addresses).map_err(unreachable)?;
    let place = Place { target: url.target.to_owned(), authority: url.authority.to_owned(), fields: wanted.fields.clone() };
    let mut dialog = Dialog { address, socket: None, session: Vec::new() };
    let mut known =
        Known { address, target: Target { place, ..Target::default() }, kinds: Vec::new(), server: String::new(), notes: Vec::new() };
    let version = greet(&mut dialog, wanted, &mut known)?;
    known.target.version = version.as_str().to_owned();
    let mut why = "it lists no tool and no resource that could be asked for".to_owned();
    for kind in &wanted.kinds {
        let kind = kind.nearest(version);
        let has = match kind {
            Kind::ToolsCall => learn_tool(&mut dialog, version, wanted, &mut known)?,
            Kind::ResourcesRead => learn_resource(&mut dialog, version, wanted, &mut known)?,
            kind => match ask(&mut dialog, kind, version, &known.target)? {
                Ok(_) => true,
                Err(said) => {
                    why = said;
                    false
                }
            },
        };
        if has {
            known.kinds.push(kind);
        } else {
            known.notes.push(format!("the server has nothing to answer {} with: it is not sent", kind.method().name()));
        }
    }
    if known.kinds.is_empty() {
        return Err(LoadError::NothingToSend(why));
    }
    Ok(known)
}

fn reachable(addresses: &[SocketAddr]) -> io::Result<SocketAddr> {
    let mut last = io::Error::other("the name leads to no address");
    for address in addresses {
        match TcpStream::connect_timeout(address, WAIT_MAX) {
            Ok(_) => return Ok(*address),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Finds out what is spoken. A ping is of the legacy era: where one is to be sent, that era is tried first.
fn greet(dialog: &mut Dialog, wanted: &Wanted, known: &mut Known) -> Result<Version, LoadError> {
    let eras: &[Era] = match wanted.era {
        EraWish::Legacy => &[Era::Legacy],
        EraWish::Modern => &[Era::Modern],
        EraWish::Auto if wanted.kinds.contains(&Kind::Ping) => &[Era::Legacy, Era::Modern],
        EraWish::Auto => &[Era::Modern, Era::Legacy],
    };
    let mut why = String::new();
    for era in eras {
        let greeted = match era {
            Era::Modern => greet_modern(dialog, known)?,
            Era::Legacy => greet_legacy(dialog, known)?,
        };
        match greeted {
            Ok(version) => return Ok(version),
            Err(text) => why = text,
        }
    }
    Err(LoadError::NoMcp(wanted.url.clone(), why))
}

fn greet_modern(dialog: &mut Dialog, known: &mut Known) -> Result<Result<Version, String>, LoadError> {
    let version = Version::MODERN_NEWEST;
    let result = match ask(dialog, Kind::Discover, version, &known.target)? {
        Ok(result) => result,
        Err(why) => return Ok(Err(why)),
    };
    let value: Value = serde_json::from_slice(&result).unwrap_or_default();
    let speaks = value["supportedVersions"].as_array().is_some_and(|all| all.iter().any(|one| one == version.as_str()));
    known.server = server_name(&value["_meta"]["io.modelcontextprotocol/serverInfo"])
        .or_else(|| server_name(&value["serverInfo"]))
        .unwrap_or_default();
    Ok(if speaks { Ok(version) } else { Err(format!("it does not speak {}", version.as_str())) })
}

fn greet_legacy(dialog: &mut Dialog, known: &mut Known) -> Result<Result<Version, String>, LoadError> {
    let template = initialize(Version::LEGACY_NEWEST, &known.target)?;
    dialog.session.clear();
    let reply = dialog.ask(&template).map_err(|error| LoadError::Unreachable(known.target.place.authority.clone(), error))?;
    let result = match reply.result() {
        Ok(result) => result,
        Err(why) => return Ok(Err(why)),
    };
    let value: Value = serde_json::from_slice(&result).unwrap_or_default();
    let version = value["protocolVersion"].as_str().and_then(|text| Version::parse(text.as_bytes()));
    let Some(version) = version.filter(|version| version.era() == Era::Legacy) else {
        return Ok(Err(format!("it answered initialize with the version {}", value["protocolVersion"])));
    };
    known.server = server_name(&value["serverInfo"]).unwrap_or_default();
    if let Some(id) = &reply.session {
        dialog.session = [b"Mcp-Session-Id: ", id.as_slice(), b"\r\n"].concat();
    }
    let told = dialog.ask(&Template::initialized(version, &known.target.place)?);
    let told = told.map_err(|error| LoadError::Unreachable(known.target.place.authority.clone(), error))?;
    Ok(if matches!(told.status, 200..=299) {
        Ok(version)
    } else {
        Err(format!("it answered notifications/initialized with status {}", told.status))
    })
}

fn server_name(info: &Value) -> Option<String> {
    Some(format!("{} {}", info["name"].as_str()?, info["version"].as_str().unwrap_or_default()).trim().to_owned())
}

/// Asks for the result of a request; what the server said instead is no error of this program.
fn ask(dialog: &mut Dialog, kind: Kind, version: Version, target: &Target) -> Result<Result<Vec<u8>, String>, LoadError> {
    let template = Template::of(kind, version, target)?;
    let reply = dialog.ask(&template).map_err(|error| LoadError::Unreachable(target.place.authority.clone(), error))?;
    Ok(reply.result())
}

/// Chooses a tool, and calls it twice: what it says both times is what it is expected to say.
fn learn_tool(dialog: &mut Dialog, version: Version, wanted: &Wanted, known: &mut Known) -> Result<bool, LoadError> {
    let tools: Value = match ask(dialog, Kind::ToolsList, version, &known.target)? {
        Ok(list) => serde_json::from_slice(&list).unwrap_or_default(),
        Err(_) => return Ok(false),
    };
    let tools = tools["tools"].as_array().cloned().unwrap_or_default();
    let Some((name, arguments)) = choose(&tools, wanted)? else { return Ok(false) };
    (known.target.tool, known.target.arguments) = (name, arguments);
    let mut texts = Vec::new();
    for _ in 0..2 {
        match ask(dialog, Kind::ToolsCall, version, &known.target)? {
            Ok(result) => {
                if json::get(&result, "isError") == Some(b"true") {
                    known.notes.push(format!("the tool {} answers with an error: {}", known.target.tool, shown(&result)));
                }
                texts.push(first_text(&result, "content"));
            }
            Err(why) => return Err(LoadError::Tool(known.target.tool.clone(), why)),
        }
    }
    known.target.tool_expect = match (&wanted.expect, texts.as_slice()) {
        (Some(expect), _) => expect.clone(),
        (None, [Some(first), Some(second)]) if first == second => first.clone(),
        _ => String::new(),
    };
    if known.target.tool_expect.is_empty() {
        known.notes.push(format!("the tool {} does not answer alike each time: only that it answers is checked", known.target.tool));
    }
    known.notes.dedup();
    Ok(true)
}

/// The tool that was named, else `echo`, else the first that can be given what it needs.
fn choose(tools: &[Value], wanted: &Wanted) -> Result<Option<(String, String)>, LoadError> {
    let is = |tool: &&Value, name: &str| tool["name"] == name;
    let named = match &wanted.tool {
        Some(name) => {
            let found = tools.iter().find(|tool| is(tool, name));
            vec![found.ok_or_else(|| LoadError::Tool(name.clone(), "the server does not list it".to_owned()))?]
        }
        None => tools.iter().filter(|tool| is(tool, "echo")).chain(tools).collect(),
    };
    for tool in &named {
        let given = wanted.arguments.clone().or_else(|| arguments(&tool["inputSchema"]));
        if let (Some(name), Some(arguments)) = (tool["name"].as_str(), given) {
            return Ok(Some((name.to_owned(), arguments)));
        }
    }
    match &wanted.tool {
        Some(name) => Err(LoadError::Tool(name.clone(), "it needs arguments: give them with --arguments".to_owned())),
        None => Ok(None),
    }
}

/// Arguments that fit a schema, if only plain ones are needed.
fn arguments(schema: &Value) -> Option<String> {
    let mut given = serde_json::Map::new();
    for name in schema["required"].as_array().into_iter().flatten() {
        let name = name.as_str()?;
        let value = match schema["properties"][name]["type"].as_str()? {
            "string" => Value::from(FOX),
            "number" | "integer" => Value::from(1),
            "boolean" => Value::from(true),
            _ => return None,
        };
        given.insert(name.to_owned(), value);
    }
    Some(Value::Object(given).to_string())
}

fn learn_resource(dialog: &mut Dialog, version: Version, wanted: &Wanted, known: &mut Known) -> Result<bool, LoadError> {
    known.target.uri = match &wanted.resource {
        Some(uri) => uri.clone(),
        None => {
            let Ok(list) = ask(dialog, Kind::ResourcesList, version, &known.target)? else { return Ok(false) };
            let list: Value = serde_json::from_slice(&list).unwrap_or_default();
            let Some(uri) = list["resources"][0]["uri"].as_str() else { return Ok(false) };
            uri.to_owned()
        }
    };
    let mut texts = Vec::new();
    for _ in 0..2 {
        match ask(dialog, Kind::ResourcesRead, version, &known.target)? {
            Ok(result) => texts.push(first_text(&result, "contents")),
            Err(why) => return Err(LoadError::Resource(known.target.uri.clone(), why)),
        }
    }
    known.target.read_expect = match texts.as_slice() {
        [Some(first), Some(second)] if first == second => first.clone(),
        _ => {
            known
                .notes
                .push(format!("the resource {} does not read alike each time: only that it is answered is checked", known.target.uri));
            String::new()
        }
    };
    Ok(true)
}

/// The text of the first element of a list in a result, raw; its beginning, when it is long.
fn first_text(result: &[u8], list: &str) -> Option<String> {
    let text = json::get(json::elements(json::get(result, list)?).next()?, "text")?;
    let text = std::str::from_utf8(text).ok()?;
    Some(text[..text.floor_char_boundary(EXPECT_BYTES_MAX)].to_owned())
}

fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text[..text.floor_char_boundary(EXPECT_BYTES_MAX)].to_owned()
}

/// What a server answered.
#[derive(Debug)]
struct Reply {
    status: u16,
    session: Option<Vec<u8>>,
    message: Vec<u8>,
}

impl Reply {
    /// The result in it; else what is there instead.
    fn result(&self) -> Result<Vec<u8>, String> {
        match jsonrpc::parse(&self.message) {
            Ok(Body::One(Message::Response(response))) => match (response.result, response.error) {
                (Some(result), _) if self.status == 200 => Ok(result.to_vec()),
                (_, error) => Err(format!("status {}: {}", self.status, shown(error.unwrap_or_default()))),
            },
            _ => Err(format!("status {}: {}", self.status, shown(&self.message))),
        }
    }
}

/// One request at a time, over one connection as long as the server keeps it.
struct Dialog {
    address: SocketAddr,
    socket: Option<TcpStream>,
    session: Vec<u8>,
}

impl Dialog {
    fn ask(&mut self, template: &Template) -> io::Result<Reply> {
        let mut bytes = Vec::new();
        template.write(&mut bytes, &self.session, ID_FIRST);
        if let Some(mut socket) = self.socket.take() {
            // The server may have closed it meanwhile: then it is asked anew.
            if let Ok(reply) = self.exchange(&mut socket, &bytes) {
                return Ok(reply);
            }
        }
        let mut socket = TcpStream::connect_timeout(&self.address, WAIT_MAX)?;
        socket.set_read_timeout(Some(WAIT_MAX))?;
        socket.set_write_timeout(Some(WAIT_MAX))?;
        socket.set_nodelay(true)?;
        self.exchange(&mut socket, &bytes)
    }

    fn exchange(&mut self, socket: &mut TcpStream, bytes: &[u8]) -> io::Result<Reply> {
        socket.write_all(bytes)?;
        let until = Instant::now() + WAIT_MAX;
        let mut reader = ResponseReader::new();
        let mut reply = Reply { status: 0, session: None, message: Vec::new() };
        let mut events = None;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = match socket.read(&mut buffer) {
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "it does not answer"));
                }
                read => read?,
            };
            let mut input = &buffer[..read];
            while let Some(part) = reader.next(&mut input).map_err(io::Error::other)? {
                match part {
                    Part::Head(head) => {
                        reply.status = head.status;
                        reply.session = head.session_id().map(<[u8]>::to_vec);
                        events = (head.media == Some(Media::EventStream)).then(|| sse::Parser::new(LOAD_ANSWER_BYTES_MAX));
                    }
                    Part::Data(data) => collect(data, events.as_mut(), &mut reply.message)?,
                    Part::End => {
                        if reader.keeps_alive() {
                            self.socket = Some(socket.try_clone()?);
                        }
                        return Ok(reply);
                    }
                }
            }
            if read == 0 {
                reader.on_end().map_err(io::Error::other)?;
                return Ok(reply);
            }
            if reply.message.len() > LOAD_ANSWER_BYTES_MAX || Instant::now() > until {
                return Err(io::Error::other("its answer does not end"));
            }
        }
    }
}

/// Data of a body: of a stream, the event that is the response is kept.
fn collect(mut data: &[u8], events: Option<&mut sse::Parser>, message: &mut Vec<u8>) -> io::Result<()> {
    let Some(events) = events else {
        message.extend_from_slice(data);
        return Ok(());
    };
    while let Some(event) = events.next(&mut data).map_err(io::Error::other)? {
        if matches!(jsonrpc::parse(event.data), Ok(Body::One(Message::Response(_)))) {
            event.data.clone_into(message);
        }
    }
    Ok(())
}

/// Whether a `ping` is sent as what it is.
#[must_use]
pub fn has_ping(version: &str) -> bool {
    Version::parse(version.as_bytes()).is_some_and(|version| Method::Ping.exists_in(version))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_tool_is_chosen_that_can_be_called() {
        let complicated = json!({"name": "a", "inputSchema": {"required": ["x"], "properties": {"x": {"type": "object"}}}});
        let plain = json!({"name": "b", "inputSchema": {"required": ["n", "s"], "properties": {"n": {"type": "integer"}, "s": {"type": "string"}}}});
        let echo = json!({"name": "echo", "inputSchema": {"required": ["m"], "properties": {"m": {"type": "string"}}}});
        let chosen = |tools: &[Value], wanted: &Wanted| choose(tools, wanted).map(|chosen| chosen.map(|(name, _)| name));
        let any = Wanted::default();
        assert_eq!(chosen(&[complicated.clone(), plain.clone(), echo], &any).expect("one"), Some("echo".into()));
        assert_eq!(choose(&[complicated.clone(), plain], &any).expect("one"), Some(("b".into(), format!(r#"{{"n":1,"s":"{FOX}"}}"#))));
        assert_eq!(chosen(std::slice::from_ref(&complicated), &any).expect("none"), None);
        let named = Wanted { tool: Some("a".into()), ..Wanted::default() };
        assert!(matches!(choose(std::slice::from_ref(&complicated), &named), Err(LoadError::Tool(..))));
        let told = Wanted { arguments: Some("{\"x\":{}}".into()), ..named };
        assert_eq!(choose(&[complicated], &told).expect("one"), Some(("a".into(), "{\"x\":{}}".into())));
        assert!(matches!(choose(&[], &told), Err(LoadError::Tool(..))));
    }

    #[test]
    fn the_text_that_is_expected_stands_as_it_was_sent() {
        let result = br#"{"content":[{"type":"text","text":"a\"b \u00e9"}]}"#;
        assert_eq!(first_text(result, "content").as_deref(), Some(r#""a\"b \u00e9""#));
        assert_eq!(first_text(br#"{"content":[]}"#, "content"), None);
        let long = format!(r#"{{"contents":[{{"text":"{}"}}]}}"#, "\u{e9}".repeat(300));
        assert_eq!(first_text(long.as_bytes(), "contents").map(|text| text.len()), Some(255));
    }

    #[test]
    fn an_address_that_leads_nowhere_is_said() {
        let wanted = |url: &str| Wanted { url: url.into(), kinds: vec![Kind::Ping], ..Wanted::default() };
        assert!(matches!(learn(&wanted("localhost:1")), Err(LoadError::Url(_))));
        assert!(matches!(learn(&wanted("https://127.0.0.1:1/mcp")), Err(LoadError::Tls(_))));
        // Bound and not listening: nobody else can listen there meanwhile.
        let taken = std::net::UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port");
        let refused = learn(&wanted(&format!("http://{taken}/mcp")));
        assert!(matches!(refused, Err(LoadError::Unreachable(..))), "{refused:?}");
    }
}
