//! Severity of log messages.

use crate::wire::json;

macro_rules! levels {
    ($($(#[$doc:meta])* $level:ident = $name:literal;)*) => {
        /// How severe a log message is, least severe first (RFC 5424 section 6.2.1).
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
        pub enum Level { $($(#[$doc])* $level,)* }

        impl Level {
            /// Every level, least severe first.
            pub const ALL: &'static [Self] = &[$(Self::$level,)*];

            /// The level of this name.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> { match text { $($name => Some(Self::$level),)* _ => None } }

            /// Its name on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str { match self { $(Self::$level => $name,)* } }
        }
    };
}

levels! {
    /// For those who look for errors.
    Debug = "debug";
    /// All is as it should be.
    Info = "info";
    /// As it should be, and worth knowing.
    Notice = "notice";
    /// May become an error.
    Warning = "warning";
    /// Something failed.
    Error = "error";
    /// A part failed.
    Critical = "critical";
    /// Somebody must act now.
    Alert = "alert";
    /// Nothing works.
    Emergency = "emergency";
}

impl Level {
    /// The level that a raw JSON string names.
    #[must_use]
    pub fn from_raw(raw: &[u8]) -> Option<Self> {
        Self::parse(&json::string(raw)?)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn levels_read_back_and_are_ordered() {
        for &level in Level::ALL {
            assert_eq!(Level::parse(level.as_str()), Some(level));
        }
        assert!(Level::ALL.is_sorted());
        assert!(Level::Emergency > Level::Debug);
        assert_eq!(Level::from_raw(br#""warn\u0069ng""#), Some(Level::Warning));
        assert_eq!(Level::from_raw(b"\"WARNING\""), None);
        assert_eq!(Level::from_raw(b"3"), None);
    }
}
