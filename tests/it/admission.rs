//! Who is let in: limits of connections and of new ones, and peers that would keep the server from others.

use crate::client::{Client, Response, echo, pipeline};
use crate::server::{Server, in_both_ring_modes, until};
use std::thread;

/// The sum over all cores of a metric.
pub fn metric(server: &Server, name: &str) -> u64 {
    let text = Client::connect(server.admin()).ask("GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n").body;
    let of_core = format!("ringhub_{name}{{");
    text.lines().filter(|line| line.starts_with(&of_core)).filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
}

/// How often a kind of fault was answered.
pub fn faults(server: &Server, kind: &str) -> u64 {
    let text = Client::connect(server.admin()).ask("GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n").body;
    let of_kind = format!("kind=\"{kind}\"");
    text.lines().filter(|line| line.contains(&of_kind)).filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
}

fn is_refusal(answer: &Response, words: &str) -> bool {
    answer.status == 503
        && answer.closes()
        && answer.header("retry-after").is_some()
        && answer.json()["error"]["message"].as_str().is_some_and(|message| message.contains(words))
}

#[test]
fn of_five_hundred_connections_the_limit_is_served_and_the_rest_reads_why_not() {
    in_both_ring_modes(&["--max-connections", "350", "--accept-queue", "0", "--cores", "2", "--no-pin"], |server| {
        let mut clients: Vec<_> = (0..500).map(|_| Client::connect(server.address())).collect();
        let mut served = Vec::new();
        for (id, client) in (0..).zip(&mut clients) {
            // Those that are refused may have been closed before they send.
            let _ = client.try_send(echo(id, "let me in"));
            let answer = client.response();
            if answer.status == 200 {
                assert_eq!(answer.json()["id"], id);
                served.push(id as usize);
            } else {
                assert!(is_refusal(&answer, "As many connections"), "{answer:?}");
            }
        }
        assert_eq!(served.len(), 350);
        assert_eq!((metric(server, "connections_refused_total"), faults(server, "connection_limit")), (150, 150));
        for id in served {
            let answer = clients[id].ask(echo(id as u32, "still here"));
            assert!(answer.status == 200 && answer.body.contains("still here"), "{answer:?}");
        }
    });
}

#[test]
fn a_connection_waits_for_another_to_end_and_beyond_the_queue_it_is_refused_at_once() {
    in_both_ring_modes(&["--max-connections", "2", "--accept-queue", "2", "--cores", "2", "--no-pin"], |server| {
        let mut kept: Vec<_> = (0..2).map(|_| Client::connect(server.address())).collect();
        for client in &mut kept {
            assert_eq!(client.ask(echo(1, "kept")).status, 200);
        }
        let mut waiting: Vec<_> = (0..2).map(|_| Client::connect(server.address())).collect();
        waiting.iter_mut().for_each(|client| client.send(echo(2, "patient")));
        until("two wait", || metric(server, "connections_waiting") == 2);
        assert!(is_refusal(&Client::connect(server.address()).response(), "As many connections"));
        kept.pop();
        kept.pop();
        for client in &mut waiting {
            let answer = client.response();
            assert!(answer.status == 200 && answer.body.contains("patient"), "{answer:?}");
        }
        // Nobody leaves now: who waits is told so in the end.
        let mut late = Client::connect(server.address());
        assert!(is_refusal(&late.response(), "As many connections"));
        assert!(late.is_closed());
        assert_eq!(metric(server, "connections_waiting"), 0);
    });
}

#[test]
fn new_connections_beyond_the_rate_read_why_not_and_the_others_are_served() {
    in_both_ring_modes(&["--accept-rate", "5", "--cores", "2", "--no-pin"], |server| {
        let mut clients: Vec<_> = (0..100).map(|_| Client::connect(server.address())).collect();
        let (mut served, mut refused) = (0, 0);
        for (id, client) in (0..).zip(&mut clients) {
            let _ = client.try_send(echo(id, "let me in"));
            let answer = client.response();
            if answer.status == 200 {
                served += 1;
            } else {
                assert!(is_refusal(&answer, "tier 1"), "{answer:?}");
                refused += 1;
            }
        }
        assert!(served >= 5 && refused > 0, "{served} served, {refused} refused");
        assert_eq!(faults(server, "accept_rate"), refused);
    });
}

#[test]
fn the_largest_buffers_give_way_when_there_is_no_memory_left_for_more() {
    const LIMIT: u64 = 8 << 20;
    in_both_ring_modes(&["--memory-limit", "8388608", "--cores", "2", "--no-pin"], |server| {
        let part = "x".repeat(3 << 20);
        let head = "POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 4000000\r\n\r\n";
        // Each of them keeps most of a body here and sends no more; those for which there is no room may be cut while they send.
        let mut heavy: Vec<_> = (0..8)
            .map(|_| {
                let mut client = Client::connect(server.address());
                let _ = client.try_send(head).and_then(|()| client.try_send(&part));
                client
            })
            .collect();
        until("some have given way", || metric(server, "memory_relieved_total") > 0);
        for id in 0..20 {
            let answer = Client::connect(server.address()).ask(echo(id, "small"));
            assert!(answer.status == 200 && answer.body.contains("small"), "{answer:?}");
        }
        until("what is held fits", || metric(server, "buffered_bytes") <= LIMIT);
        for client in &mut heavy {
            // Whoever was still sending may find the connection reset.
            let Ok(()) = client.try_send("x") else { continue };
            client.set_read_timeout(std::time::Duration::from_millis(200));
            if let Ok(answer) = client.try_response() {
                assert!(is_refusal(&answer, "memory"), "{answer:?}");
            }
        }
        drop(heavy);
        until("it is all given back", || metric(server, "buffered_bytes") < LIMIT / 4);
    });
}

#[test]
fn those_who_flood_stall_or_drip_do_not_keep_the_server_from_others() {
    let server = Server::start(&["--cores", "2", "--no-pin", "--head-timeout", "120"]);
    let address = server.address();
    let pipelining = thread::spawn(move || pipeline(address, 10_000));
    let deaf = thread::spawn(move || {
        let mut client = Client::connect(address);
        // Until the server takes no more: it is not read.
        client.set_write_timeout(std::time::Duration::from_secs(1));
        let text = "x".repeat(100_000);
        while client.try_send(echo(1, &text)).is_ok() {}
        client
    });
    let mut dripping: Vec<_> = (0..300).map(|_| Client::connect(address)).collect();
    let request = echo(3, "drop by drop");
    for byte in request.as_bytes().chunks(1).take(20) {
        dripping.iter_mut().for_each(|client| client.send(byte));
        let answer = Client::connect(address).ask(echo(7, "in between"));
        assert!(answer.status == 200 && answer.body.contains("in between"), "{answer:?}");
    }
    let deaf = deaf.join().expect("it was stopped");
    for id in 0..200 {
        let answer = Client::connect(address).ask(echo(id, "after all"));
        assert_eq!((answer.status, &answer.json()["id"]), (200, &id.into()));
    }
    drop(deaf);
    pipelining.join().expect("all was answered");
    for client in &mut dripping {
        client.send(&request.as_bytes()[20..]);
        assert!(client.response().body.contains("drop by drop"));
    }
}
