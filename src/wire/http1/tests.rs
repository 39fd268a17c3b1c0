//! Framing and viewing together: the answer to some bytes must never depend on how they were delivered.
#![allow(clippy::expect_used, clippy::indexing_slicing)]

use super::{Framed, Framer, HeaderSlots, HttpLimits, view};
use crate::base::fault::Kind;
use crate::base::limits::HEADERS_MAX;

const LIMITS: HttpLimits = HttpLimits { head_bytes_max: 1024, body_bytes_max: 64 };

/// What one delivery of bytes led to: each request as text, then the fault or the state that was left.
fn deliver<'i>(pieces: impl IntoIterator<Item = &'i [u8]>, limits: &HttpLimits) -> Vec<String> {
    let (mut framer, mut buffer, mut dechunked, mut answers) = (Framer::default(), Vec::new(), Vec::new(), Vec::new());
    let mut in_body_at_end = false;
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match framer.next(&buffer, limits) {
                Framed::More { in_body, .. } => in_body_at_end = in_body,
                Framed::Reject(kind) => {
                    assert_eq!(framer.next(&buffer, limits), Framed::Reject(kind), "a refusal is final");
                    answers.push(format!("{kind:?}"));
                    return answers;
                }
                Framed::Whole(frame) => {
                    let mut slots = HeaderSlots::new();
                    let request = view(&buffer, &frame, &mut slots, &mut dechunked).expect("the framer checked it");
                    answers.push(format!("{request:?}"));
                    drop(slots);
                    buffer.drain(..frame.consumed);
                    continue;
                }
            }
            break;
        }
    }
    answers.push(format!("{} left, in body: {in_body_at_end}", buffer.len()));
    answers
}

/// The answer to this input, after making sure that it is the same wherever the input is cut.
fn answers(input: &[u8], limits: &HttpLimits) -> Vec<String> {
    let whole = deliver([input], limits);
    assert_eq!(deliver(input.chunks(1), limits), whole, "byte by byte: {}", input.escape_ascii());
    for cut in 1..input.len() {
        let (first, second) = input.split_at(cut);
        assert_eq!(deliver([first, second], limits), whole, "cut at {cut}: {}", input.escape_ascii());
    }
    whole
}

fn rejects(input: &[u8], kind: Kind) {
    assert_eq!(answers(input, &LIMITS), [format!("{kind:?}")], "{}", input.escape_ascii());
}

fn requests(input: &[u8]) -> usize {
    let answers = answers(input, &LIMITS);
    assert_eq!(answers.last().map(String::as_str), Some("0 left, in body: false"), "{}", input.escape_ascii());
    answers.len() - 1
}

const POST: &str = "POST /mcp HTTP/1.1\r\nHost: h\r\n";

#[test]
fn requests_are_found_wherever_they_are_cut() {
    let plain = "GET / HTTP/1.1\r\nHost: h\r\n\r\n".to_owned();
    let empty = format!("{POST}Content-Length: 0\r\n\r\n");
    let sized = format!("\r\n\r\n{POST}Content-Length: 5\r\nAccept: a/b\r\n\r\na\r\n\r\n");
    let chunked = format!("{POST}Transfer-Encoding: CHUNKED\r\n\r\n3;a=\"b\"\r\n\r\n0\r\n00a\r\n0123456789\r\n0;x\r\nT: 1\r\nU:\r\n\r\n");
    let older = "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".to_owned();
    for input in [&plain, &empty, &sized, &chunked, &older] {
        assert_eq!(requests(input.as_bytes()), 1);
    }
    assert_eq!(requests([sized.as_str(), &chunked, &plain].concat().as_bytes()), 3);
    assert_eq!(requests([chunked.as_str(), &older, &empty].concat().as_bytes()), 3);
    assert_eq!(answers(format!("{plain}{POST}A: \0\r\n").as_bytes(), &LIMITS).last().map(String::as_str), Some("BadHttp"));
}

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    let fields: [(&str, Kind); 52] = [
        ("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", Kind::BadHttp),
        ("Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", Kind::BadHttp),
        ("Transfer-Encoding: gzip, chunked\r\nContent-Length: 1\r\n\r\n", Kind::BadHttp),
        ("Content-Length: 1\r\nContent-Length: 1\r\n\r\n", Kind::BadHttp),
        ("Content-Length: 1, 1\r\n\r\n", Kind::BadHttp),
        ("Content-Length: +1\r\n\r\n", Kind::BadHttp),
        ("Content-Length: -1\r\n\r\n", Kind::BadHttp),
        ("Content-Length:\r\n\r\n", Kind::BadHttp),
        ("Content-Length: 1 1\r\n\r\n", Kind::BadHttp),
        ("Content-Length: 0x1\r\n\r\n", Kind::BadHttp),
        ("Content-Length: 18446744073709551616\r\n\r\n", Kind::BadHttp),
        ("Content-Length: 18446744073709551615\r\n\r\n", Kind::BodyTooLarge),
        ("Content-Length : 1\r\n\r\n", Kind::BadHttp),
        ("Content-Length\t: 1\r\n\r\n", Kind::BadHttp),
        ("Transfer-Encoding : chunked\r\n\r\n", Kind::BadHttp),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", Kind::BadHttp),
        ("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n", Kind::BadHttp),
        ("Transfer-Encoding: chunked, chunked\r\n\r\n", Kind::BadHttp),
        ("Transfer-Encoding: chunked, identity\r\n\r\n", Kind::BadHttp),
        ("Transfer-Encoding: identity\r\n\r\n", Kind::BadHttp),
        ("Transfer-Encoding: xchunked\r\n\r\n", Kind::BadHttp),
        ("Transfer-Encoding: \x0bchunked\r\n\r\n", Kind::BadHttp),
        ("Transfer-Encoding: \"chunked\"\r\n\r\n", Kind::BadHttp),
        ("Transfer-Encoding:\r\n chunked\r\n\r\n", Kind::BadHttp),
        ("Transfer-Encoding: gzip, chunked\r\n\r\n", Kind::UnknownCoding),
        ("A: b\r\n folded\r\n\r\n", Kind::BadHttp),
        ("A: b\r\n\tfolded\r\n\r\n", Kind::BadHttp),
        ("A: b\n\r\n", Kind::BadHttp),
        ("A: b\r\n\n", Kind::BadHttp),
        ("A: b\rC: d\r\n\r\n", Kind::BadHttp),
        ("A: b\r\r\n\r\n", Kind::BadHttp),
        ("A: b\0c\r\n\r\n", Kind::BadHttp),
        ("A: b\x1fc\r\n\r\n", Kind::BadHttp),
        ("A: b\x7f\r\n\r\n", Kind::BadHttp),
        ("A\0: b\r\n\r\n", Kind::BadHttp),
        (": b\r\n\r\n", Kind::BadHttp),
        ("A\r\n\r\n", Kind::BadHttp),
        ("A b: c\r\n\r\n", Kind::BadHttp),
        ("\u{e9}: b\r\n\r\n", Kind::BadHttp),
        ("Host: h\r\n\r\n", Kind::BadHttp),
        ("hOST: other\r\n\r\n", Kind::BadHttp),
        ("Expect: 200-ok\r\n\r\n", Kind::BadExpectation),
        ("Transfer-Encoding: chunked\r\n\r\n\r\n", Kind::BadHttp),
        ("Transfer-Encoding: chunked\r\n\r\nx\r\n", Kind::BadHttp),
        ("Transfer-Encoding: chunked\r\n\r\n1 \r\na\r\n0\r\n\r\n", Kind::BadHttp),
        ("Transfer-Encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n", Kind::BadHttp),
        ("Transfer-Encoding: chunked\r\n\r\n1;a\nb\r\na\r\n0\r\n\r\n", Kind::BadHttp),
        ("Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n", Kind::BadHttp),
        ("Transfer-Encoding: chunked\r\n\r\n1\r\na\n0\r\n\r\n", Kind::BadHttp),
        ("Transfer-Encoding: chunked\r\n\r\n1\r\na\r0\r\n\r\n", Kind::BadHttp),
        ("Transfer-Encoding: chunked\r\n\r\n00000000000000001\r\na\r\n0\r\n\r\n", Kind::BadHttp),
        ("Transfer-Encoding: chunked\r\n\r\n0\r\nA : b\r\n\r\n", Kind::BadHttp),
    ];
    for (rest, kind) in fields {
        rejects(format!("{POST}{rest}").as_bytes(), kind);
    }
}

#[test]
fn heads_that_are_no_request_are_refused() {
    let heads: [(&[u8], Kind); 26] = [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", Kind::BadHttp),
        (b"\0", Kind::BadHttp),
        (b" GET / HTTP/1.1\r\nHost: h\r\n\r\n", Kind::BadHttp),
        (b"\n", Kind::BadHttp),
        (b"\rGET / HTTP/1.1\r\nHost: h\r\n\r\n", Kind::BadHttp),
        (b"\r\n\r\n\r\n\r\n\r\n", Kind::BadHttp),
        (b"G\0", Kind::BadHttp),
        (b"{\"jsonrpc\"", Kind::BadHttp),
        (b"ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG", Kind::BadHttp),
        (b"GET\t/ HTTP/1.1\r\n", Kind::BadHttp),
        (b"GET  / HTTP/1.1\r\n", Kind::BadHttp),
        (b"GET /  HTTP/1.1\r\n", Kind::BadHttp),
        (b"GET / HTTP/1.1 \r\n", Kind::BadHttp),
        (b"GET / HTTP/1.1\n", Kind::BadHttp),
        (b"GET /\r\n", Kind::BadHttp),
        (b"GET / HTTP/1.1\r\n Host: h\r\n", Kind::BadHttp),
        (b"GET / HTTP/1.1\r\n\r\n", Kind::BadHttp),
        (b"GET / HTTP/1.1\r\nHost: a b\r\n", Kind::BadHttp),
        (b"GET / HTTP/1.1\r\nHost: u@h\r\n", Kind::BadHttp),
        (b"GET * HTTP/1.1\r\nHost: h\r\n\r\n", Kind::BadHttp),
        (b"GET h:1 HTTP/1.1\r\nHost: h\r\n\r\n", Kind::BadHttp),
        (b"CONNECT / HTTP/1.1\r\nHost: h\r\n\r\n", Kind::BadHttp),
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Kind::BadHttp),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Kind::HttpVersion),
        (b"GET / HTTP/0.9\r\n", Kind::HttpVersion),
        (b"GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n", Kind::BadHttp),
    ];
    for (input, kind) in heads {
        rejects(input, kind);
    }
}

#[test]
fn lengths_are_limited_at_once() {
    rejects(format!("{POST}Content-Length: 65\r\n\r\n").as_bytes(), Kind::BodyTooLarge);
    rejects(format!("{POST}Transfer-Encoding: chunked\r\n\r\n41\r\n").as_bytes(), Kind::BodyTooLarge);
    rejects(format!("{POST}Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n").as_bytes(), Kind::BodyTooLarge);
    rejects(format!("{POST}Transfer-Encoding: chunked\r\n\r\n1\r\na\r\nffffffffffffffff\r\n").as_bytes(), Kind::BodyTooLarge);
    rejects(format!("{POST}Transfer-Encoding: chunked\r\n\r\n1;{}", "x".repeat(300)).as_bytes(), Kind::BadHttp);
    rejects(format!("{POST}A: {}", "x".repeat(1000)).as_bytes(), Kind::HeadTooLarge);
    rejects(format!("{POST}{}", "A: b\r\n".repeat(HEADERS_MAX)).as_bytes(), Kind::HeadTooLarge);
    rejects(format!("GET /{}", "x".repeat(1024)).as_bytes(), Kind::TargetTooLong);
    let trailers = format!("{POST}Transfer-Encoding: chunked\r\n\r\n0\r\n");
    rejects(format!("{trailers}{}", "A: b\r\n".repeat(HEADERS_MAX + 1)).as_bytes(), Kind::HeadTooLarge);
    rejects(format!("{trailers}A: {}", "x".repeat(1024)).as_bytes(), Kind::HeadTooLarge);
    rejects(format!("{trailers}{}", format!("A: {}\r\n", "x".repeat(250)).repeat(5)).as_bytes(), Kind::HeadTooLarge);
}

#[test]
fn a_long_target_has_its_own_fault() {
    let limits = HttpLimits { head_bytes_max: 64 * 1024, body_bytes_max: 0 };
    let head = |len| format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "x".repeat(len));
    let longest = crate::base::limits::TARGET_BYTES_MAX - 1;
    for (len, count) in [(longest, 2), (longest + 1, 1), (longest + 100, 1), (2 * longest, 1)] {
        let answers = deliver([head(len).as_bytes()], &limits);
        assert_eq!(answers.len(), count);
        assert_eq!(deliver(head(len).as_bytes().chunks(7), &limits), answers);
        assert!(count == 2 || answers == ["TargetTooLong"]);
    }
}

#[test]
fn the_framing_of_chunks_is_limited_too() {
    let limits = HttpLimits { head_bytes_max: 1024, body_bytes_max: 4096 };
    let body =
        |extension: &str| format!("{POST}Transfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n", format!("1{extension}\r\na\r\n").repeat(4000));
    for (extension, count) in [("", 2), (";x", 1)] {
        let input = body(extension);
        let answers = deliver([input.as_bytes()], &limits);
        assert_eq!(answers.len(), count);
        assert_eq!(deliver(input.as_bytes().chunks(1), &limits), answers);
    }
}

/// SplitMix64: enough to draw test cases from.
struct Draw(u64);

impl Draw {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % end as u64) as usize
    }
}

const WORDS: &[&str] = &[
    "GET / HTTP/1.1\r\n",
    "POST /a?b HTTP/1.1\r\n",
    "HEAD * HTTP/1.0\r\n",
    "Host: h\r\n",
    "Content-Length: 3\r\n",
    "Transfer-Encoding: chunked\r\n",
    "\r\n",
    "\r\n\r\n",
    "abc",
    "3\r\nabc\r\n",
    "0\r\n\r\n",
    "0\r\n",
    "A: b\r\n",
    "\n",
    "\r",
    ":",
    " ",
    "\0",
    "Expect: 100-continue\r\n",
    "Connection: close\r\n",
    "1;x=y\r\n",
    "a\r\n",
    ",",
    "\t",
];

#[test]
fn random_bytes_are_answered_alike_however_they_come() {
    let seed = std::env::var("RINGHUB_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(0x5eed);
    let mut draw = Draw(seed);
    let mut whole_requests = 0;
    for _ in 0..20_000 {
        let mut input = Vec::new();
        if draw.below(2) == 0 {
            input.extend_from_slice(POST.as_bytes());
        }
        for _ in 0..draw.below(10) {
            input.extend_from_slice(WORDS[draw.below(WORDS.len())].as_bytes());
        }
        if !input.is_empty() && draw.below(3) == 0 {
            let at = draw.below(input.len());
            input[at] = draw.below(256) as u8;
        }
        let whole = deliver([&input[..]], &LIMITS);
        whole_requests += whole.len() - 1;
        let (mut pieces, mut rest) = (Vec::new(), &input[..]);
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(1 + draw.below(rest.len()));
            pieces.push(piece);
            rest = after;
        }
        if !pieces.is_empty() {
            assert_eq!(deliver(pieces.iter().copied(), &LIMITS), whole, "RINGHUB_TEST_SEED={seed}: {pieces:?}");
            assert_eq!(deliver(input.chunks(1), &LIMITS), whole, "RINGHUB_TEST_SEED={seed}: {}", input.escape_ascii());
        }
    }
    assert!(whole_requests > 500, "RINGHUB_TEST_SEED={seed}: only {whole_requests} requests were whole: the words are badly chosen");
}
