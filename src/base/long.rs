//! Buffers of messages that may turn out to be long.

use super::limits::LINK_LONG_BYTES;

/// Appends `piece` to a buffer that never holds more than `bytes_max`.
///
/// Once the message is long, the buffer gets all the room that it can ever need: to double as it fills would copy megabytes, and touch as many
/// pages for the first time, within one turn. Room that is not written to is no memory yet.
pub(crate) fn extend(buffer: &mut Vec<u8>, piece: &[u8], bytes_max: usize) {
    let length = buffer.len() + piece.len();
    if length > buffer.capacity() && length > LINK_LONG_BYTES {
        buffer.reserve_exact(bytes_max.max(length) - buffer.len());
    }
    buffer.extend_from_slice(piece);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_moves_once() {
        const MAX: usize = LINK_LONG_BYTES * 8;
        let mut buffer = Vec::new();
        let piece = [7; 1000];
        while buffer.len() + piece.len() <= LINK_LONG_BYTES {
            extend(&mut buffer, &piece, MAX);
        }
        assert!(buffer.capacity() <= 2 * LINK_LONG_BYTES, "a message that is not long yet takes no more than that");
        buffer.shrink_to_fit();
        extend(&mut buffer, &piece, MAX);
        let (place, capacity) = (buffer.as_ptr(), buffer.capacity());
        assert!((MAX..MAX + LINK_LONG_BYTES).contains(&capacity));
        while buffer.len() + piece.len() <= MAX {
            extend(&mut buffer, &piece, MAX);
        }
        assert_eq!((buffer.as_ptr(), buffer.capacity()), (place, capacity));
        assert!(buffer.iter().all(|byte| *byte == 7));
    }
}
