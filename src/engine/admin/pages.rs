//! Lists: what is asked of the registry for a page, and how the page is written.

use super::control::unless_busy;
use super::entry_json::{Form, write_endpoint, write_server};
use super::problem::Problem;
use super::target::{Query, Wrong, cursor_after};
use crate::base::limits::PAGE_BYTES_MAX;
use crate::base::time::from_rfc3339;
use crate::registry::{self, Filter, Kind, Page, Part, Refusal, Server, Source, State};
use crate::wire::json::write_str;

/// Entries of a page unless told otherwise, and at most.
const PAGE_DEFAULT: usize = 50;
const PAGE_MAX: usize = 100;

/// Which list is asked for.
#[derive(Clone, Debug)]
pub(super) enum List {
    Servers {
        limit: usize,
    },
    Endpoints {
        limit: usize,
    },
    /// Bindings, by endpoint and then by server.
    Bindings {
        limit: usize,
        /// Only of this server.
        server: Option<Box<str>>,
        /// Only what comes after this one: path and server.
        after: Option<(Box<str>, Box<str>)>,
    },
}

/// Stands between the path and the server where a cursor names a binding. No path and no name has it.
const BETWEEN: char = '\n';

/// The parameters that every list takes.
pub(super) fn page_query(query: &Query<'_>, kind: Kind) -> Result<registry::Query, Wrong> {
    let after = query.cursor()?.map(String::into_boxed_str);
    Ok(registry::Query { after, ..registry::Query::all(kind, limit(query)?) })
}

/// How many entries a page is to have.
pub(super) fn limit(query: &Query<'_>) -> Result<usize, Wrong> {
    query.number("limit", 1, PAGE_MAX, PAGE_DEFAULT)
}

/// A moment, if one is given.
pub(super) fn moment(query: &Query<'_>, name: &str) -> Result<Option<u64>, Wrong> {
    let Some(text) = query.get(name) else { return Ok(None) };
    from_rfc3339(text)
        .map(Some)
        .ok_or_else(|| Wrong(format!("{name}={text}: give a moment as RFC 3339 has it, such as 2026-07-28T09:30:00Z")))
}

fn named(query: &Query<'_>, name: &str) -> Option<Box<str>> {
    query.get(name).filter(|value| !value.is_empty()).map(Into::into)
}

impl List {
    /// What the query of a list of servers asks for.
    pub fn servers(query: &Query<'_>) -> Result<(Self, registry::Query), Wrong> {
        query.only(&["cursor", "limit", "search", "source", "state", "updatedSince"])?;
        let state = query.word("state", &[("online", State::Online), ("offline", State::Offline)])?;
        let is_native = query.word("source", &[("native", true), ("upstream", false)])?;
        let wants = move |server: &Server| {
            state.is_none_or(|state| state == server.spec.state)
                && is_native.is_none_or(|is_native| is_native == matches!(server.spec.source, Source::Native(_)))
        };
        let asked = registry::Query {
            search: named(query, "search"),
            filter: (state.is_some() || is_native.is_some()).then(|| Filter::servers(wants)),
            updated_since_ms: moment(query, "updatedSince")?,
            ..page_query(query, Kind::Server)?
        };
        Ok((Self::Servers { limit: asked.limit }, asked))
    }

    pub fn endpoints(query: &Query<'_>) -> Result<(Self, registry::Query), Wrong> {
        query.only(&["cursor", "limit", "search", "server", "updatedSince"])?;
        let asked = registry::Query {
            search: named(query, "search"),
            filter: named(query, "server").map(|name| Filter::endpoints(move |endpoint| endpoint.servers.contains(&name))),
            updated_since_ms: moment(query, "updatedSince")?,
            ..page_query(query, Kind::Endpoint)?
        };
        Ok((Self::Endpoints { limit: asked.limit }, asked))
    }

    /// Bindings are asked for by their endpoints, each of which has one at least: so as many endpoints as bindings are enough.
    pub fn bindings(query: &Query<'_>) -> Result<(Self, registry::Query), Wrong> {
        query.only(&["cursor", "limit", "endpoint", "server"])?;
        let (endpoint, server) = (named(query, "endpoint"), named(query, "server"));
        let mut asked = page_query(query, Kind::Endpoint)?;
        let limit = asked.limit;
        let after = asked.after.as_deref().and_then(|after| after.split_once(BETWEEN)).map(|(path, name)| (path.into(), name.into()));
        if let Some((path, _)) = &after {
            // The endpoint may have more of them, or none.
            (asked.after, asked.is_after_included, asked.limit) = (Some(Box::clone(path)), true, limit + 1);
        }
        let wanted = server.clone();
        asked.filter = Some(Filter::endpoints(move |found| {
            endpoint.as_ref().is_none_or(|path| *path == found.path)
                && wanted.as_ref().map_or(!found.servers.is_empty(), |name| found.servers.contains(name))
        }));
        Ok((Self::Bindings { limit, server, after }, asked))
    }

    /// The page as JSON.
    pub fn write(&self, result: Result<Page, Refusal>) -> Result<Vec<u8>, Problem> {
        let page = result.map_err(unless_busy)?;
        let items = match (self, &page.entries) {
            (Self::Servers { limit }, Part::Servers(servers)) => {
                let mut items = Items::new(br#"{"items":["#, *limit);
                for server in servers {
                    items.add(&server.spec.name, |body| write_server(body, server, Form::Brief));
                }
                items
            }
            (Self::Endpoints { limit }, Part::Endpoints(endpoints)) => {
                let mut items = Items::new(br#"{"items":["#, *limit);
                for endpoint in endpoints {
                    items.add(&endpoint.path, |body| write_endpoint(body, endpoint));
                }
                items
            }
            (Self::Bindings { limit, server, after }, Part::Endpoints(endpoints)) => {
                let mut items = Items::new(br#"{"items":["#, *limit);
                for endpoint in endpoints {
                    let is_wanted = |name: &&str| {
                        let is_before = |(path, last): &(Box<str>, Box<str>)| *path == endpoint.path && *name <= &**last;
                        server.as_ref().is_none_or(|wanted| **wanted == **name) && !after.as_ref().is_some_and(is_before)
                    };
                    let mut names: Vec<&str> = endpoint.servers.iter().map(|name| &**name).filter(is_wanted).collect();
                    names.sort_unstable();
                    for name in names {
                        items.add(&format!("{}{BETWEEN}{name}", endpoint.path), |body| write_binding(body, &endpoint.path, name));
                    }
                }
                items
            }
            _ => return Err(Problem::overloaded()),
        };
        let (mut body, _, next) = items.end(page.next.as_deref());
        end_page(&mut body, next.as_deref());
        Ok(body)
    }
}

/// The items of a page, which ends early when it grows too long.
#[derive(Debug)]
pub(super) struct Items {
    body: Vec<u8>,
    count: usize,
    limit: usize,
    /// Where the last item stands in the order of the list.
    last: String,
    is_cut: bool,
}

impl Items {
    /// A page that begins so, for so many items at most.
    pub fn new(head: &[u8], limit: usize) -> Self {
        Self { body: head.to_vec(), count: 0, limit, last: String::new(), is_cut: false }
    }

    /// Adds an item that stands at this place in the order of the list, unless it belongs to the next page.
    pub fn add(&mut self, place: &str, write: impl FnOnce(&mut Vec<u8>)) {
        self.is_cut |= self.count == self.limit || (self.count > 0 && self.body.len() >= PAGE_BYTES_MAX);
        if self.is_cut {
            return;
        }
        if self.count > 0 {
            self.body.push(b',');
        }
        self.count += 1;
        self.last.clear();
        self.last.push_str(place);
        write(&mut self.body);
    }

    /// The bytes up to the end of the array, the number of items, and the place after which the next page begins; `next` is where it would have.
    pub fn end(mut self, next: Option<&str>) -> (Vec<u8>, usize, Option<String>) {
        self.body.push(b']');
        let next = if self.is_cut { Some(self.last) } else { next.map(str::to_owned) };
        (self.body, self.count, next)
    }
}

/// Appends one binding.
pub(super) fn write_binding(body: &mut Vec<u8>, endpoint: &str, server: &str) {
    body.extend_from_slice(br#"{"endpoint":"#);
    write_str(body, endpoint);
    body.extend_from_slice(br#","server":"#);
    write_str(body, server);
    body.push(b'}');
}

/// Ends a page behind its array.
pub(super) fn end_page(body: &mut Vec<u8>, next: Option<&str>) {
    if let Some(next) = next {
        body.extend_from_slice(br#","nextCursor":"#);
        write_str(body, &cursor_after(next));
    }
    body.push(b'}');
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::base::ids::NodeId;
    use crate::base::limits::{OUTBOUND_BYTES_MAX, SERVER_NAME_BYTES_MAX, SERVERS_PER_ENDPOINT_MAX};
    use crate::registry::{Endpoint, ServerId};

    fn endpoint(path: &str, servers: &[&str]) -> Arc<Endpoint> {
        let servers = servers.iter().map(|name| Box::<str>::from(*name)).collect();
        let id = ServerId { node: NodeId(0), number: 1 };
        Arc::new(Endpoint { path: path.into(), id, version: 1, servers, created_ms: 0, updated_ms: 0, is_configured: false })
    }

    fn asked(list: fn(&Query<'_>) -> Result<(List, registry::Query), Wrong>, query: &str) -> (List, registry::Query) {
        list(&Query::parse(Some(query)).expect("well encoded")).expect("sound")
    }

    fn written(list: &List, endpoints: Vec<Arc<Endpoint>>, next: Option<&str>) -> serde_json::Value {
        let page = Page { entries: Part::Endpoints(endpoints), next: next.map(Into::into) };
        let body = list.write(Ok(page)).expect("a page");
        assert!(body.len() < OUTBOUND_BYTES_MAX, "{} bytes", body.len());
        serde_json::from_slice(&body).expect("JSON")
    }

    fn servers(page: &serde_json::Value) -> Vec<&str> {
        page["items"].as_array().expect("items").iter().map(|item| item["server"].as_str().expect("a name")).collect()
    }

    #[test]
    fn a_page_of_bindings_has_as_many_as_were_asked_for_and_leads_to_the_rest() {
        let all = || vec![endpoint("/mcp/a", &["z", "x", "y"]), endpoint("/mcp/b", &["y"])];
        let (list, _) = asked(List::bindings, "limit=2");
        let page = written(&list, all(), Some("/mcp/b"));
        assert_eq!(servers(&page), ["x", "y"]);
        let (list, query) = asked(List::bindings, &format!("limit=2&cursor={}", page["nextCursor"].as_str().expect("there are more")));
        assert_eq!((query.after.as_deref(), query.is_after_included, query.limit), (Some("/mcp/a"), true, 3));
        let page = written(&list, all(), None);
        assert_eq!((servers(&page), page["nextCursor"].as_str()), (vec!["z", "y"], None));
        let (list, _) = asked(List::bindings, "server=y");
        assert_eq!(servers(&written(&list, all(), None)), ["y", "y"]);
        let (list, _) = asked(List::bindings, "limit=4");
        let page = written(&list, all(), Some("/mcp/b"));
        let (_, query) = asked(List::bindings, &format!("cursor={}", page["nextCursor"].as_str().expect("a cursor")));
        assert_eq!((query.after.as_deref(), query.is_after_included, query.limit), (Some("/mcp/b"), false, PAGE_DEFAULT));
        for bad in ["state=x", "source=x", "updatedSince=x", "serch=x", "limit=1000"] {
            assert!(List::servers(&Query::parse(Some(bad)).expect("well encoded")).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_page_that_grows_too_long_ends_early() {
        let names: Vec<String> = (0..SERVERS_PER_ENDPOINT_MAX).map(|n| format!("{n:0SERVER_NAME_BYTES_MAX$}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let endpoints: Vec<_> = (0..PAGE_MAX).map(|n| endpoint(&format!("/mcp/{n:03}"), &names)).collect();
        let (list, _) = asked(List::endpoints, "limit=100");
        let page = written(&list, endpoints, None);
        let count = page["items"].as_array().map(Vec::len).expect("items");
        assert!((70..PAGE_MAX).contains(&count), "{count}");
        let (_, query) = asked(List::endpoints, &format!("cursor={}", page["nextCursor"].as_str().expect("there are more")));
        assert_eq!(query.after.as_deref(), Some(format!("/mcp/{:03}", count - 1).as_str()));
    }
}
