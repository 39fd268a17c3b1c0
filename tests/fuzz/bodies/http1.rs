//! HTTP/1.1 requests: however the bytes are delivered the answer is the same, and what was understood can be said again.

use ringhub::base::fault::Kind;
use ringhub::wire::http1::{Framer, HeaderSlots, HttpLimits, Known, LastHead, Request, Taken, take};

const LIMITS: HttpLimits = HttpLimits { head_bytes_max: 2048, body_bytes_max: 512 };

/// One request, or what ended the connection.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Request {
        line: String,
        path: String,
        query: Option<String>,
        minor: u8,
        keep_alive: bool,
        fields: Vec<(String, Vec<u8>)>,
        body: Vec<u8>,
    },
    Refused(Kind),
    Waiting {
        left: usize,
        in_body: bool,
    },
}

/// Runs one input.
pub fn run(data: &[u8]) {
    let whole = deliver([data]);
    assert_eq!(deliver(data.chunks(1)), whole, "byte by byte");
    assert_eq!(deliver(pieces(data)), whole, "in pieces");
    for answer in &whole {
        said_again(answer);
    }
}

fn deliver<'i>(pieces: impl IntoIterator<Item = &'i [u8]>) -> Vec<Answer> {
    let (mut framer, mut input, mut dechunked, mut answers) = (Framer::default(), Vec::new(), Vec::new(), Vec::new());
    let mut was_in_body = false;
    let mut last = LastHead::default();
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            let mut slots = HeaderSlots::new();
            // A request that is delivered whole may be taken in one pass, or known again; one that comes in pieces never is.
            let consumed = match take(&mut framer, 1, &input, &LIMITS, &mut slots, &mut last, &mut dechunked) {
                Taken::More { in_body, .. } => {
                    was_in_body = in_body;
                    break;
                }
                Taken::Reject(kind) => {
                    answers.push(Answer::Refused(kind));
                    return answers;
                }
                Taken::Whole(request, consumed) => {
                    answers.push(understood(&request));
                    consumed
                }
            };
            drop(slots);
            assert!(consumed <= input.len());
            input.drain(..consumed);
        }
    }
    answers.push(Answer::Waiting { left: input.len(), in_body: was_in_body });
    answers
}

fn understood(request: &Request<'_>) -> Answer {
    let fields: Vec<_> = request.headers.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    assert!(fields.iter().all(|(_, value)| !value.iter().any(|b| matches!(b, 0..=8 | 10..=31 | 127))), "a control byte in a value");
    assert!(request.minor == 0 || request.headers.get(Known::Host).is_some(), "no Host");
    assert!(request.body.len() <= LIMITS.body_bytes_max);
    for known in Known::ALL {
        let count = fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case(known.name())).count();
        assert_eq!(request.headers.repeated(*known), count > 1);
        assert!(request.headers.get(*known).is_some() || count == 0);
    }
    Answer::Request {
        line: format!("{} {}", request.method_text, request.target),
        path: request.path.to_owned(),
        query: request.query.map(str::to_owned),
        minor: request.minor,
        keep_alive: request.keep_alive,
        fields,
        body: request.body.to_owned(),
    }
}

/// A request written anew from what was understood, its body by length, must be understood alike.
fn said_again(answer: &Answer) {
    let Answer::Request { line, minor, fields, body, .. } = answer else { return };
    let framing = |name: &str| ["content-length", "transfer-encoding"].iter().any(|f| name.eq_ignore_ascii_case(f));
    let mut text = format!("{line} HTTP/1.{minor}\r\n").into_bytes();
    for (name, value) in fields.iter().filter(|(name, _)| !framing(name)) {
        text.extend_from_slice(name.as_bytes());
        text.push(b':');
        text.extend_from_slice(value);
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(format!("Content-Length:{}\r\n\r\n", body.len()).as_bytes());
    text.extend_from_slice(body);
    let again = deliver([&text[..]]);
    // A chunked request had no Content-Length: written with one, its head may now be too long.
    if again == [Answer::Refused(Kind::HeadTooLarge)] {
        return;
    }
    let [
        Answer::Request { line: line2, path, query, minor: minor2, keep_alive, fields: fields2, body: body2 },
        Answer::Waiting { left: 0, .. },
    ] = &again[..]
    else {
        panic!("{again:?}")
    };
    assert_eq!((line, minor, body), (line2, minor2, body2));
    assert!(fields.iter().filter(|(name, _)| !framing(name)).eq(fields2.iter().filter(|(name, _)| !framing(name))));
    let Answer::Request { path: path1, query: query1, keep_alive: keep_alive1, .. } = answer else { return };
    assert_eq!((path1, query1, keep_alive1), (path, query, keep_alive));
}

/// Cuts whose places depend on the bytes alone, so that an input is replayed as it was found.
fn pieces(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut state = data.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &b| (hash ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    let mut rest = data;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (piece, after) = rest.split_at((1 + (state >> 33) as usize % 48).min(rest.len()));
        rest = after;
        Some(piece)
    })
}
