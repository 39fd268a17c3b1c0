//! Runs another program to its end, within a time limit, and keeps what it printed.

use std::{
    io::{Read, Write},
    process::{Child, Command, ExitStatus, Stdio},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// How often a child is asked whether it has ended.
const POLL: Duration = Duration::from_millis(10);

/// What a program left behind.
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// Everything it printed, for a failure message.
    pub fn printed(&self) -> String {
        format!("--- standard output\n{}\n--- standard error\n{}", tail(&self.stdout), tail(&self.stderr))
    }
}

/// Runs `command` with `input` on its standard input.
///
/// # Panics
///
/// If the program cannot be started, or has not ended after `limit` (it is killed then).
pub fn run(mut command: Command, input: &[u8], limit: Duration) -> Ended {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    let stdout = collect(child.stdout.take().expect("stdout is piped"));
    let stderr = collect(child.stderr.take().expect("stderr is piped"));
    let mut stdin = child.stdin.take().expect("stdin is piped");
    // A program that ends without reading everything is judged by what it says, not by this pipe.
    let _ = stdin.write_all(input);
    drop(stdin);
    let status = wait(&mut child, limit);
    if status.is_none() {
        let _ = child.kill();
        let _ = child.wait();
    }
    let stdout = stdout.join().expect("the reader of stdout ends");
    let stderr = stderr.join().expect("the reader of stderr ends");
    let Some(status) = status else {
        panic!("{command:?} had not ended after {limit:?}\n--- standard output\n{}\n--- standard error\n{}", tail(&stdout), tail(&stderr));
    };
    Ended { status, stdout, stderr }
}

/// Waits for `child` to end, `limit` at most; `None` if it has not.
pub fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            return Some(status);
        }
        if Instant::now() >= deadline {
            return None;
        }
        thread::sleep(POLL);
    }
}

fn collect(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // An error here means the pipe is gone: what was read before it still counts.
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// The last few kilobytes of `text`, from the start of a line.
pub fn tail(text: &str) -> &str {
    const BYTES_MAX: usize = 6000;
    let start = text.len().saturating_sub(BYTES_MAX);
    if start == 0 {
        return text;
    }
    let line = text.as_bytes()[start..].iter().position(|&byte| byte == b'\n');
    line.map_or("", |at| &text[start + at + 1..])
}

#[test]
fn the_tail_starts_at_a_line() {
    assert_eq!(tail("short"), "short");
    let long = format!("{}\nlast é line", "x".repeat(7000));
    assert_eq!(tail(&long), "last é line");
    assert_eq!(tail(&"é".repeat(7000)), "");
}

#[test]
fn a_program_that_does_not_end_is_killed() {
    let mut command = Command::new("sleep");
    command.arg("60");
    let started = Instant::now();
    let outcome = thread::spawn(move || run(command, b"", Duration::from_millis(50))).join();
    assert!(outcome.is_err(), "it was reported as ended");
    assert!(started.elapsed() < Duration::from_secs(30));
}
