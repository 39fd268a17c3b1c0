//! The Accept field (RFC 9110 section 12.5.1), for the two media types that answer MCP.

use super::field::trim;

/// A media type that can answer a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Media {
    /// `application/json`.
    Json,
    /// `text/event-stream`.
    EventStream,
}

impl Media {
    /// The one that a Content-Type names, whatever its parameters (RFC 9110 section 8.3.1).
    #[must_use]
    pub fn of_content_type(value: &[u8]) -> Option<Self> {
        let essence = trim(value.split(|&byte| byte == b';').next().unwrap_or_default());
        [Self::Json, Self::EventStream].into_iter().find(|media| {
            let (kind, subtype) = media.parts();
            let parts = essence.split_at_checked(kind.len());
            parts.is_some_and(|(own, rest)| {
                own.eq_ignore_ascii_case(kind) && rest.strip_prefix(b"/").is_some_and(|own| own.eq_ignore_ascii_case(subtype))
            })
        })
    }

    const fn parts(self) -> (&'static [u8], &'static [u8]) {
        match self {
            Self::Json => (b"application", b"json"),
            Self::EventStream => (b"text", b"event-stream"),
        }
    }
}

/// Whether the value of an Accept field lets this media type answer. Without the field everything may.
///
/// The most specific range that fits decides, as the RFC has it: `*/*, application/json;q=0` does not accept JSON.
/// [`super::Headers::accepts`] asks the same of a request with several Accept fields.
#[must_use]
pub fn accepts(value: Option<&[u8]>, media: Media) -> bool {
    let Some(value) = value else { return true };
    if let Some(answer) = usual(value, media) {
        return answer;
    }
    let mut preference = Preference::new(media);
    preference.read(value);
    preference.is_accepted()
}

/// The answer for the values that clients of MCP really send: no need to take them apart.
pub(super) fn usual(value: &[u8], media: Media) -> Option<bool> {
    match value {
        b"application/json, text/event-stream" | b"text/event-stream, application/json" | b"*/*" => Some(true),
        b"application/json" => Some(media == Media::Json),
        b"text/event-stream" => Some(media == Media::EventStream),
        _ => None,
    }
}

/// The most specific range seen so far that fits a media type.
pub(super) struct Preference {
    media: Media,
    specificity: u8,
    is_accepted: bool,
}

impl Preference {
    pub(super) const fn new(media: Media) -> Self {
        Self { media, specificity: 0, is_accepted: false }
    }

    pub(super) const fn is_accepted(&self) -> bool {
        self.is_accepted
    }

    pub(super) fn read(&mut self, value: &[u8]) {
        for range in split_unquoted(value, b',') {
            let mut parts = split_unquoted(range, b';').map(trim);
            let specificity = parts.next().map_or(0, |name| self.specificity_of(name));
            if specificity == 0 || specificity < self.specificity {
                continue;
            }
            let is_wanted = !parts.any(is_zero_weight);
            // Of two ranges alike, one that accepts is enough.
            self.is_accepted = is_wanted || (specificity == self.specificity && self.is_accepted);
            self.specificity = specificity;
        }
    }

    /// 3 for the type itself, 2 for its whole kind, 1 for everything, 0 when the range does not fit.
    fn specificity_of(&self, range: &[u8]) -> u8 {
        let slash = range.iter().position(|&b| b == b'/').unwrap_or(range.len());
        let Some((kind, [b'/', subtype @ ..])) = range.split_at_checked(slash) else { return 0 };
        let (own_kind, own_subtype) = self.media.parts();
        match (kind, subtype) {
            (b"*", b"*") => 1,
            (kind, b"*") if kind.eq_ignore_ascii_case(own_kind) => 2,
            (kind, subtype) if kind.eq_ignore_ascii_case(own_kind) && subtype.eq_ignore_ascii_case(own_subtype) => 3,
            _ => 0,
        }
    }
}

/// Whether a parameter is a weight of zero: `q=0`, `q=0.`, `q=0.000` (RFC 9110 section 12.4.2).
fn is_zero_weight(parameter: &[u8]) -> bool {
    match parameter {
        [b'q' | b'Q', b'=', b'0', rest @ ..] => matches!(rest, [] | [b'.'] | [b'.', b'0'] | [b'.', b'0', b'0'] | [b'.', b'0', b'0', b'0']),
        _ => false,
    }
}

/// Splits at a separator that stands outside of quoted strings (RFC 9110 section 5.6.4).
fn split_unquoted(value: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    value.split(move |&byte| {
        if is_escaped {
            is_escaped = false;
            return false;
        }
        is_escaped = is_quoted && byte == b'\\';
        is_quoted ^= byte == b'"';
        byte == separator && !is_quoted
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

    use super::*;

    #[test]
    fn usual_values_are_answered_as_if_taken_apart() {
        let values =
            ["application/json, text/event-stream", "text/event-stream, application/json", "*/*", "application/json", "text/event-stream"];
        for value in values {
            for media in [Media::Json, Media::EventStream] {
                let mut preference = Preference::new(media);
                preference.read(value.as_bytes());
                assert_eq!(usual(value.as_bytes(), media), Some(preference.is_accepted()), "{value}");
            }
        }
    }

    #[test]
    fn a_content_type_is_known_by_its_essence() {
        for json in ["application/json", "Application/JSON", "application/json; charset=utf-8", "application/json\t;x"] {
            assert_eq!(Media::of_content_type(json.as_bytes()), Some(Media::Json), "{json}");
        }
        assert_eq!(Media::of_content_type(b"text/event-stream;charset=UTF-8"), Some(Media::EventStream));
        for other in ["", "application", "application/jsonl", "application/json, text/event-stream", "text/json", "application/ json", ";"]
        {
            assert_eq!(Media::of_content_type(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn the_most_specific_range_decides() {
        let cases: [(&str, bool, bool); 19] = [
            ("application/json, text/event-stream", true, true),
            ("application/json", true, false),
            ("TEXT/Event-Stream", false, true),
            ("*/*", true, true),
            ("application/*", true, false),
            ("text/*;q=0.1", false, true),
            ("application/json;q=0", false, false),
            ("application/json;q=0.000, */*", false, true),
            ("*/*;q=0, text/event-stream", false, true),
            ("*/*, text/*;q=0", true, false),
            ("application/json;charset=utf-8;q=0.5", true, false),
            ("application/json ; q=0.001", true, false),
            ("application/json;q=0, application/json;v=1", true, false),
            ("text/html;a=\"x, */*\"", false, false),
            ("text/html;a=\"\\\", */*\", */*;q=1", true, true),
            ("", false, false),
            (",,application/json,", true, false),
            ("application/jsonp, application, /json, *, */json", false, false),
            ("\"application/json", false, false),
        ];
        for (value, json, stream) in cases {
            assert_eq!(accepts(Some(value.as_bytes()), Media::Json), json, "{value}");
            assert_eq!(accepts(Some(value.as_bytes()), Media::EventStream), stream, "{value}");
        }
        assert!(accepts(None, Media::Json) && accepts(None, Media::EventStream));
    }
}
