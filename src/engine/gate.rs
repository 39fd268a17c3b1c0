//! Who may drive this server at all: Origin and Host (DNS rebinding), and what browsers ask beforehand (CORS).

use super::config::EngineConfig;

/// Longest Host that is remembered, bytes.
const HOST_KEPT_BYTES_MAX: usize = 256;

/// Which origins and hosts are allowed; made once from the settings.
#[derive(Debug)]
pub(super) struct Gate {
    origins: Names,
    hosts: Names,
    checks_host: bool,
    /// The Host that was allowed last: nearly every request names the same one. Empty: none yet.
    host_allowed: Vec<u8>,
}

/// A list of names where `*` stands for every one.
#[derive(Debug)]
struct Names {
    any: bool,
    list: Box<[Box<str>]>,
}

impl Names {
    fn new(names: &[String]) -> Self {
        let list = names.iter().map(|name| name.trim_end_matches('/').into()).collect();
        Self { any: names.iter().any(|name| name == "*"), list }
    }

    fn has(&self, name: &[u8]) -> bool {
        self.any || self.list.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(name))
    }
}

impl Gate {
    pub fn new(config: &EngineConfig) -> Self {
        Self {
            origins: Names::new(&config.allowed_origins),
            hosts: Names::new(&config.allowed_hosts),
            checks_host: config.local_only || !config.allowed_hosts.is_empty(),
            host_allowed: Vec::with_capacity(HOST_KEPT_BYTES_MAX),
        }
    }

    /// The same, for a listener that trusts who comes from this host: Host is checked whatever the address is, since a page whose name leads
    /// to this host (DNS rebinding) comes from there, too.
    pub fn strict(config: &EngineConfig) -> Self {
        Self { checks_host: true, ..Self::new(config) }
    }

    /// Whether a request with these fields may be served (2025-11-25 and 2026-07-28, transports, "Security Warning": an Origin that is
    /// not allowed is refused). A page that a browser loaded from this host itself is always allowed.
    pub fn allows(&mut self, origin: Option<&[u8]>, host: Option<&[u8]>) -> bool {
        origin.is_none_or(|origin| self.allows_origin(origin)) && host.is_none_or(|host| self.allows_host(host))
    }

    fn allows_origin(&self, origin: &[u8]) -> bool {
        if self.origins.has(origin) {
            return true;
        }
        let Some(at) = memchr::memmem::find(origin, b"://") else { return false };
        let scheme = &origin[..at];
        (scheme == b"http" || scheme == b"https") && is_this_host(without_port(&origin[at + 3..]))
    }

    fn allows_host(&mut self, host: &[u8]) -> bool {
        if !self.checks_host || (!host.is_empty() && host == self.host_allowed) {
            return true;
        }
        let name = without_port(host);
        let is_allowed = is_this_host(name) || self.hosts.has(name) || self.hosts.has(host);
        if is_allowed && host.len() <= HOST_KEPT_BYTES_MAX {
            self.host_allowed.clear();
            self.host_allowed.extend_from_slice(host);
        }
        is_allowed
    }
}

/// The names by which a program on this host reaches itself.
fn is_this_host(name: &[u8]) -> bool {
    name == b"127.0.0.1" || name == b"[::1]" || name.eq_ignore_ascii_case(b"localhost")
}

/// The host of `host[:port]`; of something else the whole.
pub(super) fn without_port(authority: &[u8]) -> &[u8] {
    match memchr::memrchr(b':', authority) {
        Some(at) if authority[at + 1..].iter().all(u8::is_ascii_digit) => &authority[..at],
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::engine::seal::{KeyPair, SealKeys};

    fn config() -> EngineConfig {
        EngineConfig::new(Arc::clone(&SealKeys::new(KeyPair::single([1; 32]))))
    }

    fn allows(gate: &mut Gate, origin: &str, host: &str) -> bool {
        let field = |text: &'static str| (!text.is_empty()).then_some(text.as_bytes());
        let (origin, host): (&'static str, &'static str) = (Box::leak(origin.into()), Box::leak(host.into()));
        gate.allows(field(origin), field(host))
    }

    #[test]
    fn local_names_pass_with_any_port() {
        let mut gate = Gate::new(&config());
        for name in ["localhost", "localhost:8080", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:9", "[::1]", "[::1]:80"] {
            assert!(allows(&mut gate, "", name), "{name}");
            assert!(allows(&mut gate, &format!("http://{name}"), "localhost"), "{name}");
            assert!(allows(&mut gate, &format!("https://{name}"), "localhost"), "{name}");
        }
        assert!(allows(&mut gate, "", ""));
    }

    #[test]
    fn other_names_are_refused() {
        let mut gate = Gate::new(&config());
        for host in ["evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example", "127.0.0.2", "::1"] {
            assert!(!allows(&mut gate, "", host), "{host}");
        }
        for origin in
            ["http://evil.example", "null", "localhost", "file://localhost", "http://localhost@evil.example", "http://localhost.evil"]
        {
            assert!(!allows(&mut gate, origin, "localhost"), "{origin}");
        }
    }

    #[test]
    fn a_host_that_was_allowed_lets_no_other_in() {
        let mut gate = Gate::new(&config());
        for _ in 0..3 {
            assert!(allows(&mut gate, "", "localhost:8080"));
            assert!(!allows(&mut gate, "", "localhost:8080.evil.example"));
            assert!(!allows(&mut gate, "http://evil.example", "localhost:8080"));
            assert!(!allows(&mut gate, "", "evil.example"));
        }
    }

    #[test]
    fn settings_add_names() {
        let mut config = config();
        config.allowed_origins = vec!["https://app.example/".into()];
        config.allowed_hosts = vec!["mcp.example".into()];
        config.local_only = false;
        let mut gate = Gate::new(&config);
        assert!(allows(&mut gate, "https://app.example", "mcp.example:443"));
        assert!(!allows(&mut gate, "https://app.example:444", "mcp.example"));
        assert!(!allows(&mut gate, "", "other.example"));
        config.allowed_hosts = vec!["*".into()];
        config.allowed_origins = vec!["*".into()];
        assert!(allows(&mut Gate::new(&config), "null", "other.example"));
    }

    #[test]
    fn a_strict_gate_checks_the_host_on_every_address() {
        let mut config = config();
        config.local_only = false;
        assert!(!allows(&mut Gate::strict(&config), "", "evil.example"));
        assert!(allows(&mut Gate::strict(&config), "", "localhost:9090"));
    }

    #[test]
    fn on_other_addresses_any_host_is_taken_unless_some_are_named() {
        let mut config = config();
        config.local_only = false;
        assert!(allows(&mut Gate::new(&config), "", "anything.example"));
    }
}
