//! Results that are encoded beforehand: pages of lists, and what stands around the members of every result of the modern era.

use crate::engine::ladder::SUPPORTED;
use crate::native::outcome::{Cache, Scope};
use crate::native::{Capabilities, List};
use crate::wire::json::{write_str, write_u64};
use crate::wire::mcp::meta_key;

/// The lists that a client can ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::engine) enum ListKind {
    Tools,
    Prompts,
    Resources,
    Templates,
}

impl ListKind {
    pub const ALL: [Self; 4] = [Self::Tools, Self::Prompts, Self::Resources, Self::Templates];

    /// Whose changes are told together.
    pub const fn list(self) -> List {
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

/// Which kind of result of the modern era is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::engine) enum ResultType {
    Complete,
    InputRequired,
}

/// Who answers, as every result of the modern era says it.
#[derive(Debug)]
pub(in crate::engine) struct Signature {
    /// The name and the version alone, which is what the specification demands.
    brief: Vec<u8>,
    /// What ends the object of a complete result: `resultType`, and `_meta` with `serverInfo`.
    tail: Vec<u8>,
}

impl Signature {
    /// That of this node, for endpoints that are not one server.
    pub fn of_node() -> Self {
        Self::new("ringhub", env!("CARGO_PKG_VERSION"))
    }

    pub fn new(name: &str, version: &str) -> Self {
        let mut brief = br#"{"name":"#.to_vec();
        write_str(&mut brief, name);
        brief.extend_from_slice(br#","version":"#);
        write_str(&mut brief, version);
        brief.push(b'}');
        let mut tail = Vec::new();
        write_tail(&mut tail, ResultType::Complete, None, &brief);
        Self { brief, tail }
    }

    /// The `Implementation` object: the name and the version.
    pub fn brief(&self) -> &[u8] {
        &self.brief
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
}

/// One page of a list, encoded for both eras.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page {
    /// The cursor that leads here; empty for the first page.
    cursor: String,
    pub modern: Vec<u8>,
    pub legacy: Vec<u8>,
}

/// A definition of an item, once for each era.
#[derive(Debug)]
pub(super) struct Definitions<T> {
    pub modern: T,
    pub legacy: T,
}

/// How a list is cut and kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paging {
    /// At least one.
    pub items: usize,
    pub cache: Cache,
}

/// Encodes a list. There is always a first page.
pub(super) fn encode_list<T: AsRef<[u8]>>(kind: ListKind, items: &[Definitions<T>], paging: Paging, signature: &Signature) -> Vec<Page> {
    let pages = items.len().div_ceil(paging.items).max(1);
    let page = |number: usize| {
        let items = &items[number * paging.items..items.len().min((number + 1) * paging.items)];
        let next = (number + 1 < pages).then_some(number + 1);
        let members = page_members(kind, items.iter().map(|item| item.modern.as_ref()), next);
        let mut modern = Vec::new();
        signature.write_result(&mut modern, &members, ResultType::Complete, Some(paging.cache), None);
        let legacy = [b"{", &*page_members(kind, items.iter().map(|item| item.legacy.as_ref()), next), b"}"].concat();
        Page { cursor: cursor(kind, number), modern, legacy }
    };
    (0..pages).map(page).collect()
}

/// The page that this cursor leads to.
pub(super) fn find<'a>(pages: &'a [Page], cursor: &str) -> Option<&'a Page> {
    pages.iter().find(|page| page.cursor == cursor)
}

/// The result of `server/discover`.
pub(super) fn encode_discover(capabilities: &Capabilities, instructions: Option<&str>, cache: Cache, info: &[u8]) -> Vec<u8> {
    let mut members = format!(r#""supportedVersions":{SUPPORTED},"capabilities":"#).into_bytes();
    capabilities.write(&mut members);
    if let Some(instructions) = instructions {
        members.extend_from_slice(br#","instructions":"#);
        write_str(&mut members, instructions);
    }
    let mut out = Vec::new();
    begin_result(&mut out, &members, Some(cache));
    write_tail(&mut out, ResultType::Complete, None, info);
    out
}

/// The members of the result of `initialize` that stand behind `protocolVersion`.
pub(super) fn encode_initialize(capabilities: &Capabilities, instructions: Option<&str>, info: &[u8]) -> Vec<u8> {
    let mut out = br#""capabilities":"#.to_vec();
    capabilities.write(&mut out);
    out.extend_from_slice(br#","serverInfo":"#);
    out.extend_from_slice(info);
    if let Some(instructions) = instructions {
        out.extend_from_slice(br#","instructions":"#);
        write_str(&mut out, instructions);
    }
    out
}

/// The cursor of a page. It is good on every core and in every process that has the same lists, and only a cursor of an existing page is
/// accepted, so nothing about it needs to be secret. A list that changes while a client pages through it is told to have changed, and is
/// then fetched anew.
fn cursor(kind: ListKind, number: usize) -> String {
    if number == 0 { String::new() } else { format!("{}.{number}", kind.member()) }
}

fn page_members<'a>(kind: ListKind, items: impl Iterator<Item = &'a [u8]>, next: Option<usize>) -> Vec<u8> {
    let mut members = format!(r#""{}":["#, kind.member()).into_bytes();
    for (at, item) in items.enumerate() {
        if at > 0 {
            members.push(b',');
        }
        members.extend_from_slice(item);
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_cut_into_pages_that_lead_to_each_other() {
        let items: Vec<_> = (0..5).map(|n| Definitions { modern: format!(r#"{{"m":{n}}}"#), legacy: format!(r#"{{"l":{n}}}"#) }).collect();
        let paging = Paging { items: 2, cache: Cache::public(7) };
        let pages = encode_list(ListKind::Templates, &items, paging, &Signature::new("n", "v"));
        assert_eq!(pages.len(), 3);
        assert_eq!(
            String::from_utf8_lossy(&pages[0].modern),
            r#"{"resourceTemplates":[{"m":0},{"m":1}],"nextCursor":"resourceTemplates.1","ttlMs":7,"cacheScope":"public","resultType":"complete","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"n","version":"v"}}}"#
        );
        let last = find(&pages, "resourceTemplates.2").expect("a page");
        assert_eq!(String::from_utf8_lossy(&last.legacy), r#"{"resourceTemplates":[{"l":4}]}"#);
        assert!(find(&pages, "resourceTemplates.3").is_none() && find(&pages, "").is_some());
        let empty = encode_list::<Vec<u8>>(ListKind::Tools, &[], paging, &Signature::new("n", "v"));
        assert_eq!(String::from_utf8_lossy(&empty[0].legacy), r#"{"tools":[]}"#);
    }
}
