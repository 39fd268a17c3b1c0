//! URLs of upstreams (RFC 3986, the schemes of RFC 9110 section 4.2), taken apart.

use super::ask::check_target;
use super::field::is_host;

/// An `http` or `https` URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Url<'a> {
    /// Whether it is `https`.
    pub is_tls: bool,
    /// Host and port as they stand in it: what Host says.
    pub authority: &'a str,
    /// The name, or the address; an IPv6 address stands in brackets.
    pub host: &'a str,
    /// The port; the scheme's own when it names none.
    pub port: u16,
    /// What is asked for: the path, and the query if there is one.
    pub target: &'a str,
}

impl<'a> Url<'a> {
    /// Takes a URL apart. None when it is not one of these, or has what does not belong there: a user's name, a fragment, spaces, other than
    /// ASCII. A query without a path is refused, too.
    #[must_use]
    pub fn parse(text: &'a str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let is_tls = scheme.eq_ignore_ascii_case("https");
        if !is_tls && !scheme.eq_ignore_ascii_case("http") {
            return None;
        }
        let (authority, target) = rest.split_at_checked(rest.find(['/', '?', '#']).unwrap_or(rest.len()))?;
        let target = if target.is_empty() { "/" } else { target };
        if authority.is_empty() || authority.starts_with(':') || !is_host(authority.as_bytes()) || check_target(target).is_err() {
            return None;
        }
        let host_len = if authority.starts_with('[') { authority.find(']')? + 1 } else { authority.find(':').unwrap_or(authority.len()) };
        let (host, port) = authority.split_at_checked(host_len)?;
        let port = match port.strip_prefix(':').unwrap_or_default() {
            "" => {
                if is_tls {
                    443
                } else {
                    80
                }
            }
            digits => digits.parse().ok().filter(|port| *port != 0)?,
        };
        Some(Self { is_tls, authority, host, port, target })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        let parts = |text| Url::parse(text).map(|url| (url.is_tls, url.authority, url.host, url.port, url.target));
        assert_eq!(parts("http://localhost:3001/mcp"), Some((false, "localhost:3001", "localhost", 3001, "/mcp")));
        assert_eq!(parts("HTTPS://mcp.example"), Some((true, "mcp.example", "mcp.example", 443, "/")));
        assert_eq!(parts("https://h:/a?b=c&d"), Some((true, "h:", "h", 443, "/a?b=c&d")));
        assert_eq!(parts("http://[::1]:8080/"), Some((false, "[::1]:8080", "[::1]", 8080, "/")));
        assert_eq!(parts("http://[::1]"), Some((false, "[::1]", "[::1]", 80, "/")));
        for bad in [
            "",
            "localhost:3001/mcp",
            "ftp://h/",
            "http:/h",
            "http://",
            "http:///x",
            "http://:80/",
            "http://h:0/",
            "http://h:65536/",
            "http://u:p@h/",
            "http://h/#f",
            "http://h#f",
            "http://h?q",
            "http://h/a b",
            "http://h/\r\nX: y",
            "http://h /",
            "http://b\u{fc}cher.example/",
            "http://h/\u{e9}",
        ] {
            assert_eq!(parts(bad), None, "{bad}");
        }
    }
}
