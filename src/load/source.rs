//! Addresses that connections come from: on one machine, each more address gives as many ports more.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::LoadError;
use crate::base::limits::{LOAD_PORTS_PER_SOURCE, LOAD_SOURCES_MAX};

/// Reads a list of addresses and of networks such as `127.0.0.0/8`. Of a network so many addresses are taken as so many connections need.
///
/// # Errors
/// [`LoadError::Impossible`]: what is no address, and too many of them.
pub fn parse(list: &[String], connections: usize) -> Result<Vec<IpAddr>, LoadError> {
    let mut sources = Vec::new();
    for item in list.iter().flat_map(|item| item.split(',')).map(str::trim).filter(|item| !item.is_empty()) {
        let wrong = |why: &str| LoadError::Impossible(format!("--source-addresses {item}: {why}"));
        match item.split_once('/') {
            None => sources.push(item.parse().map_err(|_| wrong("it is no address"))?),
            Some((base, bits)) => {
                let base: Ipv4Addr = base.parse().map_err(|_| wrong("it is no IPv4 network; write it as 127.0.0.0/8"))?;
                let bits: u32 = bits.parse().ok().filter(|bits| *bits <= 30).ok_or_else(|| wrong("a network has 0 to 30 bits"))?;
                let mask = u32::MAX.checked_shl(32 - bits).unwrap_or_default();
                let first = (u32::from(base) & mask) + 1;
                let last = (u32::from(base) | !mask) - 1;
                // Half of what an address can have: ports of connections that were closed are free again only after a while.
                let wanted = connections.div_ceil(LOAD_PORTS_PER_SOURCE / 2).max(1) as u32;
                sources.extend((first..=last.min(first + (wanted - 1))).map(|address| IpAddr::V4(address.into())));
            }
        }
        if sources.len() > LOAD_SOURCES_MAX {
            return Err(wrong("these are too many addresses"));
        }
    }
    Ok(sources)
}

/// Whether so many connections find ports.
///
/// # Errors
/// [`LoadError::Ports`], and [`LoadError::Impossible`] for addresses of another family than the server's.
pub fn check(sources: &[IpAddr], connections: usize, server: SocketAddr) -> Result<(), LoadError> {
    if let Some(other) = sources.iter().find(|source| source.is_ipv4() != server.is_ipv4()) {
        return Err(LoadError::Impossible(format!("--source-addresses {other}: the server's address {server} is of another family")));
    }
    if connections > sources.len().max(1) * LOAD_PORTS_PER_SOURCE {
        return Err(LoadError::Ports { connections, sources: sources.len().max(1) });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(list: &[&str], connections: usize) -> Result<Vec<IpAddr>, LoadError> {
        parse(&list.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>(), connections)
    }

    #[test]
    fn lists_and_networks_are_read() {
        let text = |list: &[&str], connections| of(list, connections).expect("sound").iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(text(&["127.0.0.1,127.0.0.9", "::1"], 1), ["127.0.0.1", "127.0.0.9", "::1"]);
        assert_eq!(text(&["127.0.0.0/8"], 100_000).len(), 8);
        assert_eq!(text(&["127.0.0.0/8"], 1), ["127.0.0.1"]);
        assert_eq!(text(&["10.1.2.3/30"], 1_000_000), ["10.1.2.1", "10.1.2.2"]);
        for bad in ["x", "127.0.0.0/31", "127.0.0.0/x", "::/64"] {
            assert!(of(&[bad], 1).is_err(), "{bad}");
        }
    }

    #[test]
    fn too_few_ports_are_said_beforehand() {
        let server = "127.0.0.1:80".parse().expect("an address");
        assert!(check(&[], 28_000, server).is_ok());
        assert!(matches!(check(&[], 28_001, server), Err(LoadError::Ports { .. })));
        let sources = of(&["127.0.0.0/8"], 100_000).expect("sound");
        assert!(check(&sources, 100_000, server).is_ok());
        assert!(matches!(check(&["::1".parse().expect("an address")], 1, server), Err(LoadError::Impossible(_))));
    }
}
