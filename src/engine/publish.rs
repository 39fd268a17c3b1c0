//! What scouts found out about upstreams, as changes of the registry: on the core where the upstream's entry is at home.
//!
//! One change of an entry is on its way at a time; what is found meanwhile takes the place of what was found before. A change that was refused for
//! want of room is tried again.

use std::time::Duration;

use super::Engine;
use super::config::EngineConfig;
use super::out::Out;
use super::route::OTHERS;
use crate::base::time::{Nanos, Now};
use crate::gateway::config::{Naming, ToolFilter};
use crate::gateway::{Finding, Found, FoundItem, Lists, News};
use crate::native::header_params;
use crate::registry::{self, Catalog, Change, Changed, Effects, Fronted, Item, Refusal, ServerSpec, Source, State, Waiter};
use crate::wire::json;

/// Set in every [`Waiter`] of this file, with [`OTHERS`]. The number of the upstream stands below.
const PUBLISHER: u64 = OTHERS | 1 << 62;
/// A change that was refused is tried again after this long.
const AGAIN: Duration = Duration::from_millis(500);
/// The word that makes an argument travel in a header, too.
const MIRROR: &[u8] = b"x-mcp-header";

/// What is published of one upstream.
#[derive(Debug, Default)]
struct Publication {
    /// What the registry was told last.
    told: Option<Box<ServerSpec>>,
    /// What it is to be told.
    next: Option<Box<ServerSpec>>,
    is_under_way: bool,
    /// Tools that clients are not shown, and why.
    left_out: Vec<(Box<str>, String)>,
    /// It was online before.
    was_seen: bool,
    /// The entry is to be made anew.
    is_absent: bool,
    /// Not tried before.
    due: Nanos,
}

/// What is published by this core, by upstream.
#[derive(Debug)]
pub(super) struct Publications {
    each: Vec<Publication>,
    due: Nanos,
}

impl Publications {
    pub fn new(config: &EngineConfig) -> Self {
        Self { each: config.upstreams.iter().map(|_| Publication::default()).collect(), due: Nanos::NEVER }
    }

    /// When [`Engine::publish_again`] is due.
    pub const fn next_due(&self) -> Nanos {
        self.due
    }
}

impl Engine {
    /// A scout of this core found something out.
    pub(super) fn publish(&mut self, now: Now, news: News, out: &mut Out) {
        let News { upstream, finding } = news;
        let Some(settings) = self.gateway.settings(upstream) else { return };
        let (name, url, shown) = (settings.name.clone(), settings.url.clone(), settings.options.tools.clone());
        let (is_plain, is_required) = (settings.options.naming == Naming::Plain, settings.options.is_required);
        let publication = &mut self.publications.each[upstream as usize];
        let last = publication.next.as_ref().or(publication.told.as_ref());
        let spec = match finding {
            Finding::Online(found) => {
                if is_required && !std::mem::replace(&mut publication.was_seen, true) {
                    self.shared.upstream_seen();
                }
                let mut left_out = Vec::new();
                let spec = spec(upstream, name, url, (&shown, is_plain), *found, &mut left_out);
                // Once, and not each time that the lists are looked at.
                for (tool, why) in left_out.iter().filter(|tool| !publication.left_out.contains(tool)) {
                    tracing::warn!(upstream = &*spec.name, tool = &**tool, "a tool is left out: {why}");
                }
                publication.left_out = left_out;
                if last.is_none_or(|last| last.state != State::Online) {
                    tracing::info!(upstream = &*spec.name, tools = spec.catalog.tools.len(), version = ?spec.fronted.map(|fronted| fronted.version), "an upstream is online");
                }
                spec
            }
            Finding::Offline(failure) => {
                tracing::warn!(upstream = &*name, "an upstream is offline: it {failure}");
                let Some(last) = last else { return };
                ServerSpec { state: State::Offline, ..ServerSpec::clone(last) }
            }
        };
        if last.is_some_and(|last| **last == spec) {
            return;
        }
        publication.next = Some(Box::new(spec));
        self.publish_next(now, upstream, out);
    }

    fn publish_next(&mut self, now: Now, upstream: u32, out: &mut Out) {
        let publication = &mut self.publications.each[upstream as usize];
        if publication.is_under_way {
            return;
        }
        let Some(spec) = publication.next.take() else { return };
        publication.is_under_way = true;
        publication.told = Some(spec.clone());
        let change = if publication.is_absent { Change::Register(spec) } else { Change::Update { spec, if_version: None } };
        let mut effects = Effects::new();
        self.routes.registry().change(now, change, Waiter(PUBLISHER | u64::from(upstream)), &mut effects);
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

    fn on_told(&mut self, now: Now, upstream: u32, result: Result<Changed, Refusal>, out: &mut Out) {
        let publication = &mut self.publications.each[upstream as usize];
        publication.is_under_way = false;
        let Err(refusal) = result else {
            publication.is_absent = false;
            return self.publish_next(now, upstream, out);
        };
        let is_final = matches!(refusal, Refusal::Invalid(_) | Refusal::NotPermitted);
        tracing::debug!(upstream, ?refusal, "what was found out was not taken");
        if is_final {
            tracing::warn!(upstream, ?refusal, "what an upstream says of itself cannot be registered");
            return self.publish_next(now, upstream, out);
        }
        publication.is_absent = refusal == Refusal::Absent;
        let told = publication.told.take();
        publication.next = publication.next.take().or(told);
        match refusal {
            Refusal::Absent | Refusal::Taken => self.publish_next(now, upstream, out),
            _ => {
                publication.due = now.mono.after(AGAIN);
                self.publications.due = self.publications.due.min(publication.due);
            }
        }
    }

    /// Tries again what was refused.
    pub(super) fn publish_again(&mut self, now: Now, out: &mut Out) {
        if now.mono < self.publications.due {
            return;
        }
        self.publications.due = Nanos::NEVER;
        for upstream in 0..self.publications.each.len() {
            if self.publications.each[upstream].due <= now.mono {
                self.publish_next(now, upstream as u32, out);
            } else if self.publications.each[upstream].next.is_some() {
                self.publications.due = self.publications.due.min(self.publications.each[upstream].due);
            }
        }
    }
}

/// What the registry is told of an upstream.
fn spec(
    upstream: u32,
    name: Box<str>,
    url: Box<str>,
    (shown, is_plain): (&ToolFilter, bool),
    found: Found,
    left_out: &mut Vec<(Box<str>, String)>,
) -> ServerSpec {
    let fronted =
        found.version.map(|version| Fronted { number: upstream, version, completes: found.completes, is_plain, changes: found.changes });
    let [tools, prompts, resources, templates] = found.items;
    let items = |items: Vec<FoundItem>| items.into_iter().map(|FoundItem { name, json }| Item { name, json }).collect();
    let is_sound = |tool: &FoundItem| {
        let problem = problem_with_tool(&tool.json);
        let is_sound = problem.is_none();
        left_out.extend(problem.map(|why| (tool.name.clone(), why)));
        is_sound
    };
    let tools = tools.into_iter().filter(|tool| shown.admits(&tool.name)).filter(is_sound).collect();
    debug_assert_eq!(Lists::ALL.len(), 4, "the order in which items are found");
    ServerSpec {
        name,
        title: found.title.into(),
        description: found.instructions.into(),
        software_version: found.software_version.into(),
        source: Source::Upstream(url),
        state: State::Online,
        is_configured: true,
        fronted,
        catalog: Catalog { tools: items(tools), prompts: items(prompts), resources: items(resources), templates: items(templates) },
    }
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
