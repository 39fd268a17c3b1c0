//! The official TypeScript client, in every mode of version negotiation that it has.

use std::{fs, process::Command};

use crate::{
    peer,
    seen::{LEGACY, MODERN, conversation},
};

/// The client, told to talk to the server at `url`, and what is put on its standard input.
pub fn client(url: &str, mode: &str) -> (Command, Vec<u8>) {
    let script = fs::read(peer::source("clients/typescript.mjs")).expect("the client is there");
    let mut node = Command::new(peer::provisioned("bin/node"));
    // A module on standard input finds its packages from the working directory.
    node.args(["--input-type=module", "-", url, mode]).current_dir(peer::provisioned("typescript"));
    (node, script)
}

fn talk(mode: &str, era: &str, protocol: &str) {
    let seen = conversation(era, protocol, |url| client(url, mode));
    assert_eq!(seen["session"], protocol == LEGACY, "only the legacy era has sessions");
}

#[test]
fn default_settings() {
    talk("default", "both", LEGACY);
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
