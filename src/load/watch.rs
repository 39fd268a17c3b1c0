//! The server's processes as the kernel sees them, when they are on this host: memory, CPU time, descriptors.

use std::collections::HashSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Instant;

use rustix::param::page_size;

/// What was seen at one moment, of all processes together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Resident memory, bytes.
    pub rss_bytes: u64,
    /// CPU time so far of threads that run still, nanoseconds.
    pub cpu_ns: u64,
    /// When that was, nanoseconds since the watch began.
    pub at_ns: u64,
    /// Open descriptors; zero where the kernel does not say how many there are (before 6.2).
    pub files: u64,
}

impl Seen {
    /// CPU time since an earlier look, percent of one CPU.
    #[must_use]
    pub fn cpu_percent_since(&self, before: &Self) -> f64 {
        let spent = self.at_ns.saturating_sub(before.at_ns);
        if spent == 0 { 0.0 } else { self.cpu_ns.saturating_sub(before.cpu_ns) as f64 * 100.0 / spent as f64 }
    }
}

/// The processes that are watched.
#[derive(Debug)]
pub struct Watch {
    pids: Vec<u32>,
    began: Instant,
}

impl Watch {
    /// Watches these processes, else those that listen at `address`, if any do on this host.
    #[must_use]
    pub fn new(pids: &[u32], address: SocketAddr) -> Self {
        let pids = if pids.is_empty() { listening(address) } else { pids.to_vec() };
        Self { pids, began: Instant::now() }
    }

    /// The processes.
    #[must_use]
    pub fn pids(&self) -> &[u32] {
        &self.pids
    }

    /// How they are; `None` when there are none, or none any more.
    pub fn look(&self) -> Option<Seen> {
        let mut all = Seen { at_ns: self.began.elapsed().as_nanos() as u64, ..Seen::default() };
        let mut found = 0;
        for pid in &self.pids {
            if let Some(seen) = process(*pid) {
                all.rss_bytes += seen.rss_bytes;
                all.cpu_ns += seen.cpu_ns;
                all.files += seen.files;
                found += 1;
            }
        }
        (found > 0).then_some(all)
    }
}

fn process(pid: u32) -> Option<Seen> {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
    // A thread that ends between the two reads has no time any more.
    let cpu_ns = threads.filter_map(|thread| cpu_ns(&fs::read_to_string(thread.path().join("schedstat")).ok()?)).sum();
    Some(Seen { rss_bytes: pages * page_size() as u64, cpu_ns, files: files(pid), ..Seen::default() })
}

/// How many descriptors a process has, as the size of that directory says. To read it would keep a CPU for as long as it takes to list
/// thousands, which the server may be on.
fn files(pid: u32) -> u64 {
    fs::metadata(format!("/proc/{pid}/fd")).map_or(0, |directory| directory.size())
}

/// Time on a CPU in a line of a thread's `schedstat`: the first of its three numbers.
fn cpu_ns(schedstat: &str) -> Option<u64> {
    schedstat.split(' ').next()?.parse().ok()
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
            let watch = Watch::new(&[], address);
            assert_eq!(watch.pids(), [std::process::id()], "{bound}");
            let seen = watch.look().expect("it runs");
            assert!(seen.rss_bytes > 1024 * 1024, "{seen:?}");
            // Other tests of this process open and close some.
            let before = seen.files;
            let more: Vec<_> = (0..1000).map(|_| listener.try_clone().expect("a descriptor")).collect();
            let after = watch.look().expect("it runs").files;
            assert!(before == 0 || (before + 900..before + 1100).contains(&after), "{before} and {} are {after}", more.len());
        }
    }

    #[test]
    fn nobody_is_watched_where_nobody_listens() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
        let watch = Watch::new(&[], socket.local_addr().expect("an address"));
        assert!(watch.pids().is_empty() && watch.look().is_none());
    }

    #[test]
    fn cpu_time_is_what_was_spent_between_two_looks() {
        let watch = Watch::new(&[std::process::id()], "127.0.0.1:1".parse().expect("an address"));
        let before = watch.look().expect("it runs");
        let mut after = before;
        // Other tests of this process may work meanwhile: there is at least what this thread does.
        while after.cpu_ns < before.cpu_ns + 20_000_000 {
            after = watch.look().expect("it runs");
        }
        assert!(after.cpu_percent_since(&before) > 0.0);
        assert_eq!(cpu_ns("123456 789 42\n"), Some(123_456));
        let seen = |cpu_ns, at_ns| Seen { cpu_ns, at_ns, ..Seen::default() };
        assert_eq!(seen(150, 300).cpu_percent_since(&seen(100, 200)), 50.0);
        assert_eq!(seen(150, 200).cpu_percent_since(&seen(100, 200)), 0.0);
    }
}
