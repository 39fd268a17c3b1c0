//! Links to child processes: the ring says when a pipe is ready or the process has ended, and plain calls that never block do the rest.
//! That way works on every kernel; reads of pipes in the ring do not before 6.4 without a thread each.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::super::conn::NEVER;
use super::super::core::Core;
use super::super::ring::{Completion, Op};
use super::super::wheel::{tick_after, ticks};
use super::process::{Process, is_foster_parent};
use super::stderr::Lines;
use super::{Common, Queue, Stage, Wish};
use crate::base::limits::{CHILD_EOF_MS_MAX, CHILD_READ_BYTES_MAX, CHILD_READS_MAX, CHILD_REST_MS_MAX, CHILD_TERM_MS_MAX};
use crate::base::metrics::Counter;
use crate::gateway::link::{Dial, Down, LinkEvent};

const WATCHES: [Op; 4] = [Op::ChildIn, Op::ChildOut, Op::ChildErr, Op::ChildExit];

/// How long processes that were killed with their group may take to become ours to reap, milliseconds.
const STRAY_MS: u64 = 1000;

/// How far a process has been asked to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Farewell {
    /// It was not.
    None,
    /// Its standard input is closed, or is being closed.
    Eof,
    /// It got SIGTERM.
    Term,
    /// It is killed.
    Kill,
    /// It has ended; what it has left in its pipes is read.
    Rest,
}

pub(super) struct Child {
    /// None before it has started and after it was reaped.
    pub(super) process: Option<Process>,
    /// Whether it is to be started.
    is_wanted: Arc<AtomicBool>,
    lines: Lines,
    /// Which of [`WATCHES`] are in the ring.
    watched: [bool; WATCHES.len()],
    farewell: Farewell,
    /// Its exit code, once it has ended.
    code: Option<Option<i32>>,
}

impl Child {
    pub(super) fn new() -> Self {
        let is_wanted = Arc::new(AtomicBool::new(true));
        Self { process: None, is_wanted, lines: Lines::new(), watched: [false; 4], farewell: Farewell::None, code: None }
    }

    pub(super) fn is_held(&self) -> bool {
        self.process.is_some() || self.watched.contains(&true)
    }

    fn watched(&mut self, op: Op) -> Option<&mut bool> {
        self.watched.iter_mut().zip(WATCHES).find(|(_, watch)| *watch == op).map(|(watched, _)| watched)
    }
}

/// What became of a read or a write.
enum Moved {
    Bytes(usize),
    /// Not now.
    Later,
    /// The other end is closed, or broken.
    Over,
}

fn moved(count: isize) -> Moved {
    match usize::try_from(count) {
        Ok(0) => Moved::Over,
        Ok(count) => Moved::Bytes(count),
        Err(_) => match io::Error::last_os_error().raw_os_error() {
            Some(libc::EAGAIN | libc::EINTR) => Moved::Later,
            _ => Moved::Over,
        },
    }
}

fn read(pipe: RawFd, into: &mut Vec<u8>) -> Moved {
    into.clear();
    into.reserve(CHILD_READ_BYTES_MAX);
    // SAFETY: the kernel writes at most so many bytes into the room that was just made; as many as it says are then there.
    unsafe {
        let count = libc::read(pipe, into.as_mut_ptr().cast(), CHILD_READ_BYTES_MAX);
        into.set_len(usize::try_from(count).unwrap_or(0));
        moved(count)
    }
}

fn write(pipe: &OwnedFd, bytes: &[u8]) -> Moved {
    // SAFETY: the bytes are read during the call only.
    moved(unsafe { libc::write(pipe.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) })
}

/// How a child comes and goes.
impl Core {
    pub(super) fn start_child(&mut self, index: u32) {
        let Some(link) = self.links.common(index) else { return };
        link.is_awaited = true;
        let (dial, desk) = (Arc::clone(&link.dial), Arc::clone(&self.links.desk));
        let Some((_, child)) = self.links.child(index) else { return };
        let is_wanted = Arc::clone(&child.is_wanted);
        // Starting a process copies the page tables of this one, which may take milliseconds.
        self.links.hands.0.push(Wish::Start { index, dial, desk, is_wanted });
    }

    pub(super) fn on_started(&mut self, index: u32, started: Result<Process, Down>) {
        let process = match started {
            Ok(process) => process,
            Err(why) => return self.end_link(index, why),
        };
        let is_scarce = self.node.is_scarce(process.highest());
        let Some((common, child)) = self.links.child(index) else { return };
        tracing::debug!(upstream = name(common), pid = process.pid(), "a child process runs");
        child.process = Some(process);
        let (is_wanted, is_closed) = (!common.is_hung, common.stage == Stage::Closed);
        self.watch_child(index, Op::ChildExit);
        self.watch_child(index, Op::ChildErr);
        if is_closed || !is_wanted {
            // Nobody has talked to it: there is nothing to wait for.
            self.kill_child(index);
        } else if is_scarce {
            self.end_link(index, Down::TooMany);
        } else {
            self.watch_child(index, Op::ChildOut);
            self.lift(index);
        }
    }

    /// The engine hangs up.
    pub(super) fn hang_child(&mut self, index: u32) {
        let Some((common, child)) = self.links.child(index) else { return };
        if child.process.is_none() {
            // It is being started, and ends as soon as it has.
            return child.is_wanted.store(false, Ordering::Relaxed);
        }
        common.held = Vec::new();
        let has_exited = child.code.is_some();
        if has_exited {
            return self.bury_child(index);
        }
        self.ask_to_end(index);
        self.links.mark(index);
        // What it still writes is thrown away, so that it does not wait for that.
        self.watch_child(index, Op::ChildOut);
    }

    /// Gives the child its time to end of itself.
    fn ask_to_end(&mut self, index: u32) {
        let Some((_, child)) = self.links.child(index) else { return };
        if child.farewell == Farewell::None {
            child.farewell = Farewell::Eof;
            let due = tick_after(self.tick, ticks(Duration::from_millis(CHILD_EOF_MS_MAX)));
            self.links.set_due(index, due);
        }
    }

    /// The link is closed although the process has not ended: it is ended now.
    pub(super) fn end_child(&mut self, index: u32) {
        let Some((_, child)) = self.links.child(index) else { return };
        if child.code.is_some() {
            return self.bury_child(index);
        }
        let Some(process) = &child.process else { return child.is_wanted.store(false, Ordering::Relaxed) };
        process.signal(libc::SIGTERM);
        child.farewell = Farewell::Term;
        self.close_stdin(index);
        let due = tick_after(self.tick, ticks(Duration::from_millis(CHILD_TERM_MS_MAX)));
        self.links.set_due(index, due);
        self.watch_child(index, Op::ChildOut);
    }

    fn kill_child(&mut self, index: u32) {
        let Some((_, child)) = self.links.child(index) else { return };
        if let Some(process) = &child.process {
            process.signal(libc::SIGKILL);
        }
        child.farewell = Farewell::Kill;
        self.close_stdin(index);
        let due = tick_after(self.tick, ticks(Duration::from_millis(CHILD_TERM_MS_MAX)));
        self.links.set_due(index, due);
    }

    pub(super) fn on_child_due(&mut self, index: u32) {
        let tick = self.tick;
        let Some((common, child)) = self.links.child(index) else { return };
        let Some(process) = &child.process else {
            return self.end_link(index, Down::TimedOut);
        };
        match child.farewell {
            Farewell::None => (),
            Farewell::Eof => {
                process.signal(libc::SIGTERM);
                child.farewell = Farewell::Term;
                self.links.set_due(index, tick_after(tick, ticks(Duration::from_millis(CHILD_TERM_MS_MAX))));
            }
            Farewell::Term | Farewell::Kill => {
                tracing::warn!(upstream = name(common), pid = process.pid(), "a child process does not end and is killed");
                self.kill_child(index);
            }
            // The engine has not read what is left.
            Farewell::Rest if common.keeps_back() => self.links.set_due(index, tick_after(tick, 1)),
            Farewell::Rest => self.bury_child(index),
        }
    }

    /// The process has ended.
    fn on_child_exit(&mut self, index: u32) {
        let tick = self.tick;
        let Some((common, child)) = self.links.child(index) else { return };
        let Some(code) = child.process.as_ref().and_then(Process::ended) else {
            return self.watch_child(index, Op::ChildExit);
        };
        child.code = Some(code);
        child.farewell = Farewell::Rest;
        if common.is_hung || common.stage == Stage::Closed || common.has_ended {
            return self.bury_child(index);
        }
        common.fed = Queue::default();
        // A process that it has left behind may hold its output open.
        self.links.set_due(index, tick_after(tick, ticks(Duration::from_millis(CHILD_REST_MS_MAX))));
        self.read_child(index);
    }

    /// The process has ended and everything is read: what is left of its group is killed, and it is taken off the list of processes.
    fn bury_child(&mut self, index: u32) {
        self.read_lines(index);
        let now = self.now.mono;
        let Some((common, child)) = self.links.child(index) else { return };
        let Some(mut process) = child.process.take() else { return };
        child.lines.finish(now, |line| log(common, line));
        if !process.reap() {
            tracing::error!(pid = process.pid(), "a process that has ended cannot be reaped");
        }
        let group = process.pid();
        drop(process);
        common.due = NEVER;
        let code = child.code.flatten();
        let watched = child.watched;
        for (_, op) in watched.into_iter().zip(WATCHES).filter(|(watched, _)| *watched) {
            self.ring.cancel(op, index);
        }
        if is_foster_parent() {
            self.links.strays.push((group, tick_after(self.tick, ticks(Duration::from_millis(STRAY_MS)))));
        }
        self.end_link(index, Down::Exited { code });
        self.release_link(index);
    }
}

/// How bytes move.
impl Core {
    fn watch_child(&mut self, index: u32, op: Op) {
        let Some((_, child)) = self.links.child(index) else { return };
        let Some(process) = &child.process else { return };
        let (fd, events) = match op {
            Op::ChildIn => match &process.stdin {
                Some(stdin) => (stdin.as_raw_fd(), libc::POLLOUT),
                None => return,
            },
            Op::ChildOut => (process.stdout.as_raw_fd(), libc::POLLIN),
            Op::ChildErr => (process.stderr.as_raw_fd(), libc::POLLIN),
            _ => (process.exit(), libc::POLLIN),
        };
        if let Some(watched) = child.watched(op)
            && !std::mem::replace(watched, true)
        {
            self.ring.watch(fd, events, op, index);
        }
    }

    pub(super) fn on_child_watched(&mut self, op: Op, completion: &Completion) {
        let index = completion.index();
        let Some((_, child)) = self.links.child(index) else { return };
        if let Some(watched) = child.watched(op) {
            *watched = false;
        }
        if child.process.is_none() {
            return self.release_link(index);
        }
        match op {
            Op::ChildIn => self.write_child(index),
            Op::ChildOut => self.read_child(index),
            Op::ChildErr => self.read_lines(index),
            _ => self.on_child_exit(index),
        }
    }

    /// Reads what the child has written to its standard output.
    pub(super) fn read_child(&mut self, index: u32) {
        let Some(link) = self.links.common(index) else { return };
        let id = link.id;
        for _ in 0..CHILD_READS_MAX {
            let Some((common, child)) = self.links.child(index).filter(|(common, _)| common.id == id) else { return };
            let (Some(process), false) = (&child.process, common.has_ended) else { return };
            let is_heard = common.stage == Stage::Up && !common.is_hung;
            if is_heard && common.is_paused {
                return;
            }
            let stdout = process.stdout.as_raw_fd();
            let mut scratch = std::mem::take(&mut self.links.scratch);
            let moved = read(stdout, &mut scratch);
            match moved {
                Moved::Bytes(count) => {
                    self.metrics.add(Counter::LinkBytesIn, count as u64);
                    if is_heard {
                        self.tell(id, LinkEvent::Bytes(&scratch));
                    }
                }
                Moved::Later => (),
                Moved::Over => {
                    if let Some(link) = self.links.common(index) {
                        link.has_ended = true;
                    }
                }
            }
            scratch.clear();
            self.links.scratch = scratch;
            match moved {
                Moved::Bytes(_) => self.apply(),
                Moved::Later => break,
                Moved::Over => return self.on_output_end(index),
            }
        }
        self.watch_child(index, Op::ChildOut);
    }

    /// The child, and everybody who inherited it, has closed its standard output.
    fn on_output_end(&mut self, index: u32) {
        self.tell_link_end(index);
        if self.links.child(index).is_some_and(|(_, child)| child.code.is_some()) {
            self.bury_child(index);
        }
    }

    /// Logs what the child has written to its standard error.
    fn read_lines(&mut self, index: u32) {
        let now = self.now.mono;
        for _ in 0..CHILD_READS_MAX {
            let Some(process) = self.links.child(index).and_then(|(_, child)| child.process.as_ref()) else { return };
            let stderr = process.stderr.as_raw_fd();
            let mut scratch = std::mem::take(&mut self.links.scratch);
            let moved = read(stderr, &mut scratch);
            let dropped = match self.links.child(index) {
                Some((common, child)) => child.lines.take(now, &scratch, |line| log(common, line)),
                None => 0,
            };
            scratch.clear();
            self.links.scratch = scratch;
            if dropped > 0 {
                self.metrics.add(Counter::ChildLinesDropped, dropped);
            }
            match moved {
                Moved::Bytes(_) => (),
                Moved::Later => break,
                Moved::Over => return,
            }
        }
        self.watch_child(index, Op::ChildErr);
    }

    /// Closes the child's standard input. A watch in the ring would hold it open.
    fn close_stdin(&mut self, index: u32) {
        let Some((_, child)) = self.links.child(index) else { return };
        if let Some(process) = &mut child.process {
            process.stdin = None;
        }
        if child.watched(Op::ChildIn).is_some_and(|watched| *watched) {
            self.ring.cancel(Op::ChildIn, index);
        }
    }

    /// Writes what was fed to the child's standard input, as far as the pipe has room.
    pub(super) fn write_child(&mut self, index: u32) {
        loop {
            let Some((common, child)) = self.links.child(index) else { return };
            let Some(process) = &child.process else { return };
            let Some(stdin) = &process.stdin else {
                common.fed = Queue::default();
                return;
            };
            if common.fed.is_empty() {
                if common.is_hung {
                    self.close_stdin(index);
                }
                return self.tell_drained(index);
            }
            match write(stdin, common.fed.rest()) {
                Moved::Bytes(count) => {
                    common.fed.advance(count);
                    self.metrics.add(Counter::LinkBytesOut, count as u64);
                }
                Moved::Later => return self.watch_child(index, Op::ChildIn),
                Moved::Over => {
                    // It wants no more input: it is about to end, or should be.
                    common.fed = Queue::default();
                    self.close_stdin(index);
                    return self.ask_to_end(index);
                }
            }
        }
    }
}

fn name(common: &Common) -> &str {
    match &*common.dial {
        Dial::Child(command) => &command.name,
        Dial::Tcp { host, .. } => host,
    }
}

fn log(common: &Common, line: &str) {
    tracing::info!(upstream = name(common), "{line}");
}
