//! A server under test: one process, on ports of its own, stopped when it is dropped.

use super::process;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

const START_MAX: Duration = Duration::from_secs(30);
const STOP_MAX: Duration = Duration::from_secs(60);
const LOG_BYTES_MAX: usize = 64 * 1024;

/// What the process has printed so far, and who waits for more of it.
#[derive(Default)]
struct Printed {
    text: Mutex<String>,
    more: Condvar,
    /// How many of its two pipes have ended: with both gone nothing more will come.
    ended: AtomicUsize,
}

impl Printed {
    fn lock(&self) -> MutexGuard<'_, String> {
        self.text.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, line: &str) {
        let mut text = self.lock();
        text.push_str(line);
        if text.len() > LOG_BYTES_MAX {
            // The start is kept: it says where the server listens.
            let (from, to) = (text.ceil_char_boundary(LOG_BYTES_MAX / 4), text.ceil_char_boundary(LOG_BYTES_MAX / 2));
            text.drain(from..to);
        }
        self.more.notify_all();
    }

    fn end(&self) {
        let _text = self.lock();
        self.ended.fetch_add(1, Ordering::Relaxed);
        self.more.notify_all();
    }

    fn is_complete(&self) -> bool {
        self.ended.load(Ordering::Relaxed) == 2
    }
}

/// A running server.
pub struct Process {
    child: Option<Child>,
    printed: Arc<Printed>,
}

impl Process {
    /// Starts `program`.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    pub fn start(program: &Path, args: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()));
        let printed = Arc::<Printed>::default();
        keep(child.stdout.take().expect("stdout is piped"), Arc::clone(&printed));
        keep(child.stderr.take().expect("stderr is piped"), Arc::clone(&printed));
        Self { child: Some(child), printed }
    }

    /// Waits until it has printed a line of which `find` makes something.
    ///
    /// # Panics
    ///
    /// If it does not in time.
    pub fn printed<T>(&self, find: impl Fn(&str) -> Option<T>) -> T {
        let deadline = Instant::now() + START_MAX;
        let mut text = self.printed.lock();
        loop {
            if let Some(found) = text.lines().find_map(&find) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let waits = !left.is_zero() && !self.printed.is_complete();
            assert!(waits, "the server did not say what was waited for; it said:\n{}", process::tail(&text));
            text = self.printed.more.wait_timeout(text, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The process's id.
    ///
    /// # Panics
    ///
    /// If it was stopped.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// The last of what it has printed so far.
    pub fn log(&self) -> String {
        process::tail(&self.printed.lock()).to_owned()
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        if let Some(child) = &self.child {
            let pid = libc::pid_t::try_from(child.id()).expect("a pid fits its own type");
            // SAFETY: kill reads no memory of ours, and the child has not been waited for, so its pid is still its own.
            unsafe { libc::kill(pid, libc::SIGTERM) };
        }
    }

    /// Stops it as an operator would, and judges how it ended.
    ///
    /// # Panics
    ///
    /// If it had ended before, does not end in time, or ends with an error.
    pub fn stop(mut self) {
        if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().expect("a child can be waited for")) {
            panic!("the server ended on its own ({status}); it said:\n{}", self.log());
        }
        self.terminate();
        self.wait();
    }

    /// Waits for its end, which must be a good one.
    ///
    /// # Panics
    ///
    /// If it does not end in time, or ends with an error.
    pub fn wait(&mut self) {
        let Some(status) = self.ended() else {
            panic!("the server still runs after {STOP_MAX:?}; it said:\n{}", self.log());
        };
        assert!(status.success(), "the server ended with {status}; it said:\n{}", self.log());
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        let status = process::wait(self.child.as_mut()?, STOP_MAX)?;
        self.child = None;
        Some(status)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.terminate();
        if self.child.is_some() && self.ended().is_none() {
            let child = self.child.as_mut().expect("it runs");
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Reads `pipe` to its end on a thread: a full pipe would stop the server.
fn keep(pipe: impl Read + Send + 'static, printed: Arc<Printed>) {
    thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        while pipe.read_until(b'\n', &mut line).is_ok_and(|read| read != 0) {
            printed.add(&String::from_utf8_lossy(&line));
            line.clear();
        }
        printed.end();
    });
}

/// The address of an HTTP resource at `path` in `line`, if there is one.
pub fn url(line: &str, path: &str) -> Option<String> {
    let url = &line[line.find("http://")?..];
    let end = url.find(|c: char| c.is_whitespace() || "\"'`<>,;)".contains(c));
    let url = &url[..end.unwrap_or(url.len())];
    url.ends_with(path).then(|| url.to_owned())
}

#[test]
fn an_end_without_the_line_is_noticed_at_once() {
    let started = Instant::now();
    let process = Process::start(Path::new("/bin/echo"), &["bye"]);
    let outcome = thread::spawn(move || process.printed(|line| url(line, "/mcp"))).join();
    assert!(outcome.is_err(), "an address was found in bye");
    assert!(started.elapsed() < START_MAX / 2);
}

#[test]
fn an_address_is_found_in_a_line() {
    let found = Some("http://127.0.0.1:4711/mcp".to_owned());
    assert_eq!(url("listening on http://127.0.0.1:4711/mcp\n", "/mcp"), found);
    assert_eq!(url(r#"{"url": "http://127.0.0.1:4711/mcp"}"#, "/mcp"), found);
    assert_eq!(url("admin on http://127.0.0.1:9090/health/live", "/mcp"), None);
    assert_eq!(url("starting", "/mcp"), None);
}
