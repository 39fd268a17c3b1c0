//! One connection's bytes: a partial request coming in, replies going out.

use super::answers::Answers;
use super::frame::{self, Front};

/// Replies owed to a peer that does not read, in bytes; past it the peer is dropped.
const OUT_BYTES_MAX: usize = 16 << 20;

/// What a connection holds between turns. Its socket is closed only when
/// neither operation is in the kernel, so no completion ever meets a later
/// connection that was given the same descriptor.
#[derive(Default)]
pub struct Conn {
    /// The front part of a request whose rest has not come.
    partial: Vec<u8>,
    /// Replies not yet handed to the kernel.
    out: Vec<u8>,
    /// Replies in the kernel's hands: untouched until the send completes.
    flying: Vec<u8>,
    /// Bytes of `flying` already sent.
    flown: usize,
    /// The multishot receive is armed.
    pub receiving: bool,
    /// A send of `flying` is in the kernel.
    pub sending: bool,
    /// Read no more; close once all replies are sent.
    pub ending: bool,
    /// Stands in the loop's list of connections with something to send.
    pub listed: bool,
}

impl Conn {
    /// Takes received bytes and queues the reply to each request they complete.
    pub fn take(&mut self, bytes: &[u8], answers: &Answers) {
        if self.ending {
            return;
        }
        if self.partial.is_empty() {
            let used = self.answer(bytes, answers);
            self.partial.extend_from_slice(&bytes[used..]);
        } else {
            let mut joined = std::mem::take(&mut self.partial);
            joined.extend_from_slice(bytes);
            let used = self.answer(&joined, answers);
            joined.drain(..used);
            self.partial = joined;
        }
        if self.out.len() > OUT_BYTES_MAX {
            self.out.clear();
            self.ending = true;
        }
    }

    /// Answers the whole requests in `bytes`; returns how many bytes they were.
    fn answer(&mut self, bytes: &[u8], answers: &Answers) -> usize {
        let mut used = 0;
        while used < bytes.len() && !self.ending {
            match frame::front(&bytes[used..]) {
                Front::Partial => break,
                Front::Request { len, head, close } => {
                    let body = &bytes[used + head..used + len];
                    used += len;
                    self.ending = !answers.write(body, &mut self.out) || close;
                }
                Front::Unframed => self.ending = true,
            }
        }
        used
    }

    /// Whether there is something to send and no send under way.
    pub fn wants_send(&self) -> bool {
        !self.sending && !self.out.is_empty()
    }

    /// Moves the queued replies into the kernel's buffer.
    pub fn launch(&mut self) {
        debug_assert!(!self.sending && self.flying.is_empty());
        std::mem::swap(&mut self.out, &mut self.flying);
    }

    /// The part of the flying replies still to be sent.
    pub fn to_send(&self) -> &[u8] {
        &self.flying[self.flown..]
    }

    /// Notes a send's completion; true when part of it is still to be sent.
    pub fn sent(&mut self, bytes: usize) -> bool {
        self.flown += bytes;
        if self.flown < self.flying.len() {
            return true;
        }
        self.drop_flying();
        false
    }

    /// Gives up everything owed: the peer can no longer be written to.
    pub fn abandon(&mut self) {
        self.drop_flying();
        self.out.clear();
        self.ending = true;
    }

    fn drop_flying(&mut self) {
        self.flying.clear();
        self.flown = 0;
    }

    /// Whether nothing more is to be read or sent.
    pub fn finished(&self) -> bool {
        self.ending && !self.sending && self.out.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POST: &[u8] = b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}";

    fn same(reply: &[u8]) -> Answers {
        Answers::Same(reply.to_vec())
    }

    #[test]
    fn pipelined_requests_split_anywhere_are_each_answered_once() {
        let three = POST.repeat(3);
        for cut in 0..three.len() {
            let mut conn = Conn::default();
            conn.take(&three[..cut], &same(b"R"));
            conn.take(&three[cut..], &same(b"R"));
            assert_eq!(conn.out, b"RRR", "cut at {cut}");
            assert!(conn.partial.is_empty() && !conn.ending);
        }
    }

    #[test]
    fn a_partial_send_keeps_its_bytes_apart_from_new_replies() {
        let mut conn = Conn::default();
        conn.take(POST, &same(b"abc"));
        conn.launch();
        conn.sending = true;
        conn.take(POST, &same(b"xyz"));
        assert!(!conn.wants_send());
        assert!(conn.sent(1));
        assert_eq!(conn.to_send(), b"bc");
        assert!(!conn.sent(2));
        conn.sending = false;
        assert!(conn.wants_send());
        conn.launch();
        assert_eq!(conn.to_send(), b"xyz");
    }

    #[test]
    fn close_is_after_the_reply_and_ends_reading() {
        let mut conn = Conn::default();
        conn.take(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", &same(b"R"));
        conn.take(POST, &same(b"R"));
        assert_eq!(conn.out, b"R");
        assert!(!conn.finished());
        conn.launch();
        assert!(!conn.sent(1) && conn.finished());
    }

    #[test]
    fn a_peer_that_never_reads_is_dropped() {
        let mut conn = Conn::default();
        let reply = same(&vec![0; OUT_BYTES_MAX / 2 + 1]);
        conn.take(POST, &reply);
        assert!(!conn.ending);
        conn.take(POST, &reply);
        assert!(conn.finished());
    }
}
