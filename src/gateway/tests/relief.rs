//! Memory that runs out while upstreams answer.

use super::*;
use crate::base::fault::Kind;

#[test]
fn the_largest_answer_gives_way_and_the_others_are_not_disturbed() {
    let mut bench = Bench::new(Settings { in_flight_max: 3, ..settings() });
    (1..4).for_each(|index| _ = bench.relay(index).expect("it is taken"));
    let links = bench.dialled();
    links.iter().for_each(|link| bench.up(*link));
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n";
    assert_eq!(bench.bytes(links[0], &format!("{head}{}", "a".repeat(300))), []);
    assert_eq!(bench.bytes(links[1], &format!("{head}{}", "b".repeat(900))), []);
    assert_eq!(bench.bytes(links[2], "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"), []);
    assert_eq!(bench.bytes(links[2], &format!("data: {}", "c".repeat(500))), []);
    assert!((1700..1800).contains(&bench.gateway.held_bytes()), "{}", bench.gateway.held_bytes());
    for (index, largest) in [(2, 900..901), (3, 500..600), (1, 300..301)] {
        assert!(largest.contains(&bench.gateway.largest_held()), "{}", bench.gateway.largest_held());
        bench.gateway.relieve(bench.now);
        bench.take();
        assert_eq!(bench.told(None), failed(index, Failure::NoRoom));
        assert_eq!(bench.hung(), [links[index as usize - 1]]);
    }
    assert_eq!((bench.gateway.held_bytes(), bench.gateway.largest_held()), (0, 0));
    bench.gateway.relieve(bench.now);
    assert_eq!(bench.told(None), [], "there is none to give way");
    // It is this gateway that has no room: nobody is blamed, and no breaker of this node counts it.
    assert!(Failure::NoRoom.kind().is_shed() && !Failure::NoRoom.kind().is_error());
    assert_eq!(Failure::NoRoom.kind(), Kind::UpstreamBusy);
}
