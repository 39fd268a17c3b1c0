//! Headers that mirror the body (2026-07-28, transports, "Standard Request Headers" and "Custom Headers").

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Method, NameParam};
use crate::wire::json;
use crate::wire::jsonrpc::Request;

const ENCODED_PREFIX: &[u8] = b"=?base64?";
const ENCODED_SUFFIX: &[u8] = b"?=";

/// A header value that says it is Base64 is not, or is not UTF-8 when decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadEncoding;

/// What a header field's value says: `=?base64?…?=` decoded, anything else literally. White space around it does not count.
///
/// # Errors
/// The encoded form does not hold standard, padded Base64 (RFC 4648 section 4) of UTF-8.
pub fn decode(value: &[u8]) -> Result<Cow<'_, [u8]>, BadEncoding> {
    let value = trim(value);
    let Some(encoded) = value.strip_prefix(ENCODED_PREFIX).and_then(|rest| rest.strip_suffix(ENCODED_SUFFIX)) else {
        return Ok(Cow::Borrowed(value));
    };
    let said = STANDARD.decode(encoded).map_err(|_| BadEncoding)?;
    if simdutf8::basic::from_utf8(&said).is_err() {
        return Err(BadEncoding);
    }
    Ok(Cow::Owned(said))
}

/// Appends `text` as a header field's value, encoded where it could not stand literally.
pub fn encode(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    let literal = !bytes.is_empty()
        && trim(bytes).len() == bytes.len()
        && bytes.iter().all(|&byte| byte == b'\t' || (b' '..=b'~').contains(&byte))
        && !(bytes.starts_with(ENCODED_PREFIX) && bytes.ends_with(ENCODED_SUFFIX));
    if literal {
        out.extend_from_slice(bytes);
        return;
    }
    out.extend_from_slice(ENCODED_PREFIX);
    out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
    out.extend_from_slice(ENCODED_SUFFIX);
}

/// The value without the optional white space around it (RFC 9110 section 5.6.3).
fn trim(value: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|byte| !is_space(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !is_space(byte)).map_or(start, |last| last + 1);
    value.get(start..end).unwrap_or_default()
}

/// How a header and the body disagree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Disagreement {
    /// The body has a value, the header is missing.
    HeaderMissing,
    /// The header is there, the body has no value.
    BodyMissing,
    /// The header's Base64 is wrong.
    Encoding,
    /// Both are there and say different things.
    Value,
}

impl Disagreement {
    /// For a person, to follow the header's name.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::HeaderMissing => "header is missing although the body has its value",
            Self::BodyMissing => "header is given although the body has no value for it",
            Self::Encoding => "header carries an invalid Base64 value",
            Self::Value => "header does not match the body",
        }
    }
}

/// Whether a header and a raw value of the body say the same.
///
/// Absent and `null` are alike. Strings and booleans are compared as text, numbers by value when the header holds a plain decimal.
/// An array or object cannot be mirrored: judging it is left to the tool's schema.
///
/// # Errors
/// How they disagree.
pub fn agree(header: Option<&[u8]>, body: Option<&[u8]>) -> Result<(), Disagreement> {
    match (header, body.filter(|raw| *raw != b"null")) {
        (None, None) => Ok(()),
        (_, Some([b'{' | b'[', ..])) => Ok(()),
        (None, Some(_)) => Err(Disagreement::HeaderMissing),
        (Some(_), None) => Err(Disagreement::BodyMissing),
        (Some(header), Some(raw)) => {
            let said = decode(header).map_err(|BadEncoding| Disagreement::Encoding)?;
            if says(&said, raw) { Ok(()) } else { Err(Disagreement::Value) }
        }
    }
}

fn says(said: &[u8], raw: &[u8]) -> bool {
    match raw.first() {
        Some(b'"') => json::string(raw).is_some_and(|text| text.as_bytes() == said),
        Some(b't' | b'f') => said == raw,
        _ => said == raw || (is_plain_decimal(said) && same_number(said, raw)),
    }
}

/// `-?digits(.digits)?`: what a header may say instead of the body's own spelling of a number.
fn is_plain_decimal(text: &[u8]) -> bool {
    let digits = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    let text = text.strip_prefix(b"-").unwrap_or(text);
    match text.iter().position(|&byte| byte == b'.') {
        Some(point) => digits(text.get(..point).unwrap_or_default()) && digits(text.get(point + 1..).unwrap_or_default()),
        None => digits(text),
    }
}

/// Whether two decimal numbers have the same value, exactly and at any length.
fn same_number(a: &[u8], b: &[u8]) -> bool {
    matches!((Decimal::parse(a), Decimal::parse(b)), (Some(a), Some(b)) if a.equals(&b))
}

/// A decimal number taken apart: sign, digits without leading or trailing zeros, and the power of ten of the last digit.
struct Decimal<'a> {
    negative: bool,
    /// Digits, with a point somewhere among them perhaps; neither first nor last is zero.
    digits: &'a [u8],
    power: i64,
}

impl<'a> Decimal<'a> {
    fn parse(text: &'a [u8]) -> Option<Self> {
        let (negative, text) = text.strip_prefix(b"-").map_or((false, text), |rest| (true, rest));
        let exponent_at = text.iter().position(|byte| matches!(byte, b'e' | b'E')).unwrap_or(text.len());
        let (mantissa, exponent) = text.split_at_checked(exponent_at)?;
        let exponent: i64 = match exponent.get(1..) {
            Some(digits) => std::str::from_utf8(digits).ok()?.parse().ok()?,
            None => 0,
        };
        let is_digit = |byte: &u8| (b'1'..=b'9').contains(byte);
        let Some(first) = mantissa.iter().position(is_digit) else {
            return Some(Self { negative: false, digits: b"", power: 0 });
        };
        let last = mantissa.iter().rposition(is_digit)?;
        let point = i64::try_from(mantissa.iter().position(|&byte| byte == b'.').unwrap_or(mantissa.len())).ok()?;
        let last_at = i64::try_from(last).ok()?;
        let power = exponent.checked_add(if last_at < point { point - 1 - last_at } else { point - last_at })?;
        Some(Self { negative, digits: mantissa.get(first..=last)?, power })
    }

    fn equals(&self, other: &Self) -> bool {
        let digits = |number: &Self| number.digits.iter().filter(|&&byte| byte != b'.');
        self.negative == other.negative && self.power == other.power && digits(self).eq(digits(other))
    }
}

/// The three headers that every modern request carries.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mirrors<'a> {
    /// `MCP-Protocol-Version`
    pub version: Option<&'a [u8]>,
    /// `Mcp-Method`
    pub method: Option<&'a [u8]>,
    /// `Mcp-Name`
    pub name: Option<&'a [u8]>,
}

impl Mirrors<'_> {
    /// Whether they agree with the request they came with.
    ///
    /// # Errors
    /// The name of the header that does not, and how.
    pub fn check(&self, request: &Request<'_>) -> Result<(), (&'static str, Disagreement)> {
        literally(self.version, request.params.meta.protocol_version).map_err(|how| ("MCP-Protocol-Version", how))?;
        match self.method.map(trim) {
            None => return Err(("Mcp-Method", Disagreement::HeaderMissing)),
            Some(method) if method != request.method.as_bytes() => return Err(("Mcp-Method", Disagreement::Value)),
            Some(_) => {}
        }
        let name = match Method::parse(request.method).name_param() {
            Some(NameParam::Name) => request.params.name,
            Some(NameParam::Uri) => request.params.uri,
            Some(NameParam::TaskId) => request.params.get("taskId"),
            None => return Ok(()),
        };
        agree(self.name, name).map_err(|how| ("Mcp-Name", how))
    }
}

/// [`agree`] for a header that has no encoded form.
fn literally(header: Option<&[u8]>, raw: Option<&[u8]>) -> Result<(), Disagreement> {
    match (header.map(trim), raw) {
        (None, None) => Ok(()),
        (None, Some(_)) => Err(Disagreement::HeaderMissing),
        (Some(_), None) => Err(Disagreement::BodyMissing),
        (Some(header), Some(raw)) => {
            if says(header, raw) {
                Ok(())
            } else {
                Err(Disagreement::Value)
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::Disagreement::{BodyMissing, Encoding, HeaderMissing, Value};
    use super::*;
    use crate::wire::jsonrpc::{Body, Message, parse};

    #[test]
    fn values_are_decoded_strictly() {
        for (value, said) in [
            ("plain", Some("plain")),
            ("  padded\t", Some("padded")),
            ("=?base64?SGVsbG8=?=", Some("Hello")),
            ("=?base64??=", Some("")),
            ("=?base64?w6k=?=", Some("é")),
            ("=?base64?SGVsbG8=", Some("=?base64?SGVsbG8=")),
            ("SGVsbG8=?=", Some("SGVsbG8=?=")),
            ("=?BASE64?SGVsbG8=?=", Some("=?BASE64?SGVsbG8=?=")),
            ("=?base64?SGVsbG8?=", None),
            ("=?base64?SGVsb!8=?=", None),
            ("=?base64?SGVsbG9=?=", None),
            ("=?base64?/w==?=", None),
            ("=?base64?=", Some("=?base64?=")),
        ] {
            assert_eq!(decode(value.as_bytes()).ok().as_deref(), said.map(str::as_bytes), "{value}");
        }
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        for text in ["", "plain name", " edge", "edge ", "é", "line\nbreak", "=?base64?x?=", "=?base64?", "tab\there"] {
            let mut out = Vec::new();
            encode(&mut out, text);
            assert!(out.iter().all(|byte| (b' '..=b'~').contains(byte) || *byte == b'\t'), "{text}");
            assert_eq!(decode(&out).as_deref(), Ok(text.as_bytes()));
        }
        let mut out = Vec::new();
        encode(&mut out, "us-west1");
        assert_eq!(out, b"us-west1");
    }

    #[test]
    fn headers_and_arguments_agree() {
        type Row = (Option<&'static str>, Option<&'static str>, Result<(), Disagreement>);
        let rows: &[Row] = &[
            (None, None, Ok(())),
            (None, Some("null"), Ok(())),
            (Some("x"), None, Err(BodyMissing)),
            (Some("x"), Some("null"), Err(BodyMissing)),
            (None, Some("\"x\""), Err(HeaderMissing)),
            (Some("x"), Some("\"x\""), Ok(())),
            (Some(" x "), Some("\"x\""), Ok(())),
            (Some("X"), Some("\"x\""), Err(Value)),
            (Some("=?base64?w6k=?="), Some("\"\\u00e9\""), Ok(())),
            (Some("=?base64?w6k?="), Some("\"\\u00e9\""), Err(Encoding)),
            (Some("true"), Some("true"), Ok(())),
            (Some("True"), Some("true"), Err(Value)),
            (Some("42"), Some("42"), Ok(())),
            (Some("42.0"), Some("42"), Ok(())),
            (Some("042"), Some("42"), Ok(())),
            (Some("-0"), Some("0"), Ok(())),
            (Some("1000"), Some("1e3"), Ok(())),
            (Some("1200"), Some("1.2E+3"), Ok(())),
            (Some("0.012"), Some("1.2e-2"), Ok(())),
            (Some("1e3"), Some("1000"), Err(Value)),
            (Some("0x2a"), Some("42"), Err(Value)),
            (Some("+42"), Some("42"), Err(Value)),
            (Some("42."), Some("42"), Err(Value)),
            (Some("4.2"), Some("42"), Err(Value)),
            (Some("420"), Some("42"), Err(Value)),
            (Some("-42"), Some("42"), Err(Value)),
            (Some("9007199254740993"), Some("9007199254740992"), Err(Value)),
            (Some("1"), Some("1e99999999999999999999"), Err(Value)),
            (Some("42"), Some("\"42.0\""), Err(Value)),
            (None, Some("{}"), Ok(())),
            (Some("x"), Some("[]"), Ok(())),
        ];
        for (header, body, verdict) in rows {
            assert_eq!(agree(header.map(str::as_bytes), body.map(str::as_bytes)), *verdict, "{header:?} {body:?}");
        }
    }

    #[test]
    fn the_three_mirrors_are_checked_in_order() {
        let body = br#"{"jsonrpc":"2.0","id":1,"method":"tools\/call","params":{"name":"a\/b","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;
        let Ok(Body::One(Message::Request(request))) = parse(body) else { panic!("a request") };
        let good = Mirrors { version: Some(b"2026-07-28"), method: Some(b" tools/call "), name: Some(b"a/b") };
        assert_eq!(good.check(&request), Ok(()));
        let version = Mirrors { version: Some(b"2025-11-25"), ..good };
        assert_eq!(version.check(&request), Err(("MCP-Protocol-Version", Value)));
        assert_eq!(Mirrors { method: None, ..good }.check(&request), Err(("Mcp-Method", HeaderMissing)));
        assert_eq!(Mirrors { method: Some(b"tools/Call"), ..good }.check(&request), Err(("Mcp-Method", Value)));
        assert_eq!(Mirrors { name: None, ..good }.check(&request), Err(("Mcp-Name", HeaderMissing)));
        assert_eq!(Mirrors { name: Some(b"=?base64?YS9i?="), ..good }.check(&request), Ok(()));
    }
}
