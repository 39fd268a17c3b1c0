//! Requests and answers on one connection.

use std::time::{Duration, Instant};

use super::client::{Client, RINGS, config, eventually, request, serve};
use crate::base::metrics::Counter;
use crate::rt::Config;

#[test]
fn keep_alive_pipelining_and_a_close() {
    for ring in RINGS {
        let running = serve(config(ring, 1));
        let mut client = Client::connect(&running);
        for round in 0..50u32 {
            assert_eq!(client.call("/echo", &round.to_le_bytes()).body, round.to_le_bytes());
        }
        let many: Vec<u8> = (0..200u32).flat_map(|n| request("/echo", &n.to_le_bytes())).collect();
        client.send(&many);
        for n in 0..200u32 {
            assert_eq!(client.answer().body, n.to_le_bytes());
        }
        let answer = client.call("/close", b"");
        assert!(answer.closes());
        client.expect_end();
        assert_eq!(client_peer(&running), "127.0.0.1");
    }
}

fn client_peer(running: &crate::rt::Running) -> String {
    Client::connect(running).call("/peer", b"").text()
}

#[test]
fn a_request_in_single_bytes() {
    for ring in RINGS {
        let running = serve(config(ring, 1));
        let mut client = Client::connect(&running);
        for byte in request("/echo", b"slowly") {
            client.send(&[byte]);
            std::thread::sleep(Duration::from_micros(200));
        }
        assert_eq!(client.answer().body, b"slowly");
        assert_eq!(client.call("/echo", b"and on").body, b"and on");
    }
}

#[test]
fn bodies_of_all_sizes_both_ways() {
    for ring in RINGS {
        let running = serve(config(ring, 1));
        let mut client = Client::connect(&running);
        for size in [0, 1, 4000, 4096, 4097, 65_536, 1_000_000, 4 * 1024 * 1024] {
            let body: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
            let mut sender = client.stream.try_clone().expect("a clone");
            let bytes = request("/echo", &body);
            let writer = std::thread::spawn(move || std::io::Write::write_all(&mut sender, &bytes).expect("a write"));
            assert!(client.answer().body == body, "{size} bytes");
            writer.join().expect("the writer");
        }
        client.send(format!("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n", 4 * 1024 * 1024 + 1).as_bytes());
        let answer = client.answer();
        assert_eq!((answer.status, answer.closes()), (413, true));
        client.expect_end();
    }
}

#[test]
fn garbage_is_refused_and_what_follows_it_resets_nothing() {
    for ring in RINGS {
        let running = serve(config(ring, 1));
        let mut client = Client::connect(&running);
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nbad header\r\n\r\n");
        client.send(&[b'x'; 20_000]);
        let answer = client.answer();
        assert_eq!((answer.status, answer.closes()), (400, true));
        client.expect_end();
    }
}

#[test]
fn an_expectation_is_met_before_the_body() {
    for ring in RINGS {
        let running = serve(config(ring, 1));
        let mut client = Client::connect(&running);
        client.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
        assert_eq!(client.answer().status, 100);
        client.send(b"body");
        assert_eq!(client.answer().body, b"body");
    }
}

#[test]
fn pending_responses_keep_their_order_and_the_rest_waits() {
    for ring in RINGS {
        let running = serve(config(ring, 1));
        let mut client = Client::connect(&running);
        let mut many = request("/later/50", b"");
        many.extend(request("/park/20", b"parked"));
        many.extend(request("/echo", b"last"));
        client.send(&many);
        assert_eq!(client.answer().body, b"later");
        assert_eq!(client.answer().body, b"parked");
        assert_eq!(client.answer().body, b"last");
    }
}

#[test]
fn a_peer_that_has_finished_sending_gets_its_answers() {
    for ring in RINGS {
        let running = serve(config(ring, 1));
        let mut client = Client::connect(&running);
        client.send(&[request("/later/100", b""), request("/echo", b"two"), request("/later/50", b"")].concat());
        client.finish_sending();
        assert_eq!(client.answer().body, b"later");
        assert_eq!(client.answer().body, b"two");
        assert_eq!(client.answer().body, b"later");
        client.expect_end();
        assert_eq!(Client::connect(&running).call("/events", b"").text(), "gone=0 half_closed=2 pending=0");
        // Half a request, then the end: nothing to answer.
        let mut half = Client::connect(&running);
        half.send(b"POST /echo HTTP/1.1\r\nHost:");
        half.finish_sending();
        half.expect_end();
    }
}

#[test]
fn a_peer_that_vanishes_cancels_its_request() {
    for ring in RINGS {
        let running = serve(config(ring, 1));
        for finishes_first in [false, true] {
            let mut client = Client::connect(&running);
            client.send(&request("/never", b""));
            std::thread::sleep(Duration::from_millis(50));
            if finishes_first {
                client.finish_sending();
                std::thread::sleep(Duration::from_millis(50));
            }
            crate::rt::listen::set_reset(std::os::fd::AsRawFd::as_raw_fd(&client.stream));
        }
        let mut observer = Client::connect(&running);
        eventually("both requests are cancelled", || observer.call("/events", b"").text().starts_with("gone=2"));
        assert!(observer.call("/events", b"").text().ends_with("pending=0"));
    }
}

#[test]
fn input_ahead_of_a_pending_response_is_bounded_and_kept() {
    for ring in RINGS {
        let running = serve(config(ring, 1));
        let mut client = Client::connect(&running);
        client.send(&request("/later/700", b""));
        // More than the shell stores: the sender is held up by TCP, and nothing is lost.
        let chunk: Vec<u8> = (0..20_000u32).flat_map(|n| request("/echo", &n.to_le_bytes())).collect();
        let mut sender = client.stream.try_clone().expect("a clone");
        let writer = std::thread::spawn(move || std::io::Write::write_all(&mut sender, &chunk).expect("a write"));
        std::thread::sleep(Duration::from_millis(300));
        let received: u64 = running.metrics().iter().map(|core| core.counter(Counter::BytesIn)).sum();
        assert!(received < 256 * 1024, "{received} bytes were received ahead");
        assert_eq!(client.answer().body, b"later");
        for n in 0..20_000u32 {
            assert_eq!(client.answer().body, n.to_le_bytes());
        }
        writer.join().expect("the writer");
    }
}

#[test]
fn slow_senders_are_told_and_idle_connections_closed() {
    for ring in RINGS {
        let times = Duration::from_millis(300);
        let running = serve(Config { head_timeout: times, body_timeout: times, idle_timeout: 2 * times, ..config(ring, 1) });
        let start = Instant::now();
        let mut slow_head = Client::connect(&running);
        slow_head.send(b"POST /echo HTTP/1.1\r\n");
        let mut slow_body = Client::connect(&running);
        slow_body.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nxx");
        let mut idle = Client::connect(&running);
        assert_eq!(idle.call("/echo", b"once").body, b"once");
        for client in [&mut slow_head, &mut slow_body] {
            let answer = client.answer();
            assert_eq!((answer.status, answer.closes()), (408, true));
            client.expect_end();
        }
        assert!(start.elapsed() >= times);
        idle.expect_end();
        assert!(start.elapsed() >= 2 * times && start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        // A pending response is no idleness.
        let mut busy = Client::connect(&running);
        assert_eq!(busy.call("/later/900", b"").body, b"later");
    }
}

#[test]
fn cores_that_spin_serve_alike() {
    for ring in RINGS {
        let running = serve(Config { spin: Duration::from_micros(200), ..config(ring, 2) });
        let mut client = Client::connect(&running);
        let other = 1 - client.call("/core", b"").text().parse::<usize>().expect("a number");
        for _ in 0..50 {
            assert_eq!(client.call("/echo", b"spun").body, b"spun");
            assert_eq!(client.call(&format!("/hop/{other}"), b"").body, b"later");
            assert_eq!(client.call("/blocking/1", b"").body, b"later");
        }
    }
}

#[test]
fn timers_blocking_work_and_hops_wake_an_idle_core() {
    for ring in RINGS {
        let running = serve(config(ring, 2));
        let mut client = Client::connect(&running);
        let other = if client.call("/core", b"").text() == "0" { 1 } else { 0 };
        for (path, least_ms) in
            [("/glommio/20".to_owned(), 20), ("/blocking/20".to_owned(), 20), (format!("/hop/{other}"), 0), ("/later/20".to_owned(), 20)]
        {
            // Both cores are asleep by then, with a tick ahead that must not be what wakes them.
            let mut fastest = Duration::MAX;
            for _ in 0..8 {
                std::thread::sleep(Duration::from_millis(3));
                let start = Instant::now();
                assert_eq!(client.call(&path, b"").body, b"later", "{path}");
                let took = start.elapsed();
                assert!(took >= Duration::from_millis(least_ms), "{path}: {took:?}");
                fastest = fastest.min(took);
            }
            assert!(fastest < Duration::from_millis(least_ms + 15), "{ring:?} {path}: {fastest:?}");
        }
    }
}
