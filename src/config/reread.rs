//! A configuration that is read while another one is in force.

use std::sync::Arc;

use super::Config;
use crate::engine::reload::Reread;

/// Keys of what changes while the process runs.
const RELOADED: [&str; 2] = ["upstream", "endpoint"];

impl Config {
    /// What of it is put in force while `running` is, and which of its settings are only by a restart.
    #[must_use]
    pub fn reread(&self, running: &Self) -> Reread {
        Reread { upstreams: Arc::clone(&self.fronted), endpoints: self.engine_endpoints(), restart: self.differs_from(running) }
    }

    /// Keys, as the file has them, of settings that differ and cannot change while the process runs.
    fn differs_from(&self, running: &Self) -> Vec<String> {
        let table = |config: &Self| toml::Table::try_from(config).unwrap_or_default();
        let (new, old) = (table(self), table(running));
        let mut keys: Vec<&String> = new.keys().chain(old.keys()).filter(|key| !RELOADED.contains(&key.as_str())).collect();
        keys.sort_unstable();
        keys.dedup();
        keys.into_iter().filter(|key| new.get(*key) != old.get(*key)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Resolver};
    use crate::cli::ServeArgs;

    fn load(file: &str) -> Config {
        Resolver::default().resolve(&ServeArgs::default(), toml::from_str(file).expect("TOML")).expect("sound")
    }

    #[test]
    fn what_needs_a_restart_is_named_and_nothing_else() {
        let running = load("cores = 2\nlog = \"info\"\n[[upstream]]\nname = \"a\"\nurl = \"http://h/\"");
        let new = load("listen = [\"127.0.0.1:1\"]\nlog = \"debug\"\n[[endpoint]]\npath = \"/mcp/x\"\nservers = []");
        let reread = new.reread(&running);
        assert_eq!(reread.restart, ["cores", "listen", "log"]);
        assert_eq!((reread.upstreams.len(), reread.endpoints.len()), (0, 2), "/mcp is always there");
        assert!(running.reread(&running).restart.is_empty());
    }
}
