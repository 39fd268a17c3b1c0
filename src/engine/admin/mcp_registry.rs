//! The read side of the MCP Registry API (modelcontextprotocol/registry, version v0.1): so that a client which asks a registry for servers can
//! ask this one.
//!
//! A server has one version here, which is the latest. What stands behind it is not told. The API knows only names of one namespace and
//! one name, joined by a slash: a name without a slash is shown below [`NAMESPACE`], one that cannot be shown is left out.

use std::borrow::Cow;

use super::answer::Answer;
use super::control::unless_busy;
use super::pages::{limit, moment};
use super::problem::Problem;
use super::target::{Query, Wrong, cursor_after};
use crate::base::limits::SERVER_NAME_BYTES_MAX;
use crate::base::time::rfc3339;
use crate::registry::{self, Kind, Page, Part, Refusal, Server};
use crate::wire::json::{write_bool, write_str, write_u64};

/// The namespace of names that have none.
const NAMESPACE: &str = "ringhub.local";
/// Longest title and description, characters.
const CHARS_MAX: usize = 100;
/// Longest version, characters.
const VERSION_CHARS_MAX: usize = 255;

/// What is asked for.
#[derive(Debug)]
pub(super) enum Public {
    /// A page, of servers with this version and with this in their name.
    List { version: Option<Box<str>>, search: Option<String> },
    /// All versions of a server.
    Versions { shown: Box<str>, name: Box<str> },
    /// One of them.
    Version { shown: Box<str>, name: Box<str>, version: Option<Box<str>> },
}

/// What is asked for by a list's query. Parameters that are not known are let pass: the API may get more of them.
pub(super) fn list(query: &Query<'_>) -> Result<(Public, registry::Query), Wrong> {
    let version = query.get("version").filter(|version| !version.is_empty() && *version != "latest").map(Into::into);
    let search = query.get("search").filter(|search| !search.is_empty());
    let asked = registry::Query {
        after: query.cursor()?.map(Into::into),
        search: search.map(|search| search.trim_start_matches(NAMESPACE).trim_start_matches('/').into()),
        updated_since_ms: moment(query, "updated_since")?,
        ..registry::Query::all(Kind::Server, limit(query)?)
    };
    query.word("include_deleted", &[("true", ()), ("false", ())])?;
    Ok((Public::List { version, search: search.map(str::to_ascii_lowercase) }, asked))
}

/// What a browser asks before it reads with fields of its own.
pub(super) fn preflight() -> Answer {
    let field = |name, value: &[u8]| (name, value.to_vec());
    let extra = vec![
        field("Access-Control-Allow-Methods", b"GET, HEAD, OPTIONS"),
        field("Access-Control-Allow-Headers", b"Authorization, Content-Type, MCP-Protocol-Version"),
    ];
    Answer { extra, is_public: true, ..Answer::no_content() }
}

/// The name of a server as this API has it; none when it cannot be one.
fn shown(name: &str) -> Option<Cow<'_, str>> {
    match name.split_once('/') {
        None => Some(Cow::<str>::Owned(format!("{NAMESPACE}/{name}"))).filter(|shown| shown.len() <= SERVER_NAME_BYTES_MAX),
        Some((namespace, rest)) => {
            let is_fit = !namespace.is_empty() && !namespace.contains('_') && !rest.is_empty() && !rest.contains('/');
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
    pub fn versions(shown: &str) -> Result<Self, Problem> {
        Ok(Self::Versions { shown: shown.into(), name: hidden(shown).into() })
    }

    pub fn version(shown: &str, version: &str) -> Result<Self, Problem> {
        let version = (version != "latest").then(|| version.into());
        Ok(Self::Version { shown: shown.into(), name: hidden(shown).into(), version })
    }

    /// The server that is looked up.
    pub fn server(&self) -> &str {
        match self {
            Self::List { .. } => "",
            Self::Versions { name, .. } | Self::Version { name, .. } => name,
        }
    }

    /// The answer when the server has been looked up.
    pub fn found(&self, server: Option<&Server>) -> Result<Answer, Problem> {
        let (Self::Versions { shown: asked, .. } | Self::Version { shown: asked, .. }) = self else { return Err(Problem::overloaded()) };
        let server = server.filter(|server| shown(&server.spec.name).as_deref() == Some(asked));
        let Some(server) = server else { return Ok(absent(Problem::absent("server", asked))) };
        let mut body = Vec::new();
        match self {
            Self::Version { version: Some(version), .. } if **version != *version_of(server) => {
                return Ok(absent(Problem::new(
                    404,
                    "absent",
                    format!("The server `{asked}` has no version `{version}`: it has {}", version_of(server)),
                )));
            }
            Self::Version { .. } => write(&mut body, server, asked),
            _ => {
                body.extend_from_slice(br#"{"servers":["#);
                write(&mut body, server, asked);
                end_list(&mut body, 1, None);
            }
        }
        Ok(Answer { is_public: true, ..Answer::json(200, body) })
    }

    /// The answer when a page has been gathered.
    pub fn listed(&self, result: Result<Page, Refusal>) -> Result<Answer, Problem> {
        let (Self::List { version, search }, page) = (self, result.map_err(unless_busy)?) else { return Err(Problem::overloaded()) };
        let Part::Servers(servers) = &page.entries else { return Err(Problem::overloaded()) };
        let mut body = br#"{"servers":["#.to_vec();
        let mut count = 0;
        for server in servers.iter().filter(|server| version.as_ref().is_none_or(|version| **version == *version_of(server))) {
            let Some(shown) = shown(&server.spec.name) else { continue };
            if search.as_ref().is_some_and(|search| !shown.to_ascii_lowercase().contains(search)) {
                continue;
            }
            if count > 0 {
                body.push(b',');
            }
            count += 1;
            write(&mut body, server, &shown);
        }
        end_list(&mut body, count, page.next.as_deref());
        Ok(Answer { is_public: true, ..Answer::json(200, body) })
    }
}

fn absent(problem: Problem) -> Answer {
    Answer { is_public: true, ..problem.into() }
}

fn end_list(body: &mut Vec<u8>, count: u64, next: Option<&str>) {
    body.extend_from_slice(br#"],"metadata":{"count":"#);
    write_u64(body, count);
    if let Some(next) = next {
        body.extend_from_slice(br#","nextCursor":"#);
        write_str(body, &cursor_after(next));
    }
    body.extend_from_slice(b"}}");
}

fn write(body: &mut Vec<u8>, server: &Server, shown: &str) {
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
        for none in ["a/b/c", "my_org/x", "/x", "x/"] {
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
