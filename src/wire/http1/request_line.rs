//! The request line (RFC 9112 section 3): method, target in its four forms, version.

use super::field::{is_host, is_tchar};
use crate::base::fault::Kind;
use crate::base::limits::TARGET_BYTES_MAX;

/// Longest method, bytes: longer than any that is registered.
const METHOD_BYTES_MAX: usize = 32;
/// Longest request line without its CRLF, bytes. A longer one can only be so by its target.
pub(super) const LINE_BYTES_MAX: usize = METHOD_BYTES_MAX + 1 + TARGET_BYTES_MAX + " HTTP/1.1".len();

/// Request method (RFC 9110 section 9, PATCH: RFC 5789).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    /// `GET`.
    Get,
    /// `HEAD`.
    Head,
    /// `POST`.
    Post,
    /// `PUT`.
    Put,
    /// `DELETE`.
    Delete,
    /// `OPTIONS`.
    Options,
    /// `PATCH`.
    Patch,
    /// `TRACE`.
    Trace,
    /// `CONNECT`.
    Connect,
    /// Any other token.
    Other,
}

impl Method {
    /// The method with this name. Names are case-sensitive (RFC 9110 section 9.1).
    #[must_use]
    pub const fn parse(name: &[u8]) -> Self {
        match name {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"DELETE" => Self::Delete,
            b"OPTIONS" => Self::Options,
            b"PATCH" => Self::Patch,
            b"TRACE" => Self::Trace,
            b"CONNECT" => Self::Connect,
            _ => Self::Other,
        }
    }

    /// Its name; none of [`Self::Other`], which has many.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
            Self::Patch => "PATCH",
            Self::Trace => "TRACE",
            Self::Connect => "CONNECT",
            Self::Other => return None,
        })
    }
}

/// Refuses first bytes that cannot begin a request line, such as a TLS hello. Looks at a bounded prefix.
pub(super) fn check_start(bytes: &[u8]) -> Result<(), Kind> {
    let method_len = method_len(bytes);
    match bytes.get(method_len) {
        None if method_len <= METHOD_BYTES_MAX => Ok(()),
        Some(b' ') if (1..=METHOD_BYTES_MAX).contains(&method_len) => Ok(()),
        _ => Err(Kind::BadHttp),
    }
}

/// How many bytes of a token come first; of more than a method may have, one more is counted.
fn method_len(bytes: &[u8]) -> usize {
    bytes.iter().take(METHOD_BYTES_MAX + 1).take_while(|&&b| is_tchar(b)).count()
}

/// Whether [`check_start`] can still learn from more than `seen` bytes.
pub(super) const fn start_is_open(seen: usize) -> bool {
    seen <= METHOD_BYTES_MAX
}

/// A checked request line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RequestLine<'a> {
    pub method: Method,
    pub target: &'a str,
    pub minor: u8,
}

/// Parses a request line (without its CRLF): exactly one space between its parts, nothing after the version.
pub(super) fn parse(line: &[u8]) -> Result<RequestLine<'_>, Kind> {
    let (method, rest) = line.split_at_checked(method_len(line)).ok_or(Kind::BadHttp)?;
    let [b' ', rest @ ..] = rest else { return Err(Kind::BadHttp) };
    if !(1..=METHOD_BYTES_MAX).contains(&method.len()) {
        return Err(Kind::BadHttp);
    }
    let (target, version) = rest.split_at_checked(memchr::memchr(b' ', rest).unwrap_or(rest.len())).ok_or(Kind::BadHttp)?;
    if target.len() > TARGET_BYTES_MAX {
        return Err(Kind::TargetTooLong);
    }
    // Not UTF-8 (which a URI must escape), not a control, and not a fragment (which a client keeps to itself).
    if !target.iter().fold(true, |good, &b| good & (b > 0x20) & (b < 0x7f) & (b != b'#')) {
        return Err(Kind::BadHttp);
    }
    let minor = minor(version)?;
    let target = std::str::from_utf8(target).map_err(|_| Kind::BadHttp)?;
    let method = Method::parse(method);
    Target::split(method, target)?;
    Ok(RequestLine { method, target, minor })
}

/// The minor version of `HTTP/1.0` or `HTTP/1.1`, given with the space before it. Other versions of the right shape are refused as such (RFC 9110 section 15.6.6).
fn minor(version: &[u8]) -> Result<u8, Kind> {
    match version {
        b" HTTP/1.1" => Ok(1),
        b" HTTP/1.0" => Ok(0),
        [b' ', b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => Err(Kind::HttpVersion),
        _ => Err(Kind::BadHttp),
    }
}

/// A request target taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target<'a> {
    /// Host and port of an absolute or authority form; they replace the Host field (RFC 9112 section 3.2.2).
    pub authority: Option<&'a str>,
    /// Path: never empty, except in authority form.
    pub path: &'a str,
    /// What follows the first `?`.
    pub query: Option<&'a str>,
}

impl<'a> Target<'a> {
    /// Splits a target whose bytes were checked, and refuses a form that does not belong to the method (RFC 9112 section 3.2).
    pub fn split(method: Method, target: &'a str) -> Result<Self, Kind> {
        if method == Method::Connect {
            return authority_form(target);
        }
        if target.starts_with('/') {
            let (path, query) = split_query(target);
            return Ok(Self { authority: None, path, query });
        }
        if target == "*" && method == Method::Options {
            return Ok(Self { authority: None, path: target, query: None });
        }
        absolute_form(target)
    }
}

fn authority_form(target: &str) -> Result<Target<'_>, Kind> {
    let port = target.rsplit_once(':').map(|(_, port)| port).unwrap_or_default();
    if target.starts_with(':') || port.is_empty() || !is_host(target.as_bytes()) {
        return Err(Kind::BadHttp);
    }
    Ok(Target { authority: Some(target), path: "", query: None })
}

fn absolute_form(target: &str) -> Result<Target<'_>, Kind> {
    let (scheme, rest) = target.split_once("://").ok_or(Kind::BadHttp)?;
    let is_http = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at_checked(end).ok_or(Kind::BadHttp)?;
    if !is_http || authority.is_empty() || authority.starts_with(':') || !is_host(authority.as_bytes()) {
        return Err(Kind::BadHttp);
    }
    let (path, query) = split_query(rest);
    Ok(Target { authority: Some(authority), path: if path.is_empty() { "/" } else { path }, query })
}

fn split_query(target: &str) -> (&str, Option<&str>) {
    target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

    use super::*;

    fn target(method: Method, target: &str) -> Result<(Option<&str>, &str, Option<&str>), Kind> {
        Target::split(method, target).map(|t| (t.authority, t.path, t.query))
    }

    #[test]
    fn each_target_form_is_taken_apart() {
        assert_eq!(target(Method::Get, "/"), Ok((None, "/", None)));
        assert_eq!(target(Method::Get, "/a?b?c"), Ok((None, "/a", Some("b?c"))));
        assert_eq!(target(Method::Get, "//x/y"), Ok((None, "//x/y", None)));
        assert_eq!(target(Method::Get, "http://h:1/a?b"), Ok((Some("h:1"), "/a", Some("b"))));
        assert_eq!(target(Method::Get, "HTTPS://[::1]"), Ok((Some("[::1]"), "/", None)));
        assert_eq!(target(Method::Get, "http://h?q"), Ok((Some("h"), "/", Some("q"))));
        assert_eq!(target(Method::Options, "*"), Ok((None, "*", None)));
        assert_eq!(target(Method::Connect, "h:443"), Ok((Some("h:443"), "", None)));
    }

    #[test]
    fn a_form_that_does_not_belong_to_the_method_is_refused() {
        let get =
            ["*", "a", "h:80", "http:/x", "http://", "http:///x", "http://u@h/", "http://:80/", "ftp://h/", "://h/", "?x", "http://h\\@g/"];
        for bad in get {
            assert_eq!(target(Method::Get, bad), Err(Kind::BadHttp), "{bad}");
        }
        for bad in ["/", "h", "h:", ":443", "*", "http://h:1/", "h:44x", "u@h:1"] {
            assert_eq!(target(Method::Connect, bad), Err(Kind::BadHttp), "{bad}");
        }
    }

    #[test]
    fn the_request_line_has_one_space_between_its_parts() {
        assert_eq!(parse(b"GET /a HTTP/1.0"), Ok(RequestLine { method: Method::Get, target: "/a", minor: 0 }));
        assert_eq!(parse(b"x! / HTTP/1.1").map(|l| l.method), Ok(Method::Other));
        let bad: [&[u8]; 15] = [
            b"",
            b"GET",
            b"GET /",
            b"GET / ",
            b"GET  / HTTP/1.1",
            b"GET /  HTTP/1.1",
            b"GET / HTTP/1.1 ",
            b" GET / HTTP/1.1",
            b"GET\t/ HTTP/1.1",
            b"GET / http/1.1",
            b"GET / HTTP/1.10",
            b"GET / HTTP/x.1",
            b"GET /\xc3\xa9 HTTP/1.1",
            b"GET /a#b HTTP/1.1",
            b"G(T / HTTP/1.1",
        ];
        for line in bad {
            assert_eq!(parse(line), Err(Kind::BadHttp), "{}", line.escape_ascii());
        }
        for other in [&b"PRI * HTTP/2.0"[..], b"GET / HTTP/0.9", b"GET / HTTP/1.2", b"GET / HTTP/3.0"] {
            assert_eq!(parse(other), Err(Kind::HttpVersion), "{}", other.escape_ascii());
        }
    }

    #[test]
    fn lengths_are_bounded() {
        let line = |method: usize, target: usize| format!("{} /{} HTTP/1.1", "M".repeat(method), "x".repeat(target - 1)).into_bytes();
        assert!(parse(&line(METHOD_BYTES_MAX, TARGET_BYTES_MAX)).is_ok());
        assert_eq!(line(METHOD_BYTES_MAX, TARGET_BYTES_MAX).len(), LINE_BYTES_MAX);
        assert_eq!(parse(&line(METHOD_BYTES_MAX + 1, 1)), Err(Kind::BadHttp));
        assert_eq!(parse(&line(3, TARGET_BYTES_MAX + 1)), Err(Kind::TargetTooLong));
    }
}
