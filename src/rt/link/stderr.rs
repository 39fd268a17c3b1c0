//! What a child process writes to its standard error, as lines of the log.

use crate::base::limits::{CHILD_LINE_BYTES_MAX, CHILD_LINES_PER_SECOND_MAX};
use crate::base::time::Nanos;

const SECOND_NS: u64 = 1_000_000_000;

/// Makes lines of it: long ones are cut, and of too many in one second the rest is counted.
pub(super) struct Lines {
    /// The beginning of a line.
    partial: Vec<u8>,
    /// The rest of the line is too much.
    is_cut: bool,
    second: u64,
    in_second: u32,
    dropped: u64,
}

impl Lines {
    pub(super) const fn new() -> Self {
        Self { partial: Vec::new(), is_cut: false, second: 0, in_second: 0, dropped: 0 }
    }

    /// Takes what was written, and hands whole lines to `log`. The answer says how many were dropped.
    pub(super) fn take(&mut self, now: Nanos, mut bytes: &[u8], mut log: impl FnMut(&str)) -> u64 {
        let mut dropped = 0;
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            self.keep(&bytes[..end]);
            dropped += u64::from(!self.end(now, &mut log));
            bytes = &bytes[end + 1..];
        }
        self.keep(bytes);
        dropped
    }

    /// Nothing more comes: what is left is the last line.
    pub(super) fn finish(&mut self, now: Nanos, mut log: impl FnMut(&str)) {
        if !self.partial.is_empty() {
            self.end(now, &mut log);
        }
        self.tell_dropped(&mut log);
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = CHILD_LINE_BYTES_MAX - self.partial.len();
        self.is_cut |= bytes.len() > room;
        self.partial.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// The line is whole. False: it was dropped.
    fn end(&mut self, now: Nanos, log: &mut impl FnMut(&str)) -> bool {
        let second = now.0 / SECOND_NS;
        if second != self.second {
            self.second = second;
            self.in_second = 0;
            self.tell_dropped(log);
        }
        let is_cut = std::mem::take(&mut self.is_cut);
        if self.in_second >= CHILD_LINES_PER_SECOND_MAX {
            self.partial.clear();
            self.dropped += 1;
            return false;
        }
        let text = String::from_utf8_lossy(self.partial.strip_suffix(b"\r").unwrap_or(&self.partial));
        // A terminal that shows the log must not be told what to do by it.
        let mut line: String = text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect();
        if is_cut {
            line.push_str(" [cut]");
        }
        if !line.trim().is_empty() {
            self.in_second += 1;
            log(&line);
        }
        self.partial.clear();
        true
    }

    fn tell_dropped(&mut self, log: &mut impl FnMut(&str)) {
        match std::mem::take(&mut self.dropped) {
            0 => (),
            dropped => log(&format!("[{dropped} more lines in that second]")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(parts: &[&[u8]]) -> Vec<String> {
        let mut lines = Lines::new();
        let mut logged = Vec::new();
        for part in parts {
            lines.take(Nanos(0), part, |line| logged.push(line.to_owned()));
        }
        lines.finish(Nanos(0), |line| logged.push(line.to_owned()));
        logged
    }

    #[test]
    fn lines_are_put_together_and_made_harmless() {
        assert_eq!(lines(&[b"on", b"e\r\ntwo\n\n", b"  \nth", b"ree"]), ["one", "two", "three"]);
        assert_eq!(lines(&[b"\x1b[31mred\x07\xff\tx\n"]), ["\u{fffd}[31mred\u{fffd}\u{fffd}\tx"]);
    }

    #[test]
    fn a_long_line_is_cut_and_costs_no_more_memory() {
        let mut lines = Lines::new();
        let mut logged = Vec::new();
        for _ in 0..1000 {
            lines.take(Nanos(0), &[b'x'; 4096], |line| logged.push(line.to_owned()));
        }
        assert!(lines.partial.capacity() <= 2 * CHILD_LINE_BYTES_MAX);
        lines.take(Nanos(0), b"\nnext\n", |line| logged.push(line.to_owned()));
        assert_eq!(logged, [format!("{} [cut]", "x".repeat(CHILD_LINE_BYTES_MAX)), "next".to_owned()]);
    }

    #[test]
    fn a_flood_is_counted_and_the_next_second_begins_anew() {
        let mut lines = Lines::new();
        let mut logged = Vec::new();
        let flood = b"x\n".repeat(CHILD_LINES_PER_SECOND_MAX as usize + 7);
        let dropped = lines.take(Nanos(5), &flood, |line| logged.push(line.to_owned()));
        assert_eq!((logged.len(), dropped), (CHILD_LINES_PER_SECOND_MAX as usize, 7));
        logged.clear();
        lines.take(Nanos(SECOND_NS + 5), b"y\n", |line| logged.push(line.to_owned()));
        assert_eq!(logged, ["[7 more lines in that second]", "y"]);
    }
}
