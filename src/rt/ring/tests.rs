//! Both sets of operations against the kernel, and the older one with the kernel told to refuse all else.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use io_uring::register::Restriction;

use super::*;

/// Allows the operations of the 5.8 path and its one entry flag.
pub(super) fn restrict(ring: &IoUring) -> io::Result<()> {
    let mut allowed: Vec<Restriction> = legacy::CODES.into_iter().map(Restriction::sqe_op).collect();
    allowed.push(Restriction::sqe_flags_allowed(squeue::Flags::BUFFER_SELECT.bits()));
    ring.submitter().register_restrictions(&mut allowed)
}

/// A ring that has given its first buffers to the kernel.
fn settled(path: RingPath) -> Ring {
    let mut ring = Ring::new(path).expect("a ring");
    ring.flush();
    let mut taken = Vec::with_capacity(8);
    ring.completions(&mut taken);
    let provided = taken.iter().filter(|c| c.op() == Some(Op::Provide) && c.result >= 0).count();
    assert_eq!((provided, taken.len()), (usize::from(path == RingPath::Legacy), provided));
    assert_eq!(ring.in_flight(), 0);
    ring
}

const PATHS: [RingPath; 2] = [RingPath::Modern, RingPath::Legacy];

/// Waits until `count` operations of the kind have completed.
fn wait_for(ring: &mut Ring, op: Op, count: usize) -> Vec<Completion> {
    let mut found = Vec::new();
    for _ in 0..200 {
        let mut taken = Vec::with_capacity(64);
        ring.completions(&mut taken);
        for completion in taken {
            if completion.op() == Some(op) {
                found.push(completion);
            } else if let Some(lease) = ring.lease(&completion) {
                ring.give_back(lease);
            }
        }
        if found.len() >= count {
            return found;
        }
        ring.sleep(Duration::from_millis(20));
    }
    panic!("{op:?} did not complete: {found:?}");
}

#[test]
fn accepts_receives_and_sends() {
    for path in PATHS {
        let mut ring = Ring::new(path).expect("a ring");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        ring.accept(listener.as_raw_fd(), 0, false);
        let mut client = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
        let accepted = wait_for(&mut ring, Op::Accept, 1)[0];
        assert_eq!(accepted.is_last(), path == RingPath::Legacy);
        let socket = accepted.result;
        assert!(socket > 0, "{path:?}");

        ring.recv(socket, 9);
        client.write_all(b"hello").expect("a write");
        let received = wait_for(&mut ring, Op::Recv, 1)[0];
        assert_eq!((received.result, received.index()), (5, 9));
        let lease = ring.lease(&received).expect("a buffer");
        // SAFETY: the ring is alive.
        assert_eq!(unsafe { lease.bytes() }, b"hello");
        ring.give_back(lease);

        let reply = b"world".to_vec();
        // SAFETY: the reply lives until the completion, which is awaited.
        unsafe { ring.send(socket, &reply, 9) };
        assert_eq!(wait_for(&mut ring, Op::Send, 1)[0].result, 5);
        let mut read = [0; 5];
        client.read_exact(&mut read).expect("the reply");
        assert_eq!(&read, b"world");

        // SAFETY: the socket was accepted here and is not used again.
        unsafe { libc::close(socket) };
    }
}

#[test]
fn a_receive_can_be_taken_back() {
    for path in PATHS {
        let mut ring = settled(path);
        let (client, server) = pair();
        ring.recv(server.as_raw_fd(), 1);
        ring.flush();
        assert_eq!(ring.in_flight(), 1);
        ring.cancel(Op::Recv, 1);
        let ended = wait_for(&mut ring, Op::Recv, 1)[0];
        assert_eq!(ended.result, -libc::ECANCELED, "{path:?}");
        assert!(ended.is_last());
        drop(client);
    }
}

#[test]
fn a_wait_ends_in_time_and_leaves_nothing_behind() {
    for path in PATHS {
        let mut ring = settled(path);
        let start = std::time::Instant::now();
        ring.sleep(Duration::from_millis(30));
        let waited = start.elapsed();
        assert!(waited >= Duration::from_millis(29) && waited < Duration::from_secs(5), "{path:?}: {waited:?}");
        let mut taken = Vec::with_capacity(8);
        for _ in 0..50 {
            ring.flush();
            ring.completions(&mut taken);
            if path == RingPath::Modern || taken.iter().any(|c| c.op() == Some(Op::Timeout)) {
                break;
            }
        }
        ring.completions(&mut taken);
        assert_eq!(ring.in_flight(), 0, "{path:?}: {taken:?}");
    }
}

#[test]
fn more_receives_than_buffers_starve_and_recover() {
    for path in PATHS {
        let mut ring = Ring::new(path).expect("a ring");
        let pairs: Vec<_> = (0..100).map(|_| pair()).collect();
        for (index, (client, server)) in pairs.iter().enumerate() {
            ring.recv(server.as_raw_fd(), index as u32);
            (&mut &*client).write_all(b"x").expect("a write");
        }
        let mut received = 0;
        let mut leases = Vec::new();
        for _ in 0..200 {
            let mut taken = Vec::with_capacity(128);
            ring.completions(&mut taken);
            for completion in taken.iter().filter(|c| c.op() == Some(Op::Recv)) {
                if completion.result == -libc::ENOBUFS {
                    ring.starve();
                    ring.recv(pairs[completion.index() as usize].1.as_raw_fd(), completion.index());
                } else {
                    assert_eq!(completion.result, 1);
                    received += 1;
                    leases.push(ring.lease(completion).expect("a buffer"));
                }
            }
            if received == pairs.len() {
                break;
            }
            ring.sleep(Duration::from_millis(20));
        }
        assert_eq!(received, pairs.len(), "{path:?}");
        for lease in leases {
            ring.give_back(lease);
        }
    }
}

/// Runs the ring until as many receives have brought a byte as there are pairs. Only then are the buffers given back.
fn receive_from_all(ring: &mut Ring, pairs: &[(TcpStream, TcpStream)]) {
    let mut leases = Vec::new();
    for _ in 0..500 {
        let mut taken = Vec::with_capacity(1024);
        ring.completions(&mut taken);
        for completion in taken.iter().filter(|c| c.op() == Some(Op::Recv)) {
            if let Some(lease) = ring.lease(completion) {
                leases.push(lease);
            } else if completion.result == -libc::ENOBUFS {
                ring.starve();
            }
            if completion.is_last() {
                ring.recv(pairs[completion.index() as usize].1.as_raw_fd(), completion.index());
            }
        }
        if leases.len() == pairs.len() {
            return leases.into_iter().for_each(|lease| ring.give_back(lease));
        }
        ring.sleep(Duration::from_millis(20));
    }
    panic!("{} received", leases.len());
}

fn resident(ring: &Ring) -> usize {
    store::tests::resident(ring.store.as_ref().expect("a store"))
}

#[test]
fn after_a_burst_the_buffers_return_to_their_level() {
    crate::rt::host::raise_descriptors();
    for path in PATHS {
        let mut ring = settled(path);
        let pairs: Vec<_> = (0..1500).map(|_| pair()).collect();
        for (index, (_, server)) in pairs.iter().enumerate() {
            ring.recv(server.as_raw_fd(), index as u32);
        }
        for round in 0..3 {
            for (client, _) in &pairs {
                (&mut &*client).write_all(b"x").expect("a write");
            }
            receive_from_all(&mut ring, &pairs);
            assert!(ring.buffers() >= 1024 && resident(&ring) >= 1000, "{path:?}, {round}: {} {}", ring.buffers(), resident(&ring));
            // One while in which the burst was seen, and one that was quiet.
            ring.flush();
            ring.appraise();
            ring.tidy();
            assert!(ring.recall.is_none(), "{path:?}: what was just in use stays");
            ring.appraise();
            for _ in 0..20 {
                ring.tidy();
                while let Some(recall) = &ring.recall {
                    let left = recall.left();
                    let completion = wait_for(&mut ring, Op::Recall, 1);
                    completion.iter().for_each(|completion| ring.on_recalled(completion));
                    assert!(ring.recall.as_ref().is_none_or(|recall| recall.left() < left));
                }
            }
            assert_eq!(ring.buffers(), store::BUFFERS_FIRST, "{path:?}");
            let resident = resident(&ring);
            assert!(resident <= usize::from(store::BUFFERS_FIRST), "{path:?}: {resident}");
        }
    }
}

#[test]
fn a_message_wakes_another_ring() {
    let mut target = Ring::new(RingPath::Modern).expect("a ring");
    let fd = target.fd();
    let sender = std::thread::spawn(move || {
        let mut ring = Ring::new(RingPath::Modern).expect("a ring");
        ring.message(fd);
        ring.flush();
        assert_eq!(ring.in_flight(), 0);
    });
    let woken = wait_for(&mut target, Op::Wake, 1);
    assert_eq!(woken.len(), 1);
    sender.join().expect("the sender");
}

#[test]
fn the_restricted_ring_refuses_what_came_later() {
    let mut ring = Ring::new(RingPath::Legacy).expect("a ring");
    let (_client, server) = pair();
    ring.submit(modern::recv(server.as_raw_fd(), store::GROUP, Token::new(Op::Recv, 1)).flags(squeue::Flags::SKIP_SUCCESS));
    assert_eq!(wait_for(&mut ring, Op::Recv, 1)[0].result, -libc::EACCES);
    ring.submit(modern::wake(0).clear_flags());
    assert_eq!(wait_for(&mut ring, Op::Wake, 1)[0].result, -libc::EACCES);
}

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let client = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
    (client, listener.accept().expect("a connection").0)
}
