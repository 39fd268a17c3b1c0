//! The path of kernels from 6.1 on: multishot accept and receive over a buffer ring, completions deferred to the core's own waits,
//! messages from ring to ring.

use std::os::fd::RawFd;

use io_uring::{IoUring, opcode, squeue, types};

use super::token::{Op, Token};

/// Operations that this path needs beyond those of the 5.8 path.
pub(super) const CODES: [u8; 1] = [opcode::MsgRingData::CODE];

/// DEFER_TASKRUN and SINGLE_ISSUER measured best at every number of connections.
pub(super) fn builder(completions: u32) -> io_uring::Builder {
    let mut builder = IoUring::builder();
    builder.setup_cqsize(completions).setup_clamp().setup_single_issuer().setup_defer_taskrun().setup_submit_all();
    builder
}

pub(super) fn accept(listener: RawFd, token: Token) -> squeue::Entry {
    opcode::AcceptMulti::new(types::Fd(listener)).flags(libc::SOCK_CLOEXEC).build().user_data(token.raw())
}

pub(super) fn recv(socket: RawFd, group: u16, token: Token) -> squeue::Entry {
    opcode::RecvMulti::new(types::Fd(socket), group).build().user_data(token.raw())
}

/// Posts a completion into another core's ring. Its own success is not reported.
pub(super) fn wake(ring: RawFd) -> squeue::Entry {
    let token = Token::new(Op::Wake, 0).raw();
    opcode::MsgRingData::new(types::Fd(ring), 0, token, None).build().flags(squeue::Flags::SKIP_SUCCESS).user_data(token)
}
