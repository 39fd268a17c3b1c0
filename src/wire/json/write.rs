//! Writing JSON into a buffer.

use super::scan::plain_until;

/// Appends `text` as a JSON string with its quotes. Only what must be escaped is (RFC 8259 section 7); the spans between are copied whole.
pub fn write_str(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    out.reserve(bytes.len() + 2);
    out.push(b'"');
    let mut from = 0;
    loop {
        let until = plain_until(bytes, from);
        out.extend_from_slice(bytes.get(from..until).unwrap_or_default());
        let Some(&byte) = bytes.get(until) else { break };
        write_escape(out, byte);
        from = until + 1;
    }
    out.push(b'"');
}

fn write_escape(out: &mut Vec<u8>, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let short = match byte {
        b'"' => b'"',
        b'\\' => b'\\',
        0x08 => b'b',
        0x0C => b'f',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        _ => {
            out.extend_from_slice(b"\\u00");
            out.extend([byte >> 4, byte & 15].iter().filter_map(|&digit| HEX.get(usize::from(digit))));
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

/// Appends an integer.
pub fn write_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends an array: what `write` makes of each item.
pub fn write_array<T>(out: &mut Vec<u8>, items: impl IntoIterator<Item = T>, mut write: impl FnMut(&mut Vec<u8>, T)) {
    out.push(b'[');
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(b']');
}

/// Appends an integer.
pub fn write_i64(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends the shortest number that reads back as `value`; `null` for what JSON has no number for (infinities, not-a-number).
pub fn write_f64(out: &mut Vec<u8>, value: f64) {
    // Writing into a Vec cannot fail, and a float is a scalar: there is no error to lose.
    let written = serde_json::to_writer(&mut *out, &value);
    debug_assert!(written.is_ok(), "writing into memory does not fail");
}

/// Appends `true` or `false`.
pub fn write_bool(out: &mut Vec<u8>, value: bool) {
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn strings_are_written_as_serde_json_writes_them() {
        let every: String = (0..=0x250).filter_map(char::from_u32).collect();
        for text in ["", "a", "seven b", "eight by", "nine byte", "\"", "a\\b\nc", "\u{1F600}\u{2028}", every.as_str()] {
            assert_eq!(written(|out| write_str(out, text)), serde_json::to_string(text).unwrap());
        }
    }

    #[test]
    fn numbers_read_back() {
        for value in [0.0, -0.0, 0.1, 1.0, -1.5e300, 5e-324, f64::MAX, 123_456_789.123] {
            let text = written(|out| write_f64(out, value));
            assert_eq!(text.parse::<f64>().unwrap().to_bits(), value.to_bits(), "{text}");
            assert_eq!(crate::wire::json::validate(text.as_bytes()), Ok(()));
        }
        assert_eq!(written(|out| write_f64(out, f64::NAN)), "null");
        assert_eq!(written(|out| write_f64(out, f64::INFINITY)), "null");
        assert_eq!(written(|out| write_u64(out, u64::MAX)), u64::MAX.to_string());
        assert_eq!(written(|out| write_i64(out, i64::MIN)), i64::MIN.to_string());
        assert_eq!(written(|out| write_bool(out, true)), "true");
    }
}
