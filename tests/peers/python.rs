//! The official Python client, in every mode of version negotiation that it has.

use std::process::Command;

use crate::{
    peer,
    seen::{LEGACY, MODERN, conversation},
};

/// The client, told to talk to the server at `url`, and what is put on its standard input.
pub fn client(url: &str, mode: &str) -> (Command, Vec<u8>) {
    let mut python = Command::new(peer::provisioned("python/bin/python"));
    // Isolated: neither the environment nor the working directory adds modules.
    python.arg("-I").arg(peer::source("clients/python.py"));
    python.args([url, mode]);
    (python, Vec::new())
}

fn talk(mode: &str, era: &str, protocol: &str) {
    conversation(era, protocol, |url| client(url, mode));
}

#[test]
fn default_settings() {
    talk("default", "both", MODERN);
}

#[test]
fn legacy() {
    talk("legacy", "both", LEGACY);
}

#[test]
fn auto() {
    talk("auto", "both", MODERN);
}

#[test]
fn pinned() {
    talk(MODERN, "both", MODERN);
}

#[test]
fn auto_falls_back_where_there_is_no_modern_era() {
    talk("auto", "legacy", LEGACY);
}

#[test]
fn auto_where_there_is_no_legacy_era() {
    talk("auto", "modern", MODERN);
}
