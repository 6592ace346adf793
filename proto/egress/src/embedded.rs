//! The IPv4 addresses that an IPv6 address leads to. It must not know which are allowed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Returns the address that the system connects to: that of IPv4 for one that is mapped to IPv6 (RFC 4291 §2.5.5.2).
pub(crate) fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// Returns the IPv4 addresses that packets to this address reach where a translator or a tunnel is on their way.
pub(crate) fn embedded(address: Ipv6Addr) -> impl Iterator<Item = Ipv4Addr> {
    let bits = address.to_bits();
    let low = |bits: u128| Ipv4Addr::from_bits((bits & u128::from(u32::MAX)) as u32);
    let found = match address.segments() {
        // IPv4-compatible, RFC 4291 §2.5.5.1; `::` and `::1` are none.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => [None, None],
        [0, 0, 0, 0, 0, 0, ..] => [Some(low(bits)), None],
        // Mapped, RFC 4291 §2.5.5.2, and translated, RFC 2765 §2.1.
        [0, 0, 0, 0, 0, 0xffff, ..] | [0, 0, 0, 0, 0xffff, 0, ..] => [Some(low(bits)), None],
        // NAT64, RFC 6052 §2.1. Where an operator chose another prefix, nobody can tell.
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => [Some(low(bits)), None],
        // 6to4, RFC 3056 §2.
        [0x2002, ..] => [Some(low(bits >> 80)), None],
        // Teredo, RFC 4380 §4: its server, and its client with every bit flipped.
        [0x2001, 0, ..] => [Some(low(bits >> 64)), Some(low(!bits))],
        _ => [None, None],
    };
    found.into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_an_ipv4_address_is_found() {
        for (address, expected) in [
            ("::10.1.2.3", "10.1.2.3"),
            ("::ffff:10.1.2.3", "10.1.2.3"),
            ("::ffff:0:10.1.2.3", "10.1.2.3"),
            ("64:ff9b::10.1.2.3", "10.1.2.3"),
            ("2002:a01:203::5", "10.1.2.3"),
            ("2001:0:102:304::f5fe:fdfc", "1.2.3.4 10.1.2.3"),
            ("::", ""),
            ("::1", ""),
            ("64:ff9b:1::10.1.2.3", ""),
            ("2606:4700::10.1.2.3", ""),
        ] {
            let found: Vec<String> = embedded(address.parse().unwrap()).map(|one| one.to_string()).collect();
            assert_eq!(found.join(" "), expected, "{address}");
        }
    }
}
