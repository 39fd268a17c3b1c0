//! What an upstream has, gathered from the pages of its lists.

use crate::base::limits;
use crate::wire::json;
use crate::wire::mcp::{Method, Version};

/// The lists of an upstream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lists {
    /// Its tools.
    Tools,
    /// Its prompts.
    Prompts,
    /// Its resources.
    Resources,
    /// Its resource templates.
    Templates,
}

impl Lists {
    /// Every list.
    pub const ALL: [Self; 4] = [Self::Tools, Self::Prompts, Self::Resources, Self::Templates];

    pub(super) const fn method(self) -> Method {
        match self {
            Self::Tools => Method::ToolsList,
            Self::Prompts => Method::PromptsList,
            Self::Resources => Method::ResourcesList,
            Self::Templates => Method::ResourcesTemplatesList,
        }
    }

    /// The member of the result that holds the items, and the member of an item that names it.
    const fn members(self) -> (&'static str, &'static str) {
        match self {
            Self::Tools => ("tools", "name"),
            Self::Prompts => ("prompts", "name"),
            Self::Resources => ("resources", "uri"),
            Self::Templates => ("resourceTemplates", "uriTemplate"),
        }
    }

    /// The list behind this one.
    pub(super) fn next(self) -> Option<Self> {
        Self::ALL.get(self as usize + 1).copied()
    }
}

/// What an upstream says it has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Capabilities {
    pub tools: bool,
    pub prompts: bool,
    pub resources: bool,
    pub completions: bool,
    /// It tells when these lists change.
    pub tools_changes: bool,
    pub prompts_changes: bool,
    pub resources_changes: bool,
    /// It tells when single resources change.
    pub resources_updates: bool,
}

impl Capabilities {
    /// Of the result of `initialize` or `server/discover`.
    pub fn of(result: &[u8]) -> Self {
        let all = json::get(result, "capabilities").unwrap_or_default();
        let has = |name| json::get(all, name).is_some_and(|raw| raw.starts_with(b"{"));
        let says = |name, what| json::get(all, name).and_then(|raw| json::get(raw, what)) == Some(b"true");
        let changes = |name| says(name, "listChanged");
        Self {
            tools: has("tools"),
            prompts: has("prompts"),
            resources: has("resources"),
            completions: has("completions"),
            tools_changes: changes("tools"),
            prompts_changes: changes("prompts"),
            resources_changes: changes("resources"),
            resources_updates: says("resources", "subscribe"),
        }
    }

    pub const fn has(self, list: Lists) -> bool {
        match list {
            Lists::Tools => self.tools,
            Lists::Prompts => self.prompts,
            Lists::Resources | Lists::Templates => self.resources,
        }
    }

    /// Whether it tells of any change.
    pub const fn tells(self) -> bool {
        self.tools_changes || self.prompts_changes || self.resources_changes
    }
}

/// One item of a list: what it is called, and its definition, a JSON object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FoundItem {
    /// The name of a tool or prompt, the URI of a resource, the URI template of a template.
    pub name: Box<str>,
    /// As the upstream gave it.
    pub json: Box<[u8]>,
}

/// What was found out about an upstream.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Found {
    /// The revision that it speaks.
    pub version: Option<Version>,
    /// Its title, its software's version, and how to use it; each may be empty.
    pub title: String,
    /// See [`Self::title`].
    pub software_version: String,
    /// See [`Self::title`].
    pub instructions: String,
    /// Whether it completes arguments.
    pub completes: bool,
    /// Whether it tells when single resources change.
    pub subscribes: bool,
    /// The items of each of [`Lists::ALL`].
    pub items: [Vec<FoundItem>; 4],
    /// How often it has said that its tools, its prompts and its resources changed.
    pub changes: [u32; 3],
    bytes: usize,
}

/// What follows a page.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// The page that this cursor leads to: a raw string.
    Page(Vec<u8>),
    /// Nothing.
    End,
    /// More than is taken.
    Full,
}

impl Found {
    /// What the result of `initialize` or `server/discover` says besides capabilities.
    pub(super) fn greet(&mut self, result: &[u8]) {
        let info = json::get(result, "serverInfo").or_else(|| {
            let meta = json::get(result, "_meta")?;
            json::get(meta, crate::wire::mcp::meta_key::SERVER_INFO)
        });
        let text = |raw: Option<&[u8]>| {
            let text = raw.and_then(json::string).unwrap_or_default();
            text[..text.floor_char_boundary(limits::SERVER_TEXT_BYTES_MAX)].to_owned()
        };
        let of_info = |name| text(info.and_then(|info| json::get(info, name)));
        (self.title, self.software_version) = (of_info("title"), of_info("version"));
        self.instructions = text(json::get(result, "instructions"));
    }

    /// Takes a page. An item without a name, or with one that is too long, is left out.
    pub(super) fn add(&mut self, list: Lists, page: &[u8]) -> Next {
        let (member, naming) = list.members();
        let items = &mut self.items[list as usize];
        for element in json::elements(json::get(page, member).unwrap_or_default()) {
            let Some(name) = json::get(element, naming).and_then(json::string) else { continue };
            if name.is_empty() || name.chars().count() > limits::ITEM_NAME_CHARS_MAX {
                continue;
            }
            let bytes = self.bytes + name.len() + element.len();
            if items.len() >= limits::CATALOG_ITEMS_MAX || bytes > limits::CATALOG_BYTES_MAX {
                return Next::Full;
            }
            self.bytes = bytes;
            items.push(FoundItem { name: name.as_ref().into(), json: element.into() });
        }
        match json::get(page, "nextCursor").filter(|raw| raw.starts_with(b"\"")) {
            Some(cursor) => Next::Page(cursor.to_vec()),
            None => Next::End,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_taken_as_they_are_and_no_more_than_there_is_room_for() {
        let mut found = Found::default();
        let page = br#"{"tools":[{"name":"a","x":[1, 2]},{"x":1},{"name":""},7],"nextCursor":"c\u0031"}"#;
        assert_eq!(found.add(Lists::Tools, page), Next::Page(br#""c\u0031""#.to_vec()));
        assert_eq!(found.items[0], [FoundItem { name: "a".into(), json: br#"{"name":"a","x":[1, 2]}"#[..].into() }]);
        assert_eq!(found.add(Lists::Templates, br#"{"resourceTemplates":[{"uriTemplate":"a:{b}"}]}"#), Next::End);
        assert_eq!(found.items[3].len(), 1);
        let many: Vec<_> = (0..=limits::CATALOG_ITEMS_MAX).map(|at| format!(r#"{{"uri":"a:{at}"}}"#)).collect();
        assert_eq!(found.add(Lists::Resources, format!(r#"{{"resources":[{}]}}"#, many.join(",")).as_bytes()), Next::Full);
        assert_eq!(found.items[2].len(), limits::CATALOG_ITEMS_MAX);
    }

    #[test]
    fn what_it_can_do_is_read() {
        let capabilities = Capabilities::of(br#"{"capabilities":{"tools":{"listChanged":true},"prompts":{},"logging":{}}}"#);
        assert!(capabilities.tools && capabilities.tells() && capabilities.has(Lists::Prompts) && !capabilities.has(Lists::Templates));
        assert!(!capabilities.prompts_changes && !capabilities.completions);
    }
}
