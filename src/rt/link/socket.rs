//! Links over TCP: the name is looked up, its addresses are tried in turn, TLS is spoken if it should be, and bytes move.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;

use super::super::core::Core;
use super::super::listen;
use super::super::ring::{Completion, Op};
use super::super::wheel::{tick_after, ticks};
use super::tls::{self, Session, Trust};
use super::{Common, Route, Stage, Wish, trim};
use crate::base::ids::LinkId;
use crate::base::limits::{
    LINK_ADDRESS_MS_MIN, LINK_ADDRESSES_MAX, LINK_LONG_PAUSE_US, LINK_PIECE_BYTES_MAX, POOLED_BUFFER_BYTES_MAX, TLS_SEND_BYTES_MAX,
};
use crate::base::metrics::Counter;
use crate::base::time::Nanos;
use crate::gateway::link::{Dial, Down, LinkEvent};

/// A connection that is silent for so long is asked whether it still lives, seconds; so often, so many times.
const KEEPALIVE: [(i32, i32); 3] = [(libc::TCP_KEEPIDLE, 60), (libc::TCP_KEEPINTVL, 10), (libc::TCP_KEEPCNT, 6)];

#[derive(Default)]
pub(super) struct Socket {
    fd: Option<OwnedFd>,
    /// Still to be tried.
    addresses: VecDeque<SocketAddr>,
    /// What is being connected to; the kernel reads it.
    address: Option<Box<(libc::sockaddr_storage, libc::socklen_t)>>,
    /// Why the addresses tried so far were of no use.
    failure: Option<Down>,
    /// When the link must be up, in ticks.
    until: u32,
    connecting: bool,
    pub(super) receiving: bool,
    sending: bool,
    /// With the kernel. Not touched while a send is in the ring.
    flight: Vec<u8>,
    sent: usize,
    session: Option<Session>,
    tls: Option<Arc<rustls::ClientConfig>>,
}

impl Socket {
    /// Whether an operation of it is in the ring.
    pub(super) const fn is_held(&self) -> bool {
        self.connecting || self.receiving || self.sending
    }

    /// Bytes that the kernel has not taken of what it was given.
    pub(super) const fn unsent(&self) -> usize {
        self.flight.len() - self.sent
    }

    fn raw(&self) -> i32 {
        self.fd.as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }
}

/// Asks for the addresses of a host, and for the settings of TLS. Blocks.
pub(super) fn find_route(dial: &Dial, trust: &Trust) -> Result<Route, Down> {
    let Dial::Tcp { host, port, tls } = dial else { return Err(Down::NameUnknown) };
    let tls = tls.then(|| trust.load()).transpose().map_err(Down::Tls)?;
    let host = literal(host).map_or_else(|| host.to_string(), |ip| ip.to_string());
    // Every failure counts as "unknown": that of the resolver itself, too, leaves no address.
    let found = (host.as_str(), *port).to_socket_addrs().map_err(|_| Down::NameUnknown)?;
    let mut addresses: Vec<SocketAddr> = found.take(LINK_ADDRESSES_MAX).collect();
    addresses.dedup();
    if addresses.is_empty() { Err(Down::NameUnknown) } else { Ok(Route { addresses, tls }) }
}

/// The address that a host's name is, if it is one.
fn literal(host: &str) -> Option<IpAddr> {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).parse().ok()
}

/// Why a connection was not made.
const fn failure_of(error: i32) -> Down {
    match error {
        libc::ECONNREFUSED => Down::Refused,
        libc::ETIMEDOUT | libc::ECANCELED => Down::TimedOut,
        libc::ECONNRESET | libc::ECONNABORTED => Down::Reset,
        libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM => Down::TooMany,
        _ => Down::Unreachable,
    }
}

fn open(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: plain system call; a result that is not negative is a descriptor that nobody else owns.
    let socket = unsafe {
        let fd = libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(fd)
    };
    listen::set(&socket, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
    listen::set(&socket, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1)?;
    for (option, value) in KEEPALIVE {
        listen::set(&socket, libc::IPPROTO_TCP, option, value)?;
    }
    Ok(socket)
}

/// How a connection is made.
impl Core {
    /// Finds the way to the link's host.
    pub(super) fn look_up(&mut self, index: u32) {
        let Some((common, socket)) = self.links.socket(index) else { return };
        socket.until = common.due;
        let dial = Arc::clone(&common.dial);
        let Dial::Tcp { host, port, tls } = &*dial else { return };
        let config = self.links.tls.clone();
        if let Some(ip) = literal(host)
            && (!tls || config.is_some())
        {
            let tls = config.filter(|_| *tls);
            return self.on_found(index, Ok(Route { addresses: vec![SocketAddr::from((ip, *port))], tls }));
        }
        if let Some(common) = self.links.common(index) {
            common.is_awaited = true;
        }
        let (desk, trust) = (Arc::clone(&self.links.desk), Arc::clone(&self.links.trust));
        self.links.hands.0.push(Wish::Find { index, dial, desk, trust });
    }

    /// The way to the host is known, or that there is none.
    pub(super) fn on_found(&mut self, index: u32, found: Result<Route, Down>) {
        let Some((common, socket)) = self.links.socket(index) else { return };
        if common.stage == Stage::Closed {
            return;
        }
        match found {
            Ok(route) => {
                socket.addresses = route.addresses.into();
                if let Some(shared) = route.tls {
                    // The first to come tells the core.
                    let own = self.links.tls.get_or_insert_with(|| tls::for_core(&shared)).clone();
                    if let Some((_, socket)) = self.links.socket(index) {
                        socket.tls = Some(own);
                    }
                }
                self.try_next(index);
            }
            Err(why) => self.end_link(index, why),
        }
    }

    /// Tries the next address; none left: the link is down.
    fn try_next(&mut self, index: u32) {
        loop {
            let Some((_, socket)) = self.links.socket(index) else { return };
            socket.fd = None;
            let Some(address) = socket.addresses.pop_front() else {
                let why = socket.failure.take().unwrap_or(Down::Unreachable);
                return self.end_link(index, why);
            };
            match self.try_address(index, address) {
                Ok(()) => return,
                Err(why) => self.note_failure(index, why),
            }
        }
    }

    fn note_failure(&mut self, index: u32, why: Down) {
        // An address that cannot be reached at all says least: often one of a family that this host does not have.
        if let Some((_, socket)) = self.links.socket(index)
            && socket.failure.as_ref().is_none_or(|before| *before == Down::Unreachable)
        {
            socket.failure = Some(why);
        }
    }

    fn try_address(&mut self, index: u32, address: SocketAddr) -> Result<(), Down> {
        let fd = open(address).map_err(|error| failure_of(error.raw_os_error().unwrap_or(0)))?;
        if self.node.is_scarce(fd.as_raw_fd()) {
            return Err(Down::TooMany);
        }
        let tick = self.tick;
        let Some((_, socket)) = self.links.socket(index) else { return Ok(()) };
        let left = socket.until.saturating_sub(tick);
        let share = left / (socket.addresses.len() as u32 + 1);
        let due = tick_after(tick, share.max(ticks(std::time::Duration::from_millis(LINK_ADDRESS_MS_MIN)))).min(socket.until);
        let raw = fd.as_raw_fd();
        socket.fd = Some(fd);
        let address = socket.address.insert(Box::new(listen::raw_address(address)));
        socket.connecting = true;
        // SAFETY: the box stays as it is until the completion (`connecting`), and a link is released only after it.
        unsafe { self.ring.connect(raw, &address.0, address.1, index) };
        self.links.set_due(index, due);
        Ok(())
    }

    pub(super) fn on_connected(&mut self, completion: &Completion) {
        let index = completion.index();
        let Some((common, socket)) = self.links.socket(index) else { return };
        socket.connecting = false;
        socket.address = None;
        if common.stage == Stage::Closed {
            return self.release_link(index);
        }
        if completion.result < 0 {
            self.note_failure(index, failure_of(-completion.result));
            return self.try_next(index);
        }
        if socket.fd.as_ref().is_some_and(listen::is_own_peer) {
            self.note_failure(index, Down::Refused);
            return self.try_next(index);
        }
        socket.addresses.clear();
        let until = socket.until;
        let Some(config) = socket.tls.take() else {
            self.lift(index);
            return self.receive_link(index);
        };
        let Dial::Tcp { host, .. } = &*common.dial else { return };
        let name = literal(host).map_or_else(|| host.to_string(), |ip| ip.to_string());
        match Session::new(config, &name) {
            Ok(session) => {
                socket.session = Some(session);
                self.links.set_due(index, until);
                self.send_socket(index);
                self.receive_link(index);
            }
            Err(why) => self.end_link(index, Down::Tls(why)),
        }
    }

    pub(super) fn on_socket_due(&mut self, index: u32) {
        let tick = self.tick;
        let Some((_, socket)) = self.links.socket(index) else { return };
        let (until, connecting, last) = (socket.until, socket.connecting, socket.addresses.is_empty());
        if tick >= until || last || !connecting {
            return self.end_link(index, Down::TimedOut);
        }
        // This address had its share of the time.
        self.ring.cancel(Op::Connect, index);
        self.links.set_due(index, until);
    }
}

/// How bytes move.
impl Core {
    /// Puts a receive into the ring if the link should be read and is not.
    fn receive_link(&mut self, index: u32) {
        let Some((common, socket)) = self.links.socket(index) else { return };
        let wanted = match common.stage {
            Stage::Making => socket.session.is_some(),
            Stage::Up => !common.keeps_back(),
            Stage::Closed => false,
        };
        if wanted && !socket.receiving && !common.has_ended {
            socket.receiving = true;
            self.ring.recv_link(socket.raw(), index);
        }
    }

    pub(super) fn on_link_received(&mut self, completion: &Completion) {
        let index = completion.index();
        let lease = self.ring.lease(completion);
        if let Some((common, socket)) = self.links.socket(index) {
            if completion.is_last() {
                socket.receiving = false;
            }
            let id = common.id;
            if common.stage == Stage::Closed {
                self.release_link(index);
            } else {
                match completion.result {
                    0 => self.on_socket_end(index),
                    count if count > 0 => {
                        self.metrics.add(Counter::LinkBytesIn, u64::from(count.cast_unsigned()));
                        if let Some(lease) = &lease {
                            // SAFETY: the ring is this core's and alive.
                            self.take_received(index, id, unsafe { lease.bytes() });
                        }
                    }
                    error => match -error {
                        libc::ENOBUFS => self.ring.starve(),
                        libc::ECANCELED | libc::EINTR | libc::EAGAIN => (),
                        _ => self.end_link(index, Down::Reset),
                    },
                }
                self.receive_link(index);
            }
        }
        if let Some(lease) = lease {
            self.ring.give_back(lease);
        }
    }

    fn take_received(&mut self, index: u32, id: LinkId, bytes: &[u8]) {
        let Some((link, socket)) = self.links.socket(index) else { return };
        if link.keeps_back() {
            // What was received before the kernel has stopped.
            link.held.push(bytes);
            if socket.receiving {
                self.ring.cancel(Op::LinkRecv, index);
            }
        } else {
            self.deliver(index, id, bytes);
            self.take_share(index, id, bytes.len());
        }
    }

    /// So much of a link was handed on: when that is its share of the turn, the rest waits for the next one. That of a long answer waits
    /// longer, and in the kernel.
    fn take_share(&mut self, index: u32, id: LinkId, count: usize) {
        let turn = self.now.mono;
        let Some(link) = self.links.heard(index, id) else { return };
        if !link.take_share(turn, count) {
            return;
        }
        if !link.is_long() {
            return self.links.resume(index);
        }
        self.links.postpone(index, Nanos(turn.0 + LINK_LONG_PAUSE_US * 1000));
        if self.links.socket(index).is_some_and(|(_, socket)| socket.receiving) {
            self.ring.cancel(Op::LinkRecv, index);
        }
    }

    /// Hands on what was received, decrypted if need be.
    fn deliver(&mut self, index: u32, id: LinkId, bytes: &[u8]) {
        let Some((_, socket)) = self.links.socket(index) else { return };
        let Some(session) = &mut socket.session else {
            return self.tell(id, LinkEvent::Bytes(bytes));
        };
        let was_handshaking = session.is_handshaking();
        let mut plain = std::mem::take(&mut self.links.scratch);
        plain.clear();
        let Some((_, Socket { session: Some(session), .. })) = self.links.socket(index) else { return };
        let taken = session.take(bytes, &mut plain);
        let (is_up, has_ended, has_output) = (!session.is_handshaking(), session.has_ended(), session.has_output());
        if taken.is_ok() && was_handshaking && is_up {
            self.lift(index);
        }
        if !plain.is_empty() && self.links.heard(index, id).is_some() {
            self.tell(id, LinkEvent::Bytes(&plain));
        }
        plain.clear();
        if plain.capacity() <= POOLED_BUFFER_BYTES_MAX {
            self.links.scratch = plain;
        }
        if has_output {
            self.links.mark(index);
        }
        if let Err(why) = taken {
            self.send_last(index);
            self.end_link(index, Down::Tls(why));
        } else if has_ended {
            self.apply();
            self.on_session_end(index, id);
        }
    }

    /// The other end has said that it says no more.
    fn on_session_end(&mut self, index: u32, id: LinkId) {
        let Some(link) = self.links.common(index).filter(|link| link.id == id) else { return };
        link.has_ended = true;
        if link.stage == Stage::Making {
            return self.end_link(index, Down::Tls("the other end closed the connection during the handshake".into()));
        }
        self.tell_link_end(index);
    }

    /// Nothing more will come.
    fn on_socket_end(&mut self, index: u32) {
        let Some(link) = self.links.common(index) else { return };
        link.has_ended = true;
        if !link.keeps_back() {
            self.finish_reading(index);
        }
    }

    /// Everything that came was handed on.
    fn finish_reading(&mut self, index: u32) {
        let Some((common, socket)) = self.links.socket(index) else { return };
        match &socket.session {
            Some(session) if session.is_handshaking() => {
                self.end_link(index, Down::Tls("the other end closed the connection during the handshake".into()));
            }
            // Cut off without a farewell: what is missing cannot be told.
            Some(session) if !session.has_ended() => self.end_link(index, Down::Reset),
            _ if common.stage == Stage::Up => self.tell_link_end(index),
            _ => (),
        }
    }

    /// Hands on what was held back, as long as the link is not paused again and has not had its share of this turn, then reads on.
    pub(super) fn resume_socket(&mut self, index: u32) {
        let turn = self.now.mono;
        let Some(link) = self.links.common(index).filter(|link| link.stage == Stage::Up) else { return };
        let id = link.id;
        if link.is_sated && link.turn == turn {
            return self.links.resume(index);
        }
        link.is_sated = false;
        loop {
            let Some(link) = self.links.heard(index, id).filter(|link| !link.is_paused && !link.is_sated) else { return };
            if link.held.is_empty() {
                break;
            }
            let mut held = std::mem::take(&mut link.held);
            let count = held.len().min(LINK_PIECE_BYTES_MAX);
            self.deliver(index, id, &held.rest()[..count]);
            held.advance(count);
            if let Some(link) = self.links.heard(index, id) {
                link.held = held;
            }
            self.apply();
            self.take_share(index, id, count);
        }
        let Some(link) = self.links.heard(index, id) else { return };
        if link.has_ended {
            self.finish_reading(index);
        } else if link.is_long() {
            self.read_long(index, id);
        } else {
            self.receive_link(index);
        }
    }

    /// Reads a step of a long answer. A receive in the ring would take as much as there are buffers for, whoever else waits.
    fn read_long(&mut self, index: u32, id: LinkId) {
        let Some((_, socket)) = self.links.socket(index).filter(|(_, socket)| !socket.receiving) else { return };
        let mut piece = [0; LINK_PIECE_BYTES_MAX];
        // SAFETY: the kernel writes into a local, and no further than it is long.
        let count = unsafe { libc::recv(socket.raw(), piece.as_mut_ptr().cast(), piece.len(), libc::MSG_DONTWAIT) };
        match usize::try_from(count) {
            Ok(0) => return self.on_socket_end(index),
            Ok(count) => {
                self.metrics.add(Counter::LinkBytesIn, count as u64);
                self.deliver(index, id, &piece[..count]);
                self.apply();
                self.take_share(index, id, count);
            }
            // There is nothing, or it failed: the ring will say so.
            Err(_) => (),
        }
        self.receive_link(index);
    }

    /// Sends what there is, if nothing is on its way.
    pub(super) fn send_socket(&mut self, index: u32) {
        let Some((common, socket)) = self.links.socket(index) else { return };
        if common.stage == Stage::Closed || socket.sending || socket.fd.is_none() || socket.connecting {
            return;
        }
        load(common, socket);
        if socket.flight.is_empty() {
            return self.tell_drained(index);
        }
        socket.sending = true;
        // SAFETY: the flight is left alone until the completion (`sending`), and a link is released only after it.
        unsafe { self.ring.send_link(socket.raw(), &socket.flight, index) };
    }

    pub(super) fn on_link_sent(&mut self, completion: &Completion) {
        let index = completion.index();
        let Some((common, socket)) = self.links.socket(index) else { return };
        socket.sending = false;
        if common.stage == Stage::Closed {
            return self.release_link(index);
        }
        let count = match usize::try_from(completion.result) {
            Ok(count) => count,
            Err(_) if [libc::EINTR, libc::EAGAIN].contains(&-completion.result) => 0,
            Err(_) => return self.end_link(index, Down::Reset),
        };
        self.metrics.add(Counter::LinkBytesOut, count as u64);
        socket.sent += count;
        if socket.sent < socket.flight.len() {
            socket.sending = true;
            // SAFETY: as in `send_socket`.
            unsafe { self.ring.send_link(socket.raw(), &socket.flight[socket.sent..], index) };
            return;
        }
        socket.flight.clear();
        socket.sent = 0;
        trim(&mut socket.flight);
        if common.fed.is_empty() && socket.session.as_ref().is_none_or(|session| !session.has_output()) {
            self.tell_drained(index);
        } else {
            self.links.mark(index);
        }
    }

    /// The engine hangs up: TLS says so to the other end, if that takes no waiting.
    pub(super) fn say_farewell(&mut self, index: u32) {
        if let Some((_, Socket { session: Some(session), .. })) = self.links.socket(index) {
            session.say_farewell();
            self.send_last(index);
        }
    }

    /// Sends what a session has left to say, if that takes no waiting.
    fn send_last(&mut self, index: u32) {
        let Some((_, socket)) = self.links.socket(index) else { return };
        let Some(session) = socket.session.as_mut().filter(|_| !socket.sending) else { return };
        let mut last = Vec::new();
        session.drain(&mut last);
        if let Some(fd) = &socket.fd {
            // SAFETY: the bytes are read during the call only. Whether they arrive is of no consequence.
            unsafe { libc::send(fd.as_raw_fd(), last.as_ptr().cast(), last.len(), libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) };
        }
    }

    /// Takes back everything that is in the ring for the link.
    pub(super) fn cancel_socket(&mut self, index: u32) {
        let Some((_, socket)) = self.links.socket(index) else { return };
        for (held, op) in [(socket.connecting, Op::Connect), (socket.receiving, Op::LinkRecv), (socket.sending, Op::LinkSend)] {
            if held {
                self.ring.cancel(op, index);
            }
        }
    }
}

/// Gets ready what is to be sent next.
fn load(common: &mut Common, socket: &mut Socket) {
    socket.sent = 0;
    match &mut socket.session {
        None if common.stage == Stage::Up => common.fed.move_into(&mut socket.flight),
        None => (),
        Some(session) => {
            if common.stage == Stage::Up && !common.fed.is_empty() {
                let count = common.fed.len().min(TLS_SEND_BYTES_MAX);
                session.feed(&common.fed.rest()[..count]);
                common.fed.advance(count);
            }
            session.drain(&mut socket.flight);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literal_addresses_need_no_look_up() {
        assert_eq!(literal("127.0.0.1"), Some(IpAddr::from([127, 0, 0, 1])));
        assert_eq!(literal("[::1]"), Some("::1".parse().expect("an address")));
        assert_eq!(literal("::1"), Some("::1".parse().expect("an address")));
        assert_eq!(literal("localhost"), None);
    }

    #[test]
    fn what_failed_is_told_in_the_words_of_the_seam() {
        assert_eq!(failure_of(libc::ECONNREFUSED), Down::Refused);
        assert_eq!(failure_of(libc::EHOSTUNREACH), Down::Unreachable);
        assert_eq!(failure_of(libc::ETIMEDOUT), Down::TimedOut);
        assert_eq!(failure_of(libc::EMFILE), Down::TooMany);
    }
}
