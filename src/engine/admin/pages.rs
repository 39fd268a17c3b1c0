//! Lists: what is asked of the registry for a page, and how the page is written.

use super::control::unless_busy;
use super::entry_json::{write_endpoint, write_server};
use super::problem::Problem;
use super::target::{Query, Wrong, cursor_after};
use crate::base::time::from_rfc3339;
use crate::registry::{self, Kind, Page, Part, Refusal, Server, State};
use crate::wire::json::write_str;

/// Entries of a page unless told otherwise, and at most.
const PAGE_DEFAULT: usize = 50;
const PAGE_MAX: usize = 100;

/// What a list leaves out besides what the registry does.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    state: Option<State>,
    /// Only endpoints with this server bound.
    server: Option<Box<str>>,
    /// Only this endpoint.
    endpoint: Option<Box<str>>,
}

/// Which list is asked for.
#[derive(Clone, Debug)]
pub(super) enum List {
    Servers(Filter),
    Endpoints(Filter),
    Bindings(Filter),
}

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
        let filter = Filter { state: query.word("state", &[("online", State::Online), ("offline", State::Offline)])?, ..Filter::default() };
        let asked = registry::Query {
            search: named(query, "search"),
            is_native: query.word("source", &[("native", true), ("upstream", false)])?,
            updated_since_ms: moment(query, "updatedSince")?,
            ..page_query(query, Kind::Server)?
        };
        Ok((Self::Servers(filter), asked))
    }

    pub fn endpoints(query: &Query<'_>) -> Result<(Self, registry::Query), Wrong> {
        query.only(&["cursor", "limit", "search", "server", "updatedSince"])?;
        let filter = Filter { server: named(query, "server"), ..Filter::default() };
        let asked = registry::Query {
            search: named(query, "search"),
            updated_since_ms: moment(query, "updatedSince")?,
            ..page_query(query, Kind::Endpoint)?
        };
        Ok((Self::Endpoints(filter), asked))
    }

    pub fn bindings(query: &Query<'_>) -> Result<(Self, registry::Query), Wrong> {
        query.only(&["cursor", "limit", "endpoint", "server"])?;
        let filter = Filter { server: named(query, "server"), endpoint: named(query, "endpoint"), ..Filter::default() };
        let asked = registry::Query { search: filter.endpoint.clone(), ..page_query(query, Kind::Endpoint)? };
        Ok((Self::Bindings(filter), asked))
    }

    /// The page as JSON.
    pub fn write(&self, result: Result<Page, Refusal>) -> Result<Vec<u8>, Problem> {
        let page = result.map_err(unless_busy)?;
        let mut body = br#"{"items":["#.to_vec();
        let start = body.len();
        let mut item = |write: &dyn Fn(&mut Vec<u8>)| {
            if body.len() > start {
                body.push(b',');
            }
            write(&mut body);
        };
        match (self, &page.entries) {
            (Self::Servers(filter), Part::Servers(servers)) => {
                let is_wanted = |server: &&std::sync::Arc<Server>| filter.state.is_none_or(|state| state == server.spec.state);
                servers.iter().filter(is_wanted).for_each(|server| item(&|body| write_server(body, server, false)));
            }
            (Self::Endpoints(filter), Part::Endpoints(endpoints)) => {
                for endpoint in
                    endpoints.iter().filter(|endpoint| filter.server.as_ref().is_none_or(|name| endpoint.servers.contains(name)))
                {
                    item(&|body| write_endpoint(body, endpoint));
                }
            }
            (Self::Bindings(filter), Part::Endpoints(endpoints)) => {
                for endpoint in endpoints.iter().filter(|endpoint| filter.endpoint.as_ref().is_none_or(|path| *path == endpoint.path)) {
                    for name in endpoint.servers.iter().filter(|name| filter.server.as_ref().is_none_or(|wanted| wanted == *name)) {
                        item(&|body| write_binding(body, &endpoint.path, name));
                    }
                }
            }
            _ => debug_assert!(false, "a list has the kind that was asked for"),
        }
        end_page(&mut body, page.next.as_deref());
        Ok(body)
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

/// Ends the array of a page's items and the page.
pub(super) fn end_page(body: &mut Vec<u8>, next: Option<&str>) {
    body.push(b']');
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
    use crate::registry::{Endpoint, ServerId};

    fn page() -> Page {
        let endpoint = |path: &str, servers: &[&str]| {
            let servers = servers.iter().map(|name| Box::<str>::from(*name)).collect();
            Arc::new(Endpoint {
                path: path.into(),
                id: ServerId { node: NodeId(0), number: 1 },
                version: 1,
                servers,
                created_ms: 0,
                updated_ms: 0,
            })
        };
        Page { entries: Part::Endpoints(vec![endpoint("/mcp/a", &["x", "y"]), endpoint("/mcp/ab", &["y"])]), next: Some("/mcp/ab".into()) }
    }

    fn written(list: fn(&Query<'_>) -> Result<(List, registry::Query), Wrong>, query: &str) -> serde_json::Value {
        let (list, _) = list(&Query::parse(Some(query)).expect("well encoded")).expect("sound");
        serde_json::from_slice(&list.write(Ok(page())).expect("a page")).expect("JSON")
    }

    #[test]
    fn a_page_is_filtered_and_leads_to_the_next() {
        assert_eq!(written(List::bindings, "")["items"].as_array().map(Vec::len), Some(3));
        assert_eq!(written(List::bindings, "server=y&endpoint=/mcp/a")["items"].as_array().map(Vec::len), Some(1));
        let page = written(List::endpoints, "server=x");
        assert_eq!(page["items"].as_array().map(Vec::len), Some(1));
        let next = format!("cursor={}", page["nextCursor"].as_str().expect("a cursor"));
        let (_, asked) = List::endpoints(&Query::parse(Some(&next)).expect("well encoded")).expect("sound");
        assert_eq!((asked.after.as_deref(), asked.limit), (Some("/mcp/ab"), PAGE_DEFAULT));
        for bad in ["state=x", "source=x", "updatedSince=x", "serch=x", "limit=1000"] {
            assert!(List::servers(&Query::parse(Some(bad)).expect("well encoded")).is_err(), "{bad}");
        }
    }
}
