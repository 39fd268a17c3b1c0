//! Results that are encoded beforehand: pages of lists, and what stands around the members of every result of the modern era.

use crate::base::limits::PAGE_BYTES;
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
#[derive(Debug)]
pub(super) struct Page {
    /// The cursor that leads here; empty for the first page.
    cursor: String,
    pub modern: Vec<u8>,
    pub legacy: Vec<u8>,
}

/// A definition of an item, once for each era.
#[derive(Clone, Copy, Debug)]
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

/// The pages of a list.
#[derive(Debug)]
pub(super) struct Pages {
    pages: Vec<Page>,
    /// Of all its pages: lists are compared without being read.
    digest: blake3::Hash,
}

impl PartialEq for Pages {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Pages {
    /// The page that this cursor leads to.
    pub fn page(&self, cursor: &str) -> Option<&Page> {
        self.pages.iter().find(|page| page.cursor == cursor)
    }
}

/// Encodes a list, one item at a time. There is always a first page.
#[derive(Debug)]
pub(super) struct ListWriter {
    kind: ListKind,
    paging: Paging,
    pages: Vec<Page>,
    digest: blake3::Hasher,
    /// The page that is being filled, in both eras.
    modern: Vec<u8>,
    legacy: Vec<u8>,
    items: usize,
}

impl ListWriter {
    pub fn new(kind: ListKind, paging: Paging) -> Self {
        let (modern, legacy) = (Vec::new(), Vec::new());
        let mut list = Self { kind, paging, pages: Vec::new(), digest: blake3::Hasher::new(), modern, legacy, items: 0 };
        list.open();
        list
    }

    /// Appends an item; `write` appends a definition of it.
    pub fn push<T>(&mut self, signature: &Signature, item: &Definitions<T>, write: impl Fn(&mut Vec<u8>, &T)) {
        if self.items >= self.paging.items || self.modern.len().max(self.legacy.len()) >= PAGE_BYTES {
            self.close(signature, true);
            self.open();
        }
        for (out, definition) in [(&mut self.modern, &item.modern), (&mut self.legacy, &item.legacy)] {
            if self.items > 0 {
                out.push(b',');
            }
            write(out, definition);
        }
        self.items += 1;
    }

    /// The list, with every item that was appended.
    pub fn finish(mut self, signature: &Signature) -> Pages {
        self.close(signature, false);
        Pages { pages: self.pages, digest: self.digest.finalize() }
    }

    fn open(&mut self) {
        self.items = 0;
        for out in [&mut self.modern, &mut self.legacy] {
            out.push(b'{');
            write_str(out, self.kind.member());
            out.extend_from_slice(b":[");
        }
    }

    fn close(&mut self, signature: &Signature, has_next: bool) {
        let number = self.pages.len();
        for out in [&mut self.modern, &mut self.legacy] {
            out.push(b']');
            if has_next {
                out.extend_from_slice(br#","nextCursor":"#);
                write_str(out, &cursor(self.kind, number + 1));
            }
        }
        self.modern.push(b',');
        write_cache(&mut self.modern, self.paging.cache);
        self.modern.push(b',');
        self.modern.extend_from_slice(&signature.tail);
        self.legacy.push(b'}');
        let page = |bytes: &mut Vec<u8>| {
            let mut bytes = std::mem::take(bytes);
            bytes.shrink_to_fit();
            bytes
        };
        let page = Page { cursor: cursor(self.kind, number), modern: page(&mut self.modern), legacy: page(&mut self.legacy) };
        for bytes in [&page.modern, &page.legacy] {
            self.digest.update(&(bytes.len() as u64).to_le_bytes());
            self.digest.update(bytes);
        }
        self.pages.push(page);
    }
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

    fn encoded(items: &[Definitions<String>], paging: Paging) -> Pages {
        let signature = Signature::new("n", "v");
        let mut list = ListWriter::new(ListKind::Templates, paging);
        items.iter().for_each(|item| list.push(&signature, item, |out, text| out.extend_from_slice(text.as_bytes())));
        list.finish(&signature)
    }

    #[test]
    fn a_list_is_cut_into_pages_that_lead_to_each_other() {
        let items: Vec<_> = (0..5).map(|n| Definitions { modern: format!(r#"{{"m":{n}}}"#), legacy: format!(r#"{{"l":{n}}}"#) }).collect();
        let paging = Paging { items: 2, cache: Cache::public(7) };
        let list = encoded(&items, paging);
        let pages = &list.pages;
        assert_eq!(pages.len(), 3);
        assert_eq!(
            String::from_utf8_lossy(&pages[0].modern),
            r#"{"resourceTemplates":[{"m":0},{"m":1}],"nextCursor":"resourceTemplates.1","ttlMs":7,"cacheScope":"public","resultType":"complete","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"n","version":"v"}}}"#
        );
        let last = list.page("resourceTemplates.2").expect("a page");
        assert_eq!(String::from_utf8_lossy(&last.legacy), r#"{"resourceTemplates":[{"l":4}]}"#);
        assert!(list.page("resourceTemplates.3").is_none() && list.page("").is_some());
        let empty = encoded(&[], paging);
        assert_eq!(String::from_utf8_lossy(&empty.pages[0].legacy), r#"{"resourceTemplates":[]}"#);
        assert!(list == encoded(&items, paging) && list != empty && list != encoded(&items, Paging { items: 3, ..paging }));
    }

    #[test]
    fn a_page_that_is_long_enough_takes_no_further_item() {
        let long = || "x".repeat(PAGE_BYTES / 2);
        let items: Vec<_> = (0..5).map(|_| Definitions { modern: "1".into(), legacy: long() }).collect();
        let list = encoded(&items, Paging { items: 100, cache: Cache::public(7) });
        let lens: Vec<_> = list.pages.iter().map(|page| page.legacy.len() / (PAGE_BYTES / 2)).collect();
        assert_eq!(lens, [2, 2, 1]);
        assert!(list.pages.iter().all(|page| page.modern.windows(3).filter(|bytes| bytes == b"1,1").count() <= 1));
    }
}
