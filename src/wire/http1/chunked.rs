//! The chunked transfer coding (RFC 9112 section 7.1): chunk lines, and joining a body that the framer found whole.

use super::field::trim;
use crate::base::fault::Kind;

/// Most hexadecimal digits of a chunk size, leading zeros included.
const SIZE_DIGITS_MAX: usize = 16;
/// Longest chunk line (size and extensions, without CRLF), bytes.
pub(super) const LINE_BYTES_MAX: usize = SIZE_DIGITS_MAX + 256;

/// Reads a chunk line (without its CRLF) to the size it announces. Extensions are let pass
/// unread (section 7.1.1); the framer has found them free of control bytes.
pub(super) fn size(line: &[u8]) -> Result<usize, Kind> {
    let digits_len = line.iter().position(|b| !b.is_ascii_hexdigit()).unwrap_or(line.len());
    let (digits, extensions) = line.split_at_checked(digits_len).ok_or(Kind::BadHttp)?;
    let is_bounded = (1..=SIZE_DIGITS_MAX).contains(&digits_len) && line.len() <= LINE_BYTES_MAX;
    let is_extended = extensions.is_empty() || trim(extensions).starts_with(b";");
    if !is_bounded || !is_extended {
        return Err(Kind::BadHttp);
    }
    let digits = std::str::from_utf8(digits).map_err(|_| Kind::BadHttp)?;
    usize::from_str_radix(digits, 16).map_err(|_| Kind::BadHttp)
}

/// Appends the data of a chunked body to `body`. `raw` begins with the first chunk line; whatever follows the last chunk is not looked at.
pub(super) fn join(mut raw: &[u8], body: &mut Vec<u8>) -> Result<(), Kind> {
    // Its framing makes a chunked body longer than its data.
    body.reserve(raw.len());
    loop {
        let line_len = memchr::memchr(b'\n', raw).ok_or(Kind::BadHttp)?;
        let (line, rest) = raw.split_at_checked(line_len).ok_or(Kind::BadHttp)?;
        let size = size(line.strip_suffix(b"\r").ok_or(Kind::BadHttp)?)?;
        if size == 0 {
            return Ok(());
        }
        let [_, rest @ ..] = rest else { return Err(Kind::BadHttp) };
        let (data, rest) = rest.split_at_checked(size).ok_or(Kind::BadHttp)?;
        body.extend_from_slice(data);
        raw = rest.strip_prefix(b"\r\n").ok_or(Kind::BadHttp)?;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

    use super::*;

    #[test]
    fn a_chunk_line_is_hexadecimal_with_extensions() {
        for (line, expected) in [
            ("0", 0),
            ("a", 10),
            ("Ff", 255),
            ("0000000000000010", 16),
            ("5;a", 5),
            ("5 ; a=\"b c\"", 5),
            ("5\t;x", 5),
            ("ffffffffffffffff", usize::MAX),
        ] {
            assert_eq!(size(line.as_bytes()), Ok(expected), "{line}");
        }
        for bad in ["", "g", "-1", "+1", "0x5", "5 ", " 5", "5 5", "5,", "10000000000000000", "00000000000000005", ";a"] {
            assert_eq!(size(bad.as_bytes()), Err(Kind::BadHttp), "{bad:?}");
        }
        assert_eq!(size(format!("5;{}", "x".repeat(LINE_BYTES_MAX)).as_bytes()), Err(Kind::BadHttp));
    }

    #[test]
    fn chunks_are_joined() {
        let mut body = Vec::new();
        assert_eq!(join(b"3;x=y\r\nabc\r\n2\r\n\r\n\r\n0\r\nTrailer: x\r\n\r\n", &mut body), Ok(()));
        assert_eq!(body, b"abc\r\n");
        for bad in [&b"3\r\nab"[..], b"3\nabc\r\n0\r\n\r\n", b"3\r\nabcd\r\n0\r\n\r\n", b"3\r\nabc\r\n", b"3", b""] {
            assert_eq!(join(bad, &mut Vec::new()), Err(Kind::BadHttp), "{}", bad.escape_ascii());
        }
    }
}
