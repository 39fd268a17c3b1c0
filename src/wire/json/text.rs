//! What a raw JSON string says.

use std::borrow::Cow;

/// Longest name that is compared after its escapes are resolved, bytes. No name that ringhub looks for is longer.
const KEY_BYTES_MAX: usize = 64;

/// What a raw JSON string (quotes included) says; `None` when `raw` is not a string.
///
/// Half of a surrogate pair reads as U+FFFD.
#[must_use]
pub fn string(raw: &[u8]) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if memchr::memchr(b'\\', inner).is_none() {
        return Some(str::from_utf8(inner).map_or_else(|_| String::from_utf8_lossy(inner), Cow::Borrowed));
    }
    let mut said = Vec::with_capacity(inner.len());
    for piece in Pieces(inner) {
        match piece {
            Piece::Plain(bytes) => said.extend_from_slice(bytes),
            Piece::Escaped(char) => said.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Some(Cow::Owned(String::from_utf8_lossy(&said).into_owned()))
}

/// What a raw JSON string (quotes included) says; of any other raw value, its text.
#[must_use]
pub fn unescape(raw: &[u8]) -> Cow<'_, str> {
    string(raw).unwrap_or_else(|| String::from_utf8_lossy(raw))
}

/// Whether a raw JSON string (quotes included) says exactly `name`, however it is escaped. No heap.
#[must_use]
pub fn key_is(raw: &[u8], name: &str) -> bool {
    let Some(inner) = raw.strip_prefix(b"\"").and_then(|raw| raw.strip_suffix(b"\"")) else { return false };
    if inner == name.as_bytes() {
        return !inner.contains(&b'\\');
    }
    let mut left = name.as_bytes();
    for piece in Pieces(inner) {
        let mut utf8 = [0; 4];
        let bytes = match piece {
            Piece::Plain(bytes) => bytes,
            Piece::Escaped(char) => char.encode_utf8(&mut utf8).as_bytes(),
        };
        match left.strip_prefix(bytes) {
            Some(rest) => left = rest,
            None => return false,
        }
    }
    left.is_empty()
}

/// Whether two raw JSON strings say the same. Values that are not strings are the same when their bytes are.
#[must_use]
pub fn same_string(a: &[u8], b: &[u8]) -> bool {
    a == b || matches!((string(a), string(b)), (Some(a), Some(b)) if a == b)
}

/// A member's name (without quotes) with its escapes resolved into `into`. A name too long to be one that ringhub looks for comes
/// back as it stands: a backslash in it keeps it from being taken for another.
#[cold]
pub(in crate::wire) fn plain_key<'k>(inner: &'k [u8], into: &'k mut [u8; KEY_BYTES_MAX]) -> &'k [u8] {
    let mut len = 0;
    for piece in Pieces(inner) {
        let mut utf8 = [0; 4];
        let bytes = match piece {
            Piece::Plain(bytes) => bytes,
            Piece::Escaped(char) => char.encode_utf8(&mut utf8).as_bytes(),
        };
        match into.get_mut(len..len + bytes.len()) {
            Some(space) => space.copy_from_slice(bytes),
            None => return inner,
        }
        len += bytes.len();
    }
    into.get(..len).unwrap_or(inner)
}

enum Piece<'a> {
    Plain(&'a [u8]),
    Escaped(char),
}

/// The pieces of a string's inside: runs of plain text, and single escapes.
struct Pieces<'a>(&'a [u8]);

impl<'a> Iterator for Pieces<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        let plain = memchr::memchr(b'\\', self.0).unwrap_or(self.0.len());
        if plain > 0 {
            let (run, rest) = self.0.split_at_checked(plain)?;
            self.0 = rest;
            return Some(Piece::Plain(run));
        }
        let (&kind, rest) = self.0.get(1..)?.split_first()?;
        self.0 = rest;
        Some(Piece::Escaped(match kind {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => self.unicode(),
            other => char::from(other),
        }))
    }
}

impl Pieces<'_> {
    /// What follows `\u`: one unit, or a pair of surrogates (RFC 8259 section 7).
    fn unicode(&mut self) -> char {
        let Some((unit, rest)) = hex_unit(self.0) else { return char::REPLACEMENT_CHARACTER };
        self.0 = rest;
        if !(0xD800..0xDC00).contains(&unit) {
            return char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER);
        }
        match rest.strip_prefix(b"\\u").and_then(hex_unit) {
            Some((low, rest)) if (0xDC00..0xE000).contains(&low) => {
                self.0 = rest;
                char::from_u32(0x1_0000 + ((unit - 0xD800) << 10) + (low - 0xDC00)).unwrap_or(char::REPLACEMENT_CHARACTER)
            }
            _ => char::REPLACEMENT_CHARACTER,
        }
    }
}

/// The four hexadecimal digits that `text` starts with, and what follows them.
fn hex_unit(text: &[u8]) -> Option<(u32, &[u8])> {
    let (digits, rest) = text.split_first_chunk::<4>()?;
    let mut unit = 0;
    for &digit in digits {
        unit = unit << 4 | char::from(digit).to_digit(16)?;
    }
    Some((unit, rest))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn strings_say_what_serde_json_reads() {
        for raw in [r#""""#, r#""plain""#, r#""a\"\\\/\b\f\n\r\tz""#, r#""\u00e9\u20AC\uD83D\ude00""#, "\"\u{e9}\\u0041\u{1F600}\""] {
            assert_eq!(string(raw.as_bytes()).unwrap(), serde_json::from_str::<String>(raw).unwrap(), "{raw}");
        }
        assert!(matches!(string(b"\"borrowed\""), Some(Cow::Borrowed("borrowed"))));
    }

    #[test]
    fn half_a_pair_is_the_replacement_character() {
        for (raw, said) in [
            (r#""\ud800""#, "\u{FFFD}"),
            (r#""\udc00x""#, "\u{FFFD}x"),
            (r#""\ud800\ud83d\ude00""#, "\u{FFFD}\u{1F600}"),
            (r#""\ud800\n""#, "\u{FFFD}\n"),
            (r#""\ud800\u0041""#, "\u{FFFD}A"),
        ] {
            assert_eq!(string(raw.as_bytes()).unwrap(), said, "{raw}");
        }
    }

    #[test]
    fn what_is_no_string_is_none_and_never_a_panic() {
        for raw in ["", "\"", "1", "null", "{}"] {
            assert_eq!(string(raw.as_bytes()), None, "{raw}");
        }
        for raw in [&b"\"\\\""[..], b"\"\\u\"", b"\"\\u12\"", b"\"\\ud800\\u1\"", b"\"\xff\""] {
            assert!(string(raw).is_some());
        }
        assert_eq!(unescape(b"12"), "12");
    }

    #[test]
    fn a_name_is_recognised_however_it_is_escaped() {
        assert!(key_is(br#""method""#, "method"));
        assert!(key_is(br#""\u006dethod""#, "method"));
        assert!(key_is(br#""tools\/call""#, "tools/call"));
        assert!(!key_is(br#""methods""#, "method"));
        assert!(!key_is(br#""metho""#, "method"));
        assert!(!key_is(br#""\\""#, "\\\\"));
        assert!(key_is(br#""\\""#, "\\"));
        assert!(!key_is(b"method", "method"));
        let mut space = [0; KEY_BYTES_MAX];
        assert_eq!(plain_key(br"\u005fmeta", &mut space), b"_meta");
        let long = br"\u0061".repeat(KEY_BYTES_MAX + 1);
        assert_eq!(plain_key(&long, &mut space), long);
    }

    #[test]
    fn strings_are_compared_by_what_they_say() {
        assert!(same_string(br#""a""#, br#""\u0061""#));
        assert!(!same_string(br#""1""#, b"1"));
        assert!(same_string(b"1", b"1"));
    }
}
