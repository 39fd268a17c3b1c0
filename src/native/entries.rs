//! The engine's side of a server: what it lists, and how its handlers are started.

use std::rc::Rc;

use super::completion::{self, CompleteParams, Target};
use super::context::Context;
use super::host::{Host, List};
use super::outcome::{Cache, Outcome, RpcError, Started};
use super::prompt::PromptEntry;
use super::resource::ResourceEntry;
use super::server::Server;
use super::template::Variables;
use super::tool::ToolEntry;
use crate::wire::json::{self, Decoder};

/// What a server can do, as it tells its clients.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Capabilities {
    pub tools: bool,
    pub prompts: bool,
    pub resources: bool,
    pub completions: bool,
    /// Lists may change.
    pub changes: bool,
    /// Clients may subscribe to single resources.
    pub updates: bool,
}

impl Capabilities {
    /// Appends the `ServerCapabilities` object, the same in both eras.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(br#"{"logging":{}"#);
        let resources = if self.updates { "{\"listChanged\":true,\"subscribe\":true}" } else { "{\"listChanged\":true}" };
        let parts: [(bool, &str, &str, &str); 4] = [
            (self.tools, "tools", "{\"listChanged\":true}", "{}"),
            (self.prompts, "prompts", "{\"listChanged\":true}", "{}"),
            (self.resources, "resources", resources, "{}"),
            (self.completions, "completions", "{}", "{}"),
        ];
        for (has, name, changing, fixed) in parts {
            if has {
                out.push(b',');
                json::write_str(out, name);
                out.push(b':');
                out.extend_from_slice(if self.changes { changing } else { fixed }.as_bytes());
            }
        }
        out.push(b'}');
    }
}

impl Server {
    /// To be called once by the engine of the core that will host it, which numbers its servers.
    pub(crate) fn attach(&self, host: &Rc<Host>, server: u32) {
        for notifier in &self.notifiers {
            notifier.attach(host.inbox(), server);
        }
    }

    /// Its `Implementation` object (name, version, title, icons …), in JSON.
    pub(crate) fn info(&self) -> &[u8] {
        &self.info
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its version.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    pub(crate) fn instructions(&self) -> Option<&str> {
        self.instructions.as_deref()
    }

    pub(crate) fn capabilities(&self) -> Capabilities {
        Capabilities {
            tools: !self.tools.is_empty(),
            prompts: !self.prompts.is_empty(),
            resources: !(self.resources.is_empty() && self.templates.is_empty()),
            completions: !self.completers.is_empty(),
            changes: self.changes,
            updates: self.changes,
        }
    }

    /// Items on one page of a list, at least one.
    pub(crate) fn page_size(&self) -> usize {
        self.page_size
    }

    pub(crate) fn list_cache(&self, list: List) -> Cache {
        match list {
            List::Tools => self.caches.tools,
            List::Prompts => self.caches.prompts,
            List::Resources => self.caches.resources,
        }
    }

    pub(crate) fn discover_cache(&self) -> Cache {
        self.caches.discover
    }

    /// For what a resource answers without a cache of its own.
    pub(crate) fn read_cache(&self) -> Cache {
        self.caches.read
    }

    /// Its tools, in the order they were added.
    pub(crate) fn tools(&self) -> &[ToolEntry] {
        &self.tools
    }

    pub(crate) fn tool(&self, name: &str) -> Option<&ToolEntry> {
        if let Some(last) = self.tools.get(self.tool_named_last.get()).filter(|tool| tool.name() == name) {
            return Some(last);
        }
        let at = *self.tool_names.get(name)?;
        self.tool_named_last.set(at);
        self.tools.get(at)
    }

    pub(crate) fn prompts(&self) -> &[PromptEntry] {
        &self.prompts
    }

    pub(crate) fn resources(&self) -> &[ResourceEntry] {
        &self.resources
    }

    pub(crate) fn templates(&self) -> &[ResourceEntry] {
        &self.templates
    }

    /// Starts a tool. `arguments` is raw JSON that the scanner accepted. What it answers at once is appended to `out`.
    pub(crate) fn start_tool(
        &self,
        name: &str,
        arguments: Option<&[u8]>,
        decoder: &mut Decoder,
        cx: &Context,
        out: &mut Vec<u8>,
    ) -> Started {
        match self.tool(name) {
            Some(tool) => tool.start(arguments, decoder, cx, out),
            None => Started::NotFound,
        }
    }

    /// Starts reading a resource: one of that URI, else the first template that matches. That there is none is told as the era tells it.
    pub(crate) fn start_read(&self, uri: &str, cx: &Context, out: &mut Vec<u8>) -> Started {
        if let Some(resource) = self.resources.iter().find(|resource| resource.uri() == uri) {
            return resource.start(&Variables::none(uri), cx, out);
        }
        match self.templates.iter().find_map(|template| Some((template, template.matches(uri)?))) {
            Some((template, at)) => template.start(&at, cx, out),
            None => Started::Done(super::resource::not_found(uri, cx.era())),
        }
    }

    /// Starts a prompt. `arguments` is raw JSON that the scanner accepted.
    pub(crate) fn start_prompt(
        &self,
        name: &str,
        arguments: Option<&[u8]>,
        decoder: &mut Decoder,
        cx: &Context,
        out: &mut Vec<u8>,
    ) -> Started {
        match self.prompts.iter().find(|prompt| prompt.name() == name) {
            Some(prompt) => prompt.start(arguments, decoder, cx, out),
            None => Started::NotFound,
        }
    }

    /// Completes. `params` is the raw `params` of `completion/complete`. Not found: there is no such prompt or template.
    pub(crate) fn start_complete(&self, params: &[u8], decoder: &mut Decoder, cx: &Context, out: &mut Vec<u8>) -> Started {
        let mut params: CompleteParams = match decoder.decode(params) {
            Ok(params) => params,
            Err(error) => return Started::Done(Outcome::Error(RpcError::invalid_params(error.text()))),
        };
        let is_known = match &params.target {
            Target::Prompt { name } => self.prompts.iter().any(|prompt| prompt.name() == name),
            Target::Resource { uri } => self.templates.iter().chain(&self.resources).any(|resource| resource.uri() == uri),
        };
        if !is_known {
            return Started::NotFound;
        }
        let completer = self.completers.iter().find(|entry| entry.target == params.target && entry.argument == params.argument.name);
        let values = completer.map_or_else(Vec::new, |entry| (entry.complete)(&params.completing(), cx));
        completion::write(values, out);
        Started::Done(Outcome::RESULT)
    }
}
