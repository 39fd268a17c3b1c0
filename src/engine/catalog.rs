//! What one core knows of a server beforehand: its lists, encoded page by page, what it can do, and what stands at the end of every result.

use super::out::Lists;
use crate::native::outcome::{Cache, Scope};
use crate::native::{HeaderParam, List, PromptEntry, ResourceEntry, Server, ToolEntry};
use crate::wire::json::{write_str, write_u64};
use crate::wire::mcp::{Era, meta_key};

use super::ladder::SUPPORTED;

/// The lists that a client can ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ListKind {
    Tools,
    Prompts,
    Resources,
    Templates,
}

impl ListKind {
    const ALL: [Self; 4] = [Self::Tools, Self::Prompts, Self::Resources, Self::Templates];

    /// Whose changes are told together.
    const fn list(self) -> List {
        match self {
            Self::Tools => List::Tools,
            Self::Prompts => List::Prompts,
            Self::Resources | Self::Templates => List::Resources,
        }
    }

    /// The member of the result that holds the items.
    const fn member(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Prompts => "prompts",
            Self::Resources => "resources",
            Self::Templates => "resourceTemplates",
        }
    }
}

/// What a server can do, in either era.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Offers {
    pub tools: bool,
    pub prompts: bool,
    /// Resources or templates of resources.
    pub resources: bool,
    pub completions: bool,
    /// Lists whose changes are told.
    pub changes: Lists,
    /// Changes of single resources are told.
    pub updates: bool,
}

/// One page of a list, encoded for both eras.
struct Page {
    /// The cursor that leads here; empty for the first page.
    cursor: String,
    modern: Vec<u8>,
    legacy: Vec<u8>,
}

/// A server as this core hosts it.
pub(super) struct Hosted {
    pub server: Server,
    pub offers: Offers,
    /// `serverInfo` of `initialize` and `server/discover`: a JSON object.
    pub info: Vec<u8>,
    /// `serverInfo` of every other result: the name and the version alone, which is what the specification demands.
    brief: Vec<u8>,
    /// The result of `server/discover`: a JSON object.
    pub discover: Vec<u8>,
    /// What ends the object of a complete result: `resultType`, and `_meta` with `serverInfo`.
    tail: Vec<u8>,
    lists: [Vec<Page>; 4],
}

/// Which kind of result of the modern era is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ResultType {
    Complete,
    InputRequired,
}

impl Hosted {
    /// Encodes what can be encoded beforehand.
    pub fn new(server: Server) -> Self {
        let info = server.info().to_vec();
        let mut brief = br#"{"name":"#.to_vec();
        write_str(&mut brief, server.name());
        brief.extend_from_slice(br#","version":"#);
        write_str(&mut brief, server.version());
        brief.push(b'}');
        let mut tail = Vec::new();
        write_tail(&mut tail, ResultType::Complete, None, &brief);
        let mut hosted =
            Self { offers: offers(&server), server, info, brief, discover: Vec::new(), tail, lists: [const { Vec::new() }; 4] };
        hosted.discover = hosted.encode_discover();
        for kind in ListKind::ALL {
            hosted.lists[kind as usize] = hosted.encode_list(kind);
        }
        hosted
    }

    /// Whether the server has this list at all.
    pub fn has_list(&self, kind: ListKind) -> bool {
        match kind {
            ListKind::Tools => self.offers.tools,
            ListKind::Prompts => self.offers.prompts,
            ListKind::Resources | ListKind::Templates => self.offers.resources,
        }
    }

    /// The page that this cursor leads to: the result object of the modern era. None when no page has that cursor.
    pub fn page_modern(&self, kind: ListKind, cursor: &str) -> Option<&[u8]> {
        self.page(kind, cursor).map(|page| &*page.modern)
    }

    /// The same for the legacy era.
    pub fn page_legacy(&self, kind: ListKind, cursor: &str) -> Option<&[u8]> {
        self.page(kind, cursor).map(|page| &*page.legacy)
    }

    fn page(&self, kind: ListKind, cursor: &str) -> Option<&Page> {
        self.lists[kind as usize].iter().find(|page| page.cursor == cursor)
    }

    /// Arguments of a tool that clients mirror into headers; none when there is no such tool.
    pub fn header_params(&self, tool: &str) -> &[HeaderParam] {
        self.server.tool(tool).map_or(&[], ToolEntry::header_params)
    }

    /// Appends the object of a result of the modern era: `members`, and what every such result has.
    pub fn write_result(&self, out: &mut Vec<u8>, members: &[u8], result_type: ResultType, cache: Option<Cache>, meta: Option<&[u8]>) {
        begin_result(out, members, cache);
        if result_type == ResultType::Complete && meta.is_none() {
            out.extend_from_slice(&self.tail);
        } else {
            write_tail(out, result_type, meta, &self.brief);
        }
    }

    fn encode_discover(&self) -> Vec<u8> {
        let mut members = format!(r#""supportedVersions":{SUPPORTED},"capabilities":"#).into_bytes();
        self.server.capabilities().write(&mut members);
        if let Some(instructions) = self.server.instructions() {
            members.extend_from_slice(br#","instructions":"#);
            write_str(&mut members, instructions);
        }
        let mut out = Vec::new();
        begin_result(&mut out, &members, Some(self.server.discover_cache()));
        write_tail(&mut out, ResultType::Complete, None, &self.info);
        out
    }

    fn encode_list(&self, kind: ListKind) -> Vec<Page> {
        let (modern, legacy) = (self.items(kind, Era::Modern), self.items(kind, Era::Legacy));
        let page_items = self.server.page_size().max(1);
        let pages = modern.len().div_ceil(page_items).max(1);
        let page = |number: usize| {
            let items = number * page_items..modern.len().min((number + 1) * page_items);
            let next = (number + 1 < pages).then_some(number + 1);
            let members = page_members(kind, &modern[items.clone()], next);
            let mut encoded = Vec::new();
            self.write_result(&mut encoded, &members, ResultType::Complete, Some(self.server.list_cache(kind.list())), None);
            let legacy = [b"{", &*page_members(kind, &legacy[items], next), b"}"].concat();
            Page { cursor: cursor(kind, number), modern: encoded, legacy }
        };
        (0..pages).map(page).collect()
    }

    /// The encoded items of a list.
    fn items(&self, kind: ListKind, era: Era) -> Vec<&[u8]> {
        match kind {
            ListKind::Tools => self.server.tools().iter().map(|tool| tool.definition(era)).collect(),
            ListKind::Prompts => self.server.prompts().iter().map(PromptEntry::definition).collect(),
            ListKind::Resources => self.server.resources().iter().map(ResourceEntry::definition).collect(),
            ListKind::Templates => self.server.templates().iter().map(ResourceEntry::definition).collect(),
        }
    }
}

/// The cursor of a page. It is good on every core and in every process that has the same lists, and only a cursor of an existing page is
/// accepted, so nothing about it needs to be secret.
fn cursor(kind: ListKind, number: usize) -> String {
    if number == 0 { String::new() } else { format!("{}.{number}", kind.member()) }
}

fn page_members(kind: ListKind, items: &[&[u8]], next: Option<usize>) -> Vec<u8> {
    let mut members = format!(r#""{}":["#, kind.member()).into_bytes();
    members.extend_from_slice(&items.join(&b','));
    members.push(b']');
    if let Some(next) = next {
        members.extend_from_slice(br#","nextCursor":"#);
        write_str(&mut members, &cursor(kind, next));
    }
    members
}

fn write_cache(out: &mut Vec<u8>, cache: Cache) {
    out.extend_from_slice(br#""ttlMs":"#);
    write_u64(out, cache.ttl_ms);
    out.extend_from_slice(match cache.scope {
        Scope::Public => br#","cacheScope":"public""#,
        Scope::Private => br#","cacheScope":"private""#,
    });
}

/// Appends how the object of a result begins: `members`, and how long it may be kept.
fn begin_result(out: &mut Vec<u8>, members: &[u8], cache: Option<Cache>) {
    out.push(b'{');
    out.extend_from_slice(members);
    if !members.is_empty() {
        out.push(b',');
    }
    if let Some(cache) = cache {
        write_cache(out, cache);
        out.push(b',');
    }
}

/// Appends how the object of a result ends: `resultType`, and `_meta` with its own members and `serverInfo`.
fn write_tail(out: &mut Vec<u8>, result_type: ResultType, meta: Option<&[u8]>, info: &[u8]) {
    out.extend_from_slice(match result_type {
        ResultType::Complete => br#""resultType":"complete","_meta":{"#,
        ResultType::InputRequired => br#""resultType":"input_required","_meta":{"#,
    });
    if let Some(own) = meta.map(inner).filter(|own| !own.is_empty()) {
        out.extend_from_slice(own);
        out.push(b',');
    }
    write_str(out, meta_key::SERVER_INFO);
    out.push(b':');
    out.extend_from_slice(info);
    out.extend_from_slice(b"}}");
}

/// The members of an object without its braces.
fn inner(object: &[u8]) -> &[u8] {
    let object = object.trim_ascii();
    object.strip_prefix(b"{").and_then(|rest| rest.strip_suffix(b"}")).unwrap_or_default().trim_ascii()
}

fn offers(server: &Server) -> Offers {
    let capabilities = server.capabilities();
    let lists = [(capabilities.tools, Lists::TOOLS), (capabilities.prompts, Lists::PROMPTS), (capabilities.resources, Lists::RESOURCES)];
    let changing = lists.iter().filter(|(has, _)| *has && capabilities.changes).fold(Lists::NONE, |all, (_, list)| all.with(*list));
    Offers {
        tools: capabilities.tools,
        prompts: capabilities.prompts,
        resources: capabilities.resources,
        completions: capabilities.completions,
        changes: changing,
        updates: capabilities.resources && capabilities.changes,
    }
}
