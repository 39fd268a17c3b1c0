//! The bare io_uring loop: the least that can receive a request and answer it.
//!
//! One ring (`DEFER_TASKRUN`, `SINGLE_ISSUER`), one multishot accept, one
//! multishot receive per connection into a shared buffer ring, and one send per
//! connection and turn however many requests it held. The loop sleeps in its own
//! ring. A request is framed and read no further: every reply is the same bytes,
//! or those recorded for its method, so what a server costs beyond this is what
//! it does with the message.

pub mod answers;
mod buffers;
mod conn;
mod frame;

use answers::Answers;
use buffers::Buffers;
use conn::Conn;
use io_uring::squeue::Entry;
use io_uring::{IoUring, SubmissionQueue, Submitter, cqueue, opcode, types};
use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, RawFd};

/// Submission entries: several turns' worth of sends.
const SQ_ENTRIES: u32 = 1024;
/// Completion entries: a burst from many connections must fit.
const CQ_ENTRIES: u32 = 8192;
/// Connections the kernel queues before they are accepted (it caps this at somaxconn).
const BACKLOG: i32 = 65_535;

/// The operation a completion belongs to: the upper half of its user data, the
/// lower half being the descriptor.
#[derive(Clone, Copy)]
enum Op {
    Accept = 1,
    Receive = 2,
    Send = 3,
}

impl Op {
    fn tag(self, fd: RawFd) -> u64 {
        (self as u64) << 32 | u64::from(fd.unsigned_abs())
    }
}

/// A listening bare loop.
pub struct BareLoop {
    ring: IoUring,
    state: State,
}

/// All but the ring, so that its queues can be borrowed beside it.
struct State {
    listener: TcpListener,
    buffers: Buffers,
    answers: Answers,
    /// Indexed by descriptor: the kernel gives out the smallest free one.
    conns: Vec<Conn>,
    /// Descriptors of connections with replies to send at the turn's end.
    to_send: Vec<RawFd>,
    open: usize,
    accepting: bool,
}

/// The submission side of the ring during one turn.
struct Submit<'a> {
    submitter: Submitter<'a>,
    queue: SubmissionQueue<'a>,
}

impl Submit<'_> {
    fn push(&mut self, entry: &Entry) -> io::Result<()> {
        // SAFETY: buffers that entries point to outlive them: receive buffers are
        // never unmapped, and a connection keeps flying bytes until their completion.
        while unsafe { self.queue.push(entry) }.is_err() {
            self.queue.sync();
            self.submitter.submit()?;
            self.queue.sync();
        }
        Ok(())
    }
}

impl BareLoop {
    /// Listens on `listen` and will answer each request with one of these whole HTTP replies.
    ///
    /// # Errors
    /// When the port is taken or the kernel lacks a needed io_uring feature (6.1 has all).
    pub fn new(listen: SocketAddr, answers: Answers) -> io::Result<Self> {
        let listener = TcpListener::bind(listen)?;
        widen(&listener)?;
        let ring = IoUring::builder().setup_single_issuer().setup_defer_taskrun().setup_cqsize(CQ_ENTRIES).build(SQ_ENTRIES)?;
        let buffers = Buffers::register(&ring)?;
        let state = State { listener, buffers, answers, conns: Vec::new(), to_send: Vec::new(), open: 0, accepting: false };
        Ok(Self { ring, state })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the kernel cannot tell.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.state.listener.local_addr()
    }

    /// Serves until an error of the ring itself, on the thread that made it.
    ///
    /// # Errors
    /// When the ring or the listener fails for good.
    pub fn run(mut self) -> io::Result<Infallible> {
        loop {
            self.turn()?;
        }
    }

    /// Handles all that has completed, then submits and sleeps until something more has.
    fn turn(&mut self) -> io::Result<()> {
        let (submitter, queue, mut completions) = self.ring.split();
        let mut submit = Submit { submitter, queue };
        for done in &mut completions {
            self.state.on_completion(&mut submit, &done)?;
        }
        drop(completions);
        self.state.end_turn(&mut submit)?;
        drop(submit);
        match self.ring.submit_and_wait(1) {
            // Interrupted, or completions wait for room: either way, look at them.
            Err(e) if !matches!(e.raw_os_error(), Some(libc::EINTR | libc::EBUSY)) => Err(e),
            _ => Ok(()),
        }
    }
}

impl State {
    fn on_completion(&mut self, submit: &mut Submit, done: &cqueue::Entry) -> io::Result<()> {
        let fd = done.user_data() as u32 as RawFd;
        let op = done.user_data() >> 32;
        if op == Op::Accept as u64 {
            self.on_accept(submit, done)
        } else if op == Op::Receive as u64 {
            self.on_receive(submit, fd, done)
        } else {
            self.on_send(submit, fd, done.result())
        }
    }

    fn on_accept(&mut self, submit: &mut Submit, done: &cqueue::Entry) -> io::Result<()> {
        self.accepting = cqueue::more(done.flags());
        let fd = done.result();
        if fd < 0 {
            // Out of descriptors or memory: accept again when a connection has closed.
            return match (-fd, self.open) {
                (libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM, 1..) => Ok(()),
                (libc::ECONNABORTED | libc::EINTR, _) => self.arm_accept(submit),
                (error, _) => Err(io::Error::from_raw_os_error(error)),
            };
        }
        let index = fd as usize;
        if self.conns.len() <= index {
            self.conns.resize_with(index + 1, Conn::default);
        }
        self.open += 1;
        arm_receive(submit, fd, &mut self.conns[index])
    }

    fn on_receive(&mut self, submit: &mut Submit, fd: RawFd, done: &cqueue::Entry) -> io::Result<()> {
        let conn = &mut self.conns[fd as usize];
        conn.receiving = cqueue::more(done.flags());
        match (done.result(), cqueue::buffer_select(done.flags())) {
            (len @ 1.., Some(id)) => {
                conn.take(self.buffers.filled(id, len as usize), &self.answers);
                self.buffers.give_back(id);
            }
            // All buffers were taken: they are back by the time this is armed again.
            (error, _) if error == -libc::ENOBUFS => {}
            // The peer has ended its side: replies owed are still sent (RFC 9112 9.6).
            (0, _) => conn.ending = true,
            _ => conn.abandon(),
        }
        if !conn.receiving && !conn.ending {
            arm_receive(submit, fd, conn)?;
        }
        self.note(submit, fd)
    }

    fn on_send(&mut self, submit: &mut Submit, fd: RawFd, result: i32) -> io::Result<()> {
        let conn = &mut self.conns[fd as usize];
        conn.sending = false;
        if result < 0 {
            conn.abandon();
        } else if conn.sent(result as usize) {
            return arm_send(submit, fd, conn);
        }
        self.note(submit, fd)
    }

    /// Lists a connection that has something to send; closes one that is finished.
    fn note(&mut self, submit: &mut Submit, fd: RawFd) -> io::Result<()> {
        let conn = &mut self.conns[fd as usize];
        if conn.wants_send() && !conn.listed {
            conn.listed = true;
            self.to_send.push(fd);
        }
        if !conn.finished() {
            return Ok(());
        }
        if conn.receiving {
            // The receive then completes with 0, which leads here again.
            // SAFETY: `fd` is this connection's socket, still open.
            unsafe { libc::shutdown(fd, libc::SHUT_RDWR) };
            return Ok(());
        }
        *conn = Conn::default();
        // SAFETY: as above, and no operation on it is left in the kernel.
        unsafe { libc::close(fd) };
        self.open -= 1;
        self.arm_accept(submit)
    }

    /// One send per connection that got replies this turn; buffers back to the kernel.
    fn end_turn(&mut self, submit: &mut Submit) -> io::Result<()> {
        for fd in self.to_send.drain(..) {
            let conn = &mut self.conns[fd as usize];
            conn.listed = false;
            if conn.wants_send() {
                conn.launch();
                arm_send(submit, fd, conn)?;
            }
        }
        self.buffers.publish();
        self.arm_accept(submit)
    }

    fn arm_accept(&mut self, submit: &mut Submit) -> io::Result<()> {
        if self.accepting {
            return Ok(());
        }
        self.accepting = true;
        let listener = types::Fd(self.listener.as_raw_fd());
        let accept = opcode::AcceptMulti::new(listener).flags(libc::SOCK_CLOEXEC).build();
        submit.push(&accept.user_data(Op::Accept.tag(0)))
    }
}

fn arm_receive(submit: &mut Submit, fd: RawFd, conn: &mut Conn) -> io::Result<()> {
    conn.receiving = true;
    let receive = opcode::RecvMulti::new(types::Fd(fd), buffers::GROUP).build();
    submit.push(&receive.user_data(Op::Receive.tag(fd)))
}

fn arm_send(submit: &mut Submit, fd: RawFd, conn: &mut Conn) -> io::Result<()> {
    conn.sending = true;
    let bytes = conn.to_send();
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let send = opcode::Send::new(types::Fd(fd), bytes.as_ptr(), len).flags(libc::MSG_NOSIGNAL);
    submit.push(&send.build().user_data(Op::Send.tag(fd)))
}

/// Sets what accepted sockets inherit (no delay) and the longest accept queue.
fn widen(listener: &TcpListener) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the option's value is a c_int that outlives the call.
    let failed = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_NODELAY,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        ) != 0
            || libc::listen(listener.as_raw_fd(), BACKLOG) != 0
    };
    if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
