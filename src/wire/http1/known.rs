//! The header fields that ringhub looks at by name.

macro_rules! known {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// A header field that is located when a request is viewed, and then read in constant time.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        pub enum Known { $($(#[$doc])* $variant,)* }

        impl Known {
            /// Every known field.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The field's name as this server writes it.
            #[must_use]
            pub const fn name(self) -> &'static str { match self { $(Self::$variant => $name,)* } }
        }
    };
}

known! {
    /// `Host`; of a target in absolute form, its authority.
    Host = "Host",
    /// `Origin`.
    Origin = "Origin",
    /// `Accept`.
    Accept = "Accept",
    /// `Content-Type`.
    ContentType = "Content-Type",
    /// `Content-Encoding`.
    ContentEncoding = "Content-Encoding",
    /// `Content-Length`.
    ContentLength = "Content-Length",
    /// `Transfer-Encoding`.
    TransferEncoding = "Transfer-Encoding",
    /// `Connection`.
    Connection = "Connection",
    /// `Expect`.
    Expect = "Expect",
    /// `Authorization`.
    Authorization = "Authorization",
    /// `Mcp-Session-Id` (MCP, up to 2025-11-25).
    SessionId = "Mcp-Session-Id",
    /// `MCP-Protocol-Version` (MCP, from 2025-06-18).
    ProtocolVersion = "MCP-Protocol-Version",
    /// `Mcp-Method` (MCP, from 2026-07-28).
    McpMethod = "Mcp-Method",
    /// `Mcp-Name` (MCP, from 2026-07-28).
    McpName = "Mcp-Name",
    /// `Last-Event-ID`.
    LastEventId = "Last-Event-ID",
    /// `If-Match`.
    IfMatch = "If-Match",
    /// `If-None-Match`.
    IfNoneMatch = "If-None-Match",
    /// `Access-Control-Request-Method`.
    AccessControlRequestMethod = "Access-Control-Request-Method",
    /// `Access-Control-Request-Headers`.
    AccessControlRequestHeaders = "Access-Control-Request-Headers",
    /// `Accept-Encoding`.
    AcceptEncoding = "Accept-Encoding",
    /// `Forwarded` (RFC 7239).
    Forwarded = "Forwarded",
    /// `X-Forwarded-For`.
    XForwardedFor = "X-Forwarded-For",
    /// `User-Agent`.
    UserAgent = "User-Agent",
    /// `Retry-After`.
    RetryAfter = "Retry-After",
}

const _: () = assert!(Known::ALL.len() <= 32, "repetition is one bit per field in 32");

impl Known {
    /// The known field with this name, in any case of letters. Its length leaves at most three to compare with.
    #[must_use]
    pub fn find(name: &[u8]) -> Option<Self> {
        match name.len() {
            4 => one_of(name, [(b"host", Self::Host)]),
            6 => one_of(name, [(b"accept", Self::Accept), (b"origin", Self::Origin), (b"expect", Self::Expect)]),
            8 => one_of(name, [(b"mcp-name", Self::McpName), (b"if-match", Self::IfMatch)]),
            9 => one_of(name, [(b"forwarded", Self::Forwarded)]),
            10 => one_of(name, [(b"connection", Self::Connection), (b"mcp-method", Self::McpMethod), (b"user-agent", Self::UserAgent)]),
            11 => one_of(name, [(b"retry-after", Self::RetryAfter)]),
            12 => one_of(name, [(b"content-type", Self::ContentType)]),
            13 => one_of(
                name,
                [(b"authorization", Self::Authorization), (b"last-event-id", Self::LastEventId), (b"if-none-match", Self::IfNoneMatch)],
            ),
            14 => one_of(name, [(b"content-length", Self::ContentLength), (b"mcp-session-id", Self::SessionId)]),
            15 => one_of(name, [(b"accept-encoding", Self::AcceptEncoding), (b"x-forwarded-for", Self::XForwardedFor)]),
            16 => one_of(name, [(b"content-encoding", Self::ContentEncoding)]),
            17 => one_of(name, [(b"transfer-encoding", Self::TransferEncoding)]),
            20 => one_of(name, [(b"mcp-protocol-version", Self::ProtocolVersion)]),
            29 => one_of(name, [(b"access-control-request-method", Self::AccessControlRequestMethod)]),
            30 => one_of(name, [(b"access-control-request-headers", Self::AccessControlRequestHeaders)]),
            _ => None,
        }
    }
}

/// The length is known when compiled, so that a comparison is a few words and no loop.
#[inline(always)]
fn one_of<const LEN: usize, const N: usize>(name: &[u8], candidates: [(&[u8; LEN], Known); N]) -> Option<Known> {
    let name: &[u8; LEN] = name.try_into().ok()?;
    candidates.into_iter().find(|(lower, _)| is_same(name, lower)).map(|(_, known)| known)
}

/// Whether it is this name of lower-case letters and hyphens, in any case: eight bytes at a time, then four, then one.
#[inline(always)]
fn is_same<const LEN: usize>(name: &[u8; LEN], lower: &[u8; LEN]) -> bool {
    let ((names, name), (lowers, lower)) = (name.as_chunks::<8>(), lower.as_chunks::<8>());
    let eights = names.iter().zip(lowers).fold(0, |d, (a, b)| d | differing(u64::from_le_bytes(*a), u64::from_le_bytes(*b)));
    let ((names, name), (lowers, lower)) = (name.as_chunks::<4>(), lower.as_chunks::<4>());
    let word = |four: &[u8; 4]| u64::from(u32::from_le_bytes(*four));
    let fours = names.iter().zip(lowers).fold(0, |d, (a, b)| d | differing(word(a), word(b)));
    let ones = name.iter().zip(lower).fold(0, |d, (&a, &b)| d | differing(u64::from(a), u64::from(b)));
    eights | fours | ones == 0
}

/// What differs, but for the case of letters. Setting one bit folds it, and would also make a CR a hyphen: so it is set only where
/// `lower` has a letter, which has the bit above it that a hyphen lacks.
#[inline(always)]
const fn differing(word: u64, lower: u64) -> u64 {
    const LETTERS: u64 = u64::MAX / 0xff * 0x40;
    (word | (lower & LETTERS) >> 1) ^ lower
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

    use super::*;

    #[test]
    fn every_known_field_is_found_in_any_case() {
        for &known in Known::ALL {
            assert_eq!(Known::find(known.name().as_bytes()), Some(known));
            assert_eq!(Known::find(known.name().to_ascii_lowercase().as_bytes()), Some(known));
            assert_eq!(Known::find(known.name().to_ascii_uppercase().as_bytes()), Some(known));
            assert_eq!(Known::find(format!("{}x", known.name()).as_bytes()), None);
        }
        assert_eq!(Known::find(b""), None);
        assert_eq!(Known::find(b"Hos_"), None);
        for &known in Known::ALL {
            let mut name = known.name().as_bytes().to_owned();
            for at in 0..name.len() {
                let own = name[at];
                for byte in (0..=u8::MAX).filter(|b| !b.eq_ignore_ascii_case(&own)) {
                    name[at] = byte;
                    assert_eq!(Known::find(&name), None, "{}", name.escape_ascii());
                }
                name[at] = own;
            }
        }
    }
}
