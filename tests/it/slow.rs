//! Peers that are slow, idle or gone: each costs little and for a bounded time, and the others do not notice.

use crate::client::{Client, echo, post};
use crate::server::{Server, in_both_ring_modes, open_files, resident_bytes, until};
use std::cell::Cell;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::time::{Duration, Instant};

const QUICK: &[&str] = &["--head-timeout", "0.3", "--body-timeout", "0.3", "--idle-timeout", "0.3", "--write-timeout", "0.5"];

#[test]
fn a_head_that_does_not_come_is_answered_408() {
    in_both_ring_modes(QUICK, |server| {
        let mut client = Client::connect(server.address());
        client.send("POST /mcp HTTP/1.1\r\nhost: loc");
        assert_eq!(client.response().status, 408);
        assert!(client.is_closed());
    });
}

#[test]
fn a_body_that_does_not_come_is_answered_408() {
    in_both_ring_modes(QUICK, |server| {
        let mut client = Client::connect(server.address());
        client.send(&echo(1, "never whole")[..300]);
        assert_eq!(client.response().status, 408);
        assert!(client.is_closed());
    });
}

#[test]
fn an_idle_connection_is_closed_without_a_word() {
    in_both_ring_modes(QUICK, |server| {
        let mut fresh = Client::connect(server.address());
        let mut used = Client::connect(server.address());
        assert_eq!(used.ask(echo(1, "then idle")).status, 200);
        assert!(fresh.is_closed() && used.is_closed());
    });
}

#[test]
fn a_client_that_does_not_read_is_cut_and_the_others_are_served() {
    in_both_ring_modes(QUICK, |server| {
        let mut greedy = Client::connect(server.address());
        let request = echo(1, &"x".repeat(100_000));
        // Asks for far more than any socket buffer holds and reads nothing.
        let outcome = (0..10_000).try_for_each(|_| greedy.try_send(&request));
        let cut = outcome.expect_err("the server must stop it");
        assert!(matches!(cut.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{cut}");
        assert_eq!(Client::connect(server.address()).ask(echo(2, "served")).status, 200);
        assert!(resident_bytes(server.pid()) < 256 << 20, "its replies were not piled up");
    });
}

/// Resident memory once it has not changed for six seconds: a core takes up to five to notice that it is quiet and to give memory back.
fn settled_bytes(pid: u32) -> u64 {
    let level = Cell::new((resident_bytes(pid), Instant::now()));
    until("memory has settled", || {
        let now = resident_bytes(pid);
        if now != level.get().0 {
            level.set((now, Instant::now()));
        }
        level.get().1.elapsed() > Duration::from_secs(6)
    });
    level.get().0
}

#[test]
fn ten_thousand_connections_open_and_vanish_without_a_trace() {
    in_both_ring_modes(&[], |server| {
        let mut healthy = Client::connect(server.address());
        assert_eq!(healthy.ask(echo(0, "before")).status, 200);
        let storm = |connections: usize| {
            for n in 0..connections {
                let mut client = Client::connect(server.address());
                match n % 4 {
                    0 => {}
                    1 => client.send("POST /mcp HT"),
                    2 => client.send(echo(1, "and away")),
                    _ => client.send([0x16, 0x03, 0x01, 0xff, 0x00, 0x0d]),
                }
            }
        };
        // The first storm touches everything that is touched once: code, stacks, the allocator's own tables.
        storm(10_000);
        until("the first storm is over", || open_files(server.pid()) < 60);
        let before = settled_bytes(server.pid());
        storm(10_000);
        until("all descriptors are back", || open_files(server.pid()) < 60);
        until("memory is back at its level", || resident_bytes(server.pid()) <= before + (2 << 20));
        assert_eq!(healthy.ask(echo(1, "after")).status, 200);
    });
}

#[test]
fn a_flood_of_garbage_is_refused_and_forgotten() {
    let server = Server::start(&[]);
    let mut random = crate::random::Random::new();
    for _ in 0..500 {
        let mut client = Client::connect(server.address());
        let length = random.below(4000) + 1;
        let garbage: Vec<u8> = (0..length).map(|_| random.byte()).collect();
        // The server may close before all of it is sent: that is its right.
        let _ = client.try_send(&garbage);
    }
    for body in ["", "{", "[]", "nonsense", "{\"jsonrpc\":\"2.0\"}", "\u{feff}{}", "[[[[[[", "{\"id\":1e999}"] {
        let answer = Client::connect(server.address()).ask(post(&[], body));
        assert_eq!(answer.status, 400, "{body}: {answer:?}");
    }
    until("all descriptors are back", || open_files(server.pid()) < 60);
    assert_eq!(Client::connect(server.address()).ask(echo(1, "served")).status, 200);
}

#[test]
fn one_more_than_the_limit_is_told_so() {
    in_both_ring_modes(&["--max-connections", "20", "--accept-queue", "0"], |server| {
        let kept: Vec<Client> = (0..20)
            .map(|id| {
                let mut client = Client::connect(server.address());
                assert_eq!(client.ask(echo(id, "kept")).status, 200);
                client
            })
            .collect();
        let mut refused = Client::connect(server.address());
        let answer = refused.response();
        assert_eq!((answer.status, answer.closes()), (503, true));
        assert!(answer.header("retry-after").is_some());
        assert!(refused.is_closed());
        drop(kept);
        until("there is room again", || {
            TcpStream::connect(server.address()).is_ok() && Client::connect(server.address()).ask(echo(1, "room")).status == 200
        });
    });
}
