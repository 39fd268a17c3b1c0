//! More than one core.

use std::collections::BTreeMap;
use std::time::Duration;

use super::client::{Client, RINGS, config, eventually, request, serve};
use crate::base::metrics::{Counter, Gauge};

#[test]
fn a_connection_moves_with_everything_it_has() {
    for ring in RINGS {
        let running = serve(config(ring, 3));
        let mut client = Client::connect(&running);
        // A big answer before the move and requests behind it: both ends of the connection's bytes travel.
        let mut many = request("/big/200000", b"");
        many.extend(request("/move/2", b"moved"));
        many.extend(request("/core", b""));
        many.extend(request("/move/0", b"moved again"));
        many.extend(request("/core", b""));
        many.extend(request("/later/10", b""));
        client.send(&many);
        assert_eq!(client.answer().body.len(), 200_000);
        assert_eq!(client.answer().body, b"moved");
        assert_eq!(client.answer().text(), "2");
        assert_eq!(client.answer().body, b"moved again");
        assert_eq!(client.answer().text(), "0");
        assert_eq!(client.answer().body, b"later");
        for round in 0..60 {
            let path = format!("/move/{}", round % 3);
            assert_eq!(client.call(&path, &[round]).body, [round]);
        }
        drop(client);
        eventually("no connection is left", || running.metrics().iter().all(|core| core.gauge(Gauge::Conns) == 0));
    }
}

#[test]
fn moving_connections_under_load_lose_nothing() {
    for ring in RINGS {
        let running = serve(config(ring, 4));
        let address = running.addresses()[0];
        let clients: Vec<_> = (0..8u8)
            .map(|client| {
                std::thread::spawn(move || {
                    let mut connection = Client::to(address);
                    for round in 0..100u8 {
                        let path = format!("/move/{}", (round.wrapping_mul(7) ^ client) % 4);
                        connection.send(&[request(&path, &[round]), request("/echo", b"x")].concat());
                        assert_eq!(connection.answer().body, [round]);
                        assert_eq!(connection.answer().body, b"x");
                    }
                })
            })
            .collect();
        for client in clients {
            client.join().expect("a client");
        }
        let moved: u64 = running.metrics().iter().map(|core| core.counter(Counter::ConnsMovedHome)).sum();
        assert!(moved > 300, "{moved}");
    }
}

#[test]
fn few_connections_use_every_core() {
    for ring in RINGS {
        let running = serve(config(ring, 4));
        let mut clients: Vec<_> = (0..16).map(|_| Client::connect(&running)).collect();
        let mut spread: BTreeMap<String, usize> = BTreeMap::new();
        for client in &mut clients {
            *spread.entry(client.call("/core", b"").text()).or_default() += 1;
        }
        assert_eq!(spread.len(), 4, "{spread:?}");
        assert!(spread.values().all(|count| (3..=5).contains(count)), "{spread:?}");
    }
}

#[test]
fn sixteen_unpinned_cores_hop_to_each_other() {
    for ring in RINGS {
        let running = serve(config(ring, 16));
        let address = running.addresses()[0];
        let clients: Vec<_> = (0..16)
            .map(|_| {
                std::thread::spawn(move || {
                    let mut connection = Client::to(address);
                    let here: usize = connection.call("/core", b"").text().parse().expect("a number");
                    for step in 1..16 {
                        let path = format!("/hop/{}", (here + step) % 16);
                        assert_eq!(connection.call(&path, b"").body, b"later");
                    }
                })
            })
            .collect();
        for client in clients {
            client.join().expect("a client");
        }
        let sent: u64 = running.metrics().iter().map(|core| core.counter(Counter::FramesSent)).sum();
        assert_eq!(sent, 16 * 15 * 2);
    }
}

#[test]
fn an_idle_process_sleeps() {
    for ring in RINGS {
        let running = serve(config(ring, 2));
        std::thread::sleep(Duration::from_millis(200));
        let turns = || running.metrics().iter().map(|core| core.counter(Counter::Turns)).sum::<u64>();
        let before = turns();
        std::thread::sleep(Duration::from_millis(1000));
        let count = turns() - before;
        assert!(count <= 100, "{ring:?}: {count} turns in an idle second");
    }
}
