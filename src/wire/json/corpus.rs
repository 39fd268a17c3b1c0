//! Runs the corpus of tests/corpus/json, and texts too large to be kept there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use serde_json::Value;

use super::{Decoder, validate};
use crate::base::fault::Kind;
use crate::wire::jsonrpc::{self, Body, Message};

/// The fuzz target's body, built as the fuzz crate builds it.
mod body {
    extern crate self as ringhub;
    include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fuzz/bodies/jsonrpc.rs"));
}

/// The texts of the corpus with their names.
fn corpus() -> Vec<(String, Vec<u8>)> {
    let mut texts: Vec<_> = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/json"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| (path.file_stem().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap()))
        .collect();
    texts.sort();
    assert!(texts.len() > 300, "the corpus is incomplete: {}", texts.len());
    texts
}

fn in_a_message(text: &[u8]) -> Vec<u8> {
    [&br#"{"jsonrpc":"2.0","id":1,"method":"x","params":{"arguments":"#[..], text, b"}}"].concat()
}

fn check(name: &str, text: &[u8]) {
    let is_json = match name.split('_').next() {
        Some("y") => true,
        Some("n") => false,
        _ => panic!("{name} tells no verdict"),
    };
    assert_eq!(validate(text).is_ok(), is_json, "{name}");
    let refused = jsonrpc::parse(text).err().map(|refusal| refusal.kind);
    assert_eq!(refused == Some(Kind::Parse), !is_json, "{name}: {refused:?}");

    let message = in_a_message(text);
    match jsonrpc::parse(&message) {
        Ok(Body::One(Message::Request(request))) => {
            assert!(is_json, "{name} in a message");
            assert_eq!(request.params.arguments, Some(text.trim_ascii()), "{name}");
        }
        Err(refusal) => assert!(!is_json && refusal.kind == Kind::Parse, "{name} in a message: {refusal:?}"),
        other => panic!("{name} in a message: {other:?}"),
    }

    let expected = std::str::from_utf8(text).ok().and_then(|text| serde_json::from_str::<serde::de::IgnoredAny>(text).ok()).is_some();
    if name.starts_with("n_too_deep") {
        assert!(expected || text.len().is_multiple_of(1000), "{name}: only the depth is at fault, unless it is also open");
    } else {
        assert_eq!(expected, is_json, "{name}: serde_json");
    }
    if is_json {
        decodes_alike(name, text);
    }
    body::run(text);
    body::run(&message);
}

/// What is decoded is what serde_json decodes, and what it refuses is refused.
fn decodes_alike(name: &str, text: &[u8]) {
    let ours = Decoder::new().decode::<Value>(text);
    match serde_json::from_slice::<Value>(text) {
        // simd-json reads minus zero as an integer.
        Ok(_) if name == "y_number_minus_zero" => assert_eq!(ours.ok().and_then(|value| value[0].as_f64()), Some(0.0)),
        Ok(expected) => assert_eq!(ours.as_ref().ok(), Some(&expected), "{name}: {ours:?}"),
        Err(error) => {
            let surrogate = name.starts_with("y_lone_surrogate") && ours.is_err();
            // Beyond the largest float both refuse; beyond the least one simd-json may still round to zero.
            let number = name.starts_with("y_number") && ours.as_ref().map_or(true, |value| value[0].as_f64() == Some(0.0));
            assert!(surrogate || number, "{name}: {error}, {ours:?}");
        }
    }
}

#[test]
fn the_corpus_gets_its_verdicts() {
    for (name, text) in corpus() {
        check(&name, &text);
    }
}

#[test]
fn large_texts_get_their_verdicts() {
    const MIB: usize = 1 << 20;
    for (name, text) in [
        ("y_large_string", format!("\"{}\"", "x".repeat(MIB))),
        ("y_large_string_of_escapes", format!("\"{}\"", "\\u00e9\\n".repeat(MIB / 8))),
        ("y_large_string_of_utf8", format!("[\"{}\"]", "é€😀".repeat(MIB / 9))),
        ("n_large_string_open", format!("\"{}", "x".repeat(MIB))),
        ("n_large_string_control_at_end", format!("\"{}\u{1}\"", "x".repeat(MIB))),
        ("y_large_key", format!("{{\"{}\":1}}", "k".repeat(MIB))),
        ("y_large_number", "7".repeat(300)),
        ("y_large_white_space", format!("[{}]", " \n\t\r".repeat(MIB / 4))),
        ("n_too_deep_large", format!("{}{}", "[".repeat(MIB), "]".repeat(MIB))),
        ("n_too_deep_large_object", format!("{}0{}", "{\"a\":".repeat(MIB / 5), "}".repeat(MIB / 5))),
        ("y_large_array", format!("[{}1]", "[],".repeat(MIB / 3))),
    ] {
        check(name, text.as_bytes());
    }
    let digits = "7".repeat(100_000);
    assert_eq!(validate(digits.as_bytes()), Ok(()));
    assert!(Decoder::new().decode::<u64>(digits.as_bytes()).is_err());
}

#[test]
fn every_cut_and_every_changed_byte_gets_the_same_verdict_as_serde_json() {
    for (_, text) in corpus().into_iter().filter(|(_, text)| text.len() <= 64) {
        let message = in_a_message(&text);
        for end in 0..message.len() {
            body::run(&message[..end]);
        }
        for place in 0..text.len() {
            for byte in *b"\"\\{}[],:0e-.u \x00\x1f\x80\xff" {
                let mut changed = text.clone();
                changed[place] = byte;
                body::run(&changed);
            }
        }
    }
}

/// A seeded source of choices (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % bound
    }

    /// An object of some of the members.
    fn object(&mut self, members: &[String]) -> String {
        let chosen: Vec<_> = (0..1 + self.below(members.len())).map(|_| members[self.below(members.len())].as_str()).collect();
        format!("{{{}}}", chosen.join([",", " , ", ",\n"][self.below(3)]))
    }

    fn message(&mut self) -> String {
        let owned = |members: &[&str]| members.iter().map(ToString::to_string).collect::<Vec<_>>();
        let meta = self.object(&owned(&[
            r#""progressToken":1"#,
            r#""io.modelcontextprotocol/protocolVersion":"2026-07-28""#,
            r#""io.modelcontextprotocol\/clientCapabilities":{"roots":{}}"#,
            r#""io.modelcontextprotocol/logLevel":"debug""#,
            r#""other":[{}]"#,
        ]));
        let mut params =
            owned(&[r#""name":"\ud800""#, r#""uri":"a\/b""#, r#""arguments":{"name":1e999}"#, r#""n\u0061me":-0"#, r#""level":"info""#]);
        params.push(format!("\"_meta\":{meta}"));
        let params = self.object(&params);
        let envelope = [r#""id":1,"#, r#""id":"\u0061","#, r#""id":null,"#, r#""id":1.5,"#, "", ""][self.below(6)];
        let method =
            [r#""method":"tools\/call","#, r#""m\u0065thod":"x\/y","#, r#""method":"ping","#, r#""result":[],"#, r#""error":{},"#, ""]
                [self.below(6)];
        let extra = ["", "", "", r#","id":2"#, r#","other":{"method":1}"#, r#","result":1"#][self.below(6)];
        format!(r#"{{{envelope}{method}"params":{params},"jsonrpc":"2.0"{extra}}}"#)
    }
}

#[test]
fn chosen_messages_are_read_alike_by_all() {
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    let (mut accepted, mut refused) = (0, 0);
    for _ in 0..10_000 {
        let mut text = match dice.below(5) {
            0 => format!("[{},{}]", dice.message(), dice.message()),
            _ => dice.message(),
        }
        .into_bytes();
        body::run(&text);
        match jsonrpc::parse(&text) {
            Ok(_) => accepted += 1,
            Err(_) => refused += 1,
        }
        let (place, byte) = (dice.below(text.len()), dice.below(256) as u8);
        text[place] = byte;
        body::run(&text);
    }
    assert!(accepted > 1000 && refused > 1000, "both kinds must come: {accepted} and {refused}");
}
