//! Upstreams and endpoints of a configuration, and what is wrong with them together.

use std::path::Path;

use super::upstream::{Endpoint, Upstream};
use super::{Resolver, mcp_servers};
use crate::base::limits;
use crate::cli::ServeArgs;
use crate::registry;

impl Resolver {
    /// Every upstream, wherever it is named. None wins over another of the same name: that is reported.
    pub(super) fn upstreams(&mut self, args: &ServeArgs, json: Option<&Path>, mut all: Vec<Upstream>) -> Vec<Upstream> {
        if let Some(path) = args.mcp_servers.as_deref().or(json) {
            all.extend(mcp_servers::read(path, &mut self.problems));
        }
        for text in args.upstream.iter().filter(|text| !text.is_empty()) {
            match Upstream::of_flag(text) {
                Ok(upstream) => all.push(upstream),
                Err(problem) => self.problems.push(problem),
            }
        }
        if all.len() > limits::UPSTREAMS_MAX {
            self.problems.push(format!(
                "there are {} upstreams, and {} at most are taken: leave some out",
                all.len(),
                limits::UPSTREAMS_MAX
            ));
        }
        for (at, upstream) in all.iter().enumerate() {
            if all[..at].iter().any(|other| other.name == upstream.name) {
                self.problems.push(format!("two upstreams are called `{}`: rename one", upstream.name));
            }
        }
        all
    }

    pub(super) fn endpoints(&mut self, endpoints: &[Endpoint]) {
        for (at, Endpoint { path, servers }) in endpoints.iter().enumerate() {
            let mut wrong = |why: &str| self.problems.push(format!("endpoint `{path}`: {why}"));
            if let Some(why) = registry::problem_with_path(path) {
                wrong(why);
            }
            if endpoints[..at].iter().any(|other| other.path == *path) {
                wrong("it is there twice: leave one out");
            }
            for (at, name) in servers.iter().enumerate() {
                if let Some(why) = registry::problem_with_name(name) {
                    wrong(&format!("servers: `{name}`: {why}"));
                } else if servers[..at].contains(name) {
                    wrong(&format!("servers: `{name}` is there twice: leave one out"));
                }
            }
            if servers.len() > limits::SERVERS_PER_ENDPOINT_MAX {
                wrong(&format!("it has {} servers, and {} at most are taken", servers.len(), limits::SERVERS_PER_ENDPOINT_MAX));
            }
        }
    }
}
