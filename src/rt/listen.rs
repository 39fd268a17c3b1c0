//! Listening sockets: one per core and address, and how one stops without losing a connection.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::config::StartError;
use crate::engine::Role;

/// One core's socket for one address.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) socket: OwnedFd,
    pub(crate) role: Role,
}

/// Opens `count` sockets that share the address. The answer says which port was taken, when any was asked for.
///
/// An address that another process listens on is refused, even if that process would share it, unless `is_shared`: sessions would end up
/// on either.
pub(crate) fn open(address: SocketAddr, count: usize, role: Role, is_shared: bool) -> Result<(SocketAddr, Vec<Listener>), StartError> {
    let refuse = |error: io::Error| match error.raw_os_error() {
        Some(libc::EADDRINUSE) => StartError::PortInUse(address),
        Some(libc::EACCES) => StartError::PortForbidden(address),
        Some(libc::EMFILE | libc::ENFILE) => StartError::System("no descriptor is left for a listener (raise `ulimit -n`)", error),
        _ => StartError::Address(address, error),
    };
    if address.port() != 0 && !is_shared {
        // Without SO_REUSEPORT the kernel says whether anybody else is there.
        let trial = socket(address).map_err(refuse)?;
        bind(&trial, address).and_then(|()| start(&trial)).map_err(refuse)?;
    }
    let mut taken = address;
    let mut listeners = Vec::with_capacity(count);
    for _ in 0..count {
        let socket = socket(address).map_err(refuse)?;
        set(&socket, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1).map_err(refuse)?;
        bind(&socket, taken).map_err(refuse)?;
        if taken.port() == 0 {
            taken = local_address(&socket).map_err(refuse)?;
        }
        listeners.push(Listener { socket, role });
    }
    // Bound first, then opened: no connection comes before every core can take its share.
    for listener in &listeners {
        start(&listener.socket).map_err(refuse)?;
    }
    Ok((taken, listeners))
}

fn socket(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: plain system call; a result that is not negative is a descriptor that nobody else owns.
    let socket = unsafe {
        let fd = libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(fd)
    };
    set(&socket, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    if address.is_ipv6() {
        // An IPv4 address is listened on where it is named.
        set(&socket, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1)?;
    }
    // Accepted sockets inherit it.
    set(&socket, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
    Ok(socket)
}

/// Sets an option of a socket.
pub(crate) fn set(socket: &OwnedFd, level: i32, option: i32, value: i32) -> io::Result<()> {
    set_bytes(socket.as_raw_fd(), level, option, &value.to_ne_bytes())
}

fn set_bytes(socket: RawFd, level: i32, option: i32, value: &[u8]) -> io::Result<()> {
    // SAFETY: the value is read during the call only, and its length is its own.
    let done = unsafe { libc::setsockopt(socket, level, option, value.as_ptr().cast(), value.len() as libc::socklen_t) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn bind(socket: &OwnedFd, address: SocketAddr) -> io::Result<()> {
    let (storage, length) = raw_address(address);
    // SAFETY: the address is a local of the given length.
    let done = unsafe { libc::bind(socket.as_raw_fd(), (&raw const storage).cast(), length) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn start(socket: &OwnedFd) -> io::Result<()> {
    // SAFETY: plain system call.
    let done = unsafe { libc::listen(socket.as_raw_fd(), backlog()) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// As much as the host allows (`net.core.somaxconn`).
pub(crate) fn backlog() -> i32 {
    std::fs::read_to_string("/proc/sys/net/core/somaxconn").ok().and_then(|text| text.trim().parse().ok()).unwrap_or(libc::SOMAXCONN)
}

/// The address as the kernel reads it.
pub(crate) fn raw_address(address: SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: all zeroes is a valid value of this structure of integers.
    let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let length = match address {
        SocketAddr::V4(address) => {
            let raw = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: address.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
                sin_zero: [0; 8],
            };
            // SAFETY: the storage is larger than, and aligned for, every kind of address.
            unsafe { (&raw mut storage).cast::<libc::sockaddr_in>().write(raw) };
            size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(address) => {
            let raw = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: address.port().to_be(),
                sin6_flowinfo: address.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
                sin6_scope_id: address.scope_id(),
            };
            // SAFETY: as above.
            unsafe { (&raw mut storage).cast::<libc::sockaddr_in6>().write(raw) };
            size_of::<libc::sockaddr_in6>()
        }
    };
    (storage, length as libc::socklen_t)
}

type NameCall = unsafe extern "C" fn(libc::c_int, *mut libc::sockaddr, *mut libc::socklen_t) -> libc::c_int;

fn name(socket: RawFd, call: NameCall) -> io::Result<SocketAddr> {
    // SAFETY: all zeroes is a valid value of this structure of integers.
    let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes into a local of that size.
    if unsafe { call(socket, (&raw mut storage).cast(), &raw mut length) } != 0 {
        return Err(io::Error::last_os_error());
    }
    match i32::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that this is what the kernel wrote.
            let raw = unsafe { (&raw const storage).cast::<libc::sockaddr_in>().read() };
            let ip = Ipv4Addr::from(raw.sin_addr.s_addr.to_ne_bytes());
            Ok(SocketAddr::from((ip, u16::from_be(raw.sin_port))))
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let raw = unsafe { (&raw const storage).cast::<libc::sockaddr_in6>().read() };
            Ok(SocketAddr::from((Ipv6Addr::from(raw.sin6_addr.s6_addr), u16::from_be(raw.sin6_port))))
        }
        _ => Err(io::Error::from(io::ErrorKind::Unsupported)),
    }
}

fn local_address(socket: &OwnedFd) -> io::Result<SocketAddr> {
    name(socket.as_raw_fd(), libc::getsockname)
}

/// The other end of a connection. Unspecified if it has gone already.
pub(crate) fn peer_of(socket: RawFd) -> IpAddr {
    name(socket, libc::getpeername).map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |address| address.ip().to_canonical())
}

/// Whether a connection leads to itself: it can when nobody listens at a port of this host from which connections are made.
pub(crate) fn is_own_peer(socket: &OwnedFd) -> bool {
    let raw = socket.as_raw_fd();
    matches!((name(raw, libc::getsockname), name(raw, libc::getpeername)), (Ok(own), Ok(peer)) if own == peer)
}

/// Lets no new handshake begin on the listener, while those under way complete: their clients were answered already. A client whose SYN
/// is dropped tries again a second later and then finds the port closed, as it should.
pub(crate) fn shut_to_new(listener: &Listener) -> io::Result<()> {
    // Classic BPF over the TCP header: byte 13 holds the flags; SYN without ACK is dropped, everything else passes.
    let program = [
        libc::sock_filter { code: 0x30, jt: 0, jf: 0, k: 13 },
        libc::sock_filter { code: 0x54, jt: 0, jf: 0, k: 0x12 },
        libc::sock_filter { code: 0x15, jt: 0, jf: 1, k: 0x02 },
        libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: 0 },
        libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: u32::MAX },
    ];
    let filter = libc::sock_fprog { len: program.len() as libc::c_ushort, filter: program.as_ptr().cast_mut() };
    // SAFETY: the structure is plain memory of its own size, and the program outlives the call, which copies it.
    let bytes = unsafe { std::slice::from_raw_parts((&raw const filter).cast::<u8>(), size_of::<libc::sock_fprog>()) };
    set_bytes(listener.socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, bytes)
}

/// Takes one connection from the backlog without waiting.
pub(crate) fn accept_now(listener: &Listener) -> Option<RawFd> {
    let fd = listener.socket.as_raw_fd();
    // SAFETY: plain system calls; the listener is not in the ring any more, so that its mode concerns nobody else.
    unsafe {
        libc::fcntl(fd, libc::F_SETFL, libc::O_NONBLOCK);
        loop {
            let socket = libc::accept4(fd, std::ptr::null_mut(), std::ptr::null_mut(), libc::SOCK_CLOEXEC);
            if socket >= 0 {
                return Some(socket);
            }
            match io::Error::last_os_error().raw_os_error() {
                // The connection at the front of the queue has failed; the next may be well.
                Some(libc::EINTR | libc::ECONNABORTED | libc::EPROTO) => (),
                _ => return None,
            }
        }
    }
}

/// Makes the socket's closing a reset.
pub(crate) fn set_reset(socket: RawFd) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let mut value = [0; size_of::<libc::linger>()];
    value[..4].copy_from_slice(&linger.l_onoff.to_ne_bytes());
    value[4..].copy_from_slice(&linger.l_linger.to_ne_bytes());
    // A socket that is gone already needs no reset.
    let _ = set_bytes(socket, libc::SOL_SOCKET, libc::SO_LINGER, &value);
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;

    fn local(port: u16) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    }

    #[test]
    fn cores_share_a_port_and_strangers_do_not() {
        let (address, listeners) = open(local(0), 3, Role::Public, false).expect("listeners");
        assert_ne!(address.port(), 0);
        assert_eq!(listeners.len(), 3);
        assert!(matches!(open(address, 1, Role::Public, false), Err(StartError::PortInUse(_))));
        let (also, others) = open(address, 2, Role::Public, true).expect("listeners beside the others");
        assert_eq!(also, address);
        drop((listeners, others));
        assert!(open(address, 1, Role::Public, false).is_ok());
        let absent = SocketAddr::from(([203, 0, 113, 7], 0));
        assert!(matches!(open(absent, 1, Role::Public, false), Err(StartError::Address(..))));
    }

    #[test]
    fn both_families() {
        let (address, listeners) = open(SocketAddr::from((Ipv6Addr::LOCALHOST, 0)), 1, Role::Public, false).expect("a listener");
        let client = TcpStream::connect(address).expect("a connection");
        let socket = loop {
            if let Some(socket) = accept_now(&listeners[0]) {
                break socket;
            }
        };
        assert_eq!(peer_of(socket), IpAddr::V6(Ipv6Addr::LOCALHOST));
        // SAFETY: the socket was accepted here.
        unsafe { libc::close(socket) };
        drop(client);
    }

    #[test]
    fn a_connection_to_itself_is_recognised() {
        let (address, listeners) = open(local(0), 1, Role::Public, false).expect("a listener");
        let other = OwnedFd::from(TcpStream::connect(address).expect("a connection"));
        assert!(!is_own_peer(&other));
        drop((listeners, other));
        let own = socket(local(0)).expect("a socket");
        bind(&own, local(0)).expect("an address");
        let (storage, length) = raw_address(local_address(&own).expect("the address"));
        // SAFETY: the address is a local of the given length.
        let done = unsafe { libc::connect(own.as_raw_fd(), (&raw const storage).cast(), length) };
        assert_eq!(done, 0, "a simultaneous open with itself");
        assert!(is_own_peer(&own));
    }

    #[test]
    fn accepted_sockets_inherit_nodelay() {
        let (address, listeners) = open(local(0), 1, Role::Public, false).expect("a listener");
        let _client = TcpStream::connect(address).expect("a connection");
        let socket = loop {
            if let Some(socket) = accept_now(&listeners[0]) {
                break socket;
            }
        };
        // SAFETY: the socket was accepted here and nobody else owns it.
        let stream = unsafe { TcpStream::from_raw_fd(socket) };
        assert!(stream.nodelay().expect("the option"));
    }

    #[test]
    fn a_shut_listener_keeps_what_it_has_and_takes_no_more() {
        let (address, listeners) = open(local(0), 1, Role::Public, false).expect("a listener");
        let mut early = TcpStream::connect(address).expect("a connection");
        shut_to_new(&listeners[0]).expect("a filter");
        let late = TcpStream::connect_timeout(&address, std::time::Duration::from_millis(200));
        assert_eq!(late.expect_err("no handshake").kind(), io::ErrorKind::TimedOut);
        early.write_all(b"x").expect("a write");
        let socket = accept_now(&listeners[0]).expect("the early one");
        // SAFETY: the socket was accepted here and nobody else owns it.
        let mut accepted = unsafe { TcpStream::from_raw_fd(socket) };
        let mut byte = [0];
        accepted.read_exact(&mut byte).expect("its byte");
        assert!(accept_now(&listeners[0]).is_none());
    }
}
