//! What is taken from the servers of an endpoint for its view.

use std::borrow::Cow;
use std::sync::Arc;

use super::name::Owner;
use super::page::{Definitions, ListKind, Signature};
use super::{Member, Seat};
use crate::base::limits::INSTRUCTIONS_BYTES_MAX;
use crate::engine::hosted::Hosted;
use crate::native::outcome::{Cache, Scope};
use crate::native::{Capabilities, ResourceEntry};
use crate::registry::{Catalog, Item, Server, Source};
use crate::wire::json::{self, write_str};
use crate::wire::mcp::Era;

/// Items on one page of a list of several servers, unless one of them wants fewer.
const PAGE_ITEMS: usize = 250;

/// The servers of an endpoint.
pub(super) struct Bound<'a> {
    pub members: &'a [Member],
    /// Their entries, in the same order.
    pub servers: &'a [Option<Arc<Server>>],
    pub hosted: &'a [Hosted],
}

/// One of them that there is.
#[derive(Clone, Copy)]
enum One<'a> {
    Native(&'a Hosted),
    Listed(&'a Server),
}

impl<'a> Bound<'a> {
    /// Those that there are, with their places.
    fn each(&self) -> impl Iterator<Item = (u32, One<'a>)> + '_ {
        let one = |(at, (member, entry)): (u32, (&'a Member, &'a Option<Arc<Server>>))| {
            let entry = entry.as_deref()?;
            let native = self.native(member, entry);
            Some((at, native.map_or(One::Listed(entry), One::Native)))
        };
        (0..).zip(self.members.iter().zip(self.servers)).filter_map(one)
    }

    /// The native server that this entry stands for, whether or not it takes calls.
    fn native(&self, member: &Member, entry: &Server) -> Option<&'a Hosted> {
        match (member.seat, &entry.spec.source) {
            (Seat::Native(number), _) => self.hosted.get(number as usize),
            (_, Source::Native(number)) => self.hosted.get(*number as usize),
            _ => None,
        }
    }

    /// The one server that is bound, if it is one.
    fn alone(&self) -> Option<One<'a>> {
        if self.members.len() == 1 { self.each().next().map(|(_, one)| one) } else { None }
    }

    /// The number of the one server that is bound, if it is native and takes calls.
    pub fn alone_native(&self) -> Option<u32> {
        match self.members {
            [Member { seat: Seat::Native(number), .. }] => Some(*number),
            _ => None,
        }
    }

    fn are_native(&self) -> bool {
        self.each().next().is_some() && self.each().all(|(_, one)| matches!(one, One::Native(_)))
    }

    fn natives(&self) -> impl Iterator<Item = &'a Hosted> + '_ {
        self.each().filter_map(|(_, one)| match one {
            One::Native(hosted) => Some(hosted),
            One::Listed(_) => None,
        })
    }

    /// The strictest of what the servers want; of one that is not native nothing is known.
    pub fn cache(&self, of: impl Fn(&Hosted) -> Cache) -> Cache {
        let stricter =
            |a: Cache, b: Cache| Cache { ttl_ms: a.ttl_ms.min(b.ttl_ms), scope: if a.scope == Scope::Private { a.scope } else { b.scope } };
        if self.are_native() { self.natives().map(of).reduce(stricter).unwrap_or_default() } else { Cache::default() }
    }

    /// Items on one page, at least one.
    pub fn page_items(&self) -> usize {
        let wanted = self.natives().map(|hosted| hosted.server.page_size()).min().unwrap_or(PAGE_ITEMS);
        if self.are_native() { wanted.max(1) } else { wanted.clamp(1, PAGE_ITEMS) }
    }

    /// What they can do together. An endpoint that is not fixed tells that it changes, and has tools when it has nothing else: so
    /// that its clients have a reason to look again.
    pub fn capabilities(&self, is_fixed: bool) -> Capabilities {
        let nothing =
            Capabilities { tools: false, prompts: false, resources: false, completions: false, changes: !is_fixed, updates: false };
        let mut all = self.each().map(|(_, one)| one.capabilities()).fold(nothing, |all, one| Capabilities {
            tools: all.tools || one.tools,
            prompts: all.prompts || one.prompts,
            resources: all.resources || one.resources,
            completions: all.completions || one.completions,
            changes: all.changes || one.changes,
            updates: all.updates || one.updates,
        });
        all.tools |= !(is_fixed || all.prompts || all.resources);
        all
    }

    /// What stands in every result, and the `serverInfo` of `initialize` and `server/discover`.
    pub fn signature(&self) -> (Signature, Vec<u8>) {
        match self.alone() {
            Some(One::Native(hosted)) => (Signature::new(hosted.server.name(), hosted.server.version()), hosted.server.info().to_vec()),
            Some(One::Listed(server)) => {
                let signature = Signature::new(&server.spec.name, &server.spec.software_version);
                let info = info(server);
                (signature, info)
            }
            None => {
                let signature = Signature::of_node();
                let info = signature.brief().to_vec();
                (signature, info)
            }
        }
    }

    /// How to use them. Of several, each has its share of the room.
    pub fn instructions(&self) -> Option<String> {
        match self.alone() {
            Some(One::Native(hosted)) => return hosted.server.instructions().map(str::to_owned),
            Some(one) => return one.instructions().map(|text| shorten(text, INSTRUCTIONS_BYTES_MAX).into_owned()),
            None => {}
        }
        let texts: Vec<_> = self.each().filter_map(|(at, one)| Some((&*self.members[at as usize].name, one.instructions()?))).collect();
        let share = INSTRUCTIONS_BYTES_MAX / texts.len().max(1);
        let said = |(name, text): &(&str, &str)| format!("{name}: {}", shorten(text, share.saturating_sub(name.len() + 4)));
        let joined = texts.iter().map(said).collect::<Vec<_>>().join("\n\n");
        Some(joined).filter(|joined| !joined.is_empty())
    }

    /// The servers as their items are named.
    pub fn owners(&self) -> Vec<Owner<'a>> {
        let is_plain =
            |entry: &Option<Arc<Server>>| entry.as_ref().and_then(|entry| entry.spec.fronted).is_some_and(|fronted| fronted.is_plain);
        self.members.iter().zip(self.servers).map(|(member, entry)| Owner { name: &member.name, is_plain: is_plain(entry) }).collect()
    }

    fn one(&self, member: u32) -> Option<One<'a>> {
        let (at, one) = (member as usize, self.servers.get(member as usize)?.as_deref()?);
        Some(self.native(self.members.get(at)?, one).map_or(One::Listed(one), One::Native))
    }

    /// How many items of one kind a server has; none that there is not.
    pub fn len(&self, member: u32, kind: ListKind) -> usize {
        self.one(member).map_or(0, |one| one.len(kind))
    }

    /// What a server calls one of them, and the definition.
    pub fn item(&self, member: u32, kind: ListKind, at: u32) -> Option<(&'a str, Definitions<&'a [u8]>)> {
        self.one(member)?.item(kind, at)
    }

    /// Whether it is fit to be shown.
    pub fn is_sound(&self, member: u32, kind: ListKind, at: u32) -> bool {
        self.one(member).is_some_and(|one| one.is_sound(kind, at))
    }
}

impl<'a> One<'a> {
    fn capabilities(self) -> Capabilities {
        match self {
            One::Native(hosted) => hosted.server.capabilities(),
            One::Listed(server) => {
                let Catalog { tools, prompts, resources, templates } = &server.spec.catalog;
                Capabilities {
                    tools: !tools.is_empty(),
                    prompts: !prompts.is_empty(),
                    resources: !(resources.is_empty() && templates.is_empty()),
                    completions: server.spec.fronted.is_some_and(|fronted| fronted.completes),
                    changes: true,
                    updates: server.spec.fronted.is_some_and(|fronted| fronted.subscribes),
                }
            }
        }
    }

    fn instructions(self) -> Option<&'a str> {
        match self {
            One::Native(hosted) => hosted.server.instructions(),
            One::Listed(server) => Some(&*server.spec.description),
        }
        .filter(|text| !text.is_empty())
    }

    /// How many items of one kind it has.
    fn len(self, kind: ListKind) -> usize {
        match (self, kind) {
            (One::Native(hosted), ListKind::Tools) => hosted.server.tools().len(),
            (One::Native(hosted), ListKind::Prompts) => hosted.server.prompts().len(),
            (One::Native(hosted), ListKind::Resources) => hosted.server.resources().len(),
            (One::Native(hosted), ListKind::Templates) => hosted.server.templates().len(),
            (One::Listed(server), kind) => listed(server, kind).len(),
        }
    }

    /// What it calls one of them, and the definition.
    fn item(self, kind: ListKind, at: u32) -> Option<(&'a str, Definitions<&'a [u8]>)> {
        let alike = |definition: &'a [u8]| Definitions { modern: definition, legacy: definition };
        let resource = |resource: &'a ResourceEntry| (resource.uri(), alike(resource.definition()));
        let at = at as usize;
        match (self, kind) {
            (One::Native(hosted), ListKind::Tools) => {
                let tool = hosted.server.tools().get(at)?;
                Some((tool.name(), Definitions { modern: tool.definition(Era::Modern), legacy: tool.definition(Era::Legacy) }))
            }
            (One::Native(hosted), ListKind::Prompts) => {
                hosted.server.prompts().get(at).map(|prompt| (prompt.name(), alike(prompt.definition())))
            }
            (One::Native(hosted), ListKind::Resources) => hosted.server.resources().get(at).map(resource),
            (One::Native(hosted), ListKind::Templates) => hosted.server.templates().get(at).map(resource),
            (One::Listed(server), kind) => listed(server, kind).get(at).map(|item| (&*item.name, alike(&item.json))),
        }
    }

    /// Whether it is fit to be shown.
    fn is_sound(self, kind: ListKind, at: u32) -> bool {
        match self {
            One::Native(_) => true,
            One::Listed(server) => listed(server, kind).get(at as usize).is_some_and(|item| is_sound(item, kind)),
        }
    }
}

fn listed(server: &Server, kind: ListKind) -> &[Item] {
    let Catalog { tools, prompts, resources, templates } = &server.spec.catalog;
    match kind {
        ListKind::Tools => tools,
        ListKind::Prompts => prompts,
        ListKind::Resources => resources,
        ListKind::Templates => templates,
    }
}

/// The member of a definition that names the item.
pub(super) const fn naming(kind: ListKind) -> &'static str {
    match kind {
        ListKind::Tools | ListKind::Prompts => "name",
        ListKind::Resources => "uri",
        ListKind::Templates => "uriTemplate",
    }
}

/// Whether the definition is JSON that names just what the item is called: a page holds it as it is, and clients are to see what is routed.
fn is_sound(item: &Item, kind: ListKind) -> bool {
    let mut names = json::members(&item.json).filter(|(key, _)| json::key_is(key, naming(kind)));
    let is_named = names.next().and_then(|(_, value)| json::string(value)).is_some_and(|name| *name == *item.name);
    is_named && names.next().is_none() && json::validate(&item.json).is_ok()
}

/// The `Implementation` object of a server that is not native.
fn info(server: &Server) -> Vec<u8> {
    let mut out = br#"{"name":"#.to_vec();
    write_str(&mut out, &server.spec.name);
    out.extend_from_slice(br#","version":"#);
    write_str(&mut out, &server.spec.software_version);
    for (member, value) in [("title", &server.spec.title), ("description", &server.spec.description)] {
        if !value.is_empty() {
            out.push(b',');
            write_str(&mut out, member);
            out.push(b':');
            write_str(&mut out, value);
        }
    }
    out.push(b'}');
    out
}

/// As much of a text as has room.
fn shorten(text: &str, bytes_max: usize) -> Cow<'_, str> {
    if text.len() <= bytes_max {
        return Cow::Borrowed(text);
    }
    let end = text.floor_char_boundary(bytes_max.saturating_sub('…'.len_utf8()));
    Cow::Owned(format!("{}…", &text[..end]))
}
