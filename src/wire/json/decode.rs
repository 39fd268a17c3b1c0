//! Raw JSON into typed values, by simd-json, in buffers that are kept.

use std::fmt;

use serde::de::DeserializeOwned;
use simd_json::{Buffers, Deserializer, INPUT_PADDING, Tape, fill_tape_padded};

use super::{elements, members, unescape};
use crate::base::limits::JSON_DEPTH_MAX;

/// Longest value whose buffers are kept for the next one, bytes: one large value must not bind memory for good.
const KEPT_BYTES_MAX: usize = 256 * 1024;
/// Up to this length serde_json reads alone, bytes: simd-json's set-up costs more than it saves on so little.
const SMALL_BYTES_MAX: usize = 192;
/// Longest text of an error, bytes: it can quote the value it is about.
const TEXT_BYTES_MAX: usize = 400;
/// Most levels named in an error's path.
const PATH_LEVELS_MAX: usize = 8;

/// Turns raw JSON into values of any type that serde can read. One per core.
///
/// The bytes are copied to a scratch buffer, since simd-json resolves escapes in place; the message itself stays untouched. Buffers are
/// reused: a warm decoder allocates only what the value itself owns.
pub struct Decoder {
    scratch: Vec<u8>,
    buffers: Buffers,
    tape: Tape<'static>,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { scratch: Vec::new(), buffers: Buffers::with_max_depth(0, JSON_DEPTH_MAX), tape: Tape(Vec::new()) }
    }
}

impl Decoder {
    /// A decoder with empty buffers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Decodes one raw value that the scanner accepted.
    ///
    /// Short values without escapes are read by serde_json alone. What simd-json refuses is read once more by it, whose word is final: it knows the forms that simd-json lacks (128-bit
    /// integers, raw values), and says where the fault lies.
    ///
    /// # Errors
    /// The value does not fit `T`.
    pub fn decode<T: DeserializeOwned>(&mut self, raw: &[u8]) -> Result<T, DecodeError> {
        // Escapes would cost serde_json a buffer of its own.
        let is_small = raw.len() <= SMALL_BYTES_MAX && memchr::memchr(b'\\', raw).is_none();
        let fast = if is_small { None } else { self.decode_fast(raw) };
        if raw.len() > KEPT_BYTES_MAX {
            *self = Self::default();
        }
        match fast {
            Some(value) => Ok(value),
            None => serde_json::from_slice(raw).map_err(|error| DecodeError::new(raw, &error)),
        }
    }

    fn decode_fast<T: DeserializeOwned>(&mut self, raw: &[u8]) -> Option<T> {
        let Self { scratch, buffers, tape } = self;
        scratch.clear();
        scratch.extend_from_slice(raw);
        scratch.resize(raw.len() + INPUT_PADDING, b' ');
        let mut filled = std::mem::replace(tape, Tape(Vec::new())).reset();
        let read = fill_tape_padded(scratch, raw.len(), buffers, &mut filled);
        let mut deserializer = Deserializer::from_tape(filled);
        let value = read.and_then(|()| T::deserialize(&mut deserializer)).ok();
        *tape = deserializer.into_tape().reset();
        value
    }
}

/// Why a raw value does not fit the type that was wanted. The text names the field, as in `` `filter.limit`: invalid type: … ``.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DecodeError {
    text: Box<str>,
}

impl DecodeError {
    #[cold]
    fn new(raw: &[u8], error: &serde_json::Error) -> Self {
        let full = error.to_string();
        let what = full.rsplit_once(" at line ").map_or(full.as_str(), |(what, _)| what);
        let path = path(raw, place(raw, error.line(), error.column()));
        let mut text = if path.is_empty() { what.to_owned() } else { format!("`{path}`: {what}") };
        if text.len() > TEXT_BYTES_MAX {
            text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
            text.push('…');
        }
        Self { text: text.into() }
    }

    /// What is wrong, for a person.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for DecodeError {}

/// Bytes read when the error arose, from its line and column.
fn place(raw: &[u8], line: usize, column: usize) -> usize {
    let line_start = line.checked_sub(2).and_then(|newline| memchr::memchr_iter(b'\n', raw).nth(newline)).map_or(0, |newline| newline + 1);
    line_start + column
}

/// The names that lead to the value at, or just before, `place`.
fn path(raw: &[u8], place: usize) -> String {
    let origin = raw.as_ptr().addr();
    let holds = |value: &[u8]| {
        let start = value.as_ptr().addr() - origin;
        start <= place && place <= start + value.len()
    };
    let mut path = String::new();
    let mut here = raw;
    for _ in 0..PATH_LEVELS_MAX {
        if let Some((key, value)) = members(here).find(|(_, value)| holds(value)) {
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(&unescape(key));
            here = value;
        } else if let Some((index, value)) = elements(here).enumerate().find(|(_, value)| holds(value)) {
            path.push_str(&format!("[{index}]"));
            here = value;
        } else {
            break;
        }
    }
    path
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use std::collections::HashMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize, PartialEq, Debug)]
    struct Add {
        a: u8,
        b: f64,
        #[serde(default)]
        name: Option<String>,
        #[serde(default)]
        inner: Vec<Inner>,
    }

    #[derive(Deserialize, PartialEq, Debug)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        x: i64,
    }

    fn fault(raw: &str) -> String {
        crate::wire::json::validate(raw.as_bytes()).unwrap();
        Decoder::new().decode::<Add>(raw.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn values_are_decoded_and_the_source_is_untouched() {
        let mut decoder = Decoder::new();
        for _ in 0..3 {
            let raw = br#"{"a":1,"b":2,"name":"tab\there \u20ac","inner":[{"x":-5}]}"#.to_vec();
            let add: Add = decoder.decode(&raw).unwrap();
            assert_eq!(add, Add { a: 1, b: 2.0, name: Some("tab\there \u{20ac}".into()), inner: vec![Inner { x: -5 }] });
            assert_eq!(raw, br#"{"a":1,"b":2,"name":"tab\there \u20ac","inner":[{"x":-5}]}"#);
            assert!(decoder.decode::<Add>(b"{}").is_err());
        }
        assert_eq!(decoder.decode::<u64>(b" 7 ").unwrap(), 7);
        assert_eq!(decoder.decode::<Option<String>>(b"null").unwrap(), None);
    }

    #[test]
    fn a_fault_names_the_field() {
        assert_eq!(fault(r#"{"b":1}"#), "missing field `a`");
        assert_eq!(fault(r#"{"a":"x","b":1}"#), "`a`: invalid type: string \"x\", expected u8");
        assert_eq!(fault(r#"{"a":300,"b":1}"#), "`a`: invalid value: integer `300`, expected u8");
        assert_eq!(fault("{\"a\":1,\n \"b\" : {\"a\":1}}"), "`b`: invalid type: map, expected f64");
        assert_eq!(fault(r#"{"a":1,"b":1,"inner":[{"x":1},{"x":true}]}"#), "`inner[1].x`: invalid type: boolean `true`, expected i64");
        assert_eq!(fault(r#"{"a":1,"b":1,"inner":[{}]}"#), "`inner[0]`: missing field `x`");
        assert_eq!(fault(r#"{"a":1,"b":1,"inner":[{"x":1,"y":2}]}"#), "`inner[0]`: unknown field `y`, expected `x`");
        assert_eq!(fault("[]"), "invalid length 0, expected struct Add with 4 elements");
        assert_eq!(fault("7"), "invalid type: integer `7`, expected struct Add");
    }

    #[test]
    fn a_fault_that_quotes_its_value_stays_short() {
        let text = fault(&format!(r#"{{"a":"{}","b":1}}"#, "é".repeat(10_000)));
        assert!(text.len() <= TEXT_BYTES_MAX + '…'.len_utf8() && text.ends_with('…'), "{}", text.len());
    }

    #[test]
    fn half_a_surrogate_pair_is_refused_where_a_string_is_wanted() {
        assert_eq!(
            fault(r#"{"a":1,"b":1,"name":"\ud800"}"#).split(':').next(),
            Some("`name`"),
            "{}",
            fault(r#"{"a":1,"b":1,"name":"\ud800"}"#)
        );
        let mut decoder = Decoder::new();
        assert!(decoder.decode::<Inner>(br#"{"x":1}"#).is_ok());
        assert!(decoder.decode::<Add>(br#"{"a":1,"b":1,"other":"\udfff"}"#).is_ok(), "nobody reads it");
    }

    #[test]
    fn huge_numbers_are_refused_or_rounded_never_wrapped() {
        let mut decoder = Decoder::new();
        assert!(decoder.decode::<u64>(b"18446744073709551616").is_err());
        assert_eq!(decoder.decode::<u128>(b"18446744073709551616").unwrap(), 1 << 64);
        assert_eq!(decoder.decode::<f64>(b"18446744073709551616").unwrap(), 2f64.powi(64));
        assert!(decoder.decode::<f64>(b"1e999").is_err());
        assert!(decoder.decode::<serde_json::Value>(b"123456789012345678901234567890").unwrap().is_f64());
    }

    #[test]
    fn raw_values_and_deep_values_are_decoded() {
        let mut decoder = Decoder::new();
        let raw: HashMap<String, Box<serde_json::value::RawValue>> = decoder.decode(br#"{"k":{"a": 1}}"#).unwrap();
        assert_eq!(raw.get("k").map(|raw| raw.get()), Some(r#"{"a": 1}"#));
        let deep = format!("{}{}", "[".repeat(JSON_DEPTH_MAX), "]".repeat(JSON_DEPTH_MAX));
        assert!(decoder.decode::<serde_json::Value>(deep.as_bytes()).is_ok());
    }

    #[test]
    fn a_large_value_leaves_no_large_buffer() {
        let mut decoder = Decoder::new();
        let raw = format!("\"{}\"", "x".repeat(1 << 20));
        assert_eq!(decoder.decode::<String>(raw.as_bytes()).unwrap().len(), 1 << 20);
        assert!(decoder.scratch.capacity() <= KEPT_BYTES_MAX + INPUT_PADDING);
    }
}
