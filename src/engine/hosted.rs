//! A native server as its core hosts it.

use super::view::Signature;
use crate::gateway::Settings;
use crate::native::{Server, ToolEntry};
use crate::registry::{Catalog, Item, ServerSpec, Source, State};
use crate::wire::json;
use crate::wire::mcp::{Era, HeaderParam};

/// A server, and what stands in its results.
pub(super) struct Hosted {
    pub server: Server,
    pub signature: Signature,
}

impl Hosted {
    pub fn new(server: Server) -> Self {
        let signature = Signature::new(server.name(), server.version());
        Self { server, signature }
    }

    /// Arguments of a tool that clients mirror into headers; none when there is no such tool.
    pub fn header_params(&self, tool: &str) -> &[HeaderParam] {
        self.server.tool(tool).map_or(&[], ToolEntry::header_params)
    }
}

/// Longest name that a native server is registered by.
const NAME_CHARS_MAX: usize = 64;

/// What the registry is told of the native servers. Each is registered by its own name, as far as the registry takes it; of two that are
/// called alike the second has a number behind its name.
pub(super) fn specs(hosted: &[Hosted]) -> Vec<ServerSpec> {
    let mut specs: Vec<ServerSpec> = Vec::with_capacity(hosted.len());
    for (number, hosted) in (0..).zip(hosted) {
        let own = registered_name(hosted.server.name());
        let numbered = (2..).map(|again: u32| format!("{own}-{again}"));
        let is_free = |name: &String| specs.iter().all(|spec| *spec.name != **name);
        let name = std::iter::once(own.clone()).chain(numbered).find(is_free).unwrap_or(own);
        specs.push(spec(number, &name, &hosted.server));
    }
    specs
}

/// What the registry is told of an upstream before it was found.
pub(super) fn fronted(settings: &Settings) -> ServerSpec {
    ServerSpec {
        name: settings.name.clone(),
        title: Box::default(),
        description: Box::default(),
        software_version: Box::default(),
        source: Source::Upstream(settings.url.clone()),
        state: State::Offline,
        is_configured: !settings.options.is_registered,
        front: None,
        fronted: None,
        catalog: Catalog::default(),
    }
}

fn spec(number: u32, name: &str, server: &Server) -> ServerSpec {
    let text = |member: &str| json::get(server.info(), member).and_then(json::string).map(|text| text.into()).unwrap_or_default();
    let item = |name: &str, definition: &[u8]| Item { name: name.into(), json: definition.into() };
    let catalog = Catalog {
        tools: server.tools().iter().map(|tool| item(tool.name(), tool.definition(Era::Modern))).collect(),
        prompts: server.prompts().iter().map(|prompt| item(prompt.name(), prompt.definition())).collect(),
        resources: server.resources().iter().map(|resource| item(resource.uri(), resource.definition())).collect(),
        templates: server.templates().iter().map(|template| item(template.uri(), template.definition())).collect(),
    };
    ServerSpec {
        name: name.into(),
        title: text("title"),
        description: text("description"),
        software_version: server.version().into(),
        source: Source::Native(number),
        state: State::Online,
        is_configured: true,
        front: None,
        fronted: None,
        catalog,
    }
}

/// A server's own name in the characters that the registry knows.
#[must_use]
pub fn registered_name(own: &str) -> String {
    let known = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '/' | '-') { c } else { '-' };
    own.chars().take(NAME_CHARS_MAX).map(known).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosted(name: &str) -> Hosted {
        Hosted::new(Server::builder(name, "1").title("A title").build().expect("a server"))
    }

    #[test]
    fn native_servers_are_registered_by_names_of_their_own() {
        let specs = specs(&[hosted("My server"), hosted("my"), hosted("My-server"), hosted("My:server")]);
        let names: Vec<_> = specs.iter().map(|spec| &*spec.name).collect();
        assert_eq!(names, ["My-server", "my", "My-server-2", "My-server-3"]);
        assert!(specs.iter().all(|spec| spec.problem().is_none() && &*spec.title == "A title"));
        assert_eq!(specs[2].source, Source::Native(2));
    }
}
