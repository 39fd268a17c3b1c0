//! The end of a process, seen by its clients.

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::client::{Client, RINGS, config, request, serve};
use crate::rt::Config;

#[test]
fn a_drain_finishes_what_was_begun() {
    for ring in RINGS {
        let mut running = serve(config(ring, 2));
        let address = running.addresses()[0];
        let mut idle = Client::connect(&running);
        assert_eq!(idle.call("/echo", b"x").body, b"x");
        let mut pending = Client::connect(&running);
        pending.send(&request("/later/700", b""));
        let mut begun = Client::connect(&running);
        begun.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Le");
        let mut late = Client::connect(&running);
        std::thread::sleep(Duration::from_millis(50));
        running.drain();
        std::thread::sleep(Duration::from_millis(150));
        // An idle connection still gets an answer to a request that was on its way.
        let answer = late.call("/echo", b"late");
        assert_eq!((answer.body.as_slice(), answer.closes()), (b"late".as_slice(), true));
        late.expect_end();
        idle.expect_end();
        begun.send(b"ngth: 3\r\n\r\nend");
        let answer = begun.answer();
        assert_eq!((answer.body.as_slice(), answer.closes()), (b"end".as_slice(), true));
        begun.expect_end();
        let answer = pending.answer();
        assert_eq!((answer.body.as_slice(), answer.closes()), (b"later".as_slice(), true));
        pending.expect_end();
        drop((idle, late, begun, pending));
        running.join();
        assert!(TcpStream::connect(address).is_err());
    }
}

#[test]
fn a_drain_under_load_loses_nothing() {
    for ring in RINGS {
        for _ in 0..3 {
            drain_under_load(ring);
        }
    }
}

fn drain_under_load(ring: crate::rt::RingChoice) {
    let mut running = serve(config(ring, 2));
    let address = running.addresses()[0];
    let answered = Arc::new(AtomicUsize::new(0));
    let refused = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..8)
        .map(|client| {
            let (answered, refused) = (Arc::clone(&answered), Arc::clone(&refused));
            std::thread::spawn(move || {
                while !refused.load(Ordering::Relaxed) {
                    let Ok(stream) = TcpStream::connect(address) else {
                        refused.store(true, Ordering::Relaxed);
                        return;
                    };
                    drop(stream);
                    let Ok(probe) = std::panic::catch_unwind(|| Client::to(address)) else { return };
                    let mut connection = probe;
                    // Half of the clients keep their connection, half come anew for each request.
                    let requests = if client % 2 == 0 { usize::MAX } else { 1 };
                    for _ in 0..requests {
                        let sent = std::io::Write::write_all(&mut connection.stream, &request("/echo", b"load"));
                        match connection.try_answer() {
                            Ok(Some(answer)) => {
                                assert_eq!(answer.body, b"load");
                                answered.fetch_add(1, Ordering::Relaxed);
                                if answer.closes() {
                                    break;
                                }
                            }
                            // Closed while idle: the request was not read.
                            Ok(None) => break,
                            Err(error) => panic!("after {sent:?}: {error}"),
                        }
                    }
                }
            })
        })
        .collect();
    std::thread::sleep(Duration::from_millis(300));
    running.drain();
    for client in clients {
        client.join().expect("no request is lost, no answer cut, no connection reset");
    }
    running.join();
    assert!(answered.load(Ordering::Relaxed) > 50);
}

#[test]
fn a_drain_ends_in_time_and_a_stop_at_once() {
    for ring in RINGS {
        let mut running = serve(Config { drain_timeout: Duration::from_millis(500), ..config(ring, 2) });
        let mut client = Client::connect(&running);
        client.send(&request("/never", b""));
        std::thread::sleep(Duration::from_millis(50));
        let start = Instant::now();
        running.drain();
        running.join();
        assert!(start.elapsed() >= Duration::from_millis(500) && start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        assert!(!matches!(client.try_answer(), Ok(Some(_))));

        let mut running = serve(config(ring, 2));
        let mut client = Client::connect(&running);
        client.send(&request("/never", b""));
        std::thread::sleep(Duration::from_millis(50));
        running.drain();
        let start = Instant::now();
        running.stop();
        running.join();
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    }
}
