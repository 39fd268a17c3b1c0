//! The validating scanner: one pass, no recursion, no heap.

use crate::base::limits::JSON_DEPTH_MAX;

// The kinds of the open containers are kept as one bit each.
const _: () = assert!(JSON_DEPTH_MAX <= u128::BITS as usize, "a level of nesting needs its bit");

/// Why a text is not JSON.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed {
    /// Where, bytes from the start.
    pub at: usize,
    /// What is wrong there.
    pub why: &'static str,
}

/// Checks that `text` is exactly one JSON value (RFC 8259 section 2) in UTF-8.
///
/// # Errors
/// The first place where it is not.
pub fn validate(text: &[u8]) -> Result<(), Malformed> {
    utf8(text)?;
    let mut scan = Scanner::new(text);
    scan.value(JSON_DEPTH_MAX)?;
    scan.end()
}

/// The text as UTF-8 (RFC 8259 section 8.1).
pub(in crate::wire) fn utf8(text: &[u8]) -> Result<&str, Malformed> {
    match simdutf8::basic::from_utf8(text) {
        Ok(text) => Ok(text),
        Err(_) => Err(Malformed { at: text.utf8_chunks().next().map_or(0, |chunk| chunk.valid().len()), why: "the text is not UTF-8" }),
    }
}

/// A position in a text. Every step checks what it passes over.
///
/// Bytes beyond the end read as NUL, which no rule of the grammar accepts: so the end needs no check of its own.
#[derive(Clone)]
pub(in crate::wire) struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    pub(in crate::wire) const fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    /// Bytes passed so far.
    #[inline]
    pub(in crate::wire) const fn at(&self) -> usize {
        self.at
    }

    /// What was passed since `start`.
    #[inline]
    pub(in crate::wire) fn since(&self, start: usize) -> &'a [u8] {
        self.text.get(start..self.at).unwrap_or_default()
    }

    /// What is still to be passed.
    #[inline]
    pub(in crate::wire) fn rest(&self) -> &'a [u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// Passes a value of this length that is known to be valid.
    #[inline]
    pub(in crate::wire) const fn skip(&mut self, len: usize) {
        self.at += len;
    }

    #[inline(always)]
    fn byte(&self, at: usize) -> u8 {
        self.text.get(at).copied().unwrap_or(0)
    }

    #[cold]
    #[inline(never)]
    const fn malformed<T>(&self, why: &'static str) -> Result<T, Malformed> {
        Err(Malformed { at: self.at, why })
    }

    /// Passes white space; the byte that follows.
    #[inline(always)]
    pub(in crate::wire) fn next(&mut self) -> u8 {
        let byte = self.byte(self.at);
        if byte > b' ' { byte } else { self.next_after_space() }
    }

    fn next_after_space(&mut self) -> u8 {
        loop {
            match self.byte(self.at) {
                b' ' | b'\n' | b'\r' | b'\t' => self.at += 1,
                byte => return byte,
            }
        }
    }

    /// Passes the byte that [`Scanner::next`] showed.
    #[inline(always)]
    pub(in crate::wire) fn pass(&mut self) {
        self.at += 1;
    }

    /// Passes white space up to the end of the text.
    ///
    /// # Errors
    /// There is something else.
    pub(in crate::wire) fn end(&mut self) -> Result<(), Malformed> {
        self.next();
        if self.at == self.text.len() { Ok(()) } else { self.malformed("there is something after the value") }
    }

    /// Passes a member's name and its colon; the name as it stands between the quotes, and whether it has escapes.
    #[inline(always)]
    pub(in crate::wire) fn key(&mut self) -> Result<(&'a [u8], bool), Malformed> {
        if self.next() != b'"' {
            return self.malformed("a member's name is missing");
        }
        let start = self.at + 1;
        let escaped = self.string()?;
        let key = self.text.get(start..self.at.wrapping_sub(1)).unwrap_or_default();
        if self.next() != b':' {
            return self.malformed("the colon after a member's name is missing");
        }
        self.pass();
        Ok((key, escaped))
    }

    /// Passes a comma (true) or the end of an object (false).
    #[inline(always)]
    pub(in crate::wire) fn more_members(&mut self) -> Result<bool, Malformed> {
        let byte = self.next();
        if byte == b',' || byte == b'}' {
            self.pass();
            return Ok(byte == b',');
        }
        self.malformed("a comma or the end of the object is missing")
    }

    /// Passes the start of an object that [`Scanner::next`] showed; whether it has members.
    #[inline(always)]
    pub(in crate::wire) fn open_object(&mut self) -> bool {
        self.pass();
        if self.next() == b'}' {
            self.pass();
            return false;
        }
        true
    }

    /// Passes white space and one value that nests at most `room` levels.
    #[inline(always)]
    pub(in crate::wire) fn value(&mut self, room: usize) -> Result<(), Malformed> {
        match self.next() {
            b'"' => self.string().map(|_| ()),
            b'{' | b'[' => self.container(room),
            _ => self.scalar(),
        }
    }

    /// Passes a number, `true`, `false` or `null`.
    #[inline]
    fn scalar(&mut self) -> Result<(), Malformed> {
        match self.byte(self.at) {
            b'-' | b'0'..=b'9' => self.number(),
            b't' => self.literal(b"true"),
            b'f' => self.literal(b"false"),
            b'n' => self.literal(b"null"),
            _ => self.malformed("a value is missing"),
        }
    }

    fn literal(&mut self, word: &'static [u8]) -> Result<(), Malformed> {
        if self.text.get(self.at..).is_some_and(|rest| rest.starts_with(word)) {
            self.at += word.len();
            return Ok(());
        }
        self.malformed("a value is missing")
    }

    /// Passes an array or object: a loop over the values in it, with the kinds of the open containers as bits.
    fn container(&mut self, room: usize) -> Result<(), Malformed> {
        let mut objects: u128 = 0;
        let mut depth: usize = 0;
        loop {
            match self.next() {
                b'"' => {
                    self.string()?;
                }
                open @ (b'{' | b'[') => {
                    if depth >= room {
                        return self.malformed("the nesting is too deep");
                    }
                    self.pass();
                    let object = open == b'{';
                    if self.next() == if object { b'}' } else { b']' } {
                        self.pass();
                    } else {
                        objects = objects << 1 | u128::from(object);
                        depth += 1;
                        if object {
                            self.key()?;
                        }
                        continue;
                    }
                }
                _ => self.scalar()?,
            }
            // A value has ended: close what ends with it, then go on to the next value.
            loop {
                if depth == 0 {
                    return Ok(());
                }
                let object = objects & 1 == 1;
                match self.next() {
                    b',' => {
                        self.pass();
                        if object {
                            self.key()?;
                        }
                        break;
                    }
                    b'}' if object => {}
                    b']' if !object => {}
                    _ => return self.malformed("a comma or the end of the array or object is missing"),
                }
                self.pass();
                objects >>= 1;
                depth -= 1;
            }
        }
    }

    /// Passes a number (RFC 8259 section 6).
    fn number(&mut self) -> Result<(), Malformed> {
        if self.byte(self.at) == b'-' {
            self.at += 1;
        }
        if self.byte(self.at) == b'0' {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.byte(self.at) == b'.' {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.byte(self.at), b'e' | b'E') {
            self.at += 1;
            if matches!(self.byte(self.at), b'+' | b'-') {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Malformed> {
        let start = self.at;
        while self.byte(self.at).is_ascii_digit() {
            self.at += 1;
        }
        if self.at == start { self.malformed("a number lacks a digit") } else { Ok(()) }
    }

    /// Passes a string that [`Scanner::next`] showed; whether it has escapes.
    #[inline(always)]
    fn string(&mut self) -> Result<bool, Malformed> {
        self.at = plain_until(self.text, self.at + 1);
        if self.byte(self.at) == b'"' {
            self.at += 1;
            return Ok(false);
        }
        self.string_with_escapes()
    }

    #[inline(never)]
    fn string_with_escapes(&mut self) -> Result<bool, Malformed> {
        loop {
            match self.byte(self.at) {
                b'"' => {
                    self.at += 1;
                    return Ok(true);
                }
                b'\\' => self.escape()?,
                _ if self.at >= self.text.len() => return self.malformed("a string does not end"),
                _ => return self.malformed("a control character in a string"),
            }
            self.at = plain_until(self.text, self.at);
        }
    }

    fn escape(&mut self) -> Result<(), Malformed> {
        match self.byte(self.at + 1) {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {
                self.at += 2;
                Ok(())
            }
            b'u' if (2..6).all(|ahead| self.byte(self.at + ahead).is_ascii_hexdigit()) => {
                self.at += 6;
                Ok(())
            }
            _ => self.malformed("an escape that does not exist"),
        }
    }
}

/// The first place from `at` on that is not plain text of a string: a quote, a backslash, a control character, or the end.
#[inline(always)]
pub(super) fn plain_until(text: &[u8], mut at: usize) -> usize {
    while let Some(eight) = text.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let found = special(u64::from_le_bytes(*eight));
        if found != 0 {
            return at + (found.trailing_zeros() >> 3) as usize;
        }
        at += 8;
    }
    while text.get(at).is_some_and(|&byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
        at += 1;
    }
    at
}

/// Marks, in the high bit of each byte of `word`, the bytes that end plain text. The lowest mark is exact: a borrow can only spoil
/// the bytes above a true one.
#[inline(always)]
const fn special(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 255;
    let quote = word ^ (ONES * b'"' as u64);
    let backslash = word ^ (ONES * b'\\' as u64);
    let is_quote = quote.wrapping_sub(ONES) & !quote;
    let is_backslash = backslash.wrapping_sub(ONES) & !backslash;
    let is_control = word.wrapping_sub(ONES * b' ' as u64) & !word;
    (is_quote | is_backslash | is_control) & (ONES << 7)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_ends_plain_text_exactly_when_it_must() {
        for byte in 0..=u8::MAX {
            for place in 0..20 {
                let mut text = [b'a'; 20];
                text[place] = byte;
                let ends = byte < b' ' || byte == b'"' || byte == b'\\';
                assert_eq!(plain_until(&text, 0), if ends { place } else { 20 }, "{byte} at {place}");
            }
        }
    }

    #[test]
    fn the_depth_limit_is_exact() {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let nested = |levels: usize| format!("{}0{}", open.repeat(levels), close.repeat(levels));
            assert_eq!(validate(nested(JSON_DEPTH_MAX).as_bytes()), Ok(()));
            assert_eq!(validate(nested(JSON_DEPTH_MAX + 1).as_bytes()).unwrap_err().why, "the nesting is too deep");
        }
        let empty = format!("{}{}", "[".repeat(JSON_DEPTH_MAX + 1), "]".repeat(JSON_DEPTH_MAX + 1));
        assert!(validate(empty.as_bytes()).is_err());
    }

    #[test]
    fn every_cut_of_a_text_is_refused() {
        let text = br#" {"a":[1,-0.5e+3,true,false,null,"x\"\u00e9\\",{}],"long enough for a word":{"b":[]}} "#;
        assert_eq!(validate(text), Ok(()));
        for end in 0..text.len() - 1 {
            assert!(validate(&text[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn a_fault_names_its_place() {
        assert_eq!(validate(b"[1,]"), Err(Malformed { at: 3, why: "a value is missing" }));
        assert_eq!(validate(b"\"a\nb\""), Err(Malformed { at: 2, why: "a control character in a string" }));
        assert_eq!(validate(b"[\"\xff\"]"), Err(Malformed { at: 2, why: "the text is not UTF-8" }));
    }
}
