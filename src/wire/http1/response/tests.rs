//! Responses: what is read of some bytes must never depend on how they were delivered.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use super::{Broken, Known, Media, Part, ResponseHead, ResponseReader};
use crate::base::limits::{HEAD_BYTES_MAX, HEADERS_MAX, INTERIM_RESPONSES_MAX};

/// What one delivery of bytes led to: each head, each body as a whole, each end; then what broke, or the state that was left and what the peer's
/// end makes of it.
fn deliver<'i>(pieces: impl IntoIterator<Item = &'i [u8]>) -> Vec<String> {
    let (mut reader, mut answers, mut body) = (ResponseReader::new(), Vec::new(), Vec::new());
    for mut piece in pieces {
        loop {
            match reader.next(&mut piece) {
                Ok(Some(Part::Head(head))) => {
                    let fields: Vec<_> = head.headers.iter().map(|(name, value)| format!("{name}={}", value.escape_ascii())).collect();
                    answers.push(format!("{} {:?} {}", head.status, head.media, fields.join("&")));
                    body.clear();
                }
                Ok(Some(Part::Data(data))) => {
                    assert!(!data.is_empty());
                    body.extend_from_slice(data);
                }
                Ok(Some(Part::End)) => {
                    answers.push(format!("{:?}, keeps alive: {}", body.escape_ascii().to_string(), reader.keeps_alive()));
                }
                Ok(None) => break,
                Err(broken) => {
                    assert_eq!(reader.next(&mut &b"HTTP/1.1 200 OK\r\n\r\n"[..]).err(), Some(broken), "what is broken stays so");
                    assert_eq!(reader.on_end(), Err(broken));
                    assert!(!reader.keeps_alive() && !reader.is_idle());
                    answers.push(format!("{broken:?}"));
                    return answers;
                }
            }
        }
        assert!(piece.is_empty(), "all is taken");
    }
    answers.push(format!("idle: {}, {:?}, keeps alive: {}", reader.is_idle(), body.escape_ascii().to_string(), reader.keeps_alive()));
    answers.push(format!("{:?}", reader.on_end()));
    answers
}

/// What is read of this input, after making sure that it is the same wherever the input is cut.
fn answers(input: &[u8]) -> Vec<String> {
    let whole = deliver([input]);
    assert_eq!(deliver(input.chunks(1)), whole, "byte by byte: {}", input.escape_ascii());
    assert_eq!(deliver([input, b""]), whole, "an empty piece is nothing: {}", input.escape_ascii());
    for cut in 1..input.len() {
        let (first, second) = input.split_at(cut);
        assert_eq!(deliver([first, second]), whole, "cut at {cut}: {}", input.escape_ascii());
    }
    whole
}

/// Of one whole response with nothing behind it: head, body, whether the connection is kept.
fn one(input: &str) -> (String, String, bool) {
    let [head, body, left, end] = &answers(input.as_bytes())[..] else { panic!("{:?}", answers(input.as_bytes())) };
    let (body, keeps_alive) = body.rsplit_once(", keeps alive: ").expect("an end");
    assert!(left.starts_with("idle: true") && end == "Ok(())", "{left}, {end}");
    (head.clone(), body.trim_matches('"').to_owned(), keeps_alive == "true")
}

fn breaks(input: &[u8], broken: Broken) {
    assert_eq!(answers(input).last(), Some(&format!("{broken:?}")), "{}", input.escape_ascii());
}

const OK: &str = "HTTP/1.1 200 OK\r\n";

#[test]
fn a_body_ends_as_its_head_says() {
    let json = "200 Some(Json) Content-Type=application/json";
    let typed = format!("{OK}Content-Type: application/json\r\n");
    let sized = one(&format!("{typed}Content-Length: 5\r\n\r\na\r\n\r\n"));
    assert_eq!(sized, (format!("{json}&Content-Length=5"), r"a\\r\\n\\r\\n".to_owned(), true));
    let empty = one(&format!("{OK}Content-Length: 0\r\n\r\n"));
    assert_eq!(empty, ("200 None Content-Length=0".to_owned(), String::new(), true));
    let chunks = "3;a=\"b\"\r\n\r\n0\r\n00a\r\n0123456789\r\n0;x\r\nT: 1\r\nU:\r\n\r\n";
    let chunked = one(&format!("{typed}Transfer-Encoding: CHUNKED\r\n\r\n{chunks}"));
    assert_eq!(chunked, (format!("{json}&Transfer-Encoding=CHUNKED"), r"\\r\\n00123456789".to_owned(), true));
    for bodiless in ["204 No Content\r\n", "304 Not Modified\r\nContent-Length: 7\r\n", "204\r\nContent-Length: 0\r\n"] {
        let (_, body, keeps_alive) = one(&format!("HTTP/1.1 {bodiless}\r\n"));
        assert_eq!((body.as_str(), keeps_alive), ("", true), "{bodiless}");
    }
    for odd in ["204 No Content\r\nContent-Length: 7\r\n", "204 No Content\r\nTransfer-Encoding: chunked\r\n"] {
        let (_, body, keeps_alive) = one(&format!("HTTP/1.1 {odd}\r\n"));
        assert_eq!((body.as_str(), keeps_alive), ("", false), "{odd}: what follows is uncertain");
    }
}

#[test]
fn a_body_without_a_length_ends_with_the_connection() {
    let until_close = answers(format!("{OK}Content-Type: text/event-stream\r\n\r\ndata: 1\n\n").as_bytes());
    let expected =
        ["200 Some(EventStream) Content-Type=text/event-stream", r#"idle: false, "data: 1\\n\\n", keeps alive: false"#, "Ok(())"];
    assert_eq!(until_close, expected);
    for cut_short in [
        "Content-Length: 9\r\n\r\nabc",
        "Transfer-Encoding: chunked\r\n\r\n9\r\nabc",
        "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n",
        "Content-",
    ] {
        let answers = answers(format!("{OK}{cut_short}").as_bytes());
        assert_eq!(answers.last().map(String::as_str), Some("Err(Truncated)"), "{cut_short}");
    }
    assert_eq!(answers(b"HTTP/1.1 100 Continue\r\n\r\n").last().map(String::as_str), Some("Err(Truncated)"));
}

#[test]
fn a_connection_is_kept_as_its_head_says() {
    let kept = |version, connection| one(&format!("HTTP/{version} 200 OK\r\n{connection}Content-Length: 1\r\n\r\na")).2;
    assert!(kept("1.1", "") && kept("1.0", "Connection: Keep-Alive\r\n") && kept("1.1", "Connection: x, keep-alive\r\n"));
    assert!(
        !kept("1.0", "") && !kept("1.1", "Connection: close\r\n") && !kept("1.1", "Connection: keep-alive\r\nConnection: x, Close\r\n")
    );
    assert!(ResponseReader::new().keeps_alive() && ResponseReader::new().is_idle());
}

#[test]
fn responses_follow_one_another() {
    let sized = format!("{OK}Content-Length: 2\r\n\r\nab");
    let chunked = "HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nc\r\n0\r\n\r\n";
    let none = "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n";
    let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n";
    let input = [sized.as_str(), interim, chunked, none, "HTTP/1.1 204 No Content\r\n\r\n", interim, &sized].concat();
    let answers = answers(input.as_bytes());
    let heads: Vec<_> = answers.iter().filter_map(|answer| answer.split_once(' ').map(|(status, _)| status)).collect();
    assert_eq!(heads, ["200", "\"ab\",", "404", "\"c\",", "202", "\"\",", "204", "\"\",", "200", "\"ab\",", "idle:"]);
    assert!(answers.iter().all(|answer| !answer.contains("Link")), "an interim response is not shown: {answers:?}");
}

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    let fields: [(&str, Broken); 27] = [
        ("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", Broken::Framing),
        ("Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", Broken::Framing),
        ("Transfer-Encoding: gzip\r\nContent-Length: 1\r\n\r\n", Broken::Framing),
        ("Content-Length: 1\r\nContent-Length: 2\r\n\r\n", Broken::Framing),
        ("Content-Length: 1\r\nContent-Length: 1\r\n\r\n", Broken::Framing),
        ("Content-Length: 1, 1\r\n\r\n", Broken::Framing),
        ("Content-Length: +1\r\n\r\n", Broken::Framing),
        ("Content-Length:\r\n\r\n", Broken::Framing),
        ("Content-Length: 18446744073709551616\r\n\r\n", Broken::Framing),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", Broken::Framing),
        ("Transfer-Encoding: gzip, chunked\r\n\r\n", Broken::Coding),
        ("Transfer-Encoding: identity\r\n\r\n", Broken::Coding),
        ("Transfer-Encoding: xchunked\r\n\r\n", Broken::Coding),
        ("Content-Length : 1\r\n\r\n", Broken::Syntax),
        ("A: b\r\n folded\r\n\r\n", Broken::Syntax),
        ("A: b\n\r\n", Broken::Syntax),
        ("A: b\rC: d\r\n\r\n", Broken::Syntax),
        ("A: b\0c\r\n\r\n", Broken::Syntax),
        (": b\r\n\r\n", Broken::Syntax),
        ("A\r\n\r\n", Broken::Syntax),
        ("Transfer-Encoding: chunked\r\n\r\n\r\n", Broken::Syntax),
        ("Transfer-Encoding: chunked\r\n\r\n-1\r\n", Broken::Syntax),
        ("Transfer-Encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n", Broken::Syntax),
        ("Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n", Broken::Syntax),
        ("Transfer-Encoding: chunked\r\n\r\n1\r\na\r0\r\n\r\n", Broken::Syntax),
        ("Transfer-Encoding: chunked\r\n\r\n00000000000000001\r\na\r\n0\r\n\r\n", Broken::Syntax),
        ("Transfer-Encoding: chunked\r\n\r\n0\r\nA : b\r\n\r\n", Broken::Syntax),
    ];
    for (rest, broken) in fields {
        breaks(format!("{OK}{rest}").as_bytes(), broken);
    }
    breaks(b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Broken::Framing);
    breaks(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", Broken::Upgrade);
}

#[test]
fn what_is_no_response_is_refused() {
    for bad in [
        &b"\r\nHTTP/1.1 200 OK\r\n\r\n"[..],
        b" HTTP/1.1 200 OK\r\n\r\n",
        b"http/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\n\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"HTTP/1.1  200 OK\r\n\r\n",
        b"HTTP/1.1 200\tOK\r\n\r\n",
        b"HTTP/1.1\r\n\r\n",
        b"HTTP/1 200 OK\r\n\r\n",
        b"HTTPS/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 O\0K\r\n\r\n",
        b"\x15\x03\x01\0\x02\x02\x46",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"{\"jsonrpc\":\"2.0\"}",
        b"\0\0\x12\x04\0\0\0\0\0",
    ] {
        breaks(bad, Broken::Syntax);
    }
    breaks(b"HTTP/2.0 200 OK\r\n\r\n", Broken::Version);
    breaks(b"HTTP/2 200\r\n\r\n", Broken::Version);
    breaks(b"HTTP/1.2 200 OK\r\n\r\n", Broken::Version);
    breaks(format!("{OK}Content-Length: 1\r\n\r\nab").as_bytes(), Broken::Syntax);
    for fine in ["HTTP/1.1 200", "HTTP/1.1 200 ", "HTTP/1.1 200 \u{e9} (yes)", "HTTP/1.1 999 x"] {
        let (head, ..) = one(&format!("{fine}\r\nContent-Length: 0\r\n\r\n"));
        assert_eq!(head[..3], fine[9..12]);
    }
}

/// Delivered in few ways, since these are long.
fn breaks_long(input: &[u8], broken: Broken) {
    let whole = deliver([input]);
    assert_eq!(whole.last(), Some(&format!("{broken:?}")));
    for len in [1, 7, 4096] {
        assert_eq!(deliver(input.chunks(len)), whole, "in pieces of {len}");
    }
}

#[test]
fn no_head_and_no_trailer_is_without_bound() {
    let padded = |len: usize| format!("{OK}A: {}\r\nContent-Length: 0\r\n\r\n", "x".repeat(len));
    let longest = HEAD_BYTES_MAX - padded(0).len();
    assert_eq!(deliver([padded(longest).as_bytes()]).len(), 4);
    assert_eq!(deliver(padded(longest).as_bytes().chunks(1)), deliver([padded(longest).as_bytes()]));
    breaks_long(padded(longest + 1).as_bytes(), Broken::HeadTooLarge);
    breaks_long(format!("{OK}A: {}", "x".repeat(HEAD_BYTES_MAX)).as_bytes(), Broken::HeadTooLarge);
    breaks_long(format!("{OK}{}\r\n", "A: b\r\n".repeat(HEADERS_MAX + 1)).as_bytes(), Broken::HeadTooLarge);
    let trailers = format!("{OK}Transfer-Encoding: chunked\r\n\r\n0\r\n");
    assert_eq!(deliver([format!("{trailers}{}\r\n", "A: b\r\n".repeat(HEADERS_MAX)).as_bytes()]).len(), 4);
    breaks_long(format!("{trailers}{}", "A: b\r\n".repeat(HEADERS_MAX + 1)).as_bytes(), Broken::HeadTooLarge);
    breaks_long(format!("{trailers}A: {}", "x".repeat(HEAD_BYTES_MAX)).as_bytes(), Broken::HeadTooLarge);
    breaks_long(format!("{OK}Transfer-Encoding: chunked\r\n\r\n1;{}", "x".repeat(300)).as_bytes(), Broken::Syntax);
    let interim = "HTTP/1.1 100 Continue\r\n\r\n".repeat(usize::from(INTERIM_RESPONSES_MAX));
    assert_eq!(deliver([format!("{interim}HTTP/1.1 204 No Content\r\n\r\n").as_bytes()]).len(), 4);
    breaks_long(format!("{interim}HTTP/1.1 102 Processing\r\n\r\n").as_bytes(), Broken::TooManyInterim);
}

#[test]
fn a_large_body_is_passed_on_and_not_kept() {
    let mut reader = ResponseReader::new();
    let mut head: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n400000000\r\n";
    assert!(matches!(reader.next(&mut head), Ok(Some(Part::Head(_)))));
    assert!(matches!(reader.next(&mut head), Ok(None)));
    let piece = vec![b'x'; 64 * 1024];
    for _ in 0..1000 {
        let mut rest = &piece[..];
        let Ok(Some(Part::Data(data))) = reader.next(&mut rest) else { panic!("data") };
        assert!(std::ptr::eq(data, &raw const piece[..]), "it is the caller's own");
        assert!(rest.is_empty());
    }
}

#[test]
fn a_head_says_what_a_gateway_asks_of_it() {
    let head = |fields: &str, read: fn(&ResponseHead<'_>) -> String| {
        let text = format!("{OK}{fields}Content-Length: 0\r\n\r\n");
        let mut reader = ResponseReader::new();
        match reader.next(&mut text.as_bytes()) {
            Ok(Some(Part::Head(head))) => read(&head),
            other => panic!("{other:?}"),
        }
    };
    let session = |fields| head(fields, |head| format!("{:?}", head.session_id().map(|id| id.escape_ascii().to_string())));
    assert_eq!(session("mcp-session-id: a-1\r\n"), "Some(\"a-1\")");
    for none in
        ["", "Mcp-Session-Id:\r\n", "Mcp-Session-Id: a b\r\n", "Mcp-Session-Id: \u{e9}\r\n", "Mcp-Session-Id: a\r\nMcp-Session-Id: a\r\n"]
    {
        assert_eq!(session(none), "None", "{none}");
    }
    let retry = |fields| head(fields, |head| format!("{:?}", head.retry_after_s()));
    assert_eq!(retry("Retry-After: 120\r\n"), "Some(120)");
    assert_eq!(retry("Retry-After: 99999999999999999999999\r\n"), format!("Some({})", u64::MAX));
    for none in ["", "Retry-After:\r\n", "Retry-After: -1\r\n", "Retry-After: Wed, 21 Oct 2026 07:28:00 GMT\r\n"] {
        assert_eq!(retry(none), "None", "{none}");
    }
    let media = |fields| head(fields, |head| format!("{:?}", head.media));
    assert_eq!(media("Content-Type: Application/JSON; charset=utf-8\r\n"), format!("{:?}", Some(Media::Json)));
    assert_eq!(media("Content-Type: application/json\r\nContent-Encoding: identity\r\n"), format!("{:?}", Some(Media::Json)));
    for none in [
        "Content-Type: text/html\r\n",
        "Content-Type: application/json\r\nContent-Encoding: gzip\r\n",
        "Content-Type: application/json\r\nContent-Type: text/event-stream\r\n",
    ] {
        assert_eq!(media(none), "None", "{none}");
    }
    let www = head("X: 1\r\nx: 2\r\n", |head| format!("{:?} {}", head.headers.get(Known::Host), head.headers.len()));
    assert_eq!(www, "None 3");
}
