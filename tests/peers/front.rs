//! A node that fronts other servers: the real `ringhub`, shown at `/mcp` are those servers and nothing else.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::client::{Client, modern};
use crate::support::server::{Process, url};

/// Longest wait for a server behind: programs in scripting languages take their time to start on a busy machine.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// A running front. Dropping it stops the process; [`Front::stop`] also judges how it ended.
pub struct Front {
    url: String,
    process: Process,
}

impl Front {
    /// Starts it on `cores` cores. `upstreams` is the part of the configuration that says what is behind it: each a name, and the lines of
    /// its table but for that.
    ///
    /// # Panics
    ///
    /// If it does not say where it listens in time.
    pub fn start(cores: usize, upstreams: &[(&str, String)]) -> Self {
        let mut config = String::new();
        for (name, lines) in upstreams {
            config.push_str(&format!("[[upstream]]\nname = \"{name}\"\n{lines}\n"));
        }
        let names: Vec<_> = upstreams.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        config.push_str(&format!("[[endpoint]]\npath = \"/mcp\"\nservers = [{}]\n", names.join(", ")));
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(config.as_bytes()).expect("it is written");
        let (file, cores) = (file.path().to_str().expect("a path in UTF-8"), cores.to_string());
        let args = ["serve", "--config", file, "--listen", "127.0.0.1:0", "--admin", "off", "--cores", &cores, "--no-pin"];
        let process = Process::start(Path::new(env!("CARGO_BIN_EXE_ringhub")), &args);
        // By then it has read its configuration.
        Self { url: process.printed(|line| url(line, "/mcp")), process }
    }

    /// The MCP endpoint.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The process's id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The last of what it has printed so far, and what is behind it.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// A connection to it.
    pub fn connect(&self) -> Client {
        let address = self.url.trim_start_matches("http://").trim_end_matches("/mcp");
        Client::connect(address.parse::<SocketAddr>().expect("an address"))
    }

    /// The names of the tools that it lists.
    pub fn tools(&self) -> Vec<String> {
        let (mut client, mut tools, mut cursor) = (self.connect(), Vec::new(), String::new());
        loop {
            let list = client.ask(modern(1, "tools/list", &cursor)).json();
            let page = list["result"]["tools"].as_array().unwrap_or_else(|| panic!("no list: {list}\n{}", self.log()));
            tools.extend(page.iter().filter_map(|tool| tool["name"].as_str().map(str::to_owned)));
            match &list["result"]["nextCursor"] {
                Value::Null => return tools,
                next => cursor = format!(r#""cursor":{next}"#),
            }
        }
    }

    /// Waits until this tool is listed.
    ///
    /// # Panics
    ///
    /// If it is not in time.
    pub fn wait_for(&self, tool: &str) {
        let deadline = Instant::now() + WAIT_MAX;
        loop {
            let tools = self.tools();
            if tools.iter().any(|name| name == tool) {
                return;
            }
            assert!(Instant::now() < deadline, "{tool} is not listed, but {tools:?}\n--- the front\n{}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Stops it as an operator would.
    ///
    /// # Panics
    ///
    /// If it had ended before, does not end in time, or ends with an error.
    pub fn stop(self) {
        self.process.stop();
    }
}
