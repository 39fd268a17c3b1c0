//! The official Rust client, in every mode of version negotiation that it has.

use std::process::Command;

use crate::{
    peer,
    seen::{LEGACY, MODERN, conversation},
};

/// The client, told to talk to the server at `url`, and what is put on its standard input.
pub fn client(url: &str, mode: &str) -> (Command, Vec<u8>) {
    let mut client = Command::new(peer::rmcp_client());
    client.args([url, mode]);
    (client, Vec::new())
}

fn talk(mode: &str, era: &str, protocol: &str) {
    conversation(era, protocol, |url| client(url, mode));
}

/// It offers 2026-07-28 in `initialize`, which is no such revision: the answer must be the newest legacy one.
#[test]
fn default_settings() {
    talk("default", "both", LEGACY);
}

#[test]
fn discover() {
    talk("discover", "both", MODERN);
}

#[test]
fn auto() {
    talk("auto", "both", MODERN);
}

#[test]
fn auto_falls_back_where_there_is_no_modern_era() {
    talk("auto", "legacy", LEGACY);
}

#[test]
fn auto_where_there_is_no_legacy_era() {
    talk("auto", "modern", MODERN);
}
