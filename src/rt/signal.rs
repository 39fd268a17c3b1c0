//! SIGTERM, SIGINT and SIGHUP: a handler that makes an eventfd readable, and a wait for it.
//!
//! A handler rather than a blocked mask: child processes inherit a mask, and handlers end with exec.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

/// The eventfd of the process's handler.
static EVENT: AtomicI32 = AtomicI32::new(-1);

/// What the process was told and nobody has looked at.
static STOP: AtomicBool = AtomicBool::new(false);
static RELOAD: AtomicBool = AtomicBool::new(false);

/// What the process is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Told {
    /// To end: SIGTERM or SIGINT.
    Stop,
    /// To read its configuration again: SIGHUP.
    Reload,
    /// Nothing: it is over.
    Over,
}

extern "C" fn on_signal(signal: libc::c_int) {
    let told = if signal == libc::SIGHUP { &RELOAD } else { &STOP };
    told.store(true, Ordering::Release);
    let one = 1u64;
    let event = EVENT.load(Ordering::Relaxed);
    // SAFETY: write(2) may be called in a handler; it reads eight bytes of a local. errno is put back as it was.
    unsafe {
        let errno = libc::__errno_location();
        let before = *errno;
        libc::write(event, (&raw const one).cast(), 8);
        *errno = before;
    }
}

/// The signals of this process, once [`Signals::install`]ed.
pub(crate) struct Signals {
    event: RawFd,
}

impl Signals {
    /// Takes over SIGTERM, SIGINT and SIGHUP, and ignores SIGPIPE. A second call shares what the first installed.
    pub(crate) fn install() -> io::Result<Self> {
        let mut event = EVENT.load(Ordering::Acquire);
        if event < 0 {
            // SAFETY: plain system call.
            event = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
            if event < 0 {
                return Err(io::Error::last_os_error());
            }
            if let Err(first) = EVENT.compare_exchange(-1, event, Ordering::AcqRel, Ordering::Acquire) {
                // SAFETY: made above and seen by nobody.
                unsafe { libc::close(event) };
                event = first;
            }
        }
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
            // SAFETY: all zeroes is a valid start for this structure; the handler does only what a handler may.
            let done = unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = on_signal as extern "C" fn(libc::c_int) as usize;
                action.sa_flags = libc::SA_RESTART;
                libc::sigaction(signal, &raw const action, std::ptr::null_mut())
            };
            if done != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        // SAFETY: plain system call.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
        Ok(Self { event })
    }

    /// Waits for a signal or for `over` to be readable.
    pub(crate) fn wait(&self, over: RawFd) -> Told {
        loop {
            if STOP.swap(false, Ordering::Acquire) {
                return Told::Stop;
            }
            if RELOAD.swap(false, Ordering::Acquire) {
                return Told::Reload;
            }
            let entry = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
            let mut entries = [entry(self.event), entry(over)];
            // SAFETY: the entries live across the call, and their number is given.
            unsafe { libc::poll(entries.as_mut_ptr(), 2, -1) };
            if entries[0].revents != 0 {
                let mut count = 0u64;
                // SAFETY: eight bytes are written to a local; the descriptor does not block.
                unsafe { libc::read(self.event, (&raw mut count).cast(), 8) };
            } else if entries[1].revents != 0 {
                return Told::Over;
            }
        }
    }
}

/// An eventfd that says that something is over.
pub(crate) struct Over(OwnedFd);

impl Over {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: plain system call; a result that is not negative is a descriptor that nobody else owns.
        unsafe {
            let fd = libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC);
            if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(Self(OwnedFd::from_raw_fd(fd))) }
        }
    }

    pub(crate) fn set(&self) {
        let one = 1u64;
        // SAFETY: eight bytes are read from a local.
        unsafe { libc::write(self.0.as_raw_fd(), (&raw const one).cast(), 8) };
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_ends_the_wait_and_so_does_the_end() {
        let signals = Signals::install().expect("handlers");
        let over = Over::new().expect("an eventfd");
        // SAFETY: the process's own signal, whose handler was just installed.
        unsafe { libc::raise(libc::SIGTERM) };
        assert_eq!(signals.wait(over.fd()), Told::Stop);
        // SAFETY: as above.
        unsafe { libc::raise(libc::SIGHUP) };
        assert_eq!(signals.wait(over.fd()), Told::Reload);
        over.set();
        assert_eq!(signals.wait(over.fd()), Told::Over);
    }
}
