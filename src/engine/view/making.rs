//! A view in the making: over as many turns of its core as it takes, in each of which a bounded number of bytes is handled.

use std::sync::Arc;

use super::gather::{Bound, naming};
use super::links::Links;
use super::mirror::Mirrors;
use super::name::{Naming, Own, Owner, Style, Table};
use super::page::{self, ListKind, ListWriter, Pages, Paging, Signature};
use super::rewrite::write_spliced;
use super::{Family, Member, Seat, Signer, View, offers};
use crate::base::limits::{SERVERS_PER_ENDPOINT_MAX, VIEW_BYTES_MAX, VIEW_ITEM_COST_BYTES, VIEW_ITEMS_MAX};
use crate::engine::config::Separator;
use crate::engine::hosted::Hosted;
use crate::registry::{Endpoint, Server};
use crate::wire::json::{self, write_str};

/// What may still be handled, bytes.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct Budget {
    left: usize,
}

impl Budget {
    pub const fn new(bytes: usize) -> Self {
        Self { left: bytes }
    }

    pub const fn is_spent(self) -> bool {
        self.left == 0
    }

    /// An item is handled, and so many bytes of it. The last one may be more than what is left.
    const fn take(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(VIEW_ITEM_COST_BYTES + bytes);
    }
}

/// How far the list in work is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Items are looked at, from this one of this server on, and named if their plain names are free.
    Scan { member: u32, item: u32 },
    /// The others are named.
    Name,
    /// Items are written to pages, from this place on.
    Write(u32),
    /// It is over; families are made of templates, from this place on.
    Families(u32),
}

const START: Stage = Stage::Scan { member: 0, item: 0 };

/// The list in work.
#[derive(Debug)]
struct Work {
    kind: ListKind,
    stage: Stage,
    /// Its items by place: the server, and which of that server's.
    own: Vec<(u32, u32)>,
    naming: Naming,
    pages: ListWriter,
}

/// See the [module](self).
#[derive(Debug)]
pub(in crate::engine) struct Making {
    endpoint: Arc<Endpoint>,
    servers: Box<[Option<Arc<Server>>]>,
    members: Box<[Member]>,
    separator: Separator,
    signature: Signature,
    work: Work,
    lists: Vec<Pages>,
    tables: Vec<Table>,
    families: Vec<Family>,
    mirrors: Mirrors,
    /// Of all lists so far.
    items: usize,
    bytes: usize,
    is_too_large: bool,
}

/// Whether a view is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::engine) enum Progress {
    Made,
    /// There was not enough of the budget.
    More,
}

impl Making {
    /// Begins a view. `servers` are the entries of the endpoint's servers, in its order; none where there is no server of that name.
    pub fn new(endpoint: Arc<Endpoint>, servers: Vec<Option<Arc<Server>>>, hosted: &[Hosted], separator: Separator) -> Self {
        let names = endpoint.servers.iter().take(SERVERS_PER_ENDPOINT_MAX);
        let members: Box<[Member]> = names.zip(&servers).map(|(name, entry)| Member::new(name, entry.as_deref(), hosted)).collect();
        let bound = Bound { members: &members, servers: &servers, hosted };
        let (signature, _) = bound.signature();
        let work = begin(&bound, ListKind::ALL[0], separator);
        Self {
            servers: servers.into(),
            members,
            separator,
            signature,
            work,
            lists: Vec::with_capacity(ListKind::ALL.len()),
            tables: Vec::with_capacity(ListKind::ALL.len()),
            families: Vec::new(),
            mirrors: Mirrors::default(),
            items: 0,
            bytes: 0,
            is_too_large: false,
            endpoint,
        }
    }

    /// Goes on as far as the budget allows. `hosted` are the servers it was begun with.
    pub fn step(&mut self, hosted: &[Hosted], budget: &mut Budget) -> Progress {
        let bound = Bound { members: &self.members, servers: &self.servers, hosted };
        let names = bound.owners();
        loop {
            if self.lists.len() == ListKind::ALL.len() {
                return Progress::Made;
            }
            if budget.is_spent() {
                return Progress::More;
            }
            let bytes = self.work.step(&bound, &names, &self.signature, &mut self.families, &mut self.mirrors);
            budget.take(bytes.handled);
            (self.items, self.bytes) = (self.items + usize::from(bytes.is_new), self.bytes + bytes.shown);
            if self.items > VIEW_ITEMS_MAX || self.bytes > VIEW_BYTES_MAX {
                return self.give_up(hosted);
            }
            if bytes.is_over {
                let next = ListKind::ALL.get(self.lists.len() + 1).copied().unwrap_or(self.work.kind);
                let Work { pages, naming, .. } = std::mem::replace(&mut self.work, begin(&bound, next, self.separator));
                self.lists.push(pages.finish(&self.signature));
                self.tables.push(naming.into_table());
            }
        }
    }

    /// There is too much to be shown: the view has nothing.
    fn give_up(&mut self, hosted: &[Hosted]) -> Progress {
        (self.is_too_large, self.bytes) = (true, 0);
        let bound = Bound { members: &self.members, servers: &self.servers, hosted };
        self.lists = ListKind::ALL.map(|kind| ListWriter::new(kind, paging(&bound, kind)).finish(&self.signature)).into();
        self.tables = ListKind::ALL.map(|_| Table::default()).into();
        (self.families, self.mirrors) = (Vec::new(), Mirrors::default());
        Progress::Made
    }

    /// The view, which must be made. `is_reloadable`: what the configuration says may change while the process runs.
    pub fn finish(self, hosted: &[Hosted], epoch: u64, is_reloadable: bool) -> View {
        let Self { endpoint, servers, members, lists, tables, families, mirrors, is_too_large, bytes, .. } = self;
        let (Ok(lists), Ok(tables)) = (<[Pages; 4]>::try_from(lists), <[Table; 4]>::try_from(tables)) else {
            unreachable!("every list was made")
        };
        let [tools, prompts, resources, templates] = tables;
        let bound = Bound { members: &members, servers: &servers, hosted };
        let alone = bound.alone_native();
        let is_fixed = alone.is_some() && endpoint.is_configured && !is_reloadable;
        let capabilities = bound.capabilities(is_fixed);
        let (_, info) = bound.signature();
        let instructions = bound.instructions();
        let discover_cache = bound.cache(|hosted| hosted.server.discover_cache());
        let discover = page::encode_discover(&capabilities, instructions.as_deref(), discover_cache, &info);
        let initialize = page::encode_initialize(&capabilities, instructions.as_deref(), &info);
        let is_direct = [&tools, &prompts].iter().all(|table| table.renamed().next().is_none());
        let is_reached = !is_too_large && members.iter().all(|member| member.seat != Seat::Away);
        let links = Links::of(&resources, &families);
        View {
            epoch,
            offers: offers(&capabilities, is_fixed),
            signer: alone.map_or(Signer::Node, Signer::Native),
            bytes: bytes + discover.len() + initialize.len(),
            discover,
            initialize,
            direct: alone.filter(|_| is_direct && is_reached),
            is_too_large,
            lists,
            tools,
            prompts,
            resources,
            templates,
            families,
            links,
            mirrors,
            members,
            servers,
            endpoint,
        }
    }
}

fn paging(bound: &Bound<'_>, kind: ListKind) -> Paging {
    Paging { items: bound.page_items(), cache: bound.cache(|hosted| hosted.server.list_cache(kind.list())) }
}

fn begin(bound: &Bound<'_>, kind: ListKind, separator: Separator) -> Work {
    let style = match kind {
        ListKind::Tools | ListKind::Prompts => Style::Names { separator, are_tools: kind == ListKind::Tools },
        ListKind::Resources | ListKind::Templates => Style::Uris,
    };
    let items = (0..bound.members.len() as u32).map(|member| bound.len(member, kind)).sum::<usize>().min(VIEW_ITEMS_MAX);
    Work {
        kind,
        stage: START,
        own: Vec::with_capacity(items),
        naming: Naming::new(style, items),
        pages: ListWriter::new(kind, paging(bound, kind)),
    }
}

/// What one step of a list did.
#[derive(Default)]
struct Step {
    /// Bytes that were read or written.
    handled: usize,
    /// Bytes of a new item, as far as they are shown.
    shown: usize,
    is_new: bool,
    /// The list is made.
    is_over: bool,
}

impl Work {
    /// Handles one item.
    fn step(
        &mut self,
        bound: &Bound<'_>,
        names: &[Owner<'_>],
        signature: &Signature,
        families: &mut Vec<Family>,
        mirrors: &mut Mirrors,
    ) -> Step {
        match self.stage {
            Stage::Scan { member, item } => self.scan(bound, names, mirrors, member, item),
            Stage::Name => {
                let (own, kind) = (&self.own, self.kind);
                if !self.naming.name_next(names, |place| owned(bound, own, kind, place)) {
                    self.stage = Stage::Write(0);
                }
                Step::default()
            }
            Stage::Write(place) => self.write(bound, signature, place),
            Stage::Families(place) => {
                let named = self.naming.named(place).filter(|_| self.kind == ListKind::Templates);
                families.extend(named.map(Family::new));
                self.stage = Stage::Families(place + 1);
                Step { is_over: named.is_none(), ..Step::default() }
            }
        }
    }

    fn scan(&mut self, bound: &Bound<'_>, names: &[Owner<'_>], mirrors: &mut Mirrors, member: u32, item: u32) -> Step {
        if member as usize >= bound.members.len() {
            self.stage = Stage::Name;
            return Step::default();
        }
        let Some((name, definition)) = bound.item(member, self.kind, item) else {
            self.stage = Stage::Scan { member: member + 1, item: 0 };
            return Step::default();
        };
        self.stage = Stage::Scan { member, item: item + 1 };
        let bytes = 2 * name.len() + definition.modern.len() + definition.legacy.len();
        if !bound.is_sound(member, self.kind, item) {
            return Step { handled: bytes, ..Step::default() };
        }
        if self.kind == ListKind::Tools
            && let Some(Member { seat: Seat::Upstream(fronted), .. }) = bound.members.get(member as usize)
        {
            mirrors.add(fronted.number, name, definition.modern);
        }
        let (own, kind) = (&mut self.own, self.kind);
        own.push((member, item));
        self.naming.add((member, name), names, |place| owned(bound, own, kind, place));
        Step { handled: bytes, shown: bytes, is_new: true, is_over: false }
    }

    fn write(&mut self, bound: &Bound<'_>, signature: &Signature, place: u32) -> Step {
        let Some(&(member, item)) = self.own.get(place as usize) else {
            self.stage = Stage::Families(0);
            return Step::default();
        };
        self.stage = Stage::Write(place + 1);
        let kind = self.kind;
        let (Some((name, definition)), Some(exposed)) = (bound.item(member, kind, item), self.naming.exposed(place)) else {
            return Step::default();
        };
        if *exposed == *name {
            self.pages.push(signature, &definition, |out, json| out.extend_from_slice(json));
        } else {
            let mut value = Vec::new();
            write_str(&mut value, exposed);
            self.pages.push(signature, &definition, |out, json| match json::get(json, naming(kind)) {
                Some(part) => write_spliced(out, json, part, &value),
                None => out.extend_from_slice(json),
            });
        }
        Step { handled: definition.modern.len() + definition.legacy.len(), ..Step::default() }
    }
}

/// The item in a place: its server, and what that calls it.
fn owned<'a>(bound: &Bound<'a>, own: &[(u32, u32)], kind: ListKind, place: u32) -> Own<'a> {
    let (member, item) = own[place as usize];
    (member, bound.item(member, kind, item).map_or("", |(name, _)| name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::NodeId;
    use crate::base::limits::{CATALOG_ITEMS_MAX, VIEW_TURN_BYTES};
    use crate::registry::{Catalog, Item, ServerId, ServerSpec, Source, State};

    impl View {
        /// Makes a view in one go.
        pub fn new(
            endpoint: Arc<Endpoint>,
            servers: Vec<Option<Arc<Server>>>,
            hosted: &[Hosted],
            separator: Separator,
            epoch: u64,
        ) -> Self {
            let mut making = Making::new(endpoint, servers, hosted, separator);
            while making.step(hosted, &mut Budget::new(usize::MAX)) == Progress::More {}
            making.finish(hosted, epoch, false)
        }
    }

    fn items(count: usize, bytes: usize) -> Box<[Item]> {
        let item = |n: usize| {
            let name = format!("t{n}");
            let json = format!(r#"{{"name":"{name}","description":"{}"}}"#, "x".repeat(bytes));
            Item { name: name.into(), json: json.into_bytes().into() }
        };
        (0..count).map(item).collect()
    }

    /// An endpoint with so many servers of these tools.
    fn bound(servers: usize, tools: &[Item]) -> (Arc<Endpoint>, Vec<Option<Arc<Server>>>) {
        let id = ServerId { node: NodeId(0), number: 1 };
        let names: Box<[Box<str>]> = (0..servers).map(|n| format!("s{n}").into()).collect();
        let server = |name: &str| {
            let spec = ServerSpec {
                name: name.into(),
                title: "".into(),
                description: "".into(),
                software_version: "1".into(),
                source: Source::Upstream("x".into()),
                state: State::Offline,
                front: None,
                fronted: None,
                is_configured: false,
                catalog: Catalog { tools: tools.into(), ..Catalog::default() },
            };
            Some(Arc::new(Server { id, version: 1, created_ms: 0, updated_ms: 0, spec }))
        };
        let entries = names.iter().map(|name| server(name)).collect();
        (
            Arc::new(Endpoint {
                path: "/mcp/x".into(),
                id,
                version: 1,
                servers: names,
                created_ms: 0,
                updated_ms: 0,
                is_configured: false,
            }),
            entries,
        )
    }

    /// Makes a view with so much to every turn. Also how many turns it took.
    fn make(servers: usize, tools: &[Item], turn_bytes: usize) -> (View, usize) {
        let (endpoint, entries) = bound(servers, tools);
        let (mut making, mut turns) = (Making::new(endpoint, entries, &[], Separator::Dot), 1);
        while making.step(&[], &mut Budget::new(turn_bytes)) == Progress::More {
            turns += 1;
        }
        (making.finish(&[], 1, false), turns)
    }

    #[test]
    fn it_is_the_same_view_however_many_turns_it_takes() {
        let tools = items(40, 10);
        let (whole, turns) = make(20, &tools, usize::MAX);
        assert_eq!(turns, 1);
        for turn_bytes in [1, 1000, 30_000] {
            let (view, turns) = make(20, &tools, turn_bytes);
            assert!(view.changes_since(&whole).is_empty() && !view.is_too_large);
            // Each item is looked at and written, and costs its bytes and something besides: 1 at least and no more than all of it.
            let cost = 800 * 2 * (VIEW_ITEM_COST_BYTES + 100);
            assert!(turns >= (800 * 2 * VIEW_ITEM_COST_BYTES / turn_bytes.max(VIEW_ITEM_COST_BYTES)), "{turns}");
            assert!(turns <= cost / turn_bytes.max(VIEW_ITEM_COST_BYTES) * 2 + 100, "{turns}");
            assert_eq!(view.page_modern(ListKind::Tools, "tools.3"), whole.page_modern(ListKind::Tools, "tools.3"));
            assert_eq!(view.tool("s19.t39"), whole.tool("s19.t39"));
        }
    }

    #[test]
    fn a_turn_handles_no_more_than_its_budget_and_one_item() {
        let (endpoint, entries) = bound(4, &items(30, 60_000));
        let mut making = Making::new(endpoint, entries, &[], Separator::Dot);
        let (mut before, mut progress) = (0, Progress::More);
        while progress == Progress::More {
            progress = making.step(&[], &mut Budget::new(VIEW_TURN_BYTES));
            assert!(making.bytes - before <= VIEW_TURN_BYTES + 2 * 60_100);
            before = making.bytes;
        }
        assert!(making.bytes > 4 * 30 * 2 * 60_000 && making.items == 120);
    }

    #[test]
    fn an_endpoint_shows_so_much_and_no_more() {
        let most = VIEW_ITEMS_MAX / CATALOG_ITEMS_MAX;
        let tools = items(CATALOG_ITEMS_MAX, 0);
        let (view, _) = make(most, &tools, VIEW_TURN_BYTES);
        assert!(!view.is_too_large);
        let (view, turns) = make(most + 1, &tools, VIEW_TURN_BYTES);
        assert!(view.is_too_large && turns > 1);
        assert_eq!(view.tool("s0.t0"), super::super::Reach::Nothing);
        assert!(view.page_legacy(ListKind::Tools, "").is_some_and(|page| page == br#"{"tools":[]}"#));
        let tools = items(32, VIEW_BYTES_MAX / 128);
        assert!(!make(1, &tools, VIEW_TURN_BYTES).0.is_too_large);
        assert!(make(2, &tools, VIEW_TURN_BYTES).0.is_too_large);
        assert!(
            make(200, &tools, VIEW_TURN_BYTES).1 <= 2 * VIEW_BYTES_MAX / VIEW_TURN_BYTES,
            "what is too much is not looked at to the end"
        );
    }
}
