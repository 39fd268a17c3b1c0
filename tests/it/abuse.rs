//! Peers that keep the server busy, each in a way of its own: it stays up and small, and others are served meanwhile.

use std::thread;
use std::time::Duration;

use crate::admission::{faults, metric};
use crate::client::{Client, echo, pipeline};
use crate::server::{Server, open_files, resident_bytes, until};

/// What the server may grow by, whatever they do.
const GROWTH_MAX: u64 = 64 << 20;

/// Others are served, over new connections and as whoever watches the node.
fn others_are_served(server: &Server, asks: u32) {
    for id in 0..asks {
        let answer = Client::connect(server.address()).ask(echo(id, "in between"));
        assert_eq!((answer.status, &answer.json()["id"]), (200, &id.into()));
        let live = Client::connect(server.admin()).ask("GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n");
        assert_eq!(live.status, 200);
    }
}

#[test]
fn ten_thousand_requests_ahead_wait_in_the_kernel_and_are_all_answered() {
    let server = Server::start(&["--cores", "1", "--max-pending-connection", "20"]);
    let before = resident_bytes(server.pid());
    let address = server.address();
    let pipelining = thread::spawn(move || pipeline(address, 10_000));
    others_are_served(&server, 50);
    pipelining.join().expect("all were answered");
    assert!(resident_bytes(server.pid()) < before + GROWTH_MAX);
}

#[test]
fn whoever_never_reads_is_cut() {
    let server = Server::start(&["--cores", "1", "--write-timeout", "2"]);
    let before = resident_bytes(server.pid());
    let text = "x".repeat(100_000);
    let mut deaf: Vec<_> = (0..4).map(|_| Client::connect(server.address())).collect();
    for client in &mut deaf {
        client.set_write_timeout(Duration::from_secs(1));
        // Until the server takes no more: it is not read.
        while client.try_send(echo(1, &text)).is_ok() {}
    }
    others_are_served(&server, 50);
    assert!(resident_bytes(server.pid()) < before + GROWTH_MAX);
    until("all of them are cut", || metric(&server, "slow_readers_total") == 4);
    until("nothing of them is left", || metric(&server, "connections") <= 2);
    others_are_served(&server, 10);
}

#[test]
fn of_fifteen_thousand_connections_those_beyond_the_limit_read_why_not() {
    const ALL: usize = 15_000;
    let server = Server::start(&["--cores", "2", "--no-pin", "--max-connections", "500", "--accept-queue", "0"]);
    let mut kept: Vec<_> = (0..500).map(|_| Client::connect(server.address())).collect();
    for (id, client) in (0..).zip(&mut kept) {
        assert_eq!(client.ask(echo(id, "first")).status, 200);
    }
    let before = resident_bytes(server.pid());
    let mut opened = kept.len();
    while opened < ALL {
        let count = 250.min(ALL - opened);
        // A limit of the client's own is not what is tested here.
        let refused: Vec<_> = (0..count).map(|_| Client::connect(server.address())).collect();
        for mut client in refused {
            let answer = client.response();
            assert!(answer.status == 503 && answer.closes() && answer.header("retry-after").is_some(), "{answer:?}");
        }
        opened += count;
        let id = opened as u32;
        let answer = kept[opened % 500].ask(echo(id, "still here"));
        assert_eq!((answer.status, &answer.json()["id"]), (200, &id.into()));
    }
    assert_eq!(metric(&server, "connections_refused_total"), (ALL - 500) as u64);
    assert_eq!(faults(&server, "connection_limit"), (ALL - 500) as u64);
    until("their descriptors are back", || open_files(server.pid()) < 600);
    assert!(resident_bytes(server.pid()) < before + GROWTH_MAX);
}

#[test]
fn five_hundred_that_send_byte_by_byte_are_told_that_they_are_too_slow() {
    let server = Server::start(&["--cores", "1", "--head-timeout", "2"]);
    let mut dripping: Vec<_> = (0..500).map(|_| Client::connect(server.address())).collect();
    let request = echo(3, "drop by drop");
    let (mut answered, mut at) = (0, 0);
    // No byte that comes moves the deadline: it runs from the first.
    while !dripping.is_empty() {
        assert!(at < request.len() - 1, "{} of them outlived it", dripping.len());
        dripping.retain_mut(|client| {
            let is_sent = client.try_send(&request[at..=at]).is_ok();
            client.set_read_timeout(Duration::from_micros(1));
            match client.try_response() {
                Ok(answer) => {
                    assert!(answer.status == 408 && answer.closes(), "{answer:?}");
                    answered += 1;
                    false
                }
                Err(_) => is_sent,
            }
        });
        at += 1;
        others_are_served(&server, 2);
        thread::sleep(Duration::from_millis(100));
    }
    assert!(answered >= 450, "{answered} have read why");
    assert_eq!(faults(&server, "slow_request"), 500);
}

#[test]
fn who_watches_the_node_sees_it_saturated() {
    let server = Server::start(&["--cores", "1", "--late-ms", "5", "--node-rate", "300"]);
    let address = server.address();
    let floods: Vec<_> = (0..8)
        .map(|_| {
            thread::spawn(move || {
                let mut client = Client::connect(address);
                let mut sender = client.try_clone().expect("a descriptor");
                let sending = thread::spawn(move || (0..4000).for_each(|id| sender.send(echo(id, "flood"))));
                (0..4000).for_each(|_| assert!(matches!(client.response().status, 200 | 503)));
                sending.join().expect("all was sent");
            })
        })
        .collect();
    let mut asked = 0;
    while !floods.iter().all(thread::JoinHandle::is_finished) {
        for path in ["/health/live", "/health/ready", "/metrics", "/v1/servers"] {
            let mut client = Client::connect(server.admin());
            // Far more than it takes, and less than the flood does: it does not wait behind that.
            client.set_read_timeout(Duration::from_secs(5));
            let answer = client.ask(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n"));
            assert_eq!(answer.status, 200, "{path}: {answer:?}");
            asked += 1;
        }
    }
    floods.into_iter().for_each(|flood| flood.join().expect("every answer was as it should be"));
    let refused = faults(&server, "node_rate") + faults(&server, "late");
    assert!(asked > 0 && refused > 0, "{asked} asked, {refused} refused: there was a flood");
}
