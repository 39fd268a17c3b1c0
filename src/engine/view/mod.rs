//! What clients of one endpoint see: the servers bound to it, as one.
//!
//! A view is made on the core that needs it, out of the endpoint's entry, those of its servers and the native servers that the core hosts. It
//! holds its lists encoded page by page for both eras, what the endpoint says of itself, and whose each exposed name and URI is. It never
//! changes: when an entry does, another is made (see [`super::views`]). A large one takes several turns (see [`Making`]), and of one that would
//! be larger than [`VIEW_ITEMS_MAX`] or [`VIEW_BYTES_MAX`] allow nothing is shown: its clients are told so, with what helps.
//!
//! [`VIEW_ITEMS_MAX`]: crate::base::limits::VIEW_ITEMS_MAX
//! [`VIEW_BYTES_MAX`]: crate::base::limits::VIEW_BYTES_MAX
//!
//! A server alone at an endpoint that was never bound otherwise is shown as if the endpoint were the server: it has the methods for which the
//! server has something, and no others. Any other endpoint may have other servers tomorrow, so its lists are always there, if only to be
//! empty, and clients are always told that they may change.

mod gather;
mod links;
mod making;
mod mirror;
mod name;
mod page;
mod rewrite;

use std::borrow::Cow;
use std::sync::Arc;

use super::hosted::Hosted;
use super::out::Lists;
use super::relay::Lead;
use crate::native::{Capabilities, UriTemplate};
use crate::registry::{Endpoint, Fronted, Server, Source, State};
use crate::wire::json::{self, write_str};
use crate::wire::mcp::{Era, HeaderParam};
use links::Links;
use mirror::Mirrors;
use name::{Named, Table};
use page::Pages;
use rewrite::splice;

pub(super) use making::{Budget, Making, Progress};
pub(super) use page::{ListKind, ResultType, Signature};
pub(super) use rewrite::rename_contents;

/// The methods that an endpoint answers, in either era.
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

impl Offers {
    /// Whether this list is answered.
    pub const fn has_list(self, kind: ListKind) -> bool {
        match kind {
            ListKind::Tools => self.tools,
            ListKind::Prompts => self.prompts,
            ListKind::Resources | ListKind::Templates => self.resources,
        }
    }
}

/// Where a call of a server goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Seat {
    /// To the native server with this number.
    Native(u32),
    /// To this upstream.
    Upstream(Fronted),
    /// Nowhere for now: it is not connected.
    Away,
    /// The name is bound, and no server has it.
    Vacant,
}

/// A bound server.
#[derive(Debug)]
struct Member {
    name: Box<str>,
    seat: Seat,
}

/// Where what a client named leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reach<'a> {
    /// To a native server.
    Native {
        /// Its number.
        server: u32,
        /// What it calls it.
        name: &'a str,
    },
    /// To an upstream.
    Upstream {
        /// How it is spoken to.
        fronted: Fronted,
        /// What it calls it.
        name: &'a str,
    },
    /// To this server, which cannot be called.
    Away(&'a str),
    /// Nowhere.
    Nothing,
}

/// Whose `serverInfo` stands in results.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Signer {
    /// That of the native server with this number.
    Native(u32),
    /// That of this node.
    Node,
}

/// A family of resources, to be matched with what clients read.
#[derive(Debug)]
struct Family {
    member: u32,
    /// What stands before the server's own URIs.
    prefix: Box<str>,
    /// None: it cannot be read here, and only what stands before its first expression is compared.
    template: Option<UriTemplate>,
    literal: Box<str>,
}

/// One endpoint as its clients see it. See the [module](self).
#[derive(Debug)]
pub(super) struct View {
    /// Counts the views that its core has made.
    pub epoch: u64,
    /// The entries it was made of.
    pub endpoint: Arc<Endpoint>,
    servers: Box<[Option<Arc<Server>>]>,
    pub offers: Offers,
    pub signer: Signer,
    /// The result of `server/discover`: a JSON object.
    pub discover: Vec<u8>,
    /// The members of the result of `initialize` besides the version.
    pub initialize: Vec<u8>,
    members: Box<[Member]>,
    /// What is shown, bytes: names and definitions once for each era, and what the endpoint says of itself.
    pub bytes: usize,
    /// What is bound is more than an endpoint shows, so it shows nothing: whoever comes is told so.
    pub is_too_large: bool,
    /// All names are those of this native server.
    direct: Option<u32>,
    lists: [Pages; 4],
    tools: Table,
    prompts: Table,
    resources: Table,
    templates: Table,
    families: Vec<Family>,
    links: Links,
    mirrors: Mirrors,
}

impl View {
    /// The path of the endpoint.
    pub fn path(&self) -> &str {
        &self.endpoint.path
    }

    /// Whether it was made of just these entries.
    pub fn is_of(&self, endpoint: &Arc<Endpoint>, servers: &[Option<Arc<Server>>]) -> bool {
        let is_same = |(old, new): (&Option<Arc<Server>>, &Option<Arc<Server>>)| match (old, new) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new) || (old.id == new.id && old.version == new.version),
            (None, None) => true,
            _ => false,
        };
        self.endpoint.id == endpoint.id
            && self.endpoint.version == endpoint.version
            && self.servers.len() == servers.len()
            && self.servers.iter().zip(servers).all(is_same)
    }

    /// The page that this cursor leads to: the result object of the modern era. None when no page has that cursor.
    pub fn page_modern(&self, kind: ListKind, cursor: &str) -> Option<&[u8]> {
        self.lists[kind as usize].page(cursor).map(|page| &*page.modern)
    }

    /// The same for the legacy era.
    pub fn page_legacy(&self, kind: ListKind, cursor: &str) -> Option<&[u8]> {
        self.lists[kind as usize].page(cursor).map(|page| &*page.legacy)
    }

    /// Whose tool that is.
    pub fn tool<'a>(&'a self, name: &'a str) -> Reach<'a> {
        self.reach(&self.tools, name)
    }

    /// Whose prompt that is.
    pub fn prompt<'a>(&'a self, name: &'a str) -> Reach<'a> {
        self.reach(&self.prompts, name)
    }

    /// Whose resource that is: one of that URI, else of the first template that it fits, in the order of the servers. An upstream that is alone has
    /// whatever is asked for.
    pub fn resource<'a>(&'a self, uri: &'a str) -> Reach<'a> {
        match self.reach(&self.resources, uri) {
            Reach::Nothing => {
                let found = self.families.iter().find_map(|family| Some((family.member, family.own(uri)?)));
                match (found, &*self.members) {
                    (Some((member, own)), _) => self.to(member, own),
                    // What a result links to may be in no list (2025-11-25, tools, "Resource Links"): a server alone knows best.
                    (None, [Member { seat: Seat::Upstream(fronted), .. }]) => Reach::Upstream { fronted: *fronted, name: uri },
                    (None, _) => Reach::Nothing,
                }
            }
            reach => reach,
        }
    }

    /// Whose argument is to be completed, and the parameters of `completion/complete` as that server knows them. The name is not said again.
    pub fn completion<'a>(&'a self, params: &'a [u8]) -> (Reach<'a>, Cow<'a, [u8]>) {
        if let Some(server) = self.direct {
            return (Reach::Native { server, name: "" }, Cow::Borrowed(params));
        }
        let Some((raw, named)) = self.completed(params) else { return (Reach::Nothing, Cow::Borrowed(params)) };
        let params = if named.exposed == named.original {
            Cow::Borrowed(params)
        } else {
            let mut own = Vec::new();
            write_str(&mut own, &named.original);
            Cow::Owned(splice(params, raw, &own))
        };
        (self.to(named.member, ""), params)
    }

    /// What `ref` of these parameters names: as it stands there, and in the tables.
    fn completed<'a>(&self, params: &'a [u8]) -> Option<(&'a [u8], &Named)> {
        let target = json::get(params, "ref")?;
        let kind = json::get(target, "type").and_then(json::string)?;
        let member = if kind == "ref/prompt" { "name" } else { "uri" };
        let raw = json::get(target, member)?;
        let name = json::string(raw)?;
        let named = match &*kind {
            "ref/prompt" => self.prompts.find(&name),
            "ref/resource" => self.templates.find(&name).or_else(|| self.resources.find(&name)),
            _ => None,
        };
        Some((raw, named?))
    }

    /// Header fields that an upstream of the modern era wants with these arguments of a tool.
    pub fn mirrored(&self, lead: &Lead<'_>, arguments: Option<&[u8]>) -> Vec<(String, Vec<u8>)> {
        match lead.fronted.version.era() {
            Era::Legacy => Vec::new(),
            Era::Modern => self.mirrors.fields(lead.fronted.number, lead.own, arguments),
        }
    }

    /// Arguments of an upstream's tool that clients of the modern era mirror into headers.
    pub fn header_params(&self, lead: &Lead<'_>) -> &[HeaderParam] {
        self.mirrors.params(lead.fronted.number, lead.own)
    }

    /// Names of bound servers that there are not.
    pub fn absent(&self) -> impl Iterator<Item = &str> {
        self.members.iter().filter(|member| member.seat == Seat::Vacant).map(|member| &*member.name)
    }

    /// Whether this native server is bound.
    pub fn has_native(&self, server: u32) -> bool {
        self.members.iter().any(|member| member.seat == Seat::Native(server))
    }

    /// Whether this upstream is bound.
    pub fn has_upstream(&self, upstream: u32) -> bool {
        self.members.iter().any(|member| matches!(member.seat, Seat::Upstream(fronted) if fronted.number == upstream))
    }

    /// What clients call a resource of this native server.
    pub fn exposed_uri<'a>(&self, server: u32, uri: &'a str) -> Cow<'a, str> {
        let is_its = |member: u32| self.members[member as usize].seat == Seat::Native(server);
        if let Some(named) = self.resources.renamed().find(|named| *named.original == *uri && is_its(named.member)) {
            return Cow::Owned(named.exposed.to_string());
        }
        let is_own = self.resources.find(uri).is_some_and(|named| is_its(named.member));
        let family = self.families.iter().filter(|family| !is_own && !family.prefix.is_empty() && is_its(family.member));
        match family.into_iter().find(|family| family.fits(uri)) {
            Some(family) => Cow::Owned(format!("{}{uri}", family.prefix)),
            None => Cow::Borrowed(uri),
        }
    }

    /// The lists that differ from those of an older view of the endpoint, or that an upstream has said to since.
    pub fn changes_since(&self, older: &Self) -> Lists {
        let is_said = |kind: ListKind| self.said(kind) != older.said(kind);
        let differing = ListKind::ALL.into_iter().filter(|&kind| self.lists[kind as usize] != older.lists[kind as usize] || is_said(kind));
        differing.fold(Lists::NONE, |lists, kind| lists.with(kind.list().into()))
    }

    /// How often upstreams have said that a list of theirs changed.
    fn said(&self, kind: ListKind) -> u32 {
        let counts = self.members.iter().filter_map(|member| match (&member.seat, kind) {
            (Seat::Upstream(fronted), ListKind::Tools) => Some(fronted.changes[0]),
            (Seat::Upstream(fronted), ListKind::Prompts) => Some(fronted.changes[1]),
            (Seat::Upstream(fronted), ListKind::Resources | ListKind::Templates) => Some(fronted.changes[2]),
            _ => None,
        });
        counts.fold(0, u32::wrapping_add)
    }

    fn reach<'a>(&'a self, table: &'a Table, name: &'a str) -> Reach<'a> {
        match self.direct {
            // The server knows best what it has.
            Some(server) => Reach::Native { server, name },
            None => table.find(name).map_or(Reach::Nothing, |named| self.to(named.member, &named.original)),
        }
    }

    fn to<'a>(&'a self, member: u32, name: &'a str) -> Reach<'a> {
        let member = &self.members[member as usize];
        match member.seat {
            Seat::Native(server) => Reach::Native { server, name },
            Seat::Upstream(fronted) => Reach::Upstream { fronted, name },
            Seat::Away => Reach::Away(&member.name),
            Seat::Vacant => Reach::Nothing,
        }
    }
}

impl Member {
    fn new(name: &str, entry: Option<&Server>, hosted: &[Hosted]) -> Self {
        let seat = match entry {
            None => Seat::Vacant,
            Some(entry) => match entry.spec.source {
                Source::Native(number) if entry.spec.state == State::Online && (number as usize) < hosted.len() => Seat::Native(number),
                Source::Upstream(_) if entry.spec.state == State::Online => entry.spec.fronted.map_or(Seat::Away, Seat::Upstream),
                _ => Seat::Away,
            },
        };
        Self { name: name.into(), seat }
    }
}

impl Family {
    fn new(named: &Named) -> Self {
        Self {
            member: named.member,
            prefix: name::prefix(named).into(),
            template: UriTemplate::parse(&named.original).ok(),
            literal: named.original.split('{').next().unwrap_or_default().into(),
        }
    }

    /// What the server calls a resource of this family.
    fn own<'a>(&self, exposed: &'a str) -> Option<&'a str> {
        exposed.strip_prefix(&*self.prefix).filter(|own| self.fits(own))
    }

    fn fits(&self, own: &str) -> bool {
        match &self.template {
            Some(template) => template.matches(own).is_some(),
            None => !self.literal.is_empty() && own.starts_with(&*self.literal),
        }
    }
}

fn offers(capabilities: &Capabilities, is_fixed: bool) -> Offers {
    let told = capabilities.changes;
    let lists = [
        (capabilities.tools || !is_fixed, Lists::TOOLS),
        (capabilities.prompts || !is_fixed, Lists::PROMPTS),
        (capabilities.resources || !is_fixed, Lists::RESOURCES),
    ];
    let changes = lists.into_iter().filter(|(has, _)| *has && told).fold(Lists::NONE, |all, (_, list)| all.with(list));
    Offers {
        tools: lists[0].0,
        prompts: lists[1].0,
        resources: lists[2].0,
        completions: capabilities.completions,
        changes,
        updates: lists[2].0 && capabilities.updates,
    }
}
