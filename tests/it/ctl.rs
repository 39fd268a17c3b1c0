//! `ringhub ctl` as people and programs use it.

use std::process::{Command, Output};

use serde_json::Value;

use crate::control::Admin;

fn ctl(admin: &Admin, args: &[&str]) -> Output {
    let url = format!("http://{}", admin.server.admin());
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringhub"));
    // What is given among the arguments takes the place of these.
    command.env("RINGHUB_ADMIN_URL", url).env("RINGHUB_ADMIN_TOKEN_FILE", admin.token_file());
    command.arg("ctl").args(args).output().expect("it starts")
}

fn said(admin: &Admin, args: &[&str]) -> String {
    let output = ctl(admin, args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

fn refused(admin: &Admin, args: &[&str]) -> String {
    let output = ctl(admin, args);
    assert!(!output.status.success(), "{args:?}");
    assert!(output.stdout.is_empty(), "{args:?}");
    String::from_utf8(output.stderr).expect("text")
}

#[test]
fn servers_and_endpoints_are_managed_from_the_command_line() {
    let admin = Admin::start(&[]);
    let added = said(&admin, &["servers", "add", "io.example/weather", "--target", "https://weather.example/mcp", "--title", "Weather"]);
    assert_eq!(added, "io.example/weather is registered (version 1)\n");
    let table = said(&admin, &["servers", "list"]);
    assert!(table.starts_with("NAME ") && table.contains("\nio.example/weather  1 "), "{table}");
    let program: Value = serde_json::from_str(&said(&admin, &["servers", "list", "--json", "--source", "upstream"])).expect("JSON");
    assert_eq!(program["items"].as_array().map(Vec::len), Some(1));
    said(&admin, &["servers", "update", "io.example/weather", "--description", "Rain or shine", "--state", "online"]);
    let one: Value = serde_json::from_str(&said(&admin, &["servers", "get", "io.example/weather", "--json"])).expect("JSON");
    assert_eq!(
        (one["title"].as_str(), one["description"].as_str(), one["version"].as_u64()),
        (Some("Weather"), Some("Rain or shine"), Some(2))
    );
    said(&admin, &["endpoints", "add", "/mcp/w", "io.example/weather"]);
    said(&admin, &["bind", "/mcp/w", "ringhub"]);
    assert!(said(&admin, &["endpoints", "list"]).contains("io.example/weather, ringhub"));
    said(&admin, &["unbind", "/mcp/w", "ringhub"]);
    assert!(said(&admin, &["bindings", "--endpoint", "/mcp/w"]).ends_with("/mcp/w    io.example/weather\n"));
    assert_eq!(said(&admin, &["shards"]).lines().count(), 65);
    assert_eq!(said(&admin, &["cores"]).lines().count(), 3);
    assert_eq!(said(&admin, &["sessions"]).lines().count(), 1);
    said(&admin, &["endpoints", "remove", "/mcp/w"]);
    said(&admin, &["servers", "remove", "io.example/weather"]);
}

#[test]
fn what_is_wrong_is_said_with_what_helps() {
    let admin = Admin::start(&[]);
    said(&admin, &["servers", "add", "a", "--target", "http://127.0.0.1:1/mcp"]);
    assert!(refused(&admin, &["servers", "add", "a", "--target", "http://127.0.0.1:1/mcp"]).contains("There is a server `a` already"));
    assert!(refused(&admin, &["servers", "add", "b"]).contains("--target"));
    assert!(refused(&admin, &["servers", "get", "none"]).contains("There is no server `none`"));
    assert!(refused(&admin, &["servers", "remove", "a", "--if-version", "7"]).contains("has version 1 by now"));
    assert!(refused(&admin, &["servers", "add", "b c", "--target", "http://127.0.0.1:1/mcp"]).contains("io.example/weather"));
    assert!(refused(&admin, &["--token-file", "/nowhere", "servers", "remove", "a"]).contains("/nowhere"));
    assert!(refused(&admin, &["--admin", "http://127.0.0.1:1", "servers", "list"]).contains("--admin"));
    assert!(refused(&admin, &["--admin", "https://h", "servers", "list"]).contains("TLS"));
}

#[test]
fn the_token_of_a_server_of_this_user_is_found_by_its_port() {
    let server = crate::server::Server::start(&["--cores", "1"]);
    let url = format!("http://{}", server.admin());
    let add = |url: &str| {
        Command::new(env!("CARGO_BIN_EXE_ringhub"))
            .args(["ctl", "--admin", url, "servers", "add", "a", "--target", "http://127.0.0.1:1/mcp"])
            .output()
    };
    let output = add(&url).expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    server.stop();
    let output = add(&url).expect("it starts");
    assert!(String::from_utf8_lossy(&output.stderr).contains("--token-file"), "the token's file is gone with the server");
}
