//! How buffers come back from a kernel that has no use for them.
//!
//! What the kernel was given it keeps until it has received something, and to take it away by force is either newer than 5.8 or a race
//! with a receive. So the core sends itself as many bytes as it wants buffers back, and receives them one by one.

use std::io::{self, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;

/// Most buffers asked back at once: what that costs fits into one turn.
const BATCH_MAX: u16 = 256;

/// A batch of buffers that are on their way back.
pub(super) struct Recall {
    near: UnixStream,
    /// Kept open: the end of the stream would come back without a buffer.
    _far: UnixStream,
    left: u16,
}

impl Recall {
    /// Prepares the return of so many buffers, or of as many as one batch has.
    pub(super) fn new(buffers: u16) -> io::Result<Self> {
        let left = buffers.min(BATCH_MAX);
        let (near, mut far) = UnixStream::pair()?;
        // So few bytes fit into any socket: this does not block.
        far.write_all(&[0; BATCH_MAX as usize][..usize::from(left)])?;
        Ok(Self { near, _far: far, left })
    }

    /// Where to receive.
    pub(super) fn socket(&self) -> RawFd {
        self.near.as_raw_fd()
    }

    /// Receives of one byte that are still to complete.
    pub(super) const fn left(&self) -> u16 {
        self.left
    }

    /// One of them has. True: it was the last.
    pub(super) const fn one_less(&mut self) -> bool {
        self.left = self.left.saturating_sub(1);
        self.left == 0
    }
}
