//! Revisions of the protocol.

/// How a client and a server come to terms.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Era {
    /// By an `initialize` handshake, and sessions.
    Legacy,
    /// By what each request says of itself.
    Modern,
}

/// A revision of the protocol. Revisions are a closed set, not an ordered string: ask for a feature.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Version {
    /// 2024-11-05
    V2024_11_05,
    /// 2025-03-26
    V2025_03_26,
    /// 2025-06-18
    V2025_06_18,
    /// 2025-11-25
    V2025_11_25,
    /// 2026-07-28
    V2026_07_28,
}

impl Version {
    /// Every revision, oldest first.
    pub const ALL: &'static [Self] = &[Self::V2024_11_05, Self::V2025_03_26, Self::V2025_06_18, Self::V2025_11_25, Self::V2026_07_28];
    /// What `initialize` is answered when it offers a version that it cannot have.
    pub const LEGACY_NEWEST: Self = Self::V2025_11_25;
    /// What a legacy request without a version header and without a session is taken for (2025-06-18, transports, "Protocol Version Header").
    pub const LEGACY_ASSUMED: Self = Self::V2025_03_26;
    /// The newest revision that needs no handshake.
    pub const MODERN_NEWEST: Self = Self::V2026_07_28;

    /// The revision of this name.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        Some(match text {
            b"2026-07-28" => Self::V2026_07_28,
            b"2025-11-25" => Self::V2025_11_25,
            b"2025-06-18" => Self::V2025_06_18,
            b"2025-03-26" => Self::V2025_03_26,
            b"2024-11-05" => Self::V2024_11_05,
            _ => return None,
        })
    }

    /// The revision that a raw JSON string names.
    #[must_use]
    pub fn from_raw(raw: &[u8]) -> Option<Self> {
        let inner = raw.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
        Self::parse(inner).or_else(|| Self::parse(crate::wire::json::string(raw)?.as_bytes()))
    }

    /// What `initialize` is answered that offers the raw JSON string `offered`: the same legacy revision, else the newest legacy one
    /// (2025-11-25, lifecycle, "Version Negotiation").
    #[must_use]
    pub fn negotiate(offered: &[u8]) -> Self {
        Self::from_raw(offered).filter(|version| version.era() == Era::Legacy).unwrap_or(Self::LEGACY_NEWEST)
    }

    /// Its name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V2024_11_05 => "2024-11-05",
            Self::V2025_03_26 => "2025-03-26",
            Self::V2025_06_18 => "2025-06-18",
            Self::V2025_11_25 => "2025-11-25",
            Self::V2026_07_28 => "2026-07-28",
        }
    }

    /// Its era.
    #[must_use]
    pub const fn era(self) -> Era {
        match self {
            Self::V2026_07_28 => Era::Modern,
            _ => Era::Legacy,
        }
    }

    /// Whether an array of messages may be posted.
    #[must_use]
    pub const fn batches(self) -> bool {
        matches!(self, Self::V2025_03_26)
    }

    /// Whether the client repeats the version in a header.
    #[must_use]
    pub const fn version_header(self) -> bool {
        !matches!(self, Self::V2024_11_05 | Self::V2025_03_26)
    }

    /// Whether `Mcp-Method`, `Mcp-Name` and `Mcp-Param-*` mirror the body.
    #[must_use]
    pub const fn mirror_headers(self) -> bool {
        matches!(self.era(), Era::Modern)
    }

    /// Whether tools have annotations, and content may be audio.
    #[must_use]
    pub const fn annotations(self) -> bool {
        !matches!(self, Self::V2024_11_05)
    }

    /// Whether progress may carry a message.
    #[must_use]
    pub const fn progress_message(self) -> bool {
        !matches!(self, Self::V2024_11_05)
    }

    /// Whether servers declare completions as a capability.
    #[must_use]
    pub const fn completions_capability(self) -> bool {
        !matches!(self, Self::V2024_11_05)
    }

    /// Whether tools have output schemas and results structured content.
    #[must_use]
    pub const fn structured_content(self) -> bool {
        !matches!(self, Self::V2024_11_05 | Self::V2025_03_26)
    }

    /// Whether structured content may be something else than an object.
    #[must_use]
    pub const fn structured_content_any(self) -> bool {
        matches!(self.era(), Era::Modern)
    }

    /// Whether names come with titles.
    #[must_use]
    pub const fn titles(self) -> bool {
        !matches!(self, Self::V2024_11_05 | Self::V2025_03_26)
    }

    /// Whether results may link to resources.
    #[must_use]
    pub const fn resource_links(self) -> bool {
        !matches!(self, Self::V2024_11_05 | Self::V2025_03_26)
    }

    /// Whether a client may be asked by form.
    #[must_use]
    pub const fn elicitation(self) -> bool {
        !matches!(self, Self::V2024_11_05 | Self::V2025_03_26)
    }

    /// Whether a client may be sent to a URL.
    #[must_use]
    pub const fn elicitation_url(self) -> bool {
        matches!(self, Self::V2025_11_25 | Self::V2026_07_28)
    }

    /// Whether sampling may offer tools.
    #[must_use]
    pub const fn sampling_tools(self) -> bool {
        matches!(self, Self::V2025_11_25 | Self::V2026_07_28)
    }

    /// Whether definitions may carry icons.
    #[must_use]
    pub const fn icons(self) -> bool {
        matches!(self, Self::V2025_11_25 | Self::V2026_07_28)
    }

    /// Whether a stream may begin with an event that has an id and no data: older clients choke on it.
    #[must_use]
    pub const fn prime_events(self) -> bool {
        matches!(self, Self::V2025_11_25)
    }

    /// Whether results name their type, and lists and resources say how long they may be kept.
    #[must_use]
    pub const fn result_type(self) -> bool {
        matches!(self.era(), Era::Modern)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for &version in Version::ALL {
            assert_eq!(Version::parse(version.as_str().as_bytes()), Some(version));
            assert_eq!(Version::from_raw(format!("\"{}\"", version.as_str()).as_bytes()), Some(version));
        }
        assert_eq!(Version::from_raw(br#""2026\u002d07-28""#), Some(Version::V2026_07_28));
        for wrong in ["", "2026-07-29", "2026-07-28 ", "DRAFT"] {
            assert_eq!(Version::parse(wrong.as_bytes()), None);
        }
        assert_eq!(Version::from_raw(b"2026"), None);
    }

    #[test]
    fn a_handshake_never_ends_in_a_version_without_handshake() {
        for (offered, answered) in [
            (&b"\"2026-07-28\""[..], Version::V2025_11_25),
            (b"\"2024-11-05\"", Version::V2024_11_05),
            (b"\"2025-03-26\"", Version::V2025_03_26),
            (b"\"1999-01-01\"", Version::V2025_11_25),
            (b"7", Version::V2025_11_25),
        ] {
            assert_eq!(Version::negotiate(offered), answered);
        }
    }
}
