//! What scouts found out about upstreams, as changes of the registry: on the core where the upstream's entry is at home.
//!
//! An entry of the configuration is this core's alone, and comes and goes with its upstream. One that was registered is its client's: what is found
//! out is added to what is there, and when the client has changed it meanwhile, to that. One change of an entry is on its way at a time; what
//! is found meanwhile takes the place of what was found before. A change that was refused for want of room is tried again.

use std::sync::Arc;
use std::time::Duration;

use super::Engine;
use super::hosted;
use super::out::Out;
use super::route::OTHERS;
use crate::base::time::{Nanos, Now};
use crate::gateway::config::{Naming, ToolFilter};
use crate::gateway::{Finding, Found, FoundItem, Lists, News, Settings};
use crate::registry::{self, Catalog, Change, Changed, Effects, Fronted, Item, Lookup, Refusal, Server, ServerSpec, Source, State, Waiter};
use crate::wire::json;
use crate::wire::mcp::header_params;

/// Set in every [`Waiter`] of this file, with [`OTHERS`]. The number of the publication stands below.
const PUBLISHER: u64 = OTHERS | 1 << 62;
/// A change that was refused is tried again after this long.
const AGAIN: Duration = Duration::from_millis(500);
/// The word that makes an argument travel in a header, too.
const MIRROR: &[u8] = b"x-mcp-header";

/// What is to be said of an upstream.
#[derive(Debug, Default)]
struct Said {
    /// It has this.
    found: Option<Box<Found>>,
    /// It can be called, or not.
    state: Option<State>,
    /// Its settings are others.
    is_altered: bool,
}

impl Said {
    /// What was said later wins.
    fn then(self, later: Self) -> Self {
        Self { found: later.found.or(self.found), state: later.state.or(self.state), is_altered: self.is_altered || later.is_altered }
    }
}

/// What is published of one upstream.
#[derive(Debug)]
struct Publication {
    name: Box<str>,
    /// Names it to the registry; never given twice.
    id: u32,
    upstream: u32,
    /// What is to be said.
    next: Option<Said>,
    /// What is being said.
    told: Option<Said>,
    is_under_way: bool,
    /// The upstream is no more: its entry is to go.
    is_over: bool,
    /// The process is not ready before it was seen.
    is_missing: bool,
    /// Tools that clients are not shown, and why.
    left_out: Vec<(Box<str>, String)>,
    /// Not tried before.
    due: Nanos,
}

/// What is published by this core.
#[derive(Debug)]
pub(super) struct Publications {
    each: Vec<Publication>,
    next_id: u32,
    due: Nanos,
}

impl Publications {
    pub const fn new() -> Self {
        Self { each: Vec::new(), next_id: 0, due: Nanos::NEVER }
    }

    /// This core publishes what is found out about an upstream; `is_missing`: the process is not ready before it was seen.
    pub fn begin(&mut self, name: &str, upstream: u32, is_missing: bool) {
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        self.each.push(Publication {
            name: name.into(),
            id,
            upstream,
            next: None,
            told: None,
            is_under_way: false,
            is_over: false,
            is_missing,
            left_out: Vec::new(),
            due: Nanos(0),
        });
    }

    /// When [`Engine::publish_again`] is due.
    pub const fn next_due(&self) -> Nanos {
        self.due
    }

    fn of(&mut self, name: &str) -> Option<&mut Publication> {
        self.each.iter_mut().find(|publication| *publication.name == *name)
    }

    fn by_id(&mut self, id: u32) -> Option<&mut Publication> {
        self.each.iter_mut().find(|publication| publication.id == id)
    }

    fn try_again(&mut self, id: u32, due: Nanos) {
        if let Some(publication) = self.by_id(id) {
            publication.due = due;
        }
        self.due = self.due.min(due);
    }
}

impl Engine {
    /// A scout of this core found something out.
    pub(super) fn publish(&mut self, now: Now, news: News, out: &mut Out) {
        let News { upstream, finding } = news;
        let Some(settings) = self.gateway.settings(upstream) else { return };
        let (name, shown) = (settings.name.clone(), settings.options.tools.clone());
        let was_online = self.entry_at_home(now, &name).is_some_and(|server| server.spec.state == State::Online);
        let Some(publication) = self.publications.of(&name).filter(|publication| publication.upstream == upstream) else { return };
        let last = [&publication.next, &publication.told].into_iter().flatten().find_map(|said| said.state);
        let said = match finding {
            Finding::Online(mut found) => {
                if std::mem::take(&mut publication.is_missing) {
                    self.shared.upstream_seen();
                }
                let left_out = leave_out(&mut found, &shown);
                // Once, and not each time that the lists are looked at.
                for (tool, why) in left_out.iter().filter(|tool| !publication.left_out.contains(tool)) {
                    tracing::warn!(upstream = &*name, tool = &**tool, "a tool is left out: {why}");
                }
                publication.left_out = left_out;
                if last.map_or(!was_online, |last| last != State::Online) {
                    let tools = found.items[Lists::Tools as usize].len();
                    tracing::info!(upstream = &*name, tools, version = ?found.version, "an upstream is online");
                }
                Said { found: Some(found), state: Some(State::Online), is_altered: false }
            }
            Finding::Offline(failure) => {
                tracing::warn!(upstream = &*name, "an upstream is offline: it {failure}");
                Said { state: Some(State::Offline), ..Said::default() }
            }
            Finding::Logged { level, params } => return self.spread_log(now, upstream, level, &params, out),
            Finding::Updated { uri, cores } => return self.spread_update(upstream, &uri, &cores, out),
        };
        self.say(now, &name, said, out);
    }

    /// An upstream of this core is there, or is there with other settings.
    pub(super) fn publish_altered(&mut self, now: Now, upstream: u32, out: &mut Out) {
        let Some(settings) = self.gateway.settings(upstream) else { return };
        let (name, is_required) = (settings.name.clone(), settings.options.is_required);
        if self.publications.of(&name).is_none() {
            // Whoever is required at run time does not make the process unready: it serves.
            self.publications.begin(&name, upstream, false);
        }
        let Some(publication) = self.publications.of(&name) else { return };
        (publication.upstream, publication.is_over) = (upstream, false);
        if !is_required && std::mem::take(&mut publication.is_missing) {
            self.shared.upstream_seen();
        }
        self.say(now, &name, Said { is_altered: true, ..Said::default() }, out);
    }

    /// An upstream of this core is no more. Of one that was registered its client has removed the entry.
    pub(super) fn publish_end(&mut self, now: Now, name: &str, out: &mut Out) {
        let Some(publication) = self.publications.of(name) else { return };
        if std::mem::take(&mut publication.is_missing) {
            self.shared.upstream_seen();
        }
        publication.is_over = true;
        let id = publication.id;
        self.publish_next(now, id, out);
    }

    fn say(&mut self, now: Now, name: &str, said: Said, out: &mut Out) {
        let Some(publication) = self.publications.of(name) else { return };
        publication.next = Some(publication.next.take().unwrap_or_default().then(said));
        let id = publication.id;
        self.publish_next(now, id, out);
    }

    /// The entry of a server whose shard is at home here.
    fn entry_at_home(&mut self, now: Now, name: &str) -> Option<Arc<Server>> {
        if !self.routes.registry().is_at_home(name) {
            return None;
        }
        match self.routes.registry().server(now, name, Waiter(OTHERS), self.metrics) {
            Lookup::Here(server) | Lookup::Once(server) => Some(Arc::clone(server)),
            _ => None,
        }
    }

    fn publish_next(&mut self, now: Now, id: u32, out: &mut Out) {
        let Some(publication) = self.publications.by_id(id).filter(|publication| !publication.is_under_way) else { return };
        let (name, upstream, is_over) = (publication.name.clone(), publication.upstream, publication.is_over);
        let said = publication.next.take().filter(|_| !is_over);
        let change = if is_over {
            Some(Change::Withdraw { name })
        } else {
            let current = self.entry_at_home(now, &name);
            let Some(settings) = self.gateway.settings(upstream) else { return };
            said.as_ref().and_then(|said| change(current.as_deref(), upstream, settings, said))
        };
        let (Some(change), Some(publication)) = (change, self.publications.by_id(id)) else { return };
        (publication.is_under_way, publication.told) = (true, said);
        let mut effects = Effects::new();
        self.routes.registry().change(now, change, Waiter(PUBLISHER | u64::from(id)), &mut effects);
        self.carry_out_registry(effects, now, out);
    }

    /// What the registry says of a change of this file; given back when it is somebody else's.
    pub(super) fn on_published(&mut self, now: Now, effect: registry::Effect, out: &mut Out) -> Option<registry::Effect> {
        let registry::Effect::Done { waiter, result } = effect else { return Some(effect) };
        if waiter.0 & PUBLISHER != PUBLISHER {
            return Some(registry::Effect::Done { waiter, result });
        }
        self.on_told(now, (waiter.0 & !PUBLISHER) as u32, result, out);
        None
    }

    fn on_told(&mut self, now: Now, id: u32, result: Result<Changed, Refusal>, out: &mut Out) {
        let Some(publication) = self.publications.by_id(id) else { return };
        publication.is_under_way = false;
        let told = publication.told.take();
        let is_over = publication.is_over;
        let refusal = match result {
            Ok(_) | Err(Refusal::Absent) if is_over && told.is_none() => {
                self.publications.each.retain(|publication| publication.id != id);
                return;
            }
            Ok(_) => return self.publish_next(now, id, out),
            Err(refusal) => refusal,
        };
        tracing::debug!(upstream = &*publication.name, ?refusal, "what was found out was not taken");
        if matches!(refusal, Refusal::Invalid(_) | Refusal::NotPermitted) {
            tracing::warn!(upstream = &*publication.name, ?refusal, "what an upstream says of itself cannot be registered");
            return self.publish_next(now, id, out);
        }
        publication.next = match (told, publication.next.take()) {
            (Some(told), Some(next)) => Some(told.then(next)),
            (told, next) => told.or(next),
        };
        match refusal {
            Refusal::Absent | Refusal::Taken | Refusal::VersionMismatch { .. } => self.publish_next(now, id, out),
            _ => self.publications.try_again(id, now.mono.after(AGAIN)),
        }
    }

    /// Tries again what was refused.
    pub(super) fn publish_again(&mut self, now: Now, out: &mut Out) {
        if now.mono < self.publications.due {
            return;
        }
        self.publications.due = Nanos::NEVER;
        let waiting = |publication: &&Publication| !publication.is_under_way && (publication.next.is_some() || publication.is_over);
        let waiting: Vec<(u32, Nanos)> =
            self.publications.each.iter().filter(waiting).map(|publication| (publication.id, publication.due)).collect();
        for (id, due) in waiting {
            if due <= now.mono {
                self.publish_next(now, id, out);
            } else {
                self.publications.due = self.publications.due.min(due);
            }
        }
    }
}

/// The change that says it; none when the entry is so already, or is not there to be changed.
fn change(current: Option<&Server>, upstream: u32, settings: &Settings, said: &Said) -> Option<Change> {
    let is_configured = !settings.options.is_registered;
    let Some(server) = current else {
        // One that was registered is no more when its client has removed it.
        return is_configured.then(|| Change::Register(Box::new(after(hosted::fronted(settings), upstream, settings, said))));
    };
    let spec = after(server.spec.clone(), upstream, settings, said);
    let version = server.version;
    if spec == server.spec {
        return None;
    }
    Some(match is_configured {
        true => Change::Update { spec: Box::new(spec), if_version: version.try_into().ok() },
        false => Change::Report { spec: Box::new(spec), version },
    })
}

/// An entry with what is said of its upstream.
fn after(mut spec: ServerSpec, upstream: u32, settings: &Settings, said: &Said) -> ServerSpec {
    let (shown, is_plain) = (&settings.options.tools, settings.options.naming == Naming::Plain);
    let is_configured = !settings.options.is_registered;
    if is_configured {
        (spec.source, spec.is_configured, spec.front) = (Source::Upstream(settings.url.clone()), true, None);
    }
    if let Some(found) = &said.found {
        // What a client said of its server is what people are shown.
        if is_configured || spec.title.is_empty() {
            spec.title = found.title.as_str().into();
        }
        if is_configured || spec.description.is_empty() {
            spec.description = found.instructions.as_str().into();
        }
        spec.software_version = found.software_version.as_str().into();
        spec.fronted = found.version.map(|version| Fronted {
            number: upstream,
            version,
            completes: found.completes,
            subscribes: found.subscribes,
            is_plain,
            changes: found.changes,
        });
        spec.catalog = catalog(found, shown);
    } else if said.is_altered {
        let is_hidden = |item: &Item| !shown.admits(&item.name);
        if spec.catalog.tools.iter().any(is_hidden) {
            spec.catalog.tools = spec.catalog.tools.into_iter().filter(|item| !is_hidden(item)).collect();
        }
        spec.fronted = spec.fronted.map(|fronted| Fronted { number: upstream, is_plain, ..fronted });
    }
    spec.state = said.state.unwrap_or(spec.state);
    spec
}

/// What clients are shown of what was found.
fn catalog(found: &Found, shown: &ToolFilter) -> Catalog {
    debug_assert_eq!(Lists::ALL.len(), 4, "the order in which items are found");
    let [tools, prompts, resources, templates] = &found.items;
    let item = |FoundItem { name, json }: &FoundItem| Item { name: name.clone(), json: json.clone() };
    let items = |items: &[FoundItem]| items.iter().map(item).collect();
    let tools = tools.iter().filter(|tool| shown.admits(&tool.name)).map(item).collect();
    Catalog { tools, prompts: items(prompts), resources: items(resources), templates: items(templates) }
}

/// Takes out the tools that clients may not be shown. Gives those of them that they would have been shown, and why they are not.
fn leave_out(found: &mut Found, shown: &ToolFilter) -> Vec<(Box<str>, String)> {
    let mut left_out = Vec::new();
    found.items[Lists::Tools as usize].retain(|tool| {
        let problem = problem_with_tool(&tool.json);
        let is_sound = problem.is_none();
        left_out.extend(problem.filter(|_| shown.admits(&tool.name)).map(|why| (tool.name.clone(), why)));
        is_sound
    });
    left_out
}

/// Why clients may not be shown a tool, if they may not. Its `inputSchema` must be there, for an object (2025-11-25 and 2026-07-28, tools, "Tool"):
/// clients that check that refuse the whole list with it. One whose arguments are mirrored in a way that is not allowed is left out, too
/// (2026-07-28, transports, "Custom Headers").
fn problem_with_tool(definition: &[u8]) -> Option<String> {
    let schema = json::get(definition, "inputSchema").unwrap_or_default();
    if !schema.starts_with(b"{") || json::get(schema, "type") != Some(br#""object""#) {
        return Some("it has no inputSchema of type object".to_owned());
    }
    memchr::memmem::find(schema, MIRROR)?;
    match serde_json::from_slice(schema) {
        Ok(schema) => header_params(&schema).err().map(|why| why.to_string()),
        Err(error) => Some(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_whose_arguments_are_mirrored_wrongly_is_left_out() {
        let tool = |word: &str| {
            format!(r#"{{"name":"t","inputSchema":{{"type":"object","properties":{{"a":{{"type":"string","x-mcp-header":{word}}}}}}}}}"#)
        };
        assert_eq!(problem_with_tool(tool(r#""Region""#).as_bytes()), None);
        assert!(problem_with_tool(tool(r#""not a token""#).as_bytes()).is_some());
        assert!(problem_with_tool(tool("7").as_bytes()).is_some());
    }

    #[test]
    fn a_tool_without_a_schema_is_left_out() {
        for schema in
            ["", r#","inputSchema":null"#, r#","inputSchema":true"#, r#","inputSchema":{}"#, r#","inputSchema":{"type":"string"}"#]
        {
            assert!(problem_with_tool(format!(r#"{{"name":"t"{schema}}}"#).as_bytes()).is_some(), "{schema}");
        }
        assert_eq!(problem_with_tool(br#"{"name":"t","inputSchema": {"x": 1, "type" : "object"}}"#), None);
    }
}
