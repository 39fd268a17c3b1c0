//! Where clients reach the endpoints, as far as that can be known.

use std::net::{IpAddr, SocketAddr};

use crate::engine::config::EngineConfig;
use crate::engine::gate::without_port;

/// The URL below which the asker reaches endpoints, without a slash at its end. `host` is the Host field of the request to the admin port,
/// `peer` is whose it is.
///
/// What was configured is given as it is. Else it is the address that MCP is served at: with the host that the asker knows this one by, when
/// it is served at every address; not at all to an asker elsewhere, when it is served to this host alone.
pub(super) fn base(config: &EngineConfig, host: Option<&[u8]>, peer: IpAddr) -> Option<String> {
    if let Some(url) = &config.public_url {
        return Some(url.trim_end_matches('/').to_owned());
    }
    let address = config.public_address?;
    let (ip, port) = (address.ip().to_canonical(), address.port());
    if ip.is_unspecified() {
        return host.and_then(name_of).map(|name| format!("http://{name}:{port}"));
    }
    (!ip.is_loopback() || peer.to_canonical().is_loopback()).then(|| format!("http://{}", SocketAddr::new(ip, port)))
}

/// The name or address of a Host field, when it is one that may stand in a URL.
fn name_of(host: &[u8]) -> Option<&str> {
    let name = without_port(host);
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let is_fit = match name.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]")) {
        Some(bare) => str::from_utf8(bare).is_ok_and(|bare| bare.parse::<std::net::Ipv6Addr>().is_ok()),
        None => !name.is_empty() && name.iter().all(is_name),
    };
    str::from_utf8(name).ok().filter(|_| is_fit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::seal::{KeyPair, SealKeys};

    #[test]
    fn endpoints_are_where_the_asker_can_reach_them() {
        let here = |address: &str, host: &str, peer: &str| {
            let mut config = EngineConfig::new(SealKeys::new(KeyPair::single([1; 32])));
            config.public_address = Some(address.parse().expect("an address"));
            base(&config, Some(host.as_bytes()), peer.parse().expect("an address"))
        };
        let (own, other) = ("127.0.0.1", "192.0.2.9");
        assert_eq!(here("127.0.0.1:8080", "localhost:9090", own).as_deref(), Some("http://127.0.0.1:8080"));
        assert_eq!(here("127.0.0.1:8080", "hub.example", other), None, "nobody elsewhere reaches that");
        assert_eq!(here("192.0.2.1:80", "localhost:9090", own).as_deref(), Some("http://192.0.2.1:80"));
        assert_eq!(here("[::1]:80", "localhost", "::1").as_deref(), Some("http://[::1]:80"));
        for (host, wanted) in [("hub.example:9090", "hub.example"), ("hub", "hub"), ("[::1]:9", "[::1]"), ("192.0.2.1", "192.0.2.1")] {
            for any in ["0.0.0.0:8080", "[::]:8080"] {
                assert_eq!(here(any, host, other), Some(format!("http://{wanted}:8080")));
            }
        }
        for bad in ["", ":1", "a b", "a/b", "a@b", "[x]", "\"", "é"] {
            assert_eq!(here("0.0.0.0:8080", bad, own), None, "{bad}");
        }
    }

    #[test]
    fn what_is_configured_is_given_as_it_is() {
        let mut config = EngineConfig::new(SealKeys::new(KeyPair::single([1; 32])));
        assert_eq!(base(&config, Some(b"localhost"), [127, 0, 0, 1].into()), None, "nothing is known");
        config.public_url = Some("https://hub.example/team/".into());
        assert_eq!(base(&config, None, [192, 0, 2, 1].into()).as_deref(), Some("https://hub.example/team"));
    }
}
