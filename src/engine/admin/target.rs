//! What a request to the admin port names: path segments, decoded, and query parameters.
//!
//! Names of servers and paths of endpoints stand in one segment, percent-encoded (RFC 3986 section 2.1): a slash within a name is `%2F`.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Most segments that any route has, and one more, so that a longer path is known to be one.
const SEGMENTS_MAX: usize = 7;

/// What is wrong with a target, in words.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong(pub String);

/// A path's segments, each decoded.
pub(super) type Segments<'a> = arrayvec::ArrayVec<Cow<'a, str>, SEGMENTS_MAX>;

/// Splits a path that begins with `/`. None when it is longer than every route.
pub(super) fn segments(path: &str) -> Result<Option<Segments<'_>>, Wrong> {
    let mut segments = Segments::new();
    for segment in path.strip_prefix('/').unwrap_or(path).split('/') {
        if segments.try_push(decode(segment, false)?).is_err() {
            return Ok(None);
        }
    }
    Ok(Some(segments))
}

/// Resolves percent-encoding; in a query `+` is a space (URL standard, "application/x-www-form-urlencoded parsing").
fn decode(text: &str, plus_is_space: bool) -> Result<Cow<'_, str>, Wrong> {
    let is_encoded = text.contains('%') || (plus_is_space && text.contains('+'));
    if !is_encoded {
        return Ok(Cow::Borrowed(text));
    }
    let wrong =
        |why: &str| Wrong(format!("`{text}` {why}; write other bytes than letters and digits as % and two hexadecimal digits, in UTF-8"));
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        match first {
            b'%' => {
                let [high, low, after @ ..] = rest else { return Err(wrong("ends within a percent-encoding")) };
                let digit = |byte: &u8| char::from(*byte).to_digit(16);
                let (Some(high), Some(low)) = (digit(high), digit(low)) else { return Err(wrong("has a % without two digits")) };
                bytes.push((high * 16 + low) as u8);
                rest = after;
            }
            b'+' if plus_is_space => bytes.push(b' '),
            byte => bytes.push(*byte),
        }
    }
    String::from_utf8(bytes).map(Cow::Owned).map_err(|_| wrong("is not UTF-8"))
}

/// Appends `text` with everything but unreserved characters percent-encoded.
pub fn encode(out: &mut String, text: &str) {
    for &byte in text.as_bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(b"0123456789ABCDEF"[usize::from(byte >> 4)]));
            out.push(char::from(b"0123456789ABCDEF"[usize::from(byte & 15)]));
        }
    }
}

/// The query's parameters, decoded, in order.
#[derive(Debug, Default)]
pub(super) struct Query<'a> {
    pairs: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

impl<'a> Query<'a> {
    pub fn parse(query: Option<&'a str>) -> Result<Self, Wrong> {
        let mut pairs = Vec::new();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            pairs.push((decode(name, true)?, decode(value, true)?));
        }
        Ok(Self { pairs })
    }

    /// Refuses parameters that are not among `known`, and those that stand there twice.
    pub fn only(&self, known: &[&str]) -> Result<(), Wrong> {
        for (index, (name, _)) in self.pairs.iter().enumerate() {
            if !known.contains(&&**name) {
                let takes = if known.is_empty() { "takes none".to_owned() } else { format!("takes {}", known.join(", ")) };
                return Err(Wrong(format!("there is no query parameter `{name}` here: this {takes}")));
            }
            if self.pairs.iter().take(index).any(|(other, _)| other == name) {
                return Err(Wrong(format!("the query parameter `{name}` stands there twice: give it once")));
            }
        }
        Ok(())
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }

    /// A whole number from `least` to `most`; `default` when it is not given.
    pub fn number(&self, name: &str, least: usize, most: usize, default: usize) -> Result<usize, Wrong> {
        let Some(text) = self.get(name) else { return Ok(default) };
        let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse() {
            Ok(number) if is_plain && (least..=most).contains(&number) => Ok(number),
            _ => Err(Wrong(format!("{name}={text}: give a whole number from {least} to {most}"))),
        }
    }

    /// One of some words.
    pub fn word<T: Copy>(&self, name: &str, words: &[(&str, T)]) -> Result<Option<T>, Wrong> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        let all = || words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(" or ");
        found.map(Some).ok_or_else(|| Wrong(format!("{name}={text}: give {}", all())))
    }

    /// The name after which a page begins, from the cursor that the page before it gave.
    pub fn cursor(&self) -> Result<Option<String>, Wrong> {
        let wrong = || Wrong("the cursor is none that was given here: leave it out to begin with the first page".to_owned());
        let Some(text) = self.get("cursor").filter(|text| !text.is_empty()) else { return Ok(None) };
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| wrong())?;
        String::from_utf8(bytes).map(Some).map_err(|_| wrong())
    }
}

/// The cursor of the page that follows the one that ends with `last`. It goes into a URL as it is.
pub(super) fn cursor_after(last: &str) -> String {
    URL_SAFE_NO_PAD.encode(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(path: &str) -> Vec<String> {
        segments(path).expect("well encoded").expect("not too long").iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_name_with_a_slash_is_one_segment() {
        assert_eq!(split("/v1/servers/io.example%2fweather"), ["v1", "servers", "io.example/weather"]);
        assert_eq!(split("/v1/endpoints/%2Fmcp+x"), ["v1", "endpoints", "/mcp+x"]);
        assert_eq!(split("/"), [""]);
        assert_eq!(segments("/1/2/3/4/5/6/7/8"), Ok(None));
        for bad in ["/%", "/%4", "/%zz", "/%ff", "/%+1"] {
            assert!(segments(bad).is_err(), "{bad}");
        }
        let mut text = String::new();
        encode(&mut text, "io.example/wéather");
        assert_eq!(text, "io.example%2Fw%C3%A9ather");
        assert_eq!(split(&format!("/{text}")), ["io.example/wéather"]);
    }

    #[test]
    fn parameters_are_judged_in_words() {
        let query = Query::parse(Some("limit=10&search=a+b%20c&&x")).expect("well encoded");
        assert_eq!((query.number("limit", 1, 100, 50), query.get("search"), query.get("x")), (Ok(10), Some("a b c"), Some("")));
        assert!(query.only(&["limit", "search"]).expect_err("x").0.contains("`x`"));
        assert!(Query::parse(Some("a=1&a=2")).expect("well encoded").only(&["a"]).expect_err("twice").0.contains("twice"));
        for bad in ["limit=0", "limit=101", "limit=-1", "limit=+1", "limit=", "limit=1.0", "limit=99999999999999999999"] {
            let query = Query::parse(Some(bad)).expect("well encoded");
            assert!(query.number("limit", 1, 100, 50).expect_err(bad).0.contains("from 1 to 100"));
        }
        let state = Query::parse(Some("state=up")).expect("well encoded").word("state", &[("online", 1), ("offline", 2)]);
        assert_eq!(state, Err(Wrong("state=up: give online or offline".into())));
        assert!(Query::parse(Some("a=%")).is_err());
    }

    #[test]
    fn a_cursor_is_read_back() {
        let text = format!("cursor={}", cursor_after("io.example/ä"));
        assert_eq!(Query::parse(Some(&text)).expect("well encoded").cursor(), Ok(Some("io.example/ä".into())));
        assert_eq!(Query::parse(Some("cursor=")).expect("well encoded").cursor(), Ok(None));
        for bad in ["cursor=*", "cursor=a", "cursor=_w"] {
            assert!(Query::parse(Some(bad)).expect("well encoded").cursor().is_err(), "{bad}");
        }
    }
}
