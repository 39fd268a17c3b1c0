//! Resources that results of upstreams link to or hold, by the URIs that clients know them by: those that clients are shown in lists and read
//! them by. A result in which nothing is called otherwise is not touched.

use hashbrown::HashMap;

use super::name::Table;
use super::{Family, Seat, View};
use crate::wire::json::{self, key_is, write_str};

/// What resources are called, by what their server calls them.
type Renamed = HashMap<Box<str>, Box<str>>;

/// By server, what its resources are called if not as it calls them.
#[derive(Debug, Default)]
pub(super) struct Links(HashMap<u32, Renamed>);

impl Links {
    pub fn of(resources: &Table, families: &[Family]) -> Self {
        let mut links = Self::default();
        for named in resources.renamed() {
            links.0.entry(named.member).or_default().insert(named.original.clone(), named.exposed.clone());
        }
        for family in families.iter().filter(|family| !family.prefix.is_empty()) {
            links.0.entry(family.member).or_default();
        }
        links
    }
}

impl View {
    /// Whether clients know any resource of this upstream by another URI than it does.
    pub fn relinks(&self, upstream: u32) -> bool {
        !self.links.0.is_empty() && self.links_of(upstream).is_some()
    }

    fn links_of(&self, upstream: u32) -> Option<(u32, &Renamed)> {
        let is_it =
            |member: u32| matches!(self.members.get(member as usize).map(|it| it.seat), Some(Seat::Upstream(at)) if at.number == upstream);
        self.links.0.iter().find(|(member, _)| is_it(**member)).map(|(member, links)| (*member, links))
    }

    /// A response of this upstream with the resources in its result called as clients call them; none when that is how it is.
    pub fn relink(&self, upstream: u32, response: &[u8]) -> Option<Vec<u8>> {
        let (member, links) = self.links_of(upstream)?;
        let result = json::get(response, "result")?;
        let mut uris = Vec::new();
        for (key, raw) in json::members(result) {
            if key_is(key, "content") {
                json::elements(raw).for_each(|block| uris.extend(uri_of(block)));
            } else if key_is(key, "contents") {
                json::elements(raw).for_each(|content| uris.extend(json::get(content, "uri")));
            } else if key_is(key, "messages") {
                for content in json::elements(raw).filter_map(|message| json::get(message, "content")) {
                    uris.extend(uri_of(content));
                    json::elements(content).for_each(|block| uris.extend(uri_of(block)));
                }
            }
        }
        let mut out = Vec::new();
        let mut copied = 0;
        for raw in uris {
            let Some(uri) = json::string(raw) else { continue };
            let exposed = match links.get(&*uri) {
                Some(exposed) => exposed.to_string(),
                None => match self.family_of(member, &uri) {
                    Some(family) => format!("{}{uri}", family.prefix),
                    None => continue,
                },
            };
            let at = super::rewrite::place(response, raw);
            out.extend_from_slice(&response[copied..at]);
            write_str(&mut out, &exposed);
            copied = at + raw.len();
        }
        if copied == 0 {
            return None;
        }
        out.extend_from_slice(&response[copied..]);
        Some(out)
    }

    /// The renamed family that a resource is of, unless clients know it by its own URI.
    fn family_of(&self, member: u32, uri: &str) -> Option<&Family> {
        let is_own = self.resources.find(uri).is_some_and(|named| named.member == member);
        self.families.iter().find(|family| !is_own && family.member == member && !family.prefix.is_empty() && family.fits(uri))
    }
}

/// The URI in a content block that links to a resource or holds one (2025-11-25, tools, "Resource Links", "Embedded Resources").
fn uri_of(block: &[u8]) -> Option<&[u8]> {
    if !block.starts_with(b"{") {
        return None;
    }
    let kind = json::get(block, "type")?;
    if key_is(kind, "resource_link") {
        json::get(block, "uri")
    } else if key_is(kind, "resource") {
        json::get(json::get(block, "resource")?, "uri")
    } else {
        None
    }
}
