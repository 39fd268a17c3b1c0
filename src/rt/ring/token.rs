//! What the kernel hands back with a completion: which operation of which connection it belongs to.

use io_uring::cqueue;

/// The kinds of operation that a core has in its ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Op {
    /// Accepting on a listener.
    Accept = 1,
    /// Receiving on a connection.
    Recv = 2,
    /// Sending on a connection.
    Send = 3,
    /// Watching a connection that is not read for its end.
    Watch = 4,
    /// Watching the core's eventfd.
    Event = 5,
    /// A message from another core's ring, or the one that was sent.
    Wake = 6,
    /// The end of a wait.
    Timeout = 7,
    /// A cancellation. What counts is the completion of the operation that it cancels.
    Cancel = 8,
    /// Buffers given to the kernel.
    Provide = 9,
    /// A buffer asked back from the kernel.
    Recall = 10,
    /// Connecting a link.
    Connect = 11,
    /// Receiving on a link.
    LinkRecv = 12,
    /// Sending on a link.
    LinkSend = 13,
    /// Watching a child's standard input for room.
    ChildIn = 14,
    /// Watching a child's standard output.
    ChildOut = 15,
    /// Watching a child's standard error.
    ChildErr = 16,
    /// Watching a child for its end.
    ChildExit = 17,
}

const OPS: [Op; 17] = [
    Op::Accept,
    Op::Recv,
    Op::Send,
    Op::Watch,
    Op::Event,
    Op::Wake,
    Op::Timeout,
    Op::Cancel,
    Op::Provide,
    Op::Recall,
    Op::Connect,
    Op::LinkRecv,
    Op::LinkSend,
    Op::ChildIn,
    Op::ChildOut,
    Op::ChildErr,
    Op::ChildExit,
];

/// Names one operation: its kind in the top byte, then the index of its connection, listener or link.
///
/// An index needs no generation: a slot is reused only after every operation of its connection has completed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Token(u64);

impl Token {
    pub(crate) const fn new(op: Op, index: u32) -> Self {
        Self((op as u64) << 56 | index as u64)
    }

    pub(crate) const fn raw(self) -> u64 {
        self.0
    }
}

/// One completion.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Completion {
    user_data: u64,
    /// What the operation returned; negative: an errno.
    pub(crate) result: i32,
    flags: u32,
}

impl Completion {
    pub(crate) fn of(entry: &cqueue::Entry) -> Self {
        Self { user_data: entry.user_data(), result: entry.result(), flags: entry.flags() }
    }

    /// The operation's kind. None only if the kernel made one up.
    pub(crate) fn op(&self) -> Option<Op> {
        OPS.into_iter().find(|op| *op as u8 == (self.user_data >> 56) as u8)
    }

    /// The connection, listener or link.
    pub(crate) const fn index(&self) -> u32 {
        self.user_data as u32
    }

    /// Whether the operation is over: no further completion of it follows.
    pub(crate) fn is_last(&self) -> bool {
        !cqueue::more(self.flags)
    }

    /// The buffer that the kernel chose and filled.
    pub(crate) fn buffer(&self) -> Option<u16> {
        cqueue::buffer_select(self.flags)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_the_kernel() {
        for op in OPS {
            let raw = Token::new(op, u32::MAX - 1).raw();
            let completion = Completion { user_data: raw, result: 0, flags: 0 };
            assert_eq!((completion.op(), completion.index(), completion.is_last()), (Some(op), u32::MAX - 1, true));
        }
        assert_eq!(Completion { user_data: 0, result: 0, flags: 0 }.op(), None);
    }
}
