//! The read side of the MCP Registry API (modelcontextprotocol/registry, version v0.1): so that a client which asks a registry for servers can
//! ask this one.
//!
//! A server has one version here, which is the latest. What stands behind it is not told; what is told is where it can be reached through
//! this process: at the endpoints it is bound to. The API knows only names of one namespace and one name, joined by a slash. A name
//! without a slash is shown below [`NAMESPACE`], which is for these alone: a name that begins with it, or cannot be shown at all, is left out.

use std::borrow::Cow;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use super::answer::{Answer, Next};
use super::control::unless_busy;
use super::pages::{Items, limit, moment};
use super::problem::Problem;
use super::target::{Query, Wrong, cursor_after, encode};
use crate::base::limits::{LIST_ENTRIES_MAX, SERVER_NAME_BYTES_MAX};
use crate::base::metrics::Refused;
use crate::base::time::rfc3339;
use crate::registry::{self, Endpoint, Filter, Kind, Page, Part, Refusal, Server};
use crate::wire::json::{write_array, write_bool, write_str, write_u64};

/// The namespace of names that have none.
const NAMESPACE: &str = "ringhub.local";
/// Longest title and description, characters.
const CHARS_MAX: usize = 100;
/// Longest version, characters.
const VERSION_CHARS_MAX: usize = 255;
/// Most endpoints that are told of one server.
const REMOTES_MAX: usize = 8;

/// A request to the API.
#[derive(Debug)]
pub(super) struct Public {
    asked: Asked,
    /// Below which URL clients reach endpoints, if that is known.
    base: Option<String>,
    /// The servers that are told of, once they are there.
    servers: Vec<Arc<Server>>,
    /// Where the next page begins.
    next: Option<Box<str>>,
}

/// What is asked for.
#[derive(Debug)]
enum Asked {
    /// A page of so many servers at most.
    List { limit: usize },
    /// All versions of a server.
    Versions { shown: Box<str>, name: Box<str> },
    /// One of them.
    Version { shown: Box<str>, name: Box<str>, version: Option<Box<str>> },
}

/// What is asked for by a list's query. Parameters that are not known are let pass: the API may get more of them.
pub(super) fn list(query: &Query<'_>, base: Option<String>) -> Result<(Public, registry::Query), Wrong> {
    let version = query.get("version").filter(|version| !version.is_empty() && *version != "latest").map(Box::<str>::from);
    let search = query.get("search").filter(|search| !search.is_empty()).map(str::to_ascii_lowercase);
    let wants = move |server: &Server| {
        let Some(shown) = shown(&server.spec.name) else { return false };
        version.as_ref().is_none_or(|version| **version == *version_of(server))
            && search.as_ref().is_none_or(|search| shown.to_ascii_lowercase().contains(search))
    };
    let limit = limit(query)?;
    let asked = registry::Query {
        after: query.cursor()?.map(Into::into),
        filter: Some(Filter::servers(wants)),
        updated_since_ms: moment(query, "updated_since")?,
        ..registry::Query::all(Kind::Server, limit)
    };
    query.word("include_deleted", &[("true", ()), ("false", ())])?;
    Ok((Public::new(Asked::List { limit }, base), asked))
}

/// What a browser asks before it reads with fields of its own.
pub(super) fn preflight() -> Answer {
    let field = |name, value: &[u8]| (name, value.to_vec());
    let extra = vec![
        field("Access-Control-Allow-Methods", b"GET, HEAD, OPTIONS"),
        field("Access-Control-Allow-Headers", b"Authorization, Content-Type, MCP-Protocol-Version"),
    ];
    Answer { extra, ..Answer::no_content() }
}

/// The name of a server as this API has it; none when it cannot be one.
fn shown(name: &str) -> Option<Cow<'_, str>> {
    match name.split_once('/') {
        None => Some(Cow::<str>::Owned(format!("{NAMESPACE}/{name}"))).filter(|shown| shown.len() <= SERVER_NAME_BYTES_MAX),
        Some((namespace, rest)) => {
            let is_fit =
                namespace != NAMESPACE && !namespace.is_empty() && !namespace.contains('_') && !rest.is_empty() && !rest.contains('/');
            is_fit.then_some(Cow::Borrowed(name))
        }
    }
}

/// The reverse of [`shown`].
fn hidden(shown: &str) -> &str {
    shown.strip_prefix(NAMESPACE).and_then(|rest| rest.strip_prefix('/')).filter(|name| !name.contains('/')).unwrap_or(shown)
}

fn version_of(server: &Server) -> Cow<'_, str> {
    match &*server.spec.software_version {
        "" => Cow::Borrowed("0.0.0"),
        version => cut(version, VERSION_CHARS_MAX),
    }
}

/// At most so many characters of a text.
fn cut(text: &str, chars_max: usize) -> Cow<'_, str> {
    match text.char_indices().nth(chars_max) {
        None => Cow::Borrowed(text),
        Some(_) => Cow::Owned(text.chars().take(chars_max - 1).chain(['…']).collect()),
    }
}

impl Public {
    fn new(asked: Asked, base: Option<String>) -> Self {
        Self { asked, base, servers: Vec::new(), next: None }
    }

    pub fn versions(shown: &str, base: Option<String>) -> Self {
        Self::new(Asked::Versions { shown: shown.into(), name: hidden(shown).into() }, base)
    }

    pub fn version(shown: &str, version: &str, base: Option<String>) -> Self {
        let version = (version != "latest").then(|| version.into());
        Self::new(Asked::Version { shown: shown.into(), name: hidden(shown).into(), version }, base)
    }

    /// The server that is looked up.
    pub fn server(&self) -> &str {
        match &self.asked {
            Asked::List { .. } => "",
            Asked::Versions { name, .. } | Asked::Version { name, .. } => name,
        }
    }

    /// What follows when the server has been looked up.
    pub fn found(&mut self, server: Option<&Arc<Server>>) -> Result<Next, Problem> {
        let (Asked::Versions { shown: asked, .. } | Asked::Version { shown: asked, .. }) = &self.asked else {
            return Err(Problem::overloaded());
        };
        let server = server.filter(|server| shown(&server.spec.name).as_deref() == Some(asked));
        let server = server.ok_or_else(|| Problem::absent("server", asked))?;
        if let Asked::Version { version: Some(version), .. } = &self.asked
            && **version != *version_of(server)
        {
            let detail = format!("The server `{asked}` has no version `{version}`: it has {}", version_of(server));
            return Err(Problem::new(404, Refused::Absent, detail));
        }
        self.servers.push(Arc::clone(server));
        Ok(self.with_servers())
    }

    /// What follows when a list is there: that of the servers, and then that of their endpoints.
    pub fn listed(&mut self, result: Result<Page, Refusal>) -> Result<Next, Problem> {
        let page = result.map_err(unless_busy)?;
        match page.entries {
            Part::Servers(servers) => {
                (self.servers, self.next) = (servers, page.next);
                Ok(self.with_servers())
            }
            Part::Endpoints(endpoints) => Ok(Next::Answer(self.answer(&endpoints))),
        }
    }

    /// The servers are known: where are they bound? The first endpoints are enough, as many as one list holds.
    fn with_servers(&self) -> Next {
        if self.base.is_none() || self.servers.is_empty() {
            return Next::Answer(self.answer(&[]));
        }
        let names: HashSet<Box<str>> = self.servers.iter().map(|server| server.spec.name.clone()).collect();
        let is_meant = move |endpoint: &Endpoint| endpoint.servers.iter().any(|name| names.contains(name));
        Next::List(registry::Query { filter: Some(Filter::endpoints(is_meant)), ..registry::Query::all(Kind::Endpoint, LIST_ENTRIES_MAX) })
    }

    fn answer(&self, endpoints: &[Arc<Endpoint>]) -> Answer {
        let remotes = self.remotes(endpoints);
        let urls = |server: &Server| remotes.get(&*server.spec.name).map_or(&[][..], Vec::as_slice);
        let limit = match (&self.asked, self.servers.first()) {
            (Asked::Version { shown, .. }, Some(server)) => {
                let mut body = Vec::new();
                write(&mut body, server, shown, urls(server));
                return Answer::json(200, body);
            }
            (Asked::List { limit }, _) => *limit,
            _ => 1,
        };
        let mut items = Items::new(br#"{"servers":["#, limit);
        for server in &self.servers {
            if let Some(shown) = shown(&server.spec.name) {
                items.add(&server.spec.name, |body| write(body, server, &shown, urls(server)));
            }
        }
        let (mut body, count, next) = items.end(self.next.as_deref());
        end_list(&mut body, count as u64, next.as_deref());
        Answer::json(200, body)
    }

    /// By server: the URLs of endpoints it is bound to, those where it is alone first.
    fn remotes(&self, endpoints: &[Arc<Endpoint>]) -> HashMap<&str, Vec<String>> {
        let Some(base) = &self.base else { return HashMap::new() };
        let mut bound: HashMap<&str, Vec<&Endpoint>> = self.servers.iter().map(|server| (&*server.spec.name, Vec::new())).collect();
        for endpoint in endpoints {
            for name in &endpoint.servers {
                if let Some(bound) = bound.get_mut(&**name) {
                    bound.push(endpoint);
                }
            }
        }
        let urls = |mut bound: Vec<&Endpoint>| {
            bound.sort_by_key(|endpoint| endpoint.servers.len() > 1);
            bound.into_iter().take(REMOTES_MAX).map(|endpoint| url(base, &endpoint.path)).collect()
        };
        bound.into_iter().map(|(name, bound)| (name, urls(bound))).collect()
    }
}

/// The URL of an endpoint.
fn url(base: &str, path: &str) -> String {
    let mut url = base.to_owned();
    for segment in path.trim_start_matches('/').split('/') {
        url.push('/');
        encode(&mut url, segment);
    }
    url
}

fn end_list(body: &mut Vec<u8>, count: u64, next: Option<&str>) {
    body.extend_from_slice(br#","metadata":{"count":"#);
    write_u64(body, count);
    if let Some(next) = next {
        body.extend_from_slice(br#","nextCursor":"#);
        write_str(body, &cursor_after(next));
    }
    body.extend_from_slice(b"}}");
}

fn write(body: &mut Vec<u8>, server: &Server, shown: &str, urls: &[String]) {
    let spec = &server.spec;
    body.extend_from_slice(br#"{"server":{"name":"#);
    write_str(body, shown);
    body.extend_from_slice(br#","description":"#);
    let description = [&spec.description, &spec.title, &spec.name].into_iter().map(|text| text.trim()).find(|text| !text.is_empty());
    write_str(body, &cut(description.unwrap_or_default(), CHARS_MAX));
    if !spec.title.trim().is_empty() {
        body.extend_from_slice(br#","title":"#);
        write_str(body, &cut(spec.title.trim(), CHARS_MAX));
    }
    body.extend_from_slice(br#","version":"#);
    write_str(body, &version_of(server));
    if !urls.is_empty() {
        body.extend_from_slice(br#","remotes":"#);
        write_array(body, urls, |body, url| {
            body.extend_from_slice(br#"{"type":"streamable-http","url":"#);
            write_str(body, url);
            body.push(b'}');
        });
    }
    body.extend_from_slice(br#"},"_meta":{"io.modelcontextprotocol.registry/official":{"status":"active","publishedAt":"#);
    write_str(body, &rfc3339(server.created_ms));
    body.extend_from_slice(br#","updatedAt":"#);
    write_str(body, &rfc3339(server.updated_ms));
    body.extend_from_slice(br#","isLatest":"#);
    write_bool(body, true);
    body.extend_from_slice(b"}}}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shown_as_the_api_has_them() {
        for (name, wanted) in [("io.example/weather_2", Some("io.example/weather_2")), ("weather", Some("ringhub.local/weather"))] {
            assert_eq!(shown(name).as_deref(), wanted);
            assert_eq!(hidden(wanted.expect("a name")), name);
        }
        for none in ["a/b/c", "my_org/x", "/x", "x/", "ringhub.local/weather"] {
            assert_eq!(shown(none), None, "{none}");
        }
        assert_eq!(shown(&"x".repeat(200)), None, "it would be too long");
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(cut("äöü", 3), "äöü");
        assert_eq!(cut("äöüß", 3), "äö…");
    }
}
