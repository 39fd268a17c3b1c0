//! Streams of events: cuts do not matter, memory is bounded, and what the writer writes is what the parser reads.

use ringhub::wire::sse::{Parser, TooLong, event};

const BYTES_MAX: usize = 256;

type Given = (Vec<u8>, Vec<u8>, Vec<u8>);

/// Runs one input.
pub fn run(data: &[u8]) {
    let whole = read(&mut Parser::new(BYTES_MAX), [data]);
    for piece_len in [1, 2, 3, 7] {
        assert_eq!(read(&mut Parser::new(BYTES_MAX), data.chunks(piece_len)), whole, "in pieces of {piece_len}");
    }
    written_and_read(data);
}

fn read<'i>(parser: &mut Parser, pieces: impl IntoIterator<Item = &'i [u8]>) -> (Vec<Given>, Result<(), TooLong>, Vec<u8>, Option<u64>) {
    let mut events = Vec::new();
    let mut result = Ok(());
    'pieces: for mut piece in pieces {
        loop {
            match parser.next(&mut piece) {
                Ok(Some(event)) => events.push((event.name.to_owned(), event.data.to_owned(), event.id.to_owned())),
                Ok(None) => break,
                Err(error) => {
                    result = Err(error);
                    break 'pieces;
                }
            }
        }
        assert!(piece.is_empty());
    }
    (events, result, parser.last_id().to_owned(), parser.retry_ms())
}

fn written_and_read(data: &[u8]) {
    let (id, text) = data.split_at(data.len().min(4));
    let mut out = Vec::new();
    event(&mut out, Some(id), text);
    let (events, result, ..) = read(&mut Parser::new(2 * out.len()), [&out[..]]);
    assert_eq!(result, Ok(()));
    let [(name, read_text, read_id)] = &events[..] else { panic!("{} events", events.len()) };
    assert_eq!(name, b"message");
    assert_eq!(read_text, &lines(text));
    assert!(read_id == id || (read_id.is_empty() && id.iter().any(|b| matches!(b, 0 | b'\r' | b'\n'))));
}

/// The text with every line break as LF.
fn lines(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut after_cr = false;
    for &byte in text {
        if !(after_cr && byte == b'\n') {
            out.push(if byte == b'\r' { b'\n' } else { byte });
        }
        after_cr = byte == b'\r';
    }
    out
}
