//! Content blocks: what tools answer and prompts are made of.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::resource::ResourceContents;
use crate::wire::mcp::Version;

/// Whose words a message is, or for whom content is meant.
///
/// ```
/// use ringhub::native::Role;
/// assert_eq!(serde_json::to_value(Role::Assistant)?, "assistant");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The person, or the program acting for them.
    User,
    /// The model.
    Assistant,
}

/// Hints on how a client may use content (server/tools, "annotations").
///
/// ```
/// use ringhub::native::{Annotations, Content, Role};
/// let content = Content::text("for your eyes only").annotated(Annotations::new().audience([Role::User]).priority(0.9));
/// assert_eq!(serde_json::to_value(&content)?["annotations"]["audience"][0], "user");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Annotations {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    audience: Vec<Role>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_modified: Option<String>,
}

impl Annotations {
    /// No hints yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// For whom it is.
    #[must_use]
    pub fn audience(mut self, roles: impl IntoIterator<Item = Role>) -> Self {
        self.audience = roles.into_iter().collect();
        self
    }

    /// How much it matters, from 0 (optional) to 1 (required); what lies outside is brought to the nearer end.
    #[must_use]
    pub fn priority(mut self, priority: f64) -> Self {
        self.priority = Some(priority.clamp(0.0, 1.0));
        self
    }

    /// When it was last changed, as ISO 8601 text.
    #[must_use]
    pub fn last_modified(mut self, moment: impl Into<String>) -> Self {
        self.last_modified = Some(moment.into());
        self
    }
}

/// A picture that a client can show beside a name (2025-11-25 and later).
///
/// ```
/// use ringhub::native::{Icon, Tool};
/// let tool = Tool::new("forecast").icon(Icon::new("https://example.com/sun.png").mime_type("image/png").size("48x48"));
/// # let _ = tool;
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Icon {
    src: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mime_type: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sizes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    theme: Option<&'static str>,
}

impl Icon {
    /// The icon at this `https:` or `data:` URI.
    #[must_use]
    pub fn new(src: impl Into<String>) -> Self {
        Self { src: src.into(), mime_type: None, sizes: Vec::new(), theme: None }
    }

    /// Its media type.
    #[must_use]
    pub fn mime_type(mut self, mime_type: impl Into<String>) -> Self {
        self.mime_type = Some(mime_type.into());
        self
    }

    /// A size it is good at: `48x48`, or `any`.
    #[must_use]
    pub fn size(mut self, size: impl Into<String>) -> Self {
        self.sizes.push(size.into());
        self
    }

    /// It is made for a dark background.
    #[must_use]
    pub const fn dark(mut self) -> Self {
        self.theme = Some("dark");
        self
    }

    /// It is made for a light background.
    #[must_use]
    pub const fn light(mut self) -> Self {
        self.theme = Some("light");
        self
    }
}

/// One block of content: text, an image, sound, a resource, or a link to one.
///
/// ```
/// use ringhub::native::{Content, ResourceContents, ResourceLink};
///
/// let blocks = [
///     Content::text("hello"),
///     Content::image(b"...", "image/png"),
///     Content::audio(b"...", "audio/wav"),
///     Content::resource(ResourceContents::text("notes://1", "remember the milk")),
///     Content::link(ResourceLink::new("notes://2", "another note")),
/// ];
/// let json = serde_json::to_value(&blocks)?;
/// assert_eq!(json[0]["text"], "hello");
/// assert_eq!(json[1]["data"], "Li4u");
/// assert_eq!(json[4]["type"], "resource_link");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Content {
    #[serde(flatten)]
    block: Block,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<Annotations>,
    #[serde(rename = "_meta", skip_serializing_if = "Map::is_empty")]
    meta: Map<String, Value>,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case", rename_all_fields = "camelCase")]
enum Block {
    Text { text: String },
    Image { data: String, mime_type: String },
    Audio { data: String, mime_type: String },
    Resource { resource: ResourceContents },
    ResourceLink(ResourceLink),
}

impl Content {
    /// Text.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::of(Block::Text { text: text.into() })
    }

    /// An image: its bytes, and their media type.
    #[must_use]
    pub fn image(bytes: impl AsRef<[u8]>, mime_type: impl Into<String>) -> Self {
        Self::of(Block::Image { data: STANDARD.encode(bytes), mime_type: mime_type.into() })
    }

    /// Sound: its bytes, and their media type.
    #[must_use]
    pub fn audio(bytes: impl AsRef<[u8]>, mime_type: impl Into<String>) -> Self {
        Self::of(Block::Audio { data: STANDARD.encode(bytes), mime_type: mime_type.into() })
    }

    /// A resource, contents included.
    #[must_use]
    pub fn resource(contents: ResourceContents) -> Self {
        Self::of(Block::Resource { resource: contents })
    }

    /// A link to a resource that the client may read (2025-06-18 and later).
    #[must_use]
    pub fn link(link: ResourceLink) -> Self {
        Self::of(Block::ResourceLink(link))
    }

    /// Adds hints.
    #[must_use]
    pub fn annotated(mut self, annotations: Annotations) -> Self {
        self.annotations = Some(annotations);
        self
    }

    /// Adds a member to its `_meta`.
    #[must_use]
    pub fn meta(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.meta.insert(name.into(), value.into());
        self
    }

    /// Its text, if it is text.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match &self.block {
            Block::Text { text } => Some(text),
            _ => None,
        }
    }

    /// The block as the revision knows it: what it does not know becomes text, since a client refuses the whole result for one unknown block.
    pub(super) fn known_to(&self, version: Version) -> Cow<'_, Self> {
        let text = match &self.block {
            Block::ResourceLink(link) if !version.resource_links() => {
                format!("{}: {}", link.title.as_ref().unwrap_or(&link.name), link.uri)
            }
            Block::Audio { mime_type, .. } if version == Version::V2024_11_05 => format!("[sound, {mime_type}]"),
            _ => return Cow::Borrowed(self),
        };
        Cow::Owned(Self { block: Block::Text { text }, annotations: self.annotations.clone(), meta: self.meta.clone() })
    }

    fn of(block: Block) -> Self {
        Self { block, annotations: None, meta: Map::new() }
    }
}

impl From<String> for Content {
    fn from(text: String) -> Self {
        Self::text(text)
    }
}

impl From<&str> for Content {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

/// A pointer to a resource: see [`Content::link`].
///
/// ```
/// use ringhub::native::{Content, ResourceLink};
/// let link = ResourceLink::new("file:///var/log/app.log", "app.log").title("Log").description("Today's log").mime_type("text/plain").size(1234);
/// assert_eq!(serde_json::to_value(Content::link(link))?["mimeType"], "text/plain");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceLink {
    uri: String,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mime_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
}

impl ResourceLink {
    /// A link to the resource at `uri`, which programs call `name`.
    #[must_use]
    pub fn new(uri: impl Into<String>, name: impl Into<String>) -> Self {
        Self { uri: uri.into(), name: name.into(), title: None, description: None, mime_type: None, size: None }
    }

    /// Its name for people.
    #[must_use]
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = Some(title.into());
        self
    }

    /// What it is, for the model.
    #[must_use]
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.description = Some(description.into());
        self
    }

    /// Its media type.
    #[must_use]
    pub fn mime_type(mut self, mime_type: impl Into<String>) -> Self {
        self.mime_type = Some(mime_type.into());
        self
    }

    /// Its size, bytes.
    #[must_use]
    pub const fn size(mut self, size: u64) -> Self {
        self.size = Some(size);
        self
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn json(content: &Content) -> Value {
        serde_json::to_value(content).expect("content encodes")
    }

    #[test]
    fn blocks_have_the_members_of_the_schema() {
        assert_eq!(json(&Content::text("a")), json!({"type": "text", "text": "a"}));
        assert_eq!(json(&Content::image([1, 2, 3], "image/png")), json!({"type": "image", "data": "AQID", "mimeType": "image/png"}));
        assert_eq!(json(&Content::audio([], "audio/wav")), json!({"type": "audio", "data": "", "mimeType": "audio/wav"}));
        assert_eq!(
            json(&Content::resource(ResourceContents::text("a://b", "t"))),
            json!({"type": "resource", "resource": {"uri": "a://b", "text": "t"}})
        );
        assert_eq!(
            json(&Content::link(ResourceLink::new("a://b", "b")).meta("x", 1)),
            json!({"type": "resource_link", "uri": "a://b", "name": "b", "_meta": {"x": 1}})
        );
    }

    #[test]
    fn revisions_get_the_blocks_they_know() {
        let link = Content::link(ResourceLink::new("a://b", "b"));
        assert_eq!(link.known_to(Version::V2025_03_26).as_text(), Some("b: a://b"));
        assert_eq!(link.known_to(Version::V2025_06_18).as_ref(), &link);
        let sound = Content::audio([], "audio/wav");
        assert!(sound.known_to(Version::V2024_11_05).as_text().is_some() && sound.known_to(Version::V2025_03_26).as_text().is_none());
    }

    #[test]
    fn priority_stays_within_its_range() {
        let content = Content::text("a").annotated(Annotations::new().priority(7.0).last_modified("2026-01-01T00:00:00Z"));
        assert_eq!(json(&content)["annotations"], json!({"priority": 1.0, "lastModified": "2026-01-01T00:00:00Z"}));
    }
}
