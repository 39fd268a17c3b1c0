//! The head that came last, to take the same head again by comparing it.
//!
//! A client says the same in the head of each request, but for the number in Content-Length. When a connection sends a head again,
//! with a number of as many digits, where its fields are is known already and was found in order; what is left to do is to compare
//! the bytes and to read the number.
//!
//! One head is kept per core, and known again on its own connection alone: how long a comparison takes tells nobody what another
//! client sent. That serves requests that follow each other closely, which is when their cost counts.

use std::ops::Range;

use super::field::content_length;
use super::frame::HttpLimits;
use super::known::Known;
use super::request_line::Method;
use super::view::{FieldList, HeaderSlots, Headers, Request};
use crate::base::limits::HEAD_RECALLED_BYTES_MAX;

/// The last usual head of one core.
#[derive(Debug)]
pub struct LastHead {
    /// The connection that sent it.
    conn: Option<u64>,
    /// The whole head; empty when none is kept.
    head: Vec<u8>,
    /// Where the number of its Content-Length is; empty without one.
    digits: Range<usize>,
    /// How long the body of the request at hand is.
    body_len: usize,
    fields: FieldList,
    notes: Headers<'static>,
    method: Method,
    method_text: &'static str,
    target: String,
    path_len: usize,
    keep_alive: bool,
}

impl Default for LastHead {
    fn default() -> Self {
        Self {
            conn: None,
            head: Vec::new(),
            digits: 0..0,
            body_len: 0,
            fields: FieldList::new_const(),
            notes: Headers::empty(),
            method: Method::Post,
            method_text: "",
            target: String::new(),
            path_len: 0,
            keep_alive: true,
        }
    }
}

impl LastHead {
    /// Whether `input` begins with the head that this connection sent last and its whole body: [`Self::request`] then gives it.
    #[inline]
    pub(super) fn is_again(&mut self, conn: u64, input: &[u8], limits: &HttpLimits) -> bool {
        if self.conn != Some(conn) || self.head.is_empty() {
            return false;
        }
        let Some(body_len) = self.body_len(input) else { return false };
        self.body_len = body_len;
        self.head.len() <= limits.head_bytes_max && body_len <= limits.body_bytes_max && input.len() - self.head.len() >= body_len
    }

    /// The number in the head at the start of `input`, if that is the one kept.
    #[inline]
    fn body_len(&self, input: &[u8]) -> Option<usize> {
        let head = input.get(..self.head.len())?;
        let is_same = |range: Range<usize>| head.get(range.clone()) == self.head.get(range);
        if !is_same(0..self.digits.start) || !is_same(self.digits.end..head.len()) {
            return None;
        }
        match head.get(self.digits.clone())? {
            [] => Some(0),
            digits => content_length(digits).ok(),
        }
    }

    /// The request at the start of this input, of which [`Self::is_again`] was true, and its length.
    pub(super) fn request<'s>(&'s self, input: &'s [u8]) -> Option<(Request<'s>, usize)> {
        let (head, rest) = input.split_at_checked(self.head.len())?;
        let target = self.target.as_str();
        let request = Request {
            method: self.method,
            method_text: self.method_text,
            target,
            path: target.get(..self.path_len)?,
            query: target.get(self.path_len + 1..),
            minor: 1,
            keep_alive: self.keep_alive,
            headers: self.notes.over(head, &self.fields),
            body: rest.get(..self.body_len)?,
        };
        Some((request, head.len() + self.body_len))
    }

    /// Keeps the head of a usual request of HTTP/1.1, the first `len` bytes of `input`, if it may soon come again: when more
    /// requests stand behind it, or the connection sent the one before it too.
    pub(super) fn keep(
        &mut self,
        conn: u64,
        request: &Request<'_>,
        method_text: &'static str,
        input: &[u8],
        len: usize,
        slots: &HeaderSlots,
    ) {
        let is_closely_followed = input.len() > len || self.conn == Some(conn);
        self.conn = Some(conn);
        self.head.clear();
        let Some(head) = input.get(..len - request.body.len()) else { return };
        if !is_closely_followed || head.len() > HEAD_RECALLED_BYTES_MAX {
            return;
        }
        self.head.extend_from_slice(head);
        self.digits = request.headers.value_range(Known::ContentLength, &slots.fields).unwrap_or(head.len()..head.len());
        self.fields.clone_from(&slots.fields);
        self.notes = request.headers.notes();
        self.method = request.method;
        self.method_text = method_text;
        self.target.clear();
        self.target.push_str(request.target);
        self.path_len = request.path.len();
        self.keep_alive = request.keep_alive;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use super::super::{Framer, Taken, take};
    use super::*;

    const LIMITS: HttpLimits = HttpLimits { head_bytes_max: 1024, body_bytes_max: 64 };

    /// What is taken of `input` on this connection, and whether its head was known again.
    fn taken(last: &mut LastHead, conn: u64, input: &str) -> (Option<String>, bool) {
        let is_again = last.is_again(conn, input.as_bytes(), &LIMITS);
        let (mut slots, mut joined) = (HeaderSlots::new(), Vec::new());
        let text = match take(&mut Framer::default(), conn, input.as_bytes(), &LIMITS, &mut slots, last, &mut joined) {
            Taken::Whole(request, len) => Some(format!("{len} {request:?}")),
            Taken::More { .. } | Taken::Reject(_) => None,
        };
        (text, is_again)
    }

    fn post(fields: &str, body: &str) -> String {
        format!("POST /mcp?a HTTP/1.1\r\nHost: x\r\n{fields}Content-Length: {}\r\nMcp-Name: n\r\n\r\n{body}", body.len())
    }

    #[test]
    fn the_same_head_again_is_known_and_says_the_same() {
        let mut last = LastHead::default();
        let first = post("", "{}");
        assert!(!taken(&mut last, 1, &first).1);
        assert!(!taken(&mut last, 1, &first).1, "kept only when the connection sent the one before it too");
        for (body, is_again) in [("{}", true), ("[]x", true), ("", true), (&*"y".repeat(10), false), (&*"z".repeat(11), true)] {
            let input = post("", body);
            let (text, known) = taken(&mut last, 1, &input);
            assert_eq!(known, is_again, "{body}");
            assert_eq!(text, taken(&mut LastHead::default(), 1, &input).0, "{body}");
        }
    }

    #[test]
    fn a_request_with_others_behind_it_is_kept_at_once() {
        let mut last = LastHead::default();
        let two = post("", "{}") + &post("", "[]");
        taken(&mut last, 7, &two);
        assert!(taken(&mut last, 7, &post("", "[]")).1);
    }

    #[test]
    fn another_connection_another_byte_and_half_a_body_are_not_known() {
        let mut last = LastHead::default();
        let kept = post("A: bc\r\n", "{}");
        taken(&mut last, 1, &(kept.clone() + &kept));
        for at in 0..kept.len() - 2 {
            let mut other = kept.clone().into_bytes();
            other[at] ^= 1;
            let other = String::from_utf8(other).expect("ASCII");
            let mut again = LastHead::default();
            taken(&mut again, 1, &(kept.clone() + &kept));
            let is_number = kept[at..].starts_with("2\r\n");
            assert!(!taken(&mut again, 1, &other).1 || is_number, "{other:?}");
        }
        assert!(!last.is_again(2, kept.as_bytes(), &LIMITS));
        assert!(!last.is_again(1, &kept.as_bytes()[..kept.len() - 1], &LIMITS));
        assert!(!last.is_again(1, kept.replace("Length: 2", "Length: x").as_bytes(), &LIMITS));
        assert!(last.is_again(1, kept.as_bytes(), &LIMITS));
        assert!(!last.is_again(1, kept.as_bytes(), &HttpLimits { body_bytes_max: 1, ..LIMITS }));
    }

    #[test]
    fn a_head_without_a_body_is_known_too() {
        let mut last = LastHead::default();
        let get = "GET /mcp HTTP/1.1\r\nHost: x\r\n\r\n";
        taken(&mut last, 1, &get.repeat(2));
        assert_eq!(taken(&mut last, 1, get), (taken(&mut LastHead::default(), 1, get).0, true));
    }
}
