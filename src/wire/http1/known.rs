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
}

const _: () = assert!(Known::ALL.len() <= 32, "repetition is one bit per field in 32");

impl Known {
    /// The known field with this name, in any case of letters. The length leaves at most three names to compare.
    #[must_use]
    pub fn find(name: &[u8]) -> Option<Self> {
        let candidates: &[Self] = match name.len() {
            4 => &[Self::Host],
            6 => &[Self::Accept, Self::Origin, Self::Expect],
            8 => &[Self::McpName, Self::IfMatch],
            9 => &[Self::Forwarded],
            10 => &[Self::Connection, Self::McpMethod, Self::UserAgent],
            12 => &[Self::ContentType],
            13 => &[Self::Authorization, Self::LastEventId, Self::IfNoneMatch],
            14 => &[Self::ContentLength, Self::SessionId],
            15 => &[Self::AcceptEncoding, Self::XForwardedFor],
            16 => &[Self::ContentEncoding],
            17 => &[Self::TransferEncoding],
            20 => &[Self::ProtocolVersion],
            29 => &[Self::AccessControlRequestMethod],
            30 => &[Self::AccessControlRequestHeaders],
            _ => return None,
        };
        candidates.iter().copied().find(|known| name.eq_ignore_ascii_case(known.name().as_bytes()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
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
    }
}
