//! Who calls: the digest of the bearer token presented, else the peer's address. Equal bytes for the same caller.

use std::net::IpAddr;

/// One caller, as bytes that say nothing but whether two are the same.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Principal {
    bytes: [u8; 33],
    len: u8,
}

impl std::fmt::Debug for Principal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.bytes[0] == Self::TOKEN { "Principal(token)" } else { "Principal(peer)" })
    }
}

impl Principal {
    const PEER: u8 = 0;
    const TOKEN: u8 = 1;

    /// Of a request with this Authorization field from this address.
    pub fn of(authorization: Option<&[u8]>, peer: IpAddr) -> Self {
        let mut principal = Self { bytes: [0; 33], len: 0 };
        match (authorization.and_then(bearer), peer.to_canonical()) {
            (Some(token), _) => principal.set(Self::TOKEN, blake3::hash(token).as_bytes()),
            // This host reaches itself by more than one address, and may change from one to another between two rounds.
            (None, peer) if peer.is_loopback() => principal.set(Self::PEER, b""),
            (None, IpAddr::V4(v4)) => principal.set(Self::PEER, &v4.octets()),
            (None, IpAddr::V6(v6)) => principal.set(Self::PEER, &v6.octets()),
        }
        principal
    }

    fn set(&mut self, kind: u8, of: &[u8]) {
        self.bytes[0] = kind;
        self.bytes[1..=of.len()].copy_from_slice(of);
        self.len = of.len() as u8 + 1;
    }

    /// Equal for the same caller.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// The token of `Bearer TOKEN` (RFC 6750 section 2.1; the scheme in any case of letters, RFC 9110 section 11.1).
fn bearer(authorization: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = authorization.split_at_checked(7)?;
    (scheme.eq_ignore_ascii_case(b"bearer ") && !token.trim_ascii().is_empty()).then(|| token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_counts_before_the_address() {
        let (one, other): (IpAddr, IpAddr) = ([127, 0, 0, 1].into(), [10, 0, 0, 1].into());
        assert_eq!(Principal::of(Some(b"Bearer t"), one), Principal::of(Some(b"bearer  t "), other));
        assert_ne!(Principal::of(Some(b"Bearer t"), one), Principal::of(Some(b"Bearer u"), one));
        assert_ne!(Principal::of(None, one), Principal::of(None, other));
        assert_eq!(Principal::of(Some(b"Basic eA=="), one), Principal::of(None, one));
        assert_eq!(Principal::of(Some(b"Bearer "), one), Principal::of(None, one));
    }

    #[test]
    fn this_host_is_one_caller_by_whatever_address() {
        let by_v6: IpAddr = std::net::Ipv6Addr::LOCALHOST.into();
        assert_eq!(Principal::of(None, by_v6), Principal::of(None, [127, 0, 0, 1].into()));
        assert_ne!(Principal::of(None, by_v6), Principal::of(None, [0, 0, 0, 0].into()));
    }

    #[test]
    fn an_address_is_the_same_in_both_families() {
        let v4 = std::net::Ipv4Addr::new(192, 0, 2, 1);
        assert_eq!(Principal::of(None, v4.to_ipv6_mapped().into()), Principal::of(None, v4.into()));
    }

    #[test]
    fn neither_token_nor_address_is_printed() {
        assert_eq!(format!("{:?}", Principal::of(Some(b"Bearer t"), [127, 0, 0, 1].into())), "Principal(token)");
    }
}
