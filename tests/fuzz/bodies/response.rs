//! HTTP/1.1 responses: however the bytes are delivered the same is read, memory is bounded, and what was understood can be said again.

use ringhub::wire::http1::{Broken, Part, ResponseReader};

/// What is read of one stream, in order.
#[derive(Debug, PartialEq, Eq)]
enum Read {
    Head { status: u16, media: String, fields: Vec<(String, Vec<u8>)> },
    Body(Vec<u8>),
    End { keeps_alive: bool },
    Broken(Broken),
    Left { is_idle: bool, end: Result<(), Broken> },
}

/// Runs one input.
pub fn run(data: &[u8]) {
    let whole = read([data]);
    for piece_len in [1, 2, 3, 7, 64] {
        assert_eq!(read(data.chunks(piece_len)), whole, "in pieces of {piece_len}");
    }
    said_again(&whole);
}

fn read<'i>(pieces: impl IntoIterator<Item = &'i [u8]>) -> Vec<Read> {
    let (mut reader, mut all) = (ResponseReader::new(), Vec::new());
    for mut piece in pieces {
        loop {
            let before = piece.len();
            match reader.next(&mut piece) {
                Ok(Some(Part::Head(head))) => {
                    assert!((200..1000).contains(&head.status));
                    let fields: Vec<_> = head.headers.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
                    assert!(fields.iter().all(|(_, value)| !value.iter().any(|b| matches!(b, 0..=8 | 10..=31 | 127))));
                    all.push(Read::Head { status: head.status, media: format!("{:?}", head.media), fields });
                }
                Ok(Some(Part::Data(data))) => {
                    assert!(!data.is_empty() && data.len() <= before);
                    match all.last_mut() {
                        Some(Read::Body(body)) => body.extend_from_slice(data),
                        _ => all.push(Read::Body(data.to_owned())),
                    }
                }
                Ok(Some(Part::End)) => all.push(Read::End { keeps_alive: reader.keeps_alive() }),
                Ok(None) => break,
                Err(broken) => {
                    assert_eq!(reader.next(&mut &b"HTTP/1.1 204 \r\n\r\n"[..]).err(), Some(broken));
                    all.push(Read::Broken(broken));
                    return all;
                }
            }
        }
        assert!(piece.is_empty());
    }
    all.push(Read::Left { is_idle: reader.is_idle(), end: reader.on_end() });
    all
}

/// The first response written anew from what was understood, its body by length, must be understood alike.
fn said_again(all: &[Read]) {
    let (status, media, fields, body, rest) = match all {
        [Read::Head { status, media, fields }, Read::Body(body), rest @ ..] => (status, media, fields, &body[..], rest),
        [Read::Head { status, media, fields }, rest @ ..] => (status, media, fields, &[][..], rest),
        _ => return,
    };
    if !matches!(rest, [Read::End { .. }, ..]) {
        return;
    }
    let framing = |name: &str| ["content-length", "transfer-encoding"].iter().any(|f| name.eq_ignore_ascii_case(f));
    let kept = || fields.iter().filter(|(name, _)| !framing(name));
    let mut text = format!("HTTP/1.1 {status} \r\nContent-Length:{}\r\n", body.len()).into_bytes();
    for (name, value) in kept() {
        text.extend_from_slice(name.as_bytes());
        text.push(b':');
        text.extend_from_slice(value);
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b"\r\n");
    text.extend_from_slice(body);
    let again = read([&text[..]]);
    // It had no Content-Length perhaps: written with one, its head may now be too large.
    if again == [Read::Broken(Broken::HeadTooLarge)] {
        return;
    }
    let (status2, media2, fields2, body2) = match &again[..] {
        [Read::Head { status, media, fields }, Read::Body(body), Read::End { .. }, Read::Left { is_idle: true, end: Ok(()) }] => {
            (status, media, fields, &body[..])
        }
        [Read::Head { status, media, fields }, Read::End { .. }, Read::Left { is_idle: true, end: Ok(()) }] => {
            (status, media, fields, &[][..])
        }
        _ => panic!("{again:?}"),
    };
    assert_eq!((status, media, body), (status2, media2, body2));
    assert!(kept().eq(fields2.iter().filter(|(name, _)| !framing(name))));
}
