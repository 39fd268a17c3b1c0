//! What a client can be asked for.

use std::ops::BitOr;

use super::meta_key;
use crate::wire::json;

/// The capabilities that a client declared, as far as a server acts on them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub struct ClientCapabilities(u16);

macro_rules! capabilities {
    ($($(#[$doc:meta])* $name:ident / $constant:ident = $bit:literal;)*) => {
        impl ClientCapabilities {
            $($(#[$doc])* pub const $constant: Self = Self(1 << $bit);)*

            $($(#[$doc])*
            #[must_use]
            pub const fn $name(self) -> bool { self.contains(Self::$constant) })*
        }
    };
}

capabilities! {
    /// It samples its model.
    sampling / SAMPLING = 0;
    /// It samples with tools.
    sampling_tools / SAMPLING_TOOLS = 1;
    /// It samples with context from servers.
    sampling_context / SAMPLING_CONTEXT = 2;
    /// It asks its user by form.
    elicitation_form / ELICITATION_FORM = 3;
    /// It sends its user to a URL.
    elicitation_url / ELICITATION_URL = 4;
    /// It lists its roots.
    roots / ROOTS = 5;
    /// It tells when its roots change.
    roots_list_changed / ROOTS_LIST_CHANGED = 6;
    /// It knows the tasks extension (2026-07-28).
    tasks_extension / TASKS_EXTENSION = 7;
    /// It runs its own requests as tasks (2025-11-25, experimental).
    tasks / TASKS = 8;
}

impl BitOr for ClientCapabilities {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl ClientCapabilities {
    /// None.
    pub const NONE: Self = Self(0);

    /// Reads a raw capabilities object. A capability counts when its value is an object; what is unknown is passed over.
    #[must_use]
    pub fn parse(raw: &[u8]) -> Self {
        let mut found = Self::NONE;
        for (key, value) in json::members(raw).filter(|(_, value)| value.starts_with(b"{")) {
            if json::key_is(key, "sampling") {
                found.0 |= Self::SAMPLING.0
                    | Self::SAMPLING_TOOLS.when(has_object(value, "tools"))
                    | Self::SAMPLING_CONTEXT.when(has_object(value, "context"));
            } else if json::key_is(key, "elicitation") {
                // Before 2025-11-25 forms were all there was: an object that names no mode means them.
                let (form, url) = (has_object(value, "form"), has_object(value, "url"));
                found.0 |= Self::ELICITATION_FORM.when(form || !url) | Self::ELICITATION_URL.when(url);
            } else if json::key_is(key, "roots") {
                found.0 |= Self::ROOTS.0 | Self::ROOTS_LIST_CHANGED.when(json::get(value, "listChanged") == Some(b"true"));
            } else if json::key_is(key, "extensions") {
                found.0 |= Self::TASKS_EXTENSION.when(has_object(value, meta_key::TASKS_EXTENSION));
            } else if json::key_is(key, "tasks") {
                found.0 |= Self::TASKS.0;
            }
        }
        found
    }

    /// Both together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those of them that are in `others`, too.
    #[must_use]
    pub const fn within(self, others: Self) -> Self {
        Self(self.0 & others.0)
    }

    /// Those of them that are not in `others`.
    #[must_use]
    pub const fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// Whether everything in `needed` was declared.
    #[must_use]
    pub const fn contains(self, needed: Self) -> bool {
        self.0 & needed.0 == needed.0
    }

    /// Whether nothing is in it.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// What of `needed` was not declared.
    #[must_use]
    pub const fn missing(self, needed: Self) -> Self {
        Self(needed.0 & !self.0)
    }

    /// Appends these as a capabilities object: what `requiredCapabilities` holds when they are missing (2026-07-28, error -32021).
    pub fn write(self, out: &mut Vec<u8>) {
        let mut members = Object::begin(out);
        if self.0 & (Self::SAMPLING.0 | Self::SAMPLING_TOOLS.0 | Self::SAMPLING_CONTEXT.0) != 0 {
            let mut sampling = members.object("sampling");
            sampling.flag("tools", self.sampling_tools());
            sampling.flag("context", self.sampling_context());
            sampling.end();
        }
        if self.0 & (Self::ELICITATION_FORM.0 | Self::ELICITATION_URL.0) != 0 {
            let mut elicitation = members.object("elicitation");
            elicitation.flag("form", self.elicitation_form());
            elicitation.flag("url", self.elicitation_url());
            elicitation.end();
        }
        if self.0 & (Self::ROOTS.0 | Self::ROOTS_LIST_CHANGED.0) != 0 {
            let mut roots = members.object("roots");
            roots.raw("listChanged", "true", self.roots_list_changed());
            roots.end();
        }
        members.flag("tasks", self.tasks());
        if self.tasks_extension() {
            let mut extensions = members.object("extensions");
            extensions.flag(meta_key::TASKS_EXTENSION, true);
            extensions.end();
        }
        members.end();
    }

    const fn when(self, condition: bool) -> u16 {
        if condition { self.0 } else { 0 }
    }
}

fn has_object(raw: &[u8], name: &str) -> bool {
    json::get(raw, name).is_some_and(|value| value.starts_with(b"{"))
}

/// An object that is being written.
struct Object<'o> {
    out: &'o mut Vec<u8>,
    empty: bool,
}

impl<'o> Object<'o> {
    fn begin(out: &'o mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, empty: true }
    }

    fn key(&mut self, name: &str) {
        if !std::mem::take(&mut self.empty) {
            self.out.push(b',');
        }
        json::write_str(self.out, name);
        self.out.push(b':');
    }

    fn object(&mut self, name: &str) -> Object<'_> {
        self.key(name);
        Object::begin(self.out)
    }

    fn raw(&mut self, name: &str, value: &str, wanted: bool) {
        if wanted {
            self.key(name);
            self.out.extend_from_slice(value.as_bytes());
        }
    }

    fn flag(&mut self, name: &str, wanted: bool) {
        self.raw(name, "{}", wanted);
    }

    fn end(self) {
        self.out.push(b'}');
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    type Caps = ClientCapabilities;

    fn written(capabilities: Caps) -> String {
        let mut out = Vec::new();
        capabilities.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn capabilities_are_read() {
        for (raw, found) in [
            ("{}", Caps::NONE),
            (r#"{"sampling":{}}"#, Caps::SAMPLING),
            (r#"{"sampling":{"tools":{},"context":{}}}"#, Caps::SAMPLING | Caps::SAMPLING_TOOLS | Caps::SAMPLING_CONTEXT),
            (r#"{"elicitation":{}}"#, Caps::ELICITATION_FORM),
            (r#"{"elicitation":{"form":{}}}"#, Caps::ELICITATION_FORM),
            (r#"{"elicitation":{"url":{}}}"#, Caps::ELICITATION_URL),
            (r#"{"elicitation":{"url":{},"form":{}}}"#, Caps::ELICITATION_FORM | Caps::ELICITATION_URL),
            (r#"{"roots":{"listChanged":true}}"#, Caps::ROOTS | Caps::ROOTS_LIST_CHANGED),
            (r#"{"roots":{"listChanged":false}}"#, Caps::ROOTS),
            (r#"{"r\u006fots":{}}"#, Caps::ROOTS),
            (r#"{"extensions":{"io.modelcontextprotocol/tasks":{}}}"#, Caps::TASKS_EXTENSION),
            (r#"{"tasks":{"list":{}},"experimental":{"x":{}}}"#, Caps::TASKS),
            (r#"{"sampling":null,"roots":true,"elicitation":[]}"#, Caps::NONE),
            ("[]", Caps::NONE),
            ("\"sampling\"", Caps::NONE),
        ] {
            assert_eq!(Caps::parse(raw.as_bytes()), found, "{raw}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        for bits in 0..1 << 9 {
            let capabilities = ClientCapabilities(bits);
            let text = written(capabilities);
            assert_eq!(json::validate(text.as_bytes()), Ok(()));
            assert!(Caps::parse(text.as_bytes()).contains(capabilities), "{text}");
        }
        assert_eq!(written(Caps::SAMPLING), r#"{"sampling":{}}"#);
        assert_eq!(written(Caps::NONE), "{}");
        assert_eq!(written(Caps::ELICITATION_URL | Caps::ROOTS), r#"{"elicitation":{"url":{}},"roots":{}}"#);
    }

    #[test]
    fn what_is_missing_is_told() {
        let declared = Caps::SAMPLING | Caps::ROOTS;
        assert!(declared.contains(Caps::SAMPLING));
        assert!(declared.missing(Caps::ROOTS).is_empty());
        assert_eq!(declared.missing(Caps::ROOTS | Caps::ELICITATION_FORM), Caps::ELICITATION_FORM);
    }
}
