//! A child process: how it starts, how it is told to end, and that it is gone when its value is.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;

use super::super::host;
use crate::gateway::link::{Command, Down};

/// What a child has of this process's environment. The rest may hold secrets that are none of its business.
const ENV_KEPT: [&str; 10] = ["HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "TZ", "USER"];
/// The highest signal of Linux. The kernel is asked itself: libc keeps two of them from its callers.
const SIGNAL_MAX: i32 = 64;
/// How long the last means to be rid of a process may take, milliseconds.
const KILL_MS_MAX: i32 = 1000;

/// A process that was started and not reaped, with our ends of its pipes; they do not block.
pub(super) struct Process {
    pid: libc::pid_t,
    /// Readable when it has ended.
    exit: OwnedFd,
    pub(super) stdin: Option<OwnedFd>,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
    is_reaped: bool,
}

impl Process {
    /// Starts it, in a process group of its own. Blocks: not for a core. The thread that calls this must outlive the process: when it
    /// ends, the kernel kills the process, so that none is left when this process is killed.
    ///
    /// # Errors
    /// Why it could not be started.
    pub(super) fn start(command: &Command) -> Result<Self, Down> {
        let mut builder = std::process::Command::new(&*command.program);
        builder.args(command.args.iter().map(|argument| &**argument)).env_clear().process_group(0);
        builder.envs(ENV_KEPT.iter().filter_map(|name| std::env::var_os(name).map(|value| (*name, value))));
        builder.envs(command.env.iter().map(|(name, value)| (&**name, &**value)));
        builder.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(cwd) = &command.cwd {
            if !Path::new(&**cwd).is_dir() {
                tracing::warn!(upstream = &*command.name, cwd = &**cwd, "a process is not started: its directory is not there");
                return Err(Down::NotStarted("its directory is not there".into()));
            }
            builder.current_dir(&**cwd);
        }
        let descriptors = host::descriptors_given();
        // SAFETY: plain system call.
        let parent = unsafe { libc::getpid() };
        // SAFETY: what runs between fork and exec makes system calls only, and touches no memory but its own.
        unsafe { builder.pre_exec(move || settle(parent, descriptors)) };
        let refuse = |error: &io::Error| match error.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE) => Down::TooMany,
            code => {
                // Where programs are is none of the clients' business.
                tracing::warn!(upstream = &*command.name, program = &*command.program, %error, "a process is not started");
                let why = if code == Some(libc::ENOENT) { "there is no such program".into() } else { error.to_string() };
                Down::NotStarted(why.into())
            }
        };
        let mut child = builder.spawn().map_err(|error| refuse(&error))?;
        let pid = child.id().cast_signed();
        let (Some(stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take()) else {
            unreachable!("all three were asked for");
        };
        // SAFETY: plain system call (5.3); a result that is not negative is a descriptor that nobody else owns. The process is not reaped.
        let exit = unsafe {
            let fd = libc::syscall(libc::SYS_pidfd_open, pid, 0) as RawFd;
            if fd < 0 {
                let error = io::Error::last_os_error();
                let _ = child.kill();
                let _ = child.wait();
                return Err(refuse(&error));
            }
            OwnedFd::from_raw_fd(fd)
        };
        let process = Self { pid, exit, stdin: Some(stdin.into()), stdout: stdout.into(), stderr: stderr.into(), is_reaped: false };
        for fd in [process.stdin.as_ref().map_or(-1, AsRawFd::as_raw_fd), process.stdout.as_raw_fd(), process.stderr.as_raw_fd()] {
            // SAFETY: plain system call on a pipe's end that only we have.
            unsafe { libc::fcntl(fd, libc::F_SETFL, libc::O_NONBLOCK) };
        }
        Ok(process)
    }

    pub(super) const fn pid(&self) -> libc::pid_t {
        self.pid
    }

    /// The descriptor that is readable once the process has ended.
    pub(super) fn exit(&self) -> RawFd {
        self.exit.as_raw_fd()
    }

    /// The highest number of its descriptors.
    pub(super) fn highest(&self) -> RawFd {
        let stdin = self.stdin.as_ref().map_or(-1, AsRawFd::as_raw_fd);
        stdin.max(self.stdout.as_raw_fd()).max(self.stderr.as_raw_fd()).max(self.exit())
    }

    /// Sends a signal to the whole process group. Until it is reaped, no other group can have its number.
    pub(super) fn signal(&self, signal: i32) {
        if !self.is_reaped {
            // SAFETY: plain system call.
            unsafe { libc::kill(-self.pid, signal) };
        }
    }

    /// Whether it has ended, and with which exit code; it is not reaped by that.
    pub(super) fn ended(&self) -> Option<Option<i32>> {
        wait(self.pid, libc::WNOWAIT)
    }

    /// Kills what is left of its group, and takes it off the list of processes if it has ended.
    pub(super) fn reap(&mut self) -> bool {
        self.signal(libc::SIGKILL);
        self.is_reaped = self.is_reaped || wait(self.pid, 0).is_some();
        self.is_reaped
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.reap() {
            return;
        }
        let mut poll = libc::pollfd { fd: self.exit(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one entry, which lives across the call.
        unsafe { libc::poll(&raw mut poll, 1, KILL_MS_MAX) };
        if !self.reap() {
            tracing::error!(pid = self.pid, "a child process does not end, not even killed");
        }
    }
}

/// Runs in the child, after it has its pipes and before it becomes another program.
fn settle(parent: libc::pid_t, descriptors: libc::rlimit) -> io::Result<()> {
    // SAFETY: plain system calls that may be made here; memory they touch is local.
    unsafe {
        // Whoever kills this process has the children killed too.
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        if libc::getppid() != parent {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        // Handlers end with exec; what is ignored or blocked does not.
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        let default = [0u64; 4];
        for signal in 1..=SIGNAL_MAX {
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), std::ptr::null_mut::<u64>(), size_of::<u64>());
        }
        libc::prctl(libc::PR_SET_THP_DISABLE, 0, 0, 0, 0);
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const descriptors);
        // All descriptors of ours are closed by exec. Those of foreign code in this process may not be (5.11; without it they stay).
        libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
    }
    Ok(())
}

/// Whether processes whose parent is gone become this one's: then it has to reap them. So it is when it is the first of a container.
pub(super) fn is_foster_parent() -> bool {
    let mut is_subreaper: libc::c_int = 0;
    // SAFETY: plain system calls; the kernel writes to a local.
    unsafe { libc::getpid() == 1 || (libc::prctl(libc::PR_GET_CHILD_SUBREAPER, &raw mut is_subreaper) == 0 && is_subreaper != 0) }
}

/// Takes those of a process group that have ended and that have become this process's own off the list of processes.
pub(super) fn reap_group(group: libc::pid_t) {
    loop {
        // SAFETY: all zeroes is a valid value of this structure, which the kernel fills.
        let reaped = unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            let done = libc::waitid(libc::P_PGID, group.cast_unsigned(), &raw mut info, libc::WEXITED | libc::WNOHANG);
            done == 0 && info.si_pid() != 0
        };
        if !reaped {
            return;
        }
    }
}

/// Whether the process has ended, and with which exit code.
fn wait(pid: libc::pid_t, more: i32) -> Option<Option<i32>> {
    // SAFETY: all zeroes is a valid value of this structure, which the kernel fills; the members are read as the kind of status says.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let done = libc::waitid(libc::P_PID, pid.cast_unsigned(), &raw mut info, libc::WEXITED | libc::WNOHANG | more);
        if done != 0 {
            // Somebody reaped it who should not have, or the kernel does: SIGCHLD is ignored.
            return (io::Error::last_os_error().raw_os_error() == Some(libc::ECHILD)).then_some(None);
        }
        (info.si_pid() == pid).then(|| (info.si_code == libc::CLD_EXITED).then(|| info.si_status()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::time::{Duration, Instant};

    use super::*;

    fn shell(script: &str) -> Command {
        Command {
            name: "test".into(),
            program: "sh".into(),
            args: Box::new(["-c".into(), script.into()]),
            env: Box::new([("GIVEN".into(), "a b".into())]),
            cwd: Some("/".into()),
        }
    }

    /// Lets the process run to its end and returns what it wrote and its code.
    fn run(command: &Command) -> (String, Option<i32>) {
        let mut process = Process::start(command).expect("a process");
        process.stdin = None;
        let mut text = String::new();
        // SAFETY: plain system call; the pipe is to block in this test.
        unsafe { libc::fcntl(process.stdout.as_raw_fd(), libc::F_SETFL, 0) };
        std::fs::File::from(process.stdout.try_clone().expect("a descriptor")).read_to_string(&mut text).expect("text");
        let mut poll = libc::pollfd { fd: process.exit(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one entry, which lives across the call.
        unsafe { libc::poll(&raw mut poll, 1, 10_000) };
        let code = process.ended().expect("it has ended");
        assert_eq!(process.ended(), Some(code), "it is not reaped yet");
        assert!(process.reap() && process.reap());
        (text, code)
    }

    #[test]
    fn it_has_what_it_was_given_and_nothing_more() {
        host::refuse_huge_pages();
        // SAFETY: plain system call; a descriptor that exec does not close, as foreign code may have.
        let stray = unsafe { libc::dup(1) };
        let (text, code) = run(&shell(
            "echo $GIVEN; pwd; echo /proc/self/fd/*; grep -E 'SigBlk|SigIgn|THP_enabled' /proc/self/status; env | sort | cut -d= -f1",
        ));
        // SAFETY: made above.
        unsafe { libc::close(stray) };
        let mut lines = text.lines();
        assert_eq!((lines.next(), lines.next(), code), (Some("a b"), Some("/"), Some(0)));
        let open = lines.next().expect("a list");
        // The shell opens the folder itself.
        assert!(open.split(' ').count() <= 4 && open.starts_with("/proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2"), "{open}");
        let rest: Vec<_> = lines.collect();
        assert!(rest.contains(&"SigBlk:\t0000000000000000") && rest.contains(&"SigIgn:\t0000000000000000"), "{rest:?}");
        assert!(!rest.contains(&"THP_enabled:\t0"), "{rest:?}");
        let of_shells = ["GIVEN", "OLDPWD", "PWD", "SHLVL", "_"];
        assert!(
            rest.iter().skip_while(|line| line.contains(':')).all(|name| ENV_KEPT.contains(name) || of_shells.contains(name)),
            "{rest:?}"
        );
    }

    #[test]
    fn codes_signals_and_what_does_not_start() {
        assert_eq!(run(&shell("exit 7")).1, Some(7));
        assert_eq!(run(&shell("kill -9 $$")).1, None);
        let start = |command: &Command| match Process::start(command).map(|_| ()) {
            Err(Down::NotStarted(why)) => why,
            other => panic!("{other:?}"),
        };
        assert_eq!(&*start(&Command { program: "/no/such".into(), ..shell("") }), "there is no such program");
        assert_eq!(&*start(&Command { cwd: Some("/no/such".into()), ..shell("") }), "its directory is not there");
        let denied = start(&Command { program: "/etc/passwd".into(), ..shell("") });
        assert!(denied.contains("ermission denied") && !denied.contains("passwd"), "{denied}");
    }

    #[test]
    fn dropping_it_ends_the_whole_group() {
        let process = Process::start(&shell("trap '' TERM HUP; sleep 600 & echo $!; wait")).expect("a process");
        let mut stdout = std::fs::File::from(process.stdout.try_clone().expect("a descriptor"));
        // SAFETY: plain system call; the pipe is to block in this test.
        unsafe { libc::fcntl(process.stdout.as_raw_fd(), libc::F_SETFL, 0) };
        let mut text = [0; 16];
        let count = stdout.read(&mut text).expect("a number");
        let grandchild: i32 = std::str::from_utf8(&text[..count]).expect("text").trim().parse().expect("a number");
        let pid = process.pid();
        drop(process);
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "reaped");
        // Its new parent reaps the grandchild when it pleases.
        let until = Instant::now() + Duration::from_secs(10);
        let runs = || std::fs::read_to_string(format!("/proc/{grandchild}/stat")).is_ok_and(|stat| !stat.contains(") Z"));
        while runs() {
            assert!(Instant::now() < until, "the grandchild lives");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn it_dies_with_the_thread_that_started_it() {
        let process = std::thread::spawn(|| Process::start(&shell("exec sleep 600")).expect("a process")).join().expect("the thread");
        let mut poll = libc::pollfd { fd: process.exit(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one entry, which lives across the call.
        assert_eq!(unsafe { libc::poll(&raw mut poll, 1, 10_000) }, 1);
        assert_eq!(process.ended(), Some(None), "killed");
    }

    #[test]
    fn writing_to_a_full_pipe_does_not_block() {
        let process = Process::start(&shell("exec sleep 600")).expect("a process");
        let mut stdin = std::fs::File::from(process.stdin.as_ref().expect("a pipe").try_clone().expect("a descriptor"));
        let full = (0..1000).find_map(|_| stdin.write(&[0; 65536]).err()).expect("it is full at last");
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
    }
}
