//! Ranges of addresses of clients. It must not know where an address comes from, nor whether it can be believed.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;

use crate::text::quoted;

/// A range of addresses, or one address. IPv4 addresses that are written as IPv6 are IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AddressRange(IpNet);

/// Text that is no range of addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not one, in any notation.
    #[error(
        "{0} is no address and no range; write an address such as 10.1.2.3, or a range such as 10.0.0.0/8 or 2001:db8::/32"
    )]
    Unknown(String),
    /// The prefix is longer than the address.
    #[error("{text} has a prefix of more than {most} bits; write one from /0 to /{most}")]
    Prefix {
        /// As written.
        text: String,
        /// The bits of such an address.
        most: u8,
    },
    /// Bits beyond the prefix.
    #[error(
        "{text} has bits set beyond its prefix; write {meant} for the network, or {address} for the one address"
    )]
    HostBits {
        /// As written.
        text: String,
        /// The network.
        meant: AddressRange,
        /// The address.
        address: IpAddr,
    },
}

impl AddressRange {
    /// The range of this address and this prefix.
    fn new(text: &str, address: IpAddr, prefix: u8) -> Result<Self, AddressError> {
        let most = if address.is_ipv4() { 32 } else { 128 };
        let (address, prefix) = canonical(address, prefix);
        let net =
            IpNet::new(address, prefix).map_err(|_| AddressError::Prefix { text: quoted(text), most })?;
        let meant = Self(net.trunc());
        if meant.0 == net {
            Ok(meant)
        } else {
            Err(AddressError::HostBits { text: quoted(text), meant, address })
        }
    }

    /// Whether it has this address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }

    /// The smallest range that has this address and no other.
    #[must_use]
    pub fn only(address: IpAddr) -> Self {
        Self(IpNet::from(address.to_canonical()))
    }
}

/// IPv4 where it is written as IPv6, with as much of the prefix as is about it.
fn canonical(address: IpAddr, prefix: u8) -> (IpAddr, u8) {
    match (address.to_canonical(), prefix.checked_sub(96)) {
        (v4 @ IpAddr::V4(_), Some(rest)) if address.is_ipv6() && rest <= 32 => (v4, rest),
        _ => (address, prefix),
    }
}

impl FromStr for AddressRange {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let unknown = || AddressError::Unknown(quoted(text));
        let Some((address, prefix)) = text.split_once('/') else {
            return text.parse().map(Self::only).map_err(|_| unknown());
        };
        let address = address.parse().map_err(|_| unknown())?;
        if prefix.is_empty() || !prefix.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(unknown());
        }
        Self::new(text, address, prefix.parse().unwrap_or(u8::MAX))
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() { self.0.addr().fmt(f) } else { self.0.fmt(f) }
    }
}

/// Ranges of addresses, ready to be looked at on every call. None of them has no address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressRanges {
    v4: Vec<(Ipv4Addr, Ipv4Addr)>,
    v6: Vec<(Ipv6Addr, Ipv6Addr)>,
}

impl AddressRanges {
    /// All of these.
    #[must_use]
    pub fn new(ranges: Vec<AddressRange>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for AddressRange(net) in ranges {
            match net {
                IpNet::V4(net) => v4.push((net.network(), net.broadcast())),
                IpNet::V6(net) => v6.push((net.network(), net.broadcast())),
            }
        }
        Self { v4: merged(v4), v6: merged(v6) }
    }

    /// Whether one of them has this address. IPv4 addresses that are written as IPv6 are IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => has(&self.v4, address),
            IpAddr::V6(address) => has(&self.v6, address),
        }
    }
}

/// Sorted, and none within another: two networks are apart, or one holds the other.
fn merged<A: Ord + Copy>(mut ranges: Vec<(A, A)>) -> Vec<(A, A)> {
    ranges.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
    ranges.dedup_by(|next, kept| next.1 <= kept.1);
    ranges
}

fn has<A: Ord + Copy>(ranges: &[(A, A)], address: A) -> bool {
    let after = ranges.partition_point(|(first, _)| *first <= address);
    after.checked_sub(1).is_some_and(|at| address <= ranges[at].1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range(text: &str) -> AddressRange {
        text.parse().unwrap()
    }

    #[test]
    fn ranges_are_read_and_shown() {
        for (text, shown) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.1.2.3", "10.1.2.3"),
            ("10.1.2.3/32", "10.1.2.3"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("::/0", "::/0"),
            ("2001:DB8::/32", "2001:db8::/32"),
            ("2001:db8::1", "2001:db8::1"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:10.1.2.3", "10.1.2.3"),
            ("::ffff:0.0.0.0/96", "0.0.0.0/0"),
        ] {
            assert_eq!(range(text).to_string(), shown, "{text}");
        }
    }

    #[test]
    fn what_is_no_range_is_refused_with_what_to_write() {
        let refusal = |text: &str| text.parse::<AddressRange>().unwrap_err().to_string();
        assert_eq!(
            refusal("10.1.2.3/8"),
            "\"10.1.2.3/8\" has bits set beyond its prefix; write 10.0.0.0/8 for the network, or 10.1.2.3 for the one address"
        );
        assert_eq!(
            refusal("2001:db8::1/32"),
            "\"2001:db8::1/32\" has bits set beyond its prefix; write 2001:db8::/32 for the network, or 2001:db8::1 for the one address"
        );
        assert_eq!(
            refusal("::ffff:10.1.2.3/104"),
            "\"::ffff:10.1.2.3/104\" has bits set beyond its prefix; write 10.0.0.0/8 for the network, or 10.1.2.3 for the one address"
        );
        assert_eq!(
            refusal("10.0.0.0/33"),
            "\"10.0.0.0/33\" has a prefix of more than 32 bits; write one from /0 to /32"
        );
        assert_eq!(
            refusal("::/129"),
            "\"::/129\" has a prefix of more than 128 bits; write one from /0 to /128"
        );
        assert_eq!(
            refusal("localhost"),
            "\"localhost\" is no address and no range; write an address such as 10.1.2.3, or a range such as 10.0.0.0/8 or 2001:db8::/32"
        );
        for text in [
            "",
            "/",
            "/8",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0.0/-1",
            "10.0.0.0/8/8",
            "10.0.0.0/255.0.0.0",
            "10.*",
            "10.0.0",
            "010.0.0.1",
            "10.1.2.3:80",
            "[::1]",
            "fe80::1%eth0",
            " 10.1.2.3",
            "10.1.2.3 ",
            "::ffff:0:0/99999999999999999999",
            "0x7f.1",
            "１０.0.0.1",
        ] {
            assert!(text.parse::<AddressRange>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_address_is_found_however_it_is_written() {
        let ranges = AddressRanges::new(
            ["10.0.0.0/8", "10.1.0.0/16", "192.0.2.7", "2001:db8::/32"].map(range).to_vec(),
        );
        for (address, expected) in [
            ("10.0.0.0", true),
            ("10.255.255.255", true),
            ("11.0.0.0", false),
            ("9.255.255.255", false),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("::ffff:10.1.2.3", true),
            ("::ffff:11.1.2.3", false),
            ("2001:db8:ffff::1", true),
            ("2001:db9::", false),
            ("::1", false),
        ] {
            assert_eq!(ranges.contains(address.parse().unwrap()), expected, "{address}");
        }
        assert!(!AddressRanges::default().contains("10.1.2.3".parse().unwrap()));
        assert!(
            !AddressRanges::new(vec![range("::/0")]).contains("10.1.2.3".parse().unwrap()),
            "::/0 is about IPv6"
        );
    }

    prop_compose! {
        /// Few bits, so that ranges meet.
        fn near()(v6 in any::<bool>(), bits in 0..64u32, prefix in 24..=32u8) -> AddressRange {
            let (address, prefix) = match v6 {
                false => (IpAddr::from(Ipv4Addr::from(0x0a00_0000 | bits)), prefix),
                true => (IpAddr::from(Ipv6Addr::from(u128::from(bits))), prefix + 96),
            };
            AddressRange(IpNet::new(address, prefix).unwrap().trunc())
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_fail(text in "\\PC{0,80}") {
            let _ = text.parse::<AddressRange>();
        }

        #[test]
        fn what_looks_like_a_range_reads_back(text in "(::ffff:)?[0-9]{1,3}(\\.[0-9]{1,3}){3}(/[0-9]{1,3})?|[0-9a-f:]{1,12}(/[0-9]{1,3})?") {
            match text.parse::<AddressRange>() {
                Ok(range) => prop_assert_eq!(range.to_string().parse(), Ok(range)),
                Err(AddressError::HostBits { meant, .. }) => prop_assert_eq!(meant.to_string().parse(), Ok(meant)),
                Err(_) => {}
            }
        }

        #[test]
        fn many_are_what_each_is(ranges in prop::collection::vec(near(), 0..8), v6 in any::<bool>(), bits in 0..80u32) {
            let address = match v6 {
                false => IpAddr::from(Ipv4Addr::from(0x0a00_0000 | bits)),
                true => IpAddr::from(Ipv6Addr::from(u128::from(bits))),
            };
            let plainly = ranges.iter().any(|range| range.contains(address));
            prop_assert_eq!(AddressRanges::new(ranges).contains(address), plainly);
        }
    }
}
