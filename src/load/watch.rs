//! The server's processes as the kernel sees them, when they are on this host: memory, CPU time, descriptors.

use std::collections::HashSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use rustix::param::{clock_ticks_per_second, page_size};

/// Counting the descriptors of a process that has thousands takes a while: it is done once in so many looks.
const FILES_EVERY: u32 = 16;

/// What was seen at one moment, of all processes together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Resident memory, bytes.
    pub rss_bytes: u64,
    /// CPU time so far, milliseconds.
    pub cpu_ms: u64,
    /// Open descriptors, when they were counted last.
    pub files: u64,
}

/// The processes that are watched.
#[derive(Debug, Default)]
pub struct Watch {
    pids: Vec<u32>,
    looks: u32,
    files: u64,
}

impl Watch {
    /// Watches these processes, else those that listen at `address`, if any do on this host.
    #[must_use]
    pub fn new(pids: &[u32], address: SocketAddr) -> Self {
        let pids = if pids.is_empty() { listening(address) } else { pids.to_vec() };
        Self { pids, ..Self::default() }
    }

    /// The processes.
    #[must_use]
    pub fn pids(&self) -> &[u32] {
        &self.pids
    }

    /// How they are; `None` when there are none, or none any more.
    pub fn look(&mut self) -> Option<Seen> {
        let mut all = Seen::default();
        let mut found = 0;
        for pid in &self.pids {
            if let Some(seen) = process(*pid) {
                all.rss_bytes += seen.rss_bytes;
                all.cpu_ms += seen.cpu_ms;
                found += 1;
            }
        }
        if self.looks.is_multiple_of(FILES_EVERY) {
            self.files =
                self.pids.iter().filter_map(|pid| fs::read_dir(format!("/proc/{pid}/fd")).ok()).map(|files| files.count() as u64).sum();
        }
        self.looks = self.looks.wrapping_add(1);
        all.files = self.files;
        (found > 0).then_some(all)
    }
}

fn process(pid: u32) -> Option<Seen> {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(Seen { rss_bytes: pages * page_size() as u64, cpu_ms: cpu_ticks(&stat)? * 1000 / clock_ticks_per_second(), files: 0 })
}

/// User and system time in a line of /proc/PID/stat: its 14th and 15th field. The second one is a name that may have anything in it.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.get(stat.rfind(')')? + 2..)?.split(' ').skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

/// The processes that have a socket which listens at the address, or at all addresses of its port.
fn listening(address: SocketAddr) -> Vec<u32> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let inodes: HashSet<String> =
        tables.iter().flat_map(|table| listeners(table, address)).map(|inode| format!("socket:[{inode}]")).collect();
    if inodes.is_empty() {
        return Vec::new();
    }
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let has = |path: &Path| {
        let files = fs::read_dir(path.join("fd")).into_iter().flatten().flatten();
        files.filter_map(|file| fs::read_link(file.path()).ok()).any(|link| link.to_str().is_some_and(|link| inodes.contains(link)))
    };
    let mut pids: Vec<_> = processes
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
        .filter(|(_, path)| has(path))
        .map(|(pid, _)| pid)
        .collect();
    pids.sort_unstable();
    pids
}

/// Inodes of the sockets in a table of /proc/net that listen there.
fn listeners(table: &str, address: SocketAddr) -> Vec<u64> {
    const LISTEN: &str = "0A";
    let lines = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let is_there = |fields: &Vec<&str>| {
        let Some((host, port)) = fields.get(1).and_then(|local| local.split_once(':')) else { return false };
        let takes = hex_address(host).is_some_and(|own| own.is_unspecified() || own.to_canonical() == address.ip().to_canonical());
        fields.get(3) == Some(&LISTEN) && u16::from_str_radix(port, 16) == Ok(address.port()) && takes
    };
    lines.filter(is_there).filter_map(|fields| fields.get(9)?.parse().ok()).collect()
}

/// An address as those tables have it: words of four bytes, each in the host's own order.
fn hex_address(text: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(text.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    match text.len() {
        8 => Some(IpAddr::V4(Ipv4Addr::from(word(0)?))),
        32 => {
            let mut bytes = [0; 16];
            for (number, part) in bytes.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(number * 8)?);
            }
            Some(IpAddr::V6(Ipv6Addr::from(bytes)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_process_that_listens_is_found() {
        for bound in ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0"] {
            let listener = TcpListener::bind(bound).expect("a port");
            let mut address = listener.local_addr().expect("an address");
            if address.ip().is_unspecified() {
                address.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
            }
            let mut watch = Watch::new(&[], address);
            assert_eq!(watch.pids(), [std::process::id()], "{bound}");
            let seen = watch.look().expect("it runs");
            assert!(seen.rss_bytes > 1024 * 1024 && seen.files > 2, "{seen:?}");
        }
    }

    #[test]
    fn nobody_is_watched_where_nobody_listens() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
        let mut watch = Watch::new(&[], socket.local_addr().expect("an address"));
        assert!(watch.pids().is_empty() && watch.look().is_none());
    }

    #[test]
    fn cpu_time_is_read_past_any_name() {
        let stat = "42 (a) (b 1 2) S 1 42 42 0 -1 4194304 100 0 0 0 70 30 0 0 20 0 1 0 100 1000 50";
        assert_eq!(cpu_ticks(stat), Some(100));
        let mut watch = Watch::new(&[std::process::id()], "127.0.0.1:1".parse().expect("an address"));
        assert!(watch.look().is_some());
    }
}
