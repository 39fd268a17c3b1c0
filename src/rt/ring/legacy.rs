//! The path of a 5.8 kernel: nothing here came later. One-shot accept and receive, buffers provided by an operation, waits bounded by a
//! timeout operation, cancellation by user data.

use std::os::fd::RawFd;

use io_uring::{IoUring, opcode, squeue, types};

use super::token::{Op, Token};

/// Operations that this path uses, for the probe. All are of 5.7 or older.
pub(super) const CODES: [u8; 8] = [
    opcode::Accept::CODE,
    opcode::Connect::CODE,
    opcode::Recv::CODE,
    opcode::Send::CODE,
    opcode::PollAdd::CODE,
    opcode::Timeout::CODE,
    opcode::AsyncCancel::CODE,
    opcode::ProvideBuffers::CODE,
];

/// Flags to `io_uring_enter`: IORING_ENTER_GETEVENTS.
pub(super) const ENTER_FLAGS: u32 = 1;

/// Set-up flags: IORING_SETUP_CQSIZE (5.5) and IORING_SETUP_CLAMP (5.6).
pub(super) fn builder(completions: u32) -> io_uring::Builder {
    let mut builder = IoUring::builder();
    builder.setup_cqsize(completions).setup_clamp();
    builder
}

pub(super) fn accept(listener: RawFd, token: Token) -> squeue::Entry {
    opcode::Accept::new(types::Fd(listener), std::ptr::null_mut(), std::ptr::null_mut())
        .flags(libc::SOCK_CLOEXEC)
        .build()
        .user_data(token.raw())
}

pub(super) fn connect(socket: RawFd, address: *const libc::sockaddr, length: libc::socklen_t, token: Token) -> squeue::Entry {
    opcode::Connect::new(types::Fd(socket), address, length).build().user_data(token.raw())
}

pub(super) fn recv(socket: RawFd, group: u16, bytes_max: u32, token: Token) -> squeue::Entry {
    opcode::Recv::new(types::Fd(socket), std::ptr::null_mut(), bytes_max)
        .buf_group(group)
        .build()
        .flags(squeue::Flags::BUFFER_SELECT)
        .user_data(token.raw())
}

pub(super) fn send(socket: RawFd, bytes: &[u8], token: Token) -> squeue::Entry {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    opcode::Send::new(types::Fd(socket), bytes.as_ptr(), length).flags(libc::MSG_NOSIGNAL).build().user_data(token.raw())
}

pub(super) fn watch(fd: RawFd, events: u32, token: Token) -> squeue::Entry {
    opcode::PollAdd::new(types::Fd(fd), events).build().user_data(token.raw())
}

pub(super) fn cancel(target: Token) -> squeue::Entry {
    opcode::AsyncCancel::new(target.raw()).build().user_data(Token::new(Op::Cancel, 0).raw())
}

/// A wait's end: after the given time, or after one completion.
pub(super) fn timeout(after: &types::Timespec) -> squeue::Entry {
    opcode::Timeout::new(after).count(1).build().user_data(Token::new(Op::Timeout, 0).raw())
}

/// Gives `count` buffers that stand one after the other to the kernel.
pub(super) fn provide(memory: *mut u8, bytes_each: u32, group: u16, first: u16, count: u16) -> squeue::Entry {
    opcode::ProvideBuffers::new(memory, bytes_each.cast_signed(), count, group, first)
        .build()
        .user_data(Token::new(Op::Provide, u32::from(first)).raw())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The layout of `struct io_uring_sqe`: opcode, flags, then 16 bits of per-operation priority, in which later kernels carry
    /// flags such as "multishot".
    fn raw(entry: &squeue::Entry) -> [u8; 64] {
        assert_eq!(size_of::<squeue::Entry>(), 64);
        // SAFETY: an entry is the kernel's 64-byte structure, plain integers without padding.
        unsafe { std::ptr::read(std::ptr::from_ref(entry).cast()) }
    }

    #[test]
    fn entries_carry_nothing_newer_than_5_8() {
        let token = Token::new(Op::Recv, 1);
        let after = types::Timespec::new().sec(1);
        let entries = [
            accept(3, token),
            connect(3, std::ptr::null(), 16, token),
            recv(3, 7, 4096, token),
            send(3, b"x", token),
            watch(3, 1, token),
            cancel(token),
            timeout(&after),
            provide(std::ptr::null_mut(), 4096, 7, 0, 4),
        ];
        for (entry, code) in entries.iter().zip([
            opcode::Accept::CODE,
            opcode::Connect::CODE,
            opcode::Recv::CODE,
            opcode::Send::CODE,
            opcode::PollAdd::CODE,
            opcode::AsyncCancel::CODE,
            opcode::Timeout::CODE,
            opcode::ProvideBuffers::CODE,
        ]) {
            let bytes = raw(entry);
            assert_eq!(bytes[0], code);
            assert!(CODES.contains(&code));
            let flags_of_5_8 = squeue::Flags::BUFFER_SELECT.bits();
            assert_eq!(bytes[1] & !flags_of_5_8, 0, "entry flags of operation {code}");
            assert_eq!(&bytes[2..4], &[0, 0], "priority bits of operation {code}");
        }
        // The cancellation, the timeout and the poll have no flags of their own before 5.11 and 5.13.
        for entry in [cancel(token), timeout(&after)] {
            assert_eq!(&raw(&entry)[28..32], &[0; 4]);
        }
        assert_eq!(&raw(&watch(3, 1, token))[24..28], &[0; 4], "a multishot poll came with 5.13");
    }

    #[test]
    fn enter_and_setup_flags_are_those_of_5_8() {
        assert_eq!(ENTER_FLAGS, 1);
        let ring = builder(64).build(8).expect("a ring");
        // `struct io_uring_params`: sq_entries, cq_entries, flags.
        // SAFETY: the parameters are the kernel's structure, which begins with plain 32-bit integers.
        let flags = unsafe { std::ptr::from_ref(ring.params()).cast::<u32>().add(2).read() };
        assert_eq!(flags & !(1 << 3 | 1 << 4), 0, "set-up flags other than CQSIZE and CLAMP: {flags:#x}");
    }
}
