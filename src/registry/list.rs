//! Lists: pages of entries by name, gathered from all cores.
//!
//! Each core walks its own shards and keeps the first so many names of the page, a bounded number of entries per turn. An entry that is
//! there from the beginning to the end of the walk is found once; one that comes or goes meanwhile may be found or not.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use memchr::memmem::Finder;

use super::change::{Kind, Refusal};
use super::entry::{Endpoint, Server};
use super::frame::{Effect, Effects, Frame, Name, Waiter};
use super::kinds::Entry;
use super::shard::Shard;
use super::tickets::Tickets;
use super::{Registry, send};
use crate::base::ids::CoreId;
use crate::base::limits;
use crate::base::time::{Nanos, Now};

/// Bytes that are searched at the cost of looking at one entry.
const BYTES_PER_STEP: usize = 64;
/// Names of servers that are looked at at the same cost.
const NAMES_PER_STEP: usize = 8;

/// A question that every entry of a list must say yes to, asked where the entry is at home: so a page is full whatever is left out. It must be
/// quick to answer.
#[derive(Clone)]
pub struct Filter(Arc<dyn Fn(&Name) -> bool + Send + Sync>);

impl Filter {
    /// For a list of servers.
    pub fn servers(wants: impl Fn(&Server) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(move |name| if let Name::Server(server) = name { wants(server) } else { false }))
    }

    /// For a list of endpoints.
    pub fn endpoints(wants: impl Fn(&Endpoint) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(move |name| if let Name::Endpoint(endpoint) = name { wants(endpoint) } else { false }))
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Filter(..)")
    }
}

/// What a list is to hold.
#[derive(Clone, Debug)]
pub struct Query {
    /// Servers or endpoints.
    pub kind: Kind,
    /// Only what comes after this name; the [`Page::next`] of the page before.
    pub after: Option<Box<str>>,
    /// Whether the entry of that name belongs to the page as well, if there is one.
    pub is_after_included: bool,
    /// Most entries, 1 to [`limits::LIST_ENTRIES_MAX`].
    pub limit: usize,
    /// Only entries with this in their name, title or description, whatever the case of ASCII letters.
    pub search: Option<Box<str>>,
    /// Only entries that this wants.
    pub filter: Option<Filter>,
    /// Only entries changed at this moment or later, milliseconds since 1970.
    pub updated_since_ms: Option<u64>,
}

impl Query {
    /// Everything of a kind, from the beginning.
    #[must_use]
    pub const fn all(kind: Kind, limit: usize) -> Self {
        Self { kind, after: None, is_after_included: false, limit, search: None, filter: None, updated_since_ms: None }
    }

    /// Whether a name was on an earlier page.
    fn is_before(&self, name: &str) -> bool {
        self.after.as_deref().is_some_and(|after| name < after || (name == after && !self.is_after_included))
    }

    /// Whether an entry is asked for, its name and place aside; and what it cost to find out.
    fn wants(&self, name: &Name, finder: Option<&Finder<'_>>, folded: &mut Vec<u8>) -> (bool, usize) {
        let (updated_ms, bound) = match name {
            Name::Server(server) => (server.updated_ms, 0),
            Name::Endpoint(endpoint) => (endpoint.updated_ms, endpoint.servers.len()),
        };
        if self.updated_since_ms.is_some_and(|since| updated_ms < since) {
            return (false, 1);
        }
        // A filter may look at every name that is bound.
        let mut cost = 1 + self.filter.as_ref().map_or(0, |_| 1 + bound / NAMES_PER_STEP);
        if self.filter.as_ref().is_some_and(|Filter(wants)| !wants(name)) {
            return (false, cost);
        }
        let Some(finder) = finder else { return (true, cost) };
        let texts = match name {
            Name::Server(server) => [&*server.spec.name, &server.spec.title, &server.spec.description],
            Name::Endpoint(endpoint) => [&*endpoint.path, "", ""],
        };
        let found = texts.into_iter().any(|text| {
            cost += text.len() / BYTES_PER_STEP;
            folded.clear();
            folded.extend(text.bytes().map(|byte| byte.to_ascii_lowercase()));
            finder.find(folded).is_some()
        });
        (found, cost)
    }
}

/// Entries of one kind, ordered by the bytes of their names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Part {
    /// Servers.
    Servers(Vec<Arc<Server>>),
    /// Endpoints.
    Endpoints(Vec<Arc<Endpoint>>),
}

/// One page of a list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page {
    /// The entries.
    pub entries: Part,
    /// Where the next page begins: [`Query::after`]. `None`: this is the last one.
    pub next: Option<Box<str>>,
}

/// An entry in the order of names.
#[derive(Debug)]
struct ByName(Name);

impl PartialEq for ByName {
    fn eq(&self, other: &Self) -> bool {
        *self.0 == *other.0
    }
}

impl Eq for ByName {}

impl PartialOrd for ByName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByName {
    fn cmp(&self, other: &Self) -> Ordering {
        (*self.0).cmp(&*other.0)
    }
}

/// A walk over the shards of this core.
#[derive(Debug)]
struct Walk {
    to: CoreId,
    ticket: u64,
    query: Arc<Query>,
    finder: Option<Finder<'static>>,
    deadline: Nanos,
    shard: usize,
    place: usize,
    /// The first names so far, the last of them on top; one more than a page has, so that it is known whether there is another page.
    first: BinaryHeap<ByName>,
}

/// Parts of a page that come together.
#[derive(Debug)]
struct Gathering {
    waiter: Waiter,
    query: Arc<Query>,
    deadline: Nanos,
    missing: u16,
    first: Vec<ByName>,
}

/// The lists in work.
#[derive(Debug)]
pub(super) struct Lists {
    walks: VecDeque<Walk>,
    gatherings: Tickets<Gathering>,
    folded: Vec<u8>,
    /// No gathering is given up earlier.
    next_due: Nanos,
}

impl Default for Lists {
    fn default() -> Self {
        Self { walks: VecDeque::new(), gatherings: Tickets::new(limits::LISTS_MAX), folded: Vec::new(), next_due: Nanos::NEVER }
    }
}

impl Lists {
    pub(super) fn next_due(&self) -> Nanos {
        if self.walks.is_empty() { self.next_due } else { Nanos(0) }
    }
}

impl Walk {
    fn new(to: CoreId, ticket: u64, query: Arc<Query>, deadline: Nanos) -> Self {
        let needle = query.search.as_deref().filter(|search| !search.is_empty()).map(str::to_ascii_lowercase);
        let finder = needle.map(|needle| Finder::new(needle.as_bytes()).into_owned());
        Self { to, ticket, query, finder, deadline, shard: 0, place: 0, first: BinaryHeap::new() }
    }

    /// Looks at entries until `budget` is used up. Whether all were looked at.
    fn step(&mut self, shards: &[Option<Box<Shard>>], folded: &mut Vec<u8>, budget: &mut usize) -> bool {
        match self.query.kind {
            Kind::Server => self.step_of::<Server>(shards, folded, budget),
            Kind::Endpoint => self.step_of::<Endpoint>(shards, folded, budget),
        }
    }

    fn step_of<V: Entry>(&mut self, shards: &[Option<Box<Shard>>], folded: &mut Vec<u8>, budget: &mut usize) -> bool {
        while let Some(shard) = shards.get(self.shard) {
            let Some(table) = shard.as_deref().map(V::table).filter(|table| self.place < table.places()) else {
                (self.shard, self.place) = (self.shard + 1, 0);
                continue;
            };
            if *budget == 0 {
                return false;
            }
            *budget -= 1;
            self.place += 1;
            if let Some(entry) = table.at(self.place - 1) {
                let cost = self.look(entry, folded);
                *budget = budget.saturating_sub(cost);
            }
        }
        true
    }

    fn look<V: Entry>(&mut self, entry: &Arc<V>, folded: &mut Vec<u8>) -> usize {
        let most = self.query.limit + 1;
        let is_behind = self.first.len() == most && self.first.peek().is_some_and(|last| entry.name() >= &*last.0);
        if is_behind || self.query.is_before(entry.name()) {
            return 0;
        }
        let name = V::name_of(Arc::clone(entry));
        let (is_wanted, cost) = self.query.wants(&name, self.finder.as_ref(), folded);
        if is_wanted {
            if self.first.len() == most {
                self.first.pop();
            }
            self.first.push(ByName(name));
        }
        cost
    }
}

impl Registry {
    /// Asks every core for its part of a list. The page comes as [`Effect::Listed`], at once when that is possible.
    pub fn list(&mut self, now: Now, query: Query, waiter: Waiter, out: &mut Effects) {
        let mut query = query;
        query.limit = query.limit.clamp(1, limits::LIST_ENTRIES_MAX);
        let deadline = now.mono.after(Duration::from_millis(limits::LIST_MS_MAX));
        let query = Arc::new(query);
        let gathering = Gathering { waiter, query: Arc::clone(&query), deadline, missing: self.cores, first: Vec::new() };
        let Some(ticket) = self.lists.gatherings.insert(gathering) else {
            return out.push(Effect::Listed { waiter, result: Err(Refusal::Overloaded) });
        };
        self.lists.next_due = self.lists.next_due.min(deadline);
        for to in (0..self.cores).map(CoreId).filter(|core| *core != self.core) {
            send(out, to, Frame::List { ticket, deadline, query: Arc::clone(&query) });
        }
        self.lists.walks.push_back(Walk::new(self.core, ticket, query, deadline));
        self.go_on_with_lists(now, out);
    }

    /// Another core asks for the part of this one.
    pub(super) fn asked_for_list(&mut self, now: Now, from: CoreId, ticket: u64, deadline: Nanos, query: Arc<Query>, out: &mut Effects) {
        if self.lists.walks.len() >= limits::LIST_WALKS_MAX {
            return send(out, from, Frame::Listed { ticket, part: None });
        }
        self.lists.walks.push_back(Walk::new(from, ticket, query, deadline));
        if self.lists.walks.len() == 1 {
            self.go_on_with_lists(now, out);
        }
    }

    /// Looks at a bounded number of entries, and gives up what took too long.
    pub(super) fn go_on_with_lists(&mut self, now: Now, out: &mut Effects) {
        let mut budget = limits::LIST_STEP_ENTRIES;
        while budget > 0 {
            let Some(mut walk) = self.lists.walks.pop_front() else { break };
            if walk.deadline <= now.mono {
                continue;
            }
            if !walk.step(&self.shards, &mut self.lists.folded, &mut budget) {
                // The others have their turn first.
                self.lists.walks.push_back(walk);
                continue;
            }
            let part = walk.first.into_sorted_vec().into_iter().map(|by_name| by_name.0).collect();
            if walk.to == self.core {
                self.listed(walk.ticket, Some(part), out);
            } else {
                send(out, walk.to, Frame::Listed { ticket: walk.ticket, part: Some(part) });
            }
        }
        if now.mono >= self.lists.next_due {
            let over = self.lists.gatherings.tickets(|gathering| gathering.deadline <= now.mono);
            over.into_iter().for_each(|ticket| self.listed(ticket, None, out));
            self.lists.next_due = self.lists.gatherings.iter().map(|gathering| gathering.deadline).min().unwrap_or(Nanos::NEVER);
        }
    }

    /// The part of one core is there, or cannot be had.
    pub(super) fn listed(&mut self, ticket: u64, part: Option<Vec<Name>>, out: &mut Effects) {
        let Some(gathering) = self.lists.gatherings.get_mut(ticket) else { return };
        let is_over = match part {
            Some(part) => {
                gathering.missing = gathering.missing.saturating_sub(1);
                gathering.first.extend(part.into_iter().map(ByName));
                gathering.first.sort();
                gathering.first.truncate(gathering.query.limit + 1);
                gathering.missing == 0
            }
            None => true,
        };
        if !is_over {
            return;
        }
        let Some(gathering) = self.lists.gatherings.remove(ticket) else { return };
        let waiter = gathering.waiter;
        let result = if gathering.missing == 0 { Ok(gathering.page()) } else { Err(Refusal::Overloaded) };
        out.push(Effect::Listed { waiter, result });
    }
}

impl Gathering {
    fn page(mut self) -> Page {
        let limit = self.query.limit;
        let has_more = self.first.len() > limit;
        self.first.truncate(limit);
        let next = self.first.last().filter(|_| has_more).map(|last| (*last.0).into());
        let names = self.first.into_iter().map(|by_name| by_name.0);
        let entries = match self.query.kind {
            Kind::Server => {
                Part::Servers(names.filter_map(|name| if let Name::Server(entry) = name { Some(entry) } else { None }).collect())
            }
            Kind::Endpoint => {
                Part::Endpoints(names.filter_map(|name| if let Name::Endpoint(entry) = name { Some(entry) } else { None }).collect())
            }
        };
        Page { entries, next }
    }
}
