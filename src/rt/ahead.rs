//! Requests that a connection sends ahead while one of its own is in work: counted as they arrive, so that it is not read when many wait.

use crate::wire::http1::{Framed, Framer, HttpLimits};

/// What is known of the input that waits.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    framer: Framer,
    /// Where the first request begins that is not seen whole.
    at: usize,
    count: u32,
}

impl Ahead {
    /// Whole requests that wait.
    pub(crate) const fn count(&self) -> u32 {
        self.count
    }

    /// Counts what is new at the end of the input. No byte of a head is looked at twice.
    pub(crate) fn look(&mut self, input: &[u8], limits: &HttpLimits) {
        while let Some(rest) = input.get(self.at..).filter(|rest| !rest.is_empty())
            && let Framed::Whole(frame) = self.framer.next(rest, limits)
        {
            self.at += frame.consumed;
            self.count += 1;
        }
    }

    /// So many bytes, which were so many requests, are gone from the front of the input.
    pub(crate) fn advance(&mut self, bytes: usize, requests: u32) {
        if bytes <= self.at {
            self.at -= bytes;
            self.count = self.count.saturating_sub(requests);
        } else {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HttpLimits = HttpLimits { head_bytes_max: 1024, body_bytes_max: 1024 };
    const POST: &[u8] = b"POST /mcp HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";

    #[test]
    fn requests_are_counted_however_they_are_cut_and_taken() {
        let input = POST.repeat(5);
        for piece in [1, 7, 60, input.len()] {
            let mut ahead = Ahead::default();
            for end in (0..input.len()).step_by(piece).chain([input.len()]) {
                ahead.look(&input[..end], &LIMITS);
                assert_eq!(ahead.count() as usize, end / POST.len());
            }
            ahead.advance(2 * POST.len(), 2);
            ahead.look(&input[2 * POST.len()..], &LIMITS);
            assert_eq!(ahead.count(), 3);
        }
        // The third is taken before it was seen whole.
        let mut ahead = Ahead::default();
        ahead.look(&input[..2 * POST.len() + 10], &LIMITS);
        ahead.advance(3 * POST.len(), 3);
        assert_eq!(ahead.count(), 0);
        ahead.look(&input[3 * POST.len()..], &LIMITS);
        assert_eq!(ahead.count(), 2);
    }

    #[test]
    fn what_is_no_request_counts_as_none() {
        let mut ahead = Ahead::default();
        let input = [POST, b"what is this?\r\n\r\n", POST].concat();
        ahead.look(&input, &LIMITS);
        ahead.look(&input, &LIMITS);
        assert_eq!(ahead.count(), 1);
    }
}
