//! Entries of the registry as JSON: what the control API takes and gives, and what a state file keeps.

use std::borrow::Cow;

use hashbrown::HashSet;

use super::problem::Problem;
use crate::base::ids::NodeId;
use crate::base::limits::{CATALOG_ITEMS_MAX, ITEM_NAME_CHARS_MAX, SERVER_TEXT_BYTES_MAX, SERVERS_PER_ENDPOINT_MAX};
use crate::base::metrics::Refused;
use crate::base::time::{from_rfc3339, rfc3339};
use crate::engine::upstream::Upstream;
use crate::gateway::Settings;
use crate::registry::{Catalog, Endpoint, Item, Server, ServerId, ServerSpec, Source, State, problem_with_name, problem_with_path};
use crate::wire::json::{self, write_array, write_str, write_u64};

/// The four lists of a catalog: the member's name, and which member of an item is its name.
const LISTS: [(&str, &str); 4] = [("tools", "name"), ("prompts", "name"), ("resources", "uri"), ("resourceTemplates", "uriTemplate")];

/// Longest title, description, version and target, characters: so many fit what the registry takes, whatever they are.
const TEXT_CHARS_MAX: usize = SERVER_TEXT_BYTES_MAX / 4;

/// What is set by the registry alone. A client that sends back what it got may leave it in.
const KEPT: [&str; 5] = ["id", "version", "source", "createdAt", "updatedAt"];

/// The words of `[[upstream]]`: how a server that is to be fronted is reached.
const FRONT: [&str; 24] = [
    "url",
    "command",
    "args",
    "cwd",
    "era",
    "start",
    "required",
    "names",
    "allow",
    "deny",
    "interactive",
    "max_processes",
    "sessions",
    "restart",
    "reap_after",
    "retries",
    "connect_timeout",
    "first_byte_timeout",
    "idle_timeout",
    "total_timeout",
    "max_in_flight",
    "pool_size",
    "headers",
    "env",
];

/// How much of a server's entry is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Form {
    /// The number of its items in place of them.
    Brief,
    /// All but secrets.
    Whole,
    /// Secrets, too: for nobody but this process.
    Kept,
}

impl State {
    /// The word for it.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Offline => "offline",
        }
    }
}

/// Appends a server's entry.
pub(super) fn write_server(out: &mut Vec<u8>, server: &Server, form: Form) {
    let spec = &server.spec;
    let is_whole = form != Form::Brief;
    out.extend_from_slice(br#"{"name":"#);
    write_str(out, &spec.name);
    out.extend_from_slice(br#","id":"#);
    write_id(out, server.id);
    out.extend_from_slice(br#","version":"#);
    write_u64(out, server.version);
    for (name, text) in [("title", &spec.title), ("description", &spec.description), ("softwareVersion", &spec.software_version)] {
        write_member(out, name);
        write_str(out, text);
    }
    match &spec.source {
        Source::Native(_) => out.extend_from_slice(br#","source":"native""#),
        Source::Upstream(target) => {
            out.extend_from_slice(br#","source":"upstream","target":"#);
            write_str(out, target);
        }
    }
    if let Some(front) = spec.front.as_ref().filter(|_| is_whole) {
        write_front(out, &spec.name, front, form);
    }
    out.extend_from_slice(br#","state":"#);
    write_str(out, spec.state.word());
    let catalog = &spec.catalog;
    let lists = [&catalog.tools, &catalog.prompts, &catalog.resources, &catalog.templates];
    if !is_whole {
        out.extend_from_slice(br#","counts":{"#);
    }
    for (index, ((name, _), items)) in LISTS.iter().zip(lists).enumerate() {
        if is_whole {
            write_member(out, name);
            write_array(out, items, |out, item| out.extend_from_slice(&item.json));
        } else {
            if index > 0 {
                out.push(b',');
            }
            write_str(out, name);
            out.push(b':');
            write_u64(out, items.len() as u64);
        }
    }
    if !is_whole {
        out.push(b'}');
    }
    write_times(out, server.created_ms, server.updated_ms);
}

/// Appends how a server is reached.
fn write_front(out: &mut Vec<u8>, name: &str, front: &[u8], form: Form) {
    let shown = match form {
        Form::Kept => Cow::Borrowed(front),
        // What is written of it is for anybody to see: its own serialisation hides secrets.
        _ => match Upstream::of_front(name, front).map(|upstream| serde_json::to_vec(&upstream)) {
            Ok(Ok(shown)) => Cow::Owned(shown),
            _ => return,
        },
    };
    for (key, value) in json::members(&shown).filter(|(key, _)| FRONT.iter().any(|word| json::key_is(key, word))) {
        out.push(b',');
        out.extend_from_slice(key);
        out.push(b':');
        out.extend_from_slice(value);
    }
}

/// Appends an endpoint's entry.
pub(super) fn write_endpoint(out: &mut Vec<u8>, endpoint: &Endpoint) {
    out.extend_from_slice(br#"{"path":"#);
    write_str(out, &endpoint.path);
    out.extend_from_slice(br#","id":"#);
    write_id(out, endpoint.id);
    out.extend_from_slice(br#","version":"#);
    write_u64(out, endpoint.version);
    out.extend_from_slice(br#","servers":"#);
    write_array(out, &endpoint.servers, |out, name| write_str(out, name));
    write_times(out, endpoint.created_ms, endpoint.updated_ms);
}

fn write_member(out: &mut Vec<u8>, name: &str) {
    out.push(b',');
    write_str(out, name);
    out.push(b':');
}

fn write_id(out: &mut Vec<u8>, id: ServerId) {
    write_str(out, &format!("{}-{}", id.node.0, id.number));
}

fn write_times(out: &mut Vec<u8>, created_ms: u64, updated_ms: u64) {
    out.extend_from_slice(br#","createdAt":"#);
    write_str(out, &rfc3339(created_ms));
    out.extend_from_slice(br#","updatedAt":"#);
    write_str(out, &rfc3339(updated_ms));
    out.push(b'}');
}

/// A body as the members of one object, each once.
pub(super) struct Object<'a> {
    members: Vec<(Cow<'a, str>, &'a [u8])>,
}

fn unfit(detail: impl Into<Cow<'static, str>>) -> Problem {
    Problem::new(422, Refused::Invalid, detail)
}

impl<'a> Object<'a> {
    /// Reads a body and refuses members that are not among `known`.
    pub fn read(body: &'a [u8], known: &[&str]) -> Result<Self, Problem> {
        if let Err(malformed) = json::validate(body) {
            let detail = format!("The body is not valid JSON: {} at byte {}", malformed.why, malformed.at);
            return Err(Problem::new(400, Refused::NotJson, detail));
        }
        if !body.trim_ascii_start().starts_with(b"{") {
            return Err(unfit("The body must be a JSON object"));
        }
        Self::members_of(body, known, "the body")
    }

    fn members_of(raw: &'a [u8], known: &[&str], place: &str) -> Result<Self, Problem> {
        let mut members: Vec<(Cow<'a, str>, &'a [u8])> = Vec::new();
        let mut names = HashSet::new();
        for (key, value) in json::members(raw) {
            let name = json::unescape(key);
            if !known.is_empty() && !known.contains(&&*name) {
                return Err(unfit(format!("`{name}` is no member of {place}, which has {}", known.join(", "))));
            }
            if !names.insert(name.clone()) {
                return Err(unfit(format!("`{name}` stands twice in {place}")));
            }
            members.push((name, value));
        }
        Ok(Self { members })
    }

    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.members.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }

    /// A member that is text, of at most so many characters.
    pub fn text(&self, name: &str, chars_max: usize) -> Result<Option<Cow<'a, str>>, Problem> {
        let Some(raw) = self.get(name) else { return Ok(None) };
        let text = json::string(raw).ok_or_else(|| unfit(format!("`{name}` must be a string")))?;
        if text.len() > chars_max && text.chars().count() > chars_max {
            return Err(unfit(format!("`{name}` has {} characters, and {chars_max} at most are taken", text.chars().count())));
        }
        Ok(Some(text))
    }
}

/// What is said of a server, and how it is to be reached; none when it is to be listed only.
type Spec = (ServerSpec, Option<Box<Settings>>);

/// Reads what is said of a server. `named` is its name when the path gives it.
pub(super) fn read_spec(body: &[u8], named: Option<&str>) -> Result<Spec, Problem> {
    let mut known = vec!["name", "title", "description", "softwareVersion", "target", "state"];
    known.extend(LISTS.iter().map(|(name, _)| *name));
    known.extend(KEPT);
    known.extend(FRONT);
    spec_of(&Object::read(body, &known)?, named)
}

fn spec_of(object: &Object<'_>, named: Option<&str>) -> Result<Spec, Problem> {
    let name = match (object.text("name", usize::MAX)?, named) {
        (Some(name), Some(named)) if name != named => {
            return Err(unfit(format!("The path names the server `{named}`, the body `{name}`: a server keeps its name")));
        }
        (Some(name), _) => name,
        (None, Some(named)) => Cow::Borrowed(named),
        (None, None) => return Err(unfit("`name` is missing")),
    };
    check_server_name(&name)?;
    let text = |name| Ok::<_, Problem>(object.text(name, TEXT_CHARS_MAX)?.unwrap_or_default().into());
    let target = object.text("target", TEXT_CHARS_MAX)?.unwrap_or_default();
    let front = front_of(object, &name)?;
    let target = match &front {
        Some((_, settings)) if target.is_empty() || *target == *settings.url => Cow::Owned(settings.url.to_string()),
        Some(_) => return Err(unfit("`target` follows from `url` or `command`: leave it out, and change those")),
        None => target,
    };
    if front.is_none() && (target.trim().is_empty() || target.chars().any(char::is_control)) {
        return Err(unfit(
            "`url` or `command` must say where the MCP server is that is to be fronted; or `target`, of one that is to be listed only",
        ));
    }
    let state = match object.text("state", TEXT_CHARS_MAX)?.as_deref() {
        None | Some("offline") => State::Offline,
        Some("online") => State::Online,
        Some(_) => return Err(unfit("`state` must be online or offline")),
    };
    let [tools, prompts, resources, templates] = LISTS.map(|(list, key)| read_items(object, list, key));
    let (front, settings) = front.unzip();
    let spec = ServerSpec {
        name: name.into(),
        title: text("title")?,
        description: text("description")?,
        software_version: text("softwareVersion")?,
        source: Source::Upstream(target.into()),
        state,
        is_configured: false,
        front,
        fronted: None,
        catalog: Catalog { tools: tools?, prompts: prompts?, resources: resources?, templates: templates? },
    };
    Ok((spec, settings))
}

/// How a server is to be reached, as it was said and as it is meant; none when it is to be listed only.
type Front = (Box<[u8]>, Box<Settings>);

fn front_of(object: &Object<'_>, name: &str) -> Result<Option<Front>, Problem> {
    let said: Vec<_> = FRONT.iter().filter_map(|word| Some((*word, object.get(word)?))).collect();
    let Some((first, _)) = said.first() else { return Ok(None) };
    if !matches!(*first, "url" | "command") {
        return Err(unfit(format!("`{first}` is said of a server that is to be fronted: give its `url` or `command`, too")));
    }
    let mut front = Vec::new();
    for (index, (word, value)) in said.iter().enumerate() {
        front.push(if index == 0 { b'{' } else { b',' });
        write_str(&mut front, word);
        front.push(b':');
        front.extend_from_slice(value);
    }
    front.push(b'}');
    let settings = Upstream::of_front(name, &front).and_then(|upstream| upstream.register());
    let settings = settings.map_err(|problems| unfit(problems.join("; ")))?;
    Ok(Some((front.into(), Box::new(settings))))
}

fn check_server_name(name: &str) -> Result<(), Problem> {
    problem_with_name(name).map_or(Ok(()), |why| Err(unfit(format!("{why}, such as io.example/weather"))))
}

/// The elements of a member that is an array; none when there is no such member.
fn elements<'a>(object: &Object<'a>, list: &str, most: usize, of: &str) -> Result<Vec<&'a [u8]>, Problem> {
    let Some(raw) = object.get(list) else { return Ok(Vec::new()) };
    if !raw.starts_with(b"[") {
        return Err(unfit(format!("`{list}` must be an array of {of}")));
    }
    let elements: Vec<&[u8]> = json::elements(raw).take(most + 1).collect();
    if elements.len() > most {
        return Err(unfit(format!("`{list}` has more than {most} elements")));
    }
    Ok(elements)
}

fn read_items(object: &Object<'_>, list: &str, key: &str) -> Result<Box<[Item]>, Problem> {
    let mut items: Vec<Item> = Vec::new();
    let mut names = HashSet::new();
    for (index, raw) in elements(object, list, CATALOG_ITEMS_MAX, "objects")?.into_iter().enumerate() {
        let place = format!("`{list}[{index}]`");
        if !raw.starts_with(b"{") {
            return Err(unfit(format!("{place} must be an object")));
        }
        let item = Object::members_of(raw, &[], &place)?;
        let name = item.text(key, ITEM_NAME_CHARS_MAX)?.filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| unfit(format!("{place} has no `{key}`: give it one that is not empty")))?;
        if key != "name" && item.text("name", ITEM_NAME_CHARS_MAX)?.is_none_or(|name| name.is_empty()) {
            return Err(unfit(format!("{place} has no `name`: give it one that is not empty")));
        }
        let is_of_objects = |schema| json::get(schema, "type").is_some_and(|kind| json::key_is(kind, "object"));
        if list == "tools" && !item.get("inputSchema").is_some_and(is_of_objects) {
            return Err(unfit(format!("{place} has no `inputSchema` whose `type` is object")));
        }
        if !names.insert(name.clone()) {
            return Err(unfit(format!("`{list}` has two elements with the {key} `{name}`")));
        }
        items.push(Item { name: name.into(), json: raw.into() });
    }
    Ok(items.into())
}

/// A path, and names of servers.
type Pathed = (Box<str>, Box<[Box<str>]>);

/// An endpoint as it is asked for: its path, and the servers to be bound to it.
pub(super) fn read_endpoint(body: &[u8], pathed: Option<&str>) -> Result<Pathed, Problem> {
    let mut known = vec!["path", "servers"];
    known.extend(KEPT);
    let object = Object::read(body, &known)?;
    let path = match (object.text("path", usize::MAX)?, pathed) {
        (Some(path), Some(pathed)) if path != pathed => {
            return Err(unfit(format!("The path names the endpoint `{pathed}`, the body `{path}`: an endpoint keeps its path")));
        }
        (Some(path), _) => path,
        (None, Some(pathed)) => Cow::Borrowed(pathed),
        (None, None) => return Err(unfit("`path` is missing")),
    };
    check_endpoint_path(&path)?;
    Ok((path.into(), read_names(&object, "servers")?))
}

fn check_endpoint_path(path: &str) -> Result<(), Problem> {
    problem_with_path(path).map_or(Ok(()), |why| Err(unfit(format!("{why}, such as /mcp/weather"))))
}

fn read_names(object: &Object<'_>, list: &str) -> Result<Box<[Box<str>]>, Problem> {
    let mut names: Vec<Box<str>> = Vec::new();
    for (index, raw) in elements(object, list, SERVERS_PER_ENDPOINT_MAX, "names")?.into_iter().enumerate() {
        let name = json::string(raw).ok_or_else(|| unfit(format!("`{list}[{index}]` must be a string")))?;
        check_server_name(&name)?;
        if names.iter().any(|known| **known == *name) {
            return Err(unfit(format!("`{list}` names `{name}` twice")));
        }
        names.push(name.into());
    }
    Ok(names.into())
}

/// A binding as it is asked for: endpoint and server.
pub(super) fn read_binding(body: &[u8]) -> Result<(Box<str>, Box<str>), Problem> {
    let object = Object::read(body, &["endpoint", "server"])?;
    let endpoint = object.text("endpoint", usize::MAX)?.ok_or_else(|| unfit("`endpoint` is missing"))?;
    let server = object.text("server", usize::MAX)?.ok_or_else(|| unfit("`server` is missing"))?;
    check_endpoint_path(&endpoint)?;
    check_server_name(&server)?;
    Ok((endpoint.into(), server.into()))
}

/// A server's entry for the state file.
#[must_use]
pub fn keep_server(server: &Server) -> Vec<u8> {
    let mut out = Vec::new();
    write_server(&mut out, server, Form::Kept);
    out
}

/// An endpoint's entry for the state file.
#[must_use]
pub fn keep_endpoint(endpoint: &Endpoint) -> Vec<u8> {
    let mut out = Vec::new();
    write_endpoint(&mut out, endpoint);
    out
}

/// Reads what [`keep_server`] wrote.
///
/// # Errors
/// What is wrong with it.
pub fn kept_server(raw: &[u8]) -> Result<Server, String> {
    let (spec, _) = read_spec(raw, None).map_err(|problem| problem.detail.into_owned())?;
    let (id, version, created_ms, updated_ms) = kept(raw)?;
    Ok(Server { id, version, created_ms, updated_ms, spec })
}

/// Reads what [`keep_endpoint`] wrote.
///
/// # Errors
/// What is wrong with it.
pub fn kept_endpoint(raw: &[u8]) -> Result<Endpoint, String> {
    let (path, servers) = read_endpoint(raw, None).map_err(|problem| problem.detail.into_owned())?;
    let (id, version, created_ms, updated_ms) = kept(raw)?;
    Ok(Endpoint { path, id, version, servers, created_ms, updated_ms, is_configured: false })
}

/// What the registry itself had set.
fn kept(raw: &[u8]) -> Result<(ServerId, u64, u64, u64), String> {
    let text = |name: &str| json::get(raw, name).and_then(json::string).ok_or_else(|| format!("`{name}` is missing"));
    let (id, created, updated) = (text("id")?, text("createdAt")?, text("updatedAt")?);
    let id = id.split_once('-').and_then(|(node, number)| Some((node.parse().ok()?, number.parse().ok()?)));
    let (node, number) = id.ok_or("`id` is no id")?;
    let version = json::get(raw, "version").and_then(|raw| str::from_utf8(raw).ok()?.parse().ok()).ok_or("`version` is no number")?;
    let time = |text: &str| from_rfc3339(text).ok_or("a time is no time");
    Ok((ServerId { node: NodeId(node), number }, version, time(&created)?, time(&updated)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = r#"{"name":"io.example/weather","title":"Weather","softwareVersion":"1.2.0","target":"https://weather.example/mcp","state":"online",
        "tools":[{"name":"rain","inputSchema":{"type":"object"},"_meta":{"a":[1, 2]}}],"resources":[{"uri":"w://x","name":"x"}]}"#;

    fn detail(body: &str) -> String {
        let problem = read_spec(body.as_bytes(), None).expect_err(body);
        assert_eq!(problem.status, 422, "{body}");
        problem.detail.into_owned()
    }

    #[test]
    fn a_server_survives_its_state_file() {
        let spec = read_spec(BODY.as_bytes(), None).expect("sound").0;
        assert_eq!(
            &*spec.catalog.tools[0].json, br#"{"name":"rain","inputSchema":{"type":"object"},"_meta":{"a":[1, 2]}}"#,
            "byte for byte"
        );
        let server =
            Server { id: ServerId { node: NodeId(3), number: 70 }, version: 9, created_ms: 1, updated_ms: 1_785_231_000_123, spec };
        assert_eq!(kept_server(&keep_server(&server)), Ok(server.clone()));
        let mut brief = Vec::new();
        write_server(&mut brief, &server, Form::Brief);
        let brief: serde_json::Value = serde_json::from_slice(&brief).expect("JSON");
        assert_eq!((brief["counts"]["tools"].as_u64(), brief["counts"]["resourceTemplates"].as_u64()), (Some(1), Some(0)));
        assert_eq!((brief["id"].as_str(), brief["updatedAt"].as_str()), (Some("3-70"), Some("2026-07-28T09:30:00.123Z")));
    }

    #[test]
    fn secrets_are_kept_and_not_shown() {
        let body = br#"{"name":"a","url":"http://h/mcp?key=hush","headers":{"X-Key":"hush"},"era":"legacy","title":"T"}"#;
        let spec = read_spec(body, None).expect("sound").0;
        assert_eq!(spec.source, Source::Upstream("http://h/mcp?<hidden>".into()));
        let server = Server { id: ServerId { node: NodeId(0), number: 1 }, version: 1, created_ms: 1, updated_ms: 1, spec };
        let kept = keep_server(&server);
        assert_eq!(kept_server(&kept), Ok(server.clone()));
        let mut shown = Vec::new();
        write_server(&mut shown, &server, Form::Whole);
        let shown = String::from_utf8(shown).expect("UTF-8");
        assert!(!shown.contains("hush") && shown.contains(r#""era":"legacy""#), "{shown}");
        assert!(read_spec(shown.as_bytes(), None).expect_err("what is hidden is missing").detail.contains("<hidden>"));
        let body = br#"{"name":"a","url":"http://h/mcp","names":"plain"}"#;
        let server = Server { spec: read_spec(body, None).expect("sound").0, ..server };
        let mut shown = Vec::new();
        write_server(&mut shown, &server, Form::Whole);
        let (again, _) = read_spec(&shown, None).expect("what had no secrets is read back");
        assert_eq!((&again.source, again.front.is_some()), (&server.spec.source, true));
    }

    #[test]
    fn every_word_of_the_file_is_known() {
        let full = r#"{"url":"u","command":"c","args":["a"],"cwd":"d","allow":["a"],"deny":["b"],"reap_after":1.5,"headers":{"a":"b"},"env":{"a":"b"}}"#;
        let full = serde_json::to_value(Upstream::of_front("n", full.as_bytes()).expect("words")).expect("JSON");
        let words: Vec<&String> = full.as_object().expect("an object").keys().filter(|word| *word != "name").collect();
        assert!(words.iter().all(|word| FRONT.contains(&word.as_str())) && words.len() == FRONT.len(), "{words:?}");
    }

    #[test]
    fn an_endpoint_survives_its_state_file() {
        let id = ServerId { node: NodeId(0), number: 1 };
        let servers = ["a".into(), "io.example/b".into()].into();
        let endpoint = Endpoint { path: "/mcp/x".into(), id, version: 2, servers, created_ms: 5, updated_ms: 6, is_configured: false };
        assert_eq!(kept_endpoint(&keep_endpoint(&endpoint)), Ok(endpoint));
        assert!(kept_endpoint(b"{}").is_err() && kept_server(b"[").is_err());
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(read_spec(b"{", None).expect_err("cut").status, 400);
        assert!(detail("[]").contains("object"));
        assert!(detail(r#"{"name":"a b","target":"x"}"#).contains("io.example/weather"));
        assert!(detail(r#"{"target":"x"}"#).contains("`name`"));
        assert!(detail(r#"{"name":"a"}"#).contains("`target`"));
        assert!(detail(r#"{"name":"a","target":"http://h/","era":"legacy"}"#).contains("`url` or `command`"));
        assert!(detail(r#"{"name":"a","target":"http://g/","url":"http://h/"}"#).contains("`target`"));
        assert!(detail(r#"{"name":"a","url":"h","era":"new"}"#).contains("unknown variant"));
        assert!(detail(r#"{"name":"a","url":"http://h/","headers":{"Host":"x"}}"#).contains("headers: Host"));
        assert!(detail(r#"{"name":"a","target":"x","nme":1}"#).contains("`nme`"));
        assert!(detail(r#"{"name":"a","name":"a","target":"x"}"#).contains("twice"));
        assert!(detail(r#"{"name":"a","target":"x","state":"up"}"#).contains("online or offline"));
        assert!(detail(r#"{"name":"a","target":"x","tools":{}}"#).contains("`tools` must be an array"));
        assert!(detail(r#"{"name":"a","target":"x","tools":[{"name":"t"}]}"#).contains("inputSchema"));
        assert!(detail(r#"{"name":"a","target":"x","prompts":[{"name":"p"},{"name":"p"}]}"#).contains("two elements"));
        assert!(detail(r#"{"name":"a","target":"x","resources":[{"uri":"u"}]}"#).contains("`name`"));
        assert!(read_spec(br#"{"name":"b","target":"x"}"#, Some("a")).expect_err("another name").detail.contains("keeps its name"));
        assert_eq!(&*read_spec(br#"{"target":"x"}"#, Some("a")).expect("named by the path").0.name, "a");
    }

    #[test]
    fn many_members_cost_no_more_than_their_length() {
        let mut body = r#"{"name":"a","target":"x","prompts":[{"name":"p""#.to_owned();
        (0..60_000).for_each(|n| body.push_str(&format!(r#","x{n}":1"#)));
        body.push_str("}]}");
        let start = std::time::Instant::now();
        assert!(read_spec(body.as_bytes(), None).is_ok());
        assert!(start.elapsed() < std::time::Duration::from_secs(5), "{:?}", start.elapsed());
    }

    #[test]
    fn endpoints_have_paths_below_mcp() {
        for good in ["/mcp", "/mcp/a", "/mcp/a.b_c-d"] {
            assert!(check_endpoint_path(good).is_ok(), "{good}");
        }
        for bad in ["", "/", "/mcp/", "/mcpx", "/other", "mcp", "/mcp/é"] {
            assert!(check_endpoint_path(bad).is_err(), "{bad}");
        }
        assert!(read_endpoint(br#"{"path":"/mcp","servers":["a","a"]}"#, None).is_err());
        assert!(read_binding(br#"{"endpoint":"/mcp","server":"a"}"#).is_ok());
        assert!(read_binding(br#"{"endpoint":"/mcp"}"#).is_err());
    }
}
