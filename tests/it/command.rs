//! The command line as its users meet it: what it prints, and what it says when something is wrong.

use crate::server::Server;
use std::io::Write;
use std::net::TcpListener;
use std::process::{Command, Output};

fn ringhub(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringhub")).args(args).output().expect("it starts")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn check_judges_the_host_line_by_line() {
    let output = ringhub(&["check"]);
    let text = said(&output);
    for what in ["kernel", "io_uring", "memlock", "nofile", "somaxconn", "port range", "CPUs"] {
        assert!(text.contains(what), "{what} is missing:\n{text}");
    }
    assert!(output.status.success(), "this host serves, so nothing can be fatal:\n{text}");
}

#[test]
fn the_printed_configuration_is_read_back() {
    let first = ringhub(&["serve", "--cores", "1", "--listen", "127.0.0.1:0", "--print-config"]);
    assert!(first.status.success(), "{}", said(&first));
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(&first.stdout).expect("it is written");
    let path = file.path().to_str().expect("a path");
    let second = ringhub(&["serve", "--config", path, "--print-config"]);
    assert_eq!(said(&first), said(&second));
}

#[test]
fn everything_wrong_with_a_configuration_is_said_at_once() {
    let output = ringhub(&["serve", "--listen", "nowhere", "--shards", "0", "--idle-timeout", "-1"]);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    for what in ["--listen nowhere", "--shards 0", "--idle-timeout -1", "127.0.0.1:8080"] {
        assert!(text.contains(what), "{what} is missing:\n{text}");
    }
}

#[test]
fn a_port_in_use_is_named_with_the_remedy() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let output = ringhub(&["serve", "--listen", &address, "--admin", "off"]);
    let text = said(&output);
    assert!(!output.status.success());
    assert!(text.contains(&address) && text.contains("in use") && text.contains("--listen"), "{text}");
}

#[test]
fn a_cpu_that_is_not_allowed_is_named() {
    let output = ringhub(&["serve", "--listen", "127.0.0.1:0", "--admin", "off", "--cpus", "4000"]);
    let text = said(&output);
    assert!(!output.status.success());
    assert!(text.contains("4000") && text.contains("--cpus"), "{text}");
}

#[test]
fn serving_other_machines_is_warned_about() {
    let server = Server::start(&["--listen", "0.0.0.0:0"]);
    server.wait_until_it_says("other machines");
}
