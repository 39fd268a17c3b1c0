//! The fixture server under test: one process per test, on a port of its own.

use crate::peer;
use crate::support::server::{Process, url};

/// A running fixture server. Dropping it stops the process; [`Server::stop`] also judges how it ended.
pub struct Server {
    url: String,
    process: Option<Process>,
}

impl Server {
    /// Starts `everything` on `cores` cores, for `era` (`legacy`, `modern` or `both`), and waits until it listens.
    ///
    /// # Panics
    ///
    /// If it does not say where it listens in time.
    pub fn start(cores: usize, era: &str) -> Self {
        if let Ok(url) = std::env::var("RINGHUB_TEST_URL") {
            return Self { url, process: None };
        }
        let cores = cores.to_string();
        let args = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--cores", &cores, "--no-pin", "--era", era];
        let process = Process::start(&peer::everything(), &args);
        Self { url: process.printed(|line| url(line, "/mcp")), process: Some(process) }
    }

    /// The MCP endpoint.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The last of what the server has printed so far.
    pub fn log(&self) -> String {
        self.process.as_ref().map(Process::log).unwrap_or_default()
    }

    /// Stops the server as an operator would.
    ///
    /// # Panics
    ///
    /// If it had ended before, does not end in time, or ends with an error.
    pub fn stop(self) {
        if let Some(process) = self.process {
            process.stop();
        }
    }
}
