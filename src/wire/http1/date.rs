//! The Date field's text, formatted once a second.

use std::io::Write as _;
use std::time::{Duration, UNIX_EPOCH};

/// Latest moment that IMF-fixdate can write: the end of the year 9999, seconds since the Unix epoch.
const SECOND_MAX: u64 = 253_402_300_799;

/// IMF-fixdate (RFC 9110 section 5.6.7) of the current second.
#[derive(Clone, Debug)]
pub struct DateCache {
    second: u64,
    text: [u8; 29],
}

impl Default for DateCache {
    fn default() -> Self {
        Self { second: 0, text: *b"Thu, 01 Jan 1970 00:00:00 GMT" }
    }
}

impl DateCache {
    /// The text for this moment, given in milliseconds since the Unix epoch.
    pub fn at(&mut self, wall_ms: u64) -> &[u8; 29] {
        let second = (wall_ms / 1000).min(SECOND_MAX);
        if second != self.second {
            self.second = second;
            let date = httpdate::HttpDate::from(UNIX_EPOCH + Duration::from_secs(second));
            // The text has 29 bytes by its grammar: writing it into as many cannot fail.
            let written = write!(&mut self.text[..], "{date}");
            debug_assert!(written.is_ok(), "IMF-fixdate is 29 bytes long");
        }
        &self.text
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

    use super::*;

    #[test]
    fn the_text_follows_the_second() {
        let mut cache = DateCache::default();
        assert_eq!(cache.at(999), b"Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(cache.at(784_111_777_000), b"Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(cache.at(784_111_777_999), b"Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(cache.at(784_111_778_000), b"Sun, 06 Nov 1994 08:49:38 GMT");
        assert_eq!(cache.at(u64::MAX), b"Fri, 31 Dec 9999 23:59:59 GMT");
    }
}
