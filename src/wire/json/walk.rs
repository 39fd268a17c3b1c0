//! Walking the members of a raw object and the elements of a raw array. Nothing is copied.

use crate::base::limits::JSON_DEPTH_MAX;
use crate::wire::json::{Scanner, key_is};

/// The members of a raw object: (name with its quotes, value), both raw. Empty when `raw` is not an object; ends at the first thing
/// that is not JSON.
#[must_use]
pub fn members(raw: &[u8]) -> Members<'_> {
    let mut scan = Scanner::new(raw);
    let more = scan.next() == b'{' && scan.open_object();
    Members { scan, more }
}

/// See [`members`].
#[derive(Clone)]
pub struct Members<'a> {
    scan: Scanner<'a>,
    more: bool,
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        if !std::mem::take(&mut self.more) {
            return None;
        }
        self.scan.next();
        let start = self.scan.at();
        let (inner, _) = self.scan.key().ok()?;
        let after_key = self.scan.since(start);
        let key = after_key.get(..inner.len() + 2)?;
        self.scan.next();
        let start = self.scan.at();
        self.scan.value(JSON_DEPTH_MAX).ok()?;
        let value = self.scan.since(start);
        self.more = self.scan.more_members().unwrap_or(false);
        Some((key, value))
    }
}

/// The elements of a raw array, raw. Empty when `raw` is not an array; ends at the first thing that is not JSON.
#[must_use]
pub fn elements(raw: &[u8]) -> Elements<'_> {
    let mut scan = Scanner::new(raw);
    let mut more = scan.next() == b'[';
    if more {
        scan.pass();
        more = scan.next() != b']';
    }
    Elements { scan, more }
}

/// See [`elements`].
#[derive(Clone)]
pub struct Elements<'a> {
    scan: Scanner<'a>,
    more: bool,
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<Self::Item> {
        if !std::mem::take(&mut self.more) {
            return None;
        }
        self.scan.next();
        let start = self.scan.at();
        self.scan.value(JSON_DEPTH_MAX).ok()?;
        let value = self.scan.since(start);
        self.more = self.scan.next() == b',';
        if self.more {
            self.scan.pass();
        }
        Some(value)
    }
}

/// The first member of a raw object that is called `name`, raw. Names that [`parse`](crate::wire::jsonrpc::parse) locates come once.
#[must_use]
pub fn get<'a>(raw: &'a [u8], name: &str) -> Option<&'a [u8]> {
    members(raw).find(|(key, _)| key_is(key, name)).map(|(_, value)| value)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn members_and_elements_are_raw() {
        let raw = br#" { "a" : 1 , "\u0062":[ 2,{"c":3} ] , "d":"x,}" } "#;
        let found: Vec<_> = members(raw).collect();
        assert_eq!(found, [(&b"\"a\""[..], &b"1"[..]), (b"\"\\u0062\"", b"[ 2,{\"c\":3} ]"), (b"\"d\"", b"\"x,}\"")]);
        assert_eq!(get(raw, "b"), Some(&b"[ 2,{\"c\":3} ]"[..]));
        assert_eq!(get(raw, "c"), None);
        assert_eq!(elements(b"[ 2,{\"c\":3} ,[]]").collect::<Vec<_>>(), [&b"2"[..], b"{\"c\":3}", b"[]"]);
    }

    #[test]
    fn what_is_no_container_is_empty() {
        for raw in [&b""[..], b"1", b"[1]", b"{}", b"\"{\""] {
            assert_eq!(members(raw).count(), 0);
        }
        for raw in [&b""[..], b"1", b"{\"a\":1}", b"[]"] {
            assert_eq!(elements(raw).count(), 0);
        }
        assert_eq!(members(b"{\"a\":1,\"b\"").count(), 1);
        assert_eq!(elements(b"[1,").count(), 1);
    }
}
