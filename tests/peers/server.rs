//! The server under test: one process per test, on a port of its own.

use std::{
    env,
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use crate::{peer, process};

const START_MAX: Duration = Duration::from_secs(20);
const STOP_MAX: Duration = Duration::from_secs(20);
const LOG_BYTES_MAX: usize = 64 * 1024;

/// A running fixture server. Dropping it stops the process; [`Server::stop`] also judges how it ended.
pub struct Server {
    url: String,
    process: Option<Child>,
    log: Arc<Mutex<String>>,
}

impl Server {
    /// Starts `everything` on `cores` cores, for `era` (`legacy`, `modern` or `both`), and waits until it listens.
    ///
    /// # Panics
    ///
    /// If it does not say where it listens in time.
    pub fn start(cores: usize, era: &str) -> Self {
        let log = Arc::default();
        if let Ok(url) = env::var("RINGHUB_TEST_URL") {
            return Self { url, process: None, log };
        }
        let mut child = Command::new(peer::everything())
            .args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .args(["--cores", &cores.to_string(), "--no-pin", "--era", era])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the example server starts");
        let stderr = child.stderr.take().expect("stderr is piped");
        let stdout = child.stdout.take().expect("stdout is piped");
        keep(stderr, Arc::clone(&log), |_| ());
        let (found, address) = mpsc::channel();
        keep(stdout, Arc::clone(&log), move |line| {
            if let Some(url) = endpoint(line) {
                // Nobody waits any more once the first address has been taken.
                let _ = found.send(url);
            }
        });
        // From here on the process is stopped by the destructor, whatever happens.
        let mut server = Self { url: String::new(), process: Some(child), log };
        match address.recv_timeout(START_MAX) {
            Ok(url) => server.url = url,
            Err(RecvTimeoutError::Timeout) => {
                panic!("the server did not say where it listens within {START_MAX:?}; it said:\n{}", server.log())
            }
            Err(RecvTimeoutError::Disconnected) => {
                // It closed its standard output; give the rest of what it says a moment to arrive.
                let child = server.process.as_mut().expect("it has been started");
                let status = process::wait(child, STOP_MAX);
                let status = status.map_or("it still runs".to_owned(), |s| s.to_string());
                panic!("the server did not say where it listens ({status}); it said:\n{}", server.log());
            }
        }
        server
    }

    /// The MCP endpoint.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The last of what the server has printed so far.
    pub fn log(&self) -> String {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        process::tail(&log).to_owned()
    }

    /// Stops the server as an operator would.
    ///
    /// # Panics
    ///
    /// If it had ended before, does not end in time, or ends with an error.
    pub fn stop(mut self) {
        let Some(mut child) = self.process.take() else {
            return;
        };
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            panic!("the server ended on its own ({status}); it said:\n{}", self.log());
        }
        terminate(&child);
        let Some(status) = process::wait(&mut child, STOP_MAX) else {
            self.process = Some(child);
            panic!("the server still runs {STOP_MAX:?} after SIGTERM; it said:\n{}", self.log());
        };
        assert!(status.success(), "the server ended with {status}; it said:\n{}", self.log());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some(mut child) = self.process.take() else {
            return;
        };
        terminate(&child);
        if process::wait(&mut child, STOP_MAX).is_none() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn terminate(child: &Child) {
    let pid = libc::pid_t::try_from(child.id()).expect("a pid fits its own type");
    // SAFETY: kill reads no memory of ours, and the child has not been waited for, so its pid is still its own.
    unsafe { libc::kill(pid, libc::SIGTERM) };
}

/// Reads `pipe` to its end on a thread: a full pipe would stop the server. The last of it stays in `log`.
fn keep(pipe: impl Read + Send + 'static, log: Arc<Mutex<String>>, on_line: impl Fn(&str) + Send + 'static) {
    thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        while pipe.read_until(b'\n', &mut line).is_ok_and(|read| read != 0) {
            let text = String::from_utf8_lossy(&line);
            on_line(&text);
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            log.push_str(&text);
            if log.len() > LOG_BYTES_MAX {
                let cut = log.ceil_char_boundary(log.len() - LOG_BYTES_MAX / 2);
                log.drain(..cut);
            }
            drop(log);
            line.clear();
        }
    });
}

/// The address of an MCP endpoint in `line`, if there is one.
fn endpoint(line: &str) -> Option<String> {
    let url = &line[line.find("http://")?..];
    let end = url.find(|c: char| c.is_whitespace() || "\"'`<>,;)".contains(c));
    let url = &url[..end.unwrap_or(url.len())];
    url.ends_with("/mcp").then(|| url.to_owned())
}

#[test]
fn the_endpoint_is_found_in_a_line() {
    let url = Some("http://127.0.0.1:4711/mcp".to_owned());
    assert_eq!(endpoint("listening on http://127.0.0.1:4711/mcp\n"), url);
    assert_eq!(endpoint(r#"{"url": "http://127.0.0.1:4711/mcp"}"#), url);
    assert_eq!(endpoint("admin on http://127.0.0.1:9090/health/live"), None);
    assert_eq!(endpoint("starting"), None);
}
