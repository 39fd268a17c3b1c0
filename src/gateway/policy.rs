//! Which header fields pass between clients and upstreams.
//!
//! The two sides are separate HTTP exchanges: the gateway writes the head of each itself. Of a client's request only the few fields pass that are
//! meant for whoever has the tool. So nothing that belongs to the client's own connection or is a secret between it and this gateway can:
//! hop-by-hop fields, `Cookie`, `Authorization`, `Mcp-Session-Id`, `Forwarded`. An upstream is shown the credentials of the configuration instead.
//!
//! Of an upstream's response no field comes back: what the client must know of it is in the body, and cookies, challenges and session ids are
//! between this gateway and the upstream.

use crate::wire::http1::{Headers, Known, check_field};

/// What the names of all fields begin with that mirror an argument (2026-07-28, transports, "Custom Headers from Tool Parameters").
const PARAM: &[u8] = b"mcp-param-";
/// Trace context (W3C Recommendation "Trace Context").
const TRACE: [&[u8]; 2] = [b"traceparent", b"tracestate"];
/// Fields that are the connection's own (RFC 9110 section 7.6.1), whether or not Connection names them.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// Fields that the gateway writes itself, each as the message at hand needs it.
const OWN: [&str; 8] =
    ["accept", "accept-encoding", "content-encoding", "content-length", "content-type", "expect", "host", "last-event-id"];

/// Whether a field of a client's request goes to the upstream.
#[must_use]
pub fn passes(name: &[u8]) -> bool {
    let is_param = || name.split_at_checked(PARAM.len()).is_some_and(|(start, rest)| start.eq_ignore_ascii_case(PARAM) && !rest.is_empty());
    // Most fields of most requests are none: one look at the first letter.
    match name.first() {
        Some(b'm' | b'M') => is_param(),
        Some(b't' | b'T') => TRACE.iter().any(|known| name.eq_ignore_ascii_case(known)),
        _ => false,
    }
}

/// The fields of a client's request that go to the upstream, known tools' parameters or not. What Connection names is the connection's own and
/// does not pass.
pub fn passing<'a>(headers: &Headers<'a>) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
    let connection: Option<Headers<'a>> = headers.get(Known::Connection).map(|_| *headers);
    headers.iter().filter(|(name, _)| passes(name.as_bytes())).filter(move |(name, _)| {
        let options =
            connection.iter().flat_map(|headers| headers.values(Known::Connection)).flat_map(|value| value.split(|byte| *byte == b','));
        !options.map(<[u8]>::trim_ascii).any(|option| option.eq_ignore_ascii_case(name.as_bytes()))
    })
}

/// What is wrong with a field that is configured to be sent with every request to an upstream; `None` when nothing is. Credentials are what it is
/// for.
#[must_use]
pub fn problem_with_configured(name: &str, value: &[u8]) -> Option<&'static str> {
    let lower = name.to_ascii_lowercase();
    if HOP_BY_HOP.contains(&&*lower) {
        return Some("it belongs to a single connection: leave it out");
    }
    if OWN.contains(&&*lower) || lower.starts_with("mcp-") || passes(lower.as_bytes()) {
        return Some("ringhub writes it itself as each request needs it: leave it out");
    }
    match check_field(name, value) {
        Ok(()) => None,
        Err(crate::wire::http1::Unsendable::Value) => Some("its value has a line break or another control character in it: remove that"),
        Err(_) => Some("it is no name of a header: letters, digits and hyphens are"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::http1::{Framed, Framer, HeaderSlots, HttpLimits, view};

    /// Names of the fields of a request with these that pass.
    fn passed(fields: &str) -> Vec<String> {
        let input = format!("POST /mcp HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
        let limits = HttpLimits { head_bytes_max: 4096, body_bytes_max: 0 };
        let Framed::Whole(frame) = Framer::default().next(input.as_bytes(), &limits) else { panic!("{input}") };
        let (mut slots, mut dechunked) = (HeaderSlots::new(), Vec::new());
        let request = view(input.as_bytes(), &frame, &mut slots, &mut dechunked).expect("a request");
        passing(&request.headers).map(|(name, value)| format!("{name}={}", value.escape_ascii())).collect()
    }

    #[test]
    fn parameters_and_traces_pass_and_nothing_else() {
        let fields = "Mcp-Param-Region: eu\r\nMCP-PARAM-X-Unknown: =?base64?w6k=?=\r\nTraceparent: 00-1-2-01\r\ntracestate: a=b\r\n";
        assert_eq!(
            passed(fields),
            ["Mcp-Param-Region=eu", "MCP-PARAM-X-Unknown==?base64?w6k=?=", "Traceparent=00-1-2-01", "tracestate=a=b"]
        );
        for other in [
            "Authorization: Bearer x",
            "Proxy-Authorization: Basic x",
            "Cookie: a=b",
            "Connection: keep-alive",
            "Keep-Alive: timeout=5",
            "TE: trailers",
            "Trailer: Mcp-Param-Region",
            "Upgrade: h2c",
            "Mcp-Session-Id: s",
            "MCP-Protocol-Version: 2026-07-28",
            "Mcp-Method: tools/call",
            "Mcp-Name: t",
            "Mcp-Param-: x",
            "Mcp-Param: x",
            "Origin: http://localhost",
            "X-Forwarded-For: 192.0.2.1",
            "Forwarded: for=192.0.2.1",
            "X-Api-Key: k",
            "Traceparents: x",
            "User-Agent: x",
            "Last-Event-ID: 1",
        ] {
            assert_eq!(passed(&format!("{other}\r\n")), Vec::<String>::new(), "{other}");
        }
    }

    #[test]
    fn what_connection_names_is_the_connections_own() {
        let fields = "Connection: close, mcp-param-a\r\nMcp-Param-A: 1\r\nMcp-Param-B: 2\r\nConnection: TraceParent\r\ntraceparent: x\r\n";
        assert_eq!(passed(fields), ["Mcp-Param-B=2"]);
    }

    #[test]
    fn credentials_can_be_configured_and_what_would_confuse_cannot() {
        for good in ["Authorization", "X-Api-Key", "Cookie", "User-Agent"] {
            assert_eq!(problem_with_configured(good, b"Bearer x"), None, "{good}");
        }
        for bad in
            HOP_BY_HOP.iter().chain(&OWN).chain(&["Mcp-Session-Id", "MCP-Param-X", "mcp-name", "Tracestate", "", "a b", "a:", "\u{e9}"])
        {
            assert!(problem_with_configured(bad, b"x").is_some(), "{bad}");
        }
        for bad in [&b"a\r\nHost: x"[..], b"\0", b"a\nb"] {
            assert!(problem_with_configured("X-Api-Key", bad).is_some_and(|why| why.contains("line break")));
        }
    }
}
