//! Limits: of connections, of what a reader may leave unread, of descriptors.

use std::net::TcpStream;
use std::time::Duration;

use super::client::{Client, RINGS, config, eventually, request, serve};
use crate::base::limits::PIPELINE_PAUSE_BYTES;
use crate::base::metrics::{Counter, Gauge};
use crate::rt::{Config, Running};

fn total(running: &Running, counter: Counter) -> u64 {
    running.metrics().iter().map(|core| core.counter(counter)).sum()
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("a list").count()
}

#[test]
fn connections_beyond_the_limit_are_told_so() {
    for ring in RINGS {
        let running = serve(Config { connections_max: Some(5), ..config(ring, 3) });
        let mut served: Vec<_> = (0..5).map(|_| Client::connect(&running)).collect();
        for client in &mut served {
            assert_eq!(client.call("/echo", b"in").body, b"in");
        }
        for _ in 0..10 {
            let mut refused = Client::connect(&running);
            // A request may be on its way already: the answer must arrive nevertheless.
            refused.send(&request("/echo", b"out"));
            let answer = refused.answer();
            assert_eq!((answer.status, answer.closes()), (503, true));
            assert!(answer.head.contains("Retry-After: "), "{}", answer.head);
            refused.expect_end();
        }
        assert_eq!(total(&running, Counter::ConnsRefused), 10);
        served.pop();
        eventually("a permit is free again", || {
            let mut client = Client::connect(&running);
            client.call("/echo", b"x").status == 200
        });
    }
}

/// Connections that come and vanish.
const VANISHING: u64 = 2500;

#[test]
fn a_connection_with_many_requests_waiting_is_read_no_further_and_all_are_answered() {
    for ring in RINGS {
        let running = serve(Config { pending_conn_max: 20, ..config(ring, 1) });
        let waiting = || running.metrics()[0].gauge(Gauge::MessagesWaiting);
        let mut client = Client::connect(&running);
        client.send(&request("/later/1500", b""));
        (0..30).for_each(|_| client.send(&request("/echo", b"few")));
        eventually("they wait", || waiting() >= 20);
        // Some hundred bytes each would be far fewer than the bytes that may be sent ahead.
        (0..400).for_each(|_| client.send(&request("/echo", b"many")));
        for _ in 0..5 {
            assert!((20..=30).contains(&waiting()), "{}", waiting());
            std::thread::sleep(Duration::from_millis(100));
        }
        assert_eq!(client.answer().body, b"later");
        (0..30).for_each(|_| assert_eq!(client.answer().body, b"few"));
        (0..400).for_each(|_| assert_eq!(client.answer().body, b"many"));
        eventually("nothing waits", || waiting() == 0);
        assert_eq!(total(&running, Counter::FloodersCut), 0);
    }
}

#[test]
fn who_pipelines_shares_its_core_turn_by_turn() {
    for ring in RINGS {
        let running = serve(config(ring, 1));
        let mut client = Client::connect(&running);
        // All of them are there before the first is taken.
        client.send(&request("/later/500", b""));
        client.send(&request("/big/3000", b"").repeat(500));
        eventually("they wait", || running.metrics()[0].gauge(Gauge::MessagesWaiting) == 500);
        let before = total(&running, Counter::Turns);
        assert_eq!(client.answer().body, b"later");
        (0..500).for_each(|_| assert_eq!(client.answer().body.len(), 3000));
        let turns = (total(&running, Counter::Turns) - before) as usize;
        assert!(turns >= 500 * 3000 / (PIPELINE_PAUSE_BYTES + 4000), "{turns} turns");
    }
}

#[test]
fn what_waits_is_forgotten_with_its_connection() {
    for ring in RINGS {
        let running = serve(config(ring, 1));
        let waiting = || running.metrics()[0].gauge(Gauge::MessagesWaiting);
        let mut client = Client::connect(&running);
        client.send(&request("/never", b""));
        (0..30).for_each(|_| client.send(&request("/echo", b"")));
        eventually("they wait", || waiting() == 30);
        // Reset: nobody waits for an answer.
        client.reset();
        eventually("nothing waits", || waiting() == 0);
    }
}

#[test]
fn connections_that_come_and_vanish_leave_nothing() {
    for ring in RINGS {
        let running = serve(config(ring, 2));
        let address = running.addresses()[0];
        let mut healthy = Client::connect(&running);
        assert_eq!(healthy.call("/echo", b"a").body, b"a");
        let before = open_descriptors();
        for round in 0..VANISHING {
            let stream = TcpStream::connect(address).expect("a connection");
            match round % 4 {
                0 => (),
                1 => std::io::Write::write_all(&mut &stream, b"POST /echo HT").expect("a write"),
                2 => {
                    // The request is cancelled: nobody waits for its answer.
                    std::io::Write::write_all(&mut &stream, &request("/never", b"")).expect("a write");
                    crate::rt::listen::set_reset(std::os::fd::AsRawFd::as_raw_fd(&stream));
                }
                _ => crate::rt::listen::set_reset(std::os::fd::AsRawFd::as_raw_fd(&stream)),
            }
        }
        eventually("every connection but one is closed", || {
            // Some may not have been accepted yet.
            let accepted = total(&running, Counter::ConnsAccepted);
            accepted == VANISHING + 1 && accepted == total(&running, Counter::ConnsClosed) + 1
        });
        assert_eq!(healthy.call("/echo", b"b").body, b"b");
        // Other tests of this process open and close descriptors at the same time.
        eventually("descriptors are back", || open_descriptors() <= before + 200);
        // Some may have waited in the backlog until now.
        eventually("every permit but one is back", || running.node.conns.taken() == 1);
    }
}

#[test]
fn readers_that_do_not_read_are_cut() {
    for ring in RINGS {
        let running = serve(Config { write_timeout: Duration::from_millis(400), ..config(ring, 1) });
        // A stream that grows beyond the bound of the outbound queue.
        let mut flooded = Client::connect(&running);
        flooded.send(&request("/flood", b""));
        eventually("the stream is cut", || total(&running, Counter::SlowReaders) == 1);
        // An answer that is larger than the buffers of TCP, and a reader that stands still.
        let mut still = Client::connect(&running);
        still.send(&request("/big/30000000", b""));
        eventually("the reader is cut", || total(&running, Counter::SlowReaders) == 2);
        let mut observer = Client::connect(&running);
        assert_eq!(observer.call("/events", b"").text(), "gone=1 half_closed=0 pending=0");
        // A slow one that does read gets everything.
        let mut slow = Client::connect(&running);
        slow.send(&request("/big/3000000", b""));
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(slow.answer().body.len(), 3_000_000);
        eventually("the cut ones are gone", || running.metrics()[0].gauge(Gauge::Conns) == 2);
    }
}

#[test]
fn answers_that_are_not_read_hold_up_requests_not_memory() {
    for ring in RINGS {
        let running = serve(config(ring, 1));
        let mut client = Client::connect(&running);
        // 600 requests for 100 KB each, sent at once and read late.
        client.send(&(0..600).flat_map(|_| request("/big/100000", b"")).collect::<Vec<_>>());
        std::thread::sleep(Duration::from_millis(300));
        for _ in 0..600 {
            assert_eq!(client.answer().body.len(), 100_000);
        }
    }
}

#[test]
fn admin_connections_are_apart() {
    for ring in RINGS {
        let admin = Some(std::net::SocketAddr::from(([127, 0, 0, 1], 0)));
        let running = serve(Config { connections_max: Some(1), admin, ..config(ring, 2) });
        let mut only = Client::connect(&running);
        // Until it is answered, it may not have been accepted: then the next one would be served in its stead.
        assert_eq!(only.call("/echo", b"first").body, b"first");
        let mut admin = Client::to(running.admin().expect("an address"));
        assert_eq!(admin.call("/core", b"").text(), "0");
        assert_eq!(Client::connect(&running).call("/echo", b"").status, 503);
        assert_eq!(admin.call("/echo", b"still").body, b"still");
        assert_eq!(only.call("/echo", b"last").body, b"last");
        assert_eq!((running.node.conns.taken(), running.node.admin.taken()), (1, 1));
    }
}

#[test]
fn memory_for_a_burst_is_given_back_when_it_is_quiet() {
    for ring in RINGS {
        let running = serve(config(ring, 1));
        let buffers = || running.metrics()[0].gauge(Gauge::ReceiveBuffers);
        let mut holder = Client::connect(&running);
        let mut kept: Vec<_> = (0..1000).map(|_| Client::connect(&running)).collect();
        assert!(kept.iter_mut().all(|client| client.call("/echo", b"here").body == b"here"));
        for round in 0..2 {
            eventually("the level of a quiet core", || buffers() == 64);
            let mut bursts = 0;
            while buffers() < 128 {
                assert!(bursts < 50, "{ring:?}, {round}: {} buffers", buffers());
                bursts += 1;
                // Holds the core while everybody sends and some come anew, so that it finds all of that at once.
                holder.send(&request("/big/30000000", b""));
                kept.iter_mut().for_each(|client| client.send(&request("/echo", b"all at once")));
                let mut fresh: Vec<_> = (0..500).map(|_| Client::connect(&running)).collect();
                fresh.iter_mut().for_each(|client| client.send(&request("/echo", b"all at once")));
                assert!(kept.iter_mut().chain(&mut fresh).all(|client| client.answer().body == b"all at once"));
                assert_eq!(holder.answer().body.len(), 30_000_000);
                std::thread::sleep(Duration::from_millis(150));
            }
        }
        drop(kept);
        eventually("the level of a quiet core", || buffers() == 64);
        eventually("no connection but one is left", || running.metrics()[0].gauge(Gauge::Conns) == 1);
        assert_eq!(holder.call("/echo", b"after").body, b"after");
    }
}
