//! Names as clients see them, and whose they are.
//!
//! One bound server: its names stay as they are. Several: the server's name, the separator and the item's name. Whatever a client names is
//! looked up in an exact table; nothing is ever taken apart at a separator, since names may hold it themselves. How a name is made depends
//! on the entries alone, so that it is the same on every core and in every process:
//! - a name that needs no change has precedence over one that does; among equals the server bound first has, then its own order;
//! - a character that names may not hold becomes `_`;
//! - a name that is too long, or taken, is cut and ends in a digest of the server's name and its own.

use std::cell::Cell;
use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashSet, HashTable};

use crate::base::limits::NAME_CHARS_MAX;
use crate::engine::config::Separator;

/// Characters of a digest at the end of a name: forty bits.
const DIGEST_CHARS: usize = 8;
/// What stands before the digest.
const MARK: char = '-';
/// Characters of a digest: lower case and digits, none of which is easily misread.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
/// Characters that an item's own name keeps when the server's name is too long for both.
const OWN_CHARS_MIN: usize = 40;

const _: () = assert!(OWN_CHARS_MIN + DIGEST_CHARS + 2 < NAME_CHARS_MAX, "the server's name must keep something, too");

/// One exposed name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub exposed: Box<str>,
    /// What the server calls it.
    pub original: Box<str>,
    /// Place of the server among those of the endpoint.
    pub member: u32,
}

/// Exposed names, exactly.
#[derive(Debug, Default)]
pub(super) struct Table {
    named: Vec<Named>,
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
    /// Place of what was looked up last: many calls in a row name the same.
    last: Cell<u32>,
}

impl Table {
    /// Whose the name is.
    pub fn find(&self, exposed: &str) -> Option<&Named> {
        if let Some(last) = self.named.get(self.last.get() as usize).filter(|last| *last.exposed == *exposed) {
            return Some(last);
        }
        let at = *self.index.find(self.hasher.hash_one(exposed), |&at| *self.at(at).exposed == *exposed)?;
        self.last.set(at);
        Some(self.at(at))
    }

    /// Names whose exposed form is not the server's own.
    pub fn renamed(&self) -> impl Iterator<Item = &Named> {
        self.named.iter().filter(|named| named.exposed != named.original)
    }

    /// All of them, in the order in which they were named.
    pub fn iter(&self) -> impl Iterator<Item = &Named> {
        self.named.iter()
    }

    fn at(&self, at: u32) -> &Named {
        &self.named[at as usize]
    }

    /// Takes a name unless it is taken.
    fn claim(&mut self, exposed: &str, original: &str, member: u32) -> bool {
        let hash = self.hasher.hash_one(exposed);
        if self.index.find(hash, |&at| *self.named[at as usize].exposed == *exposed).is_some() {
            return false;
        }
        let (at, named, hasher) = (self.named.len() as u32, &mut self.named, &self.hasher);
        named.push(Named { exposed: exposed.into(), original: original.into(), member });
        self.index.insert_unique(hash, at, |&at| hasher.hash_one(&*named[at as usize].exposed));
        true
    }
}

/// An item to be named: place of its server, and what that calls it.
pub(super) type Own<'a> = (u32, &'a str);

/// A server as its items are named.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner<'a> {
    pub name: &'a str,
    /// Its items keep their names, unless another has them already.
    pub is_plain: bool,
}

/// Names tools or prompts. `servers` are the endpoint's servers. Gives the exposed name of each, in the same order; none for
/// one that its server has twice. Of tools, which models call, a server alone keeps no character either that could be refused; a prompt is
/// chosen by people.
pub(super) fn name_all(own: &[Own<'_>], servers: &[Owner<'_>], separator: Separator, are_tools: bool) -> (Vec<Option<Box<str>>>, Table) {
    let is_alone = servers.len() == 1;
    let name = |&(member, own): &Own<'_>| {
        let server = servers[member as usize];
        if is_alone || server.is_plain { own.to_owned() } else { format!("{}{}{own}", server.name, separator.as_char()) }
    };
    // A server alone keeps the slashes that names of its tools may have.
    let fits = |name: &str| {
        let is_fine = |byte: u8| is_plain(char::from(byte)) || (is_alone && (!are_tools || byte == b'/'));
        (1..=NAME_CHARS_MAX).contains(&name.len()) && name.bytes().all(is_fine)
    };
    assign(
        own,
        |item| Some(name(item)).filter(|name| fits(name)),
        |&(member, own), round| {
            let server = servers[member as usize];
            let has_none = is_alone || server.is_plain;
            let prefix = if has_none { String::new() } else { clean(server.name) };
            if round == 0 {
                let joined = if has_none { clean(own) } else { format!("{prefix}{}{}", separator.as_char(), clean(own)) };
                return Some(joined).filter(|joined| fits(joined));
            }
            Some(cut(&prefix, separator, &clean(own), &digest(server.name, own, round)))
        },
    )
}

/// Names resources or templates. A URI stays as it is; one that another server has already gets that server's name before its scheme:
/// `name+scheme:...`, which is a URI again (RFC 3986 section 3.1).
pub(super) fn locate_all(own: &[Own<'_>], servers: &[&str]) -> (Vec<Option<Box<str>>>, Table) {
    assign(
        own,
        |&(_, uri)| Some(uri.to_owned()),
        |&(member, uri), round| {
            let server = servers[member as usize];
            let scheme: String =
                server.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') { c } else { '-' }).collect();
            let letter = if scheme.starts_with(|c: char| c.is_ascii_alphabetic()) { "" } else { "s" };
            let digest = if round == 0 { String::new() } else { format!("{MARK}{}", digest(server, uri, round)) };
            Some(format!("{letter}{scheme}{digest}+{uri}"))
        },
    )
}

/// What stands before a URI that was given a name of its own.
pub(super) fn prefix(named: &Named) -> &str {
    named.exposed.strip_suffix(&*named.original).unwrap_or_default()
}

/// Gives every item a name of its own: `plain` where there is one and it is free, else what `other` offers, round by round.
fn assign(
    own: &[Own<'_>],
    plain: impl Fn(&Own<'_>) -> Option<String>,
    other: impl Fn(&Own<'_>, u32) -> Option<String>,
) -> (Vec<Option<Box<str>>>, Table) {
    let (mut table, mut seen) = (Table::default(), HashSet::new());
    let mut exposed: Vec<Option<Box<str>>> = vec![None; own.len()];
    let mut rest = Vec::new();
    for (at, item) in own.iter().enumerate() {
        if !seen.insert(*item) {
            continue;
        }
        match plain(item).filter(|name| table.claim(name, item.1, item.0)) {
            Some(name) => exposed[at] = Some(name.into()),
            None => rest.push(at),
        }
    }
    for at in rest {
        let item = &own[at];
        let mut offered = (0..u32::MAX).filter_map(|round| other(item, round));
        exposed[at] = offered.find(|name| table.claim(name, item.1, item.0)).map(Into::into);
    }
    (exposed, table)
}

const fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')
}

fn clean(name: &str) -> String {
    name.chars().map(|c| if is_plain(c) { c } else { '_' }).collect()
}

/// The name with a digest at its end. What has to go is taken from the server's name first.
fn cut(prefix: &str, separator: Separator, own: &str, digest: &str) -> String {
    let room = NAME_CHARS_MAX - DIGEST_CHARS - 1;
    if prefix.is_empty() {
        return format!("{}{MARK}{digest}", &own[..own.len().min(room)]);
    }
    let room = room - 1;
    let own_chars = own.len().min(OWN_CHARS_MIN.max(room.saturating_sub(prefix.len())));
    let prefix = &prefix[..prefix.len().min(room - own_chars)];
    format!("{prefix}{}{}{MARK}{digest}", separator.as_char(), &own[..own_chars])
}

/// The same on every core and in every process.
fn digest(server: &str, own: &str, round: u32) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in [server, own] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.update(&round.to_le_bytes());
    let bytes = hasher.finalize();
    bytes.as_bytes()[..DIGEST_CHARS].iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owners<'a>(servers: &[&'a str]) -> Vec<Owner<'a>> {
        servers.iter().map(|name| Owner { name, is_plain: false }).collect()
    }

    fn named(own: &[Own<'_>], servers: &[&str]) -> Vec<String> {
        let (exposed, table) = name_all(own, &owners(servers), Separator::Dot, true);
        let exposed: Vec<_> = exposed.into_iter().map(|name| name.map(String::from).unwrap_or_default()).collect();
        for (name, own) in exposed.iter().zip(own).filter(|(name, _)| !name.is_empty()) {
            let found = table.find(name).expect("it is in the table");
            assert_eq!((found.member, &*found.original), *own, "{name}");
        }
        exposed
    }

    #[test]
    fn one_server_keeps_its_names() {
        assert_eq!(named(&[(0, "get"), (0, "a/b.c-d"), (0, "a b")], &["weather"]), ["get", "a/b.c-d", "a_b"]);
        let (exposed, _) = name_all(&[(0, "Review my code")], &owners(&["weather"]), Separator::Dot, false);
        assert_eq!(exposed[0].as_deref(), Some("Review my code"), "a prompt's name is for people");
    }

    #[test]
    fn several_servers_are_told_apart_by_theirs() {
        assert_eq!(named(&[(0, "get"), (1, "get")], &["a", "b"]), ["a.get", "b.get"]);
        let (exposed, _) = name_all(&[(0, "get")], &owners(&["a", "b"]), Separator::Underscore, true);
        assert_eq!(exposed[0].as_deref(), Some("a_get"));
        assert_eq!(named(&[(0, "get/it")], &["io.example/weather", "b"]), ["io.example_weather.get_it"]);
    }

    #[test]
    fn a_plain_server_keeps_its_names_among_others() {
        let servers = [Owner { name: "a", is_plain: true }, Owner { name: "b", is_plain: false }, Owner { name: "c", is_plain: true }];
        let (exposed, table) = name_all(&[(0, "get"), (1, "get"), (2, "get"), (0, "b.put"), (1, "put")], &servers, Separator::Dot, true);
        let exposed: Vec<_> = exposed.iter().map(|name| name.as_deref().unwrap_or_default()).collect();
        assert_eq!((exposed[0], exposed[1], exposed[3]), ("get", "b.get", "b.put"));
        assert!(exposed[2].starts_with("get-") && exposed[4].starts_with("b.put-"), "{exposed:?}");
        assert_eq!(table.find(exposed[2]).map(|named| named.member), Some(2));
    }

    #[test]
    fn a_collision_is_told_apart_by_a_digest_and_the_first_keeps_the_name() {
        let names = named(&[(0, "b.c"), (1, "c")], &["a", "a.b"]);
        assert_eq!(names[0], "a.b.c");
        assert!(names[1].starts_with("a.b.c-") && names[1].len() == 6 + DIGEST_CHARS, "{names:?}");
        assert_eq!(named(&[(0, "b.c"), (1, "c")], &["a", "a.b"]), names, "and always alike");
    }

    #[test]
    fn a_name_that_needs_no_change_has_precedence() {
        let names = named(&[(0, "a b"), (0, "a_b")], &["s"]);
        assert_eq!(names[1], "a_b");
        assert!(names[0].starts_with("a_b-"), "{names:?}");
    }

    #[test]
    fn long_names_are_cut_and_stay_distinct() {
        let (long, longer) = ("x".repeat(100), "x".repeat(101));
        for servers in [&["s"][..], &["s", "t"], &[&"long.".repeat(40), "t"]] {
            let names = named(&[(0, &long), (0, &longer), (0, "é")], servers);
            assert!(names.iter().all(|name| (1..=NAME_CHARS_MAX).contains(&name.len()) && name.chars().all(is_plain)), "{names:?}");
            assert_ne!(names[0], names[1]);
        }
        let name = &named(&[(0, "the_tool")], &[&"long.".repeat(40), "t"])[0];
        assert!(name.contains(".the_tool-") && name.len() == NAME_CHARS_MAX, "the tool's own name is kept: {name}");
    }

    #[test]
    fn what_a_server_has_twice_counts_once() {
        assert_eq!(named(&[(0, "a"), (0, "a")], &["s"]), ["a", ""]);
    }

    #[test]
    fn a_uri_changes_only_when_two_servers_have_it() {
        let own = [(0, "file:///a"), (1, "file:///a"), (1, "file:///b"), (2, "file:///a")];
        let (exposed, table) = locate_all(&own, &["one", "2_two", "2-two"]);
        let exposed: Vec<_> = exposed.iter().flatten().map(|uri| &**uri).collect();
        assert_eq!(exposed[..3], ["file:///a", "s2-two+file:///a", "file:///b"]);
        assert!(exposed[3].starts_with("s2-two-") && exposed[3].ends_with("+file:///a"), "{}", exposed[3]);
        assert_eq!(table.find(exposed[1]).map(prefix), Some("s2-two+"));
        assert_eq!(table.renamed().count(), 2);
    }
}
