//! Header and trailer fields: their syntax, and the values that decide the framing.

use crate::base::fault::Kind;

/// Whether each byte may stand in a token (RFC 9110 section 5.6.2).
#[expect(clippy::indexing_slicing, reason = "evaluated when compiled: an index out of bounds is an error there")]
const TCHAR: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let others = b"!#$%&'*+-.^_`|~";
    let mut i = 0;
    while i < others.len() {
        table[others[i] as usize] = true;
        i += 1;
    }
    table
};

/// Whether the byte may stand in a token.
#[expect(clippy::indexing_slicing, reason = "a u8 cannot miss a table of 256")]
pub(super) const fn is_tchar(byte: u8) -> bool {
    TCHAR[byte as usize]
}

/// The place of the first `wanted` byte. Eight bytes at a time.
pub(super) fn find_byte(wanted: u8, bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::MAX / 0xff;
    const HIGHS: u64 = ONES * 0x80;
    let (words, tail) = bytes.as_chunks::<8>();
    for (i, word) in words.iter().enumerate() {
        let differing = u64::from_le_bytes(*word) ^ (ONES * u64::from(wanted));
        // The lowest mark is right, as in `find_control`.
        let marks = differing.wrapping_sub(ONES) & !differing & HIGHS;
        if marks != 0 {
            return Some(i * 8 + marks.trailing_zeros() as usize / 8);
        }
    }
    tail.iter().position(|&byte| byte == wanted).map(|at| words.len() * 8 + at)
}

/// The place of the first control byte (RFC 5234 CTL, so HTAB, CR and LF too). Eight bytes at a time.
pub(super) fn find_control(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::MAX / 0xff;
    const HIGHS: u64 = ONES * 0x80;
    let (words, tail) = bytes.as_chunks::<8>();
    for (i, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let not_del = word ^ (ONES * 0x7f);
        // A borrow can mark a byte wrongly only above one that is marked rightly: the lowest mark is right.
        let marks = ((word.wrapping_sub(ONES * 0x20) & !word) | (not_del.wrapping_sub(ONES) & !not_del)) & HIGHS;
        if marks != 0 {
            return Some(i * 8 + marks.trailing_zeros() as usize / 8);
        }
    }
    tail.iter().position(u8::is_ascii_control).map(|at| words.len() * 8 + at)
}

/// Removes optional white space (RFC 9110 section 5.6.3) from both ends.
pub(super) const fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// Splits a field line (without its CRLF, and without control bytes but HTAB) into name and value (RFC 9112 section 5).
///
/// An obs-fold, an empty name and white space before the colon all fail, since none of them is a token up to the colon.
pub(super) fn split(line: &[u8]) -> Result<(&[u8], &[u8]), Kind> {
    let name_len = line.iter().position(|&b| !is_tchar(b)).unwrap_or(line.len());
    let Some((name, [b':', value @ ..])) = line.split_at_checked(name_len) else { return Err(Kind::BadHttp) };
    if name.is_empty() { Err(Kind::BadHttp) } else { Ok((name, value)) }
}

/// The elements of a list-valued field, trimmed, empty ones left out (RFC 9110 section 5.6.1.2). Not for values with quoted strings.
pub(super) fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&b| b == b',').map(trim).filter(|element| !element.is_empty())
}

/// One trimmed Content-Length (RFC 9110 section 8.6): digits alone. A list, even of equal numbers, is refused.
pub(super) fn content_length(value: &[u8]) -> Result<usize, Kind> {
    if value.is_empty() {
        return Err(Kind::BadHttp);
    }
    value.iter().try_fold(0_usize, |total, &digit| {
        let digit = usize::from(digit.wrapping_sub(b'0'));
        if digit > 9 {
            return Err(Kind::BadHttp);
        }
        total.checked_mul(10).and_then(|t| t.checked_add(digit)).ok_or(Kind::BadHttp)
    })
}

/// Checks a trimmed Transfer-Encoding: `Ok` when it is exactly `chunked`. A request whose last coding is not `chunked` has no
/// certain length and is malformed (RFC 9112 section 6.3); codings below a final `chunked` are merely unknown here (section 6.1).
pub(super) fn transfer_encoding(value: &[u8]) -> Result<(), Kind> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let mut codings = value.rsplit(|&b| b == b',').map(trim);
    let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    if !codings.next().is_some_and(is_chunked) {
        return Err(Kind::BadHttp);
    }
    if codings.any(|coding| coding.is_empty() || is_chunked(coding)) { Err(Kind::BadHttp) } else { Err(Kind::UnknownCoding) }
}

/// Whether it is `uri-host [ ":" port ]` (RFC 9110 section 7.2). Commas are refused although a reg-name may have them: they make lists.
pub(super) fn is_host(value: &[u8]) -> bool {
    let after_host = match value {
        [b'[', literal @ ..] => {
            let Some(end) = memchr::memchr(b']', literal) else { return false };
            let Some((address, [_, after @ ..])) = literal.split_at_checked(end) else { return false };
            if address.is_empty() || !address.iter().all(|&b| is_reg_name_byte(b) || b == b':') {
                return false;
            }
            after
        }
        name => {
            let end = name.iter().position(|&b| !is_reg_name_byte(b)).unwrap_or(name.len());
            name.get(end..).unwrap_or_default()
        }
    };
    match after_host {
        [] => true,
        [b':', port @ ..] => port.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

/// Whether each byte may stand in a reg-name (RFC 3986 section 3.2.2), the comma aside.
#[expect(clippy::indexing_slicing, reason = "evaluated when compiled: an index out of bounds is an error there")]
const REG_NAME: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let others = b"-._~%!$&'()*+;=";
    let mut i = 0;
    while i < others.len() {
        table[others[i] as usize] = true;
        i += 1;
    }
    table
};

#[expect(clippy::indexing_slicing, reason = "a u8 cannot miss a table of 256")]
const fn is_reg_name_byte(byte: u8) -> bool {
    REG_NAME[byte as usize]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

    use super::*;

    #[test]
    fn bytes_are_found_where_they_are() {
        for len in 0..40 {
            for at in 0..len {
                let mut bytes = vec![b';'; len];
                assert_eq!((find_byte(b':', &bytes), find_control(&bytes)), (None, None));
                bytes[at..].fill(b':');
                assert_eq!(find_byte(b':', &bytes), Some(at), "{len}");
                bytes[at..].fill(b'\r');
                assert_eq!(find_control(&bytes), Some(at), "{len}");
            }
        }
    }

    #[test]
    fn a_field_line_is_a_token_a_colon_and_a_value() {
        assert_eq!(split(b"A-b: \t x y \t"), Ok((&b"A-b"[..], &b" \t x y \t"[..])));
        assert_eq!(trim(b" \t x y \t"), b"x y");
        assert_eq!(split(b"a:"), Ok((&b"a"[..], &b""[..])));
        assert_eq!(split(b"a:\xc3\xa9"), Ok((&b"a"[..], &b"\xc3\xa9"[..])));
        for bad in [&b""[..], b"a", b":x", b" a: x", b"\ta: x", b"a : x", b"a\t: x", b"a\0: x", b"a\xff: x", b"a(b): x"] {
            assert_eq!(split(bad), Err(Kind::BadHttp), "{:?}", bad.escape_ascii().to_string());
        }
    }

    #[test]
    fn every_control_byte_is_found_at_its_place() {
        for byte in 0..=u8::MAX {
            for at in 0..20 {
                let mut bytes = *b" ~\xff\x80!azAZ09 ~\xff\x80!azAZ";
                bytes[at] = byte;
                assert_eq!(find_control(&bytes), byte.is_ascii_control().then_some(at), "{byte:#x} at {at}");
                bytes[19] = 0;
                assert_eq!(find_control(&bytes), Some(if byte.is_ascii_control() { at } else { 19 }), "{byte:#x} at {at}");
            }
        }
        assert_eq!(find_control(b""), None);
    }

    #[test]
    fn content_length_is_digits_alone() {
        assert_eq!(content_length(b"0"), Ok(0));
        assert_eq!(content_length(b"0042"), Ok(42));
        assert_eq!(content_length(b"18446744073709551615"), Ok(usize::MAX));
        for bad in
            [&b""[..], b"+1", b"-1", b"1 2", b"1,1", b"1, 1", b"0x10", b"1.0", b"18446744073709551616", b"99999999999999999999999999"]
        {
            assert_eq!(content_length(bad), Err(Kind::BadHttp), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn only_chunked_is_a_transfer_coding() {
        assert_eq!(transfer_encoding(b"chunked"), Ok(()));
        assert_eq!(transfer_encoding(b"Chunked"), Ok(()));
        assert_eq!(transfer_encoding(b"gzip, chunked"), Err(Kind::UnknownCoding));
        assert_eq!(transfer_encoding(b"a, b,chunked"), Err(Kind::UnknownCoding));
        for bad in [
            &b""[..],
            b"gzip",
            b"identity",
            b"chunked, gzip",
            b"chunked, chunked",
            b"chunked,",
            b",chunked",
            b"xchunked",
            b"chunked;q=1",
            b"\"chunked\"",
            b"chun ked",
        ] {
            assert_eq!(transfer_encoding(bad), Err(Kind::BadHttp), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn a_host_is_a_name_or_an_address_and_a_port() {
        for good in ["", "localhost", "a.example:8080", "a:", "127.0.0.1:1", "[::1]", "[::1]:80", "[fe80::1%25eth0]:1", "x_y"] {
            assert!(is_host(good.as_bytes()), "{good}");
        }
        for bad in ["a b", "a,b", "a:b", "a:1:2", "[]", "[::1", "[::1]x", "u@h", "a/b", "a?b", "a#b", "a\\b", "::1", "a\u{e9}"] {
            assert!(!is_host(bad.as_bytes()), "{bad}");
        }
    }
}
