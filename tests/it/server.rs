//! The real `ringhub` binary, and what the kernel says about its process.

use crate::support::server::{Process, url};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// A running `ringhub serve`.
pub struct Server {
    process: Process,
    address: SocketAddr,
    admin: SocketAddr,
}

impl Server {
    /// Starts it with `args`, on free ports unless they say otherwise, and waits until it listens.
    pub fn start(args: &[&str]) -> Self {
        let mut all = vec!["serve", "--admin", "127.0.0.1:0"];
        if !args.contains(&"--listen") {
            all.extend(["--listen", "127.0.0.1:0"]);
        }
        all.extend(args);
        let process = Process::start(Path::new(env!("CARGO_BIN_EXE_ringhub")), &all);
        let address = process.printed(|line| url(line, "/mcp")).replace("/mcp", "");
        let admin = process.printed(|line| url(line, "/health/ready")).replace("/health/ready", "");
        let parse = |text: String| text.trim_start_matches("http://").parse().unwrap_or_else(|_| panic!("not an address: {text}"));
        Self { process, address: parse(address), admin: parse(admin) }
    }

    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    pub const fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Starts one of two cores with a server behind it, whose names stand as they are.
    pub fn before(back: SocketAddr) -> Self {
        let config = tempfile::NamedTempFile::new().expect("a file");
        let text =
            format!("[[upstream]]\nname = \"back\"\nurl = \"http://{back}/mcp\"\n[[endpoint]]\npath = \"/mcp\"\nservers = [\"back\"]\n");
        std::fs::write(config.path(), text).expect("it can be written");
        Self::start(&["--config", &config.path().display().to_string(), "--cores", "2", "--no-pin"])
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        self.process.terminate();
    }

    /// Waits until it has printed a line with `what` in it.
    pub fn wait_until_it_says(&self, what: &str) {
        self.process.printed(|line| line.contains(what).then_some(()));
    }

    /// Ends it at once, as a power cut would.
    pub fn kill(self) {
        let pid = libc::pid_t::try_from(self.pid()).expect("a pid fits its own type");
        // SAFETY: kill reads no memory of ours, and the child has not been waited for, so its pid is still its own.
        unsafe { libc::kill(pid, libc::SIGKILL) };
    }

    /// Waits for its end, which must be a good one.
    pub fn wait(mut self) {
        self.process.wait();
    }

    /// SIGTERM, then waits for its end, which must be a good one.
    pub fn stop(self) {
        self.process.stop();
    }
}

/// Runs a test against a server on the newest io_uring operations and against one on those of Linux 5.8 alone.
pub fn in_both_ring_modes(args: &[&str], test: impl Fn(&Server)) {
    for mode in ["auto", "5.8"] {
        let mut all = vec!["--io-uring", mode];
        all.extend(args);
        let server = Server::start(&all);
        test(&server);
    }
}

/// Descriptors that the process has open.
pub fn open_files(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).expect("the process runs").count()
}

/// Resident memory of the process, bytes.
pub fn resident_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

/// Waits until `condition` holds, for a bounded time.
pub fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(10));
    }
}
