// Body of the fuzz target `recall`, also replayed over the corpus by the unit tests.
//
// What is known again by comparison with what came before says the same as what is looked at anew: a head, and a request. An input is
// a text and one change of it, so that most of the text comes again.

use ringhub::wire::http1::{Framer, HeaderSlots, HttpLimits, LastHead, take};
use ringhub::wire::jsonrpc::{LastRequest, parse, parse_again};

const LIMITS: HttpLimits = HttpLimits { head_bytes_max: 2048, body_bytes_max: 1024 };

/// Runs one input: two bytes that say where, one how much goes, one how much comes, that much, and the text.
pub fn run(data: &[u8]) {
    let Some(([low, high, goes, comes], rest)) = data.split_first_chunk() else { return };
    let (new, text) = rest.split_at(usize::from(*comes).min(rest.len()));
    let start = usize::from(u16::from_le_bytes([*low, *high])) % (text.len() + 1);
    let end = (start + usize::from(*goes)).min(text.len());
    let changed = [&text[..start], new, &text[end..]].concat();
    let order = [text, text, &changed, &changed, &changed, text];
    heads(&order);
    requests(&order);
}

fn heads(order: &[&[u8]]) {
    let mut last = LastHead::default();
    for input in order {
        assert_eq!(taken(input, &mut last), taken(input, &mut LastHead::default()), "{}", input.escape_ascii());
    }
}

fn taken(input: &[u8], last: &mut LastHead) -> String {
    let (mut slots, mut joined) = (HeaderSlots::new(), Vec::new());
    format!("{:?}", take(&mut Framer::default(), 1, input, &LIMITS, &mut slots, last, &mut joined))
}

fn requests(order: &[&[u8]]) {
    let mut last = LastRequest::default();
    for body in order {
        assert_eq!(format!("{:?}", parse_again(body, &mut last, 1)), format!("{:?}", parse(body)), "{}", body.escape_ascii());
    }
}
