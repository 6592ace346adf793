//! How operators write addresses: as ranges, and as names of classes. It must not know what is done with them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use crate::class::Class;

/// Addresses that an option names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// Every address of a class.
    Class(Class),
    /// Every address that is no metadata address.
    All,
    /// A range in CIDR notation; one address is a range as well.
    Net(IpNet),
}

/// The value of an option: ranges, separated by commas. Empty for none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ranges(pub Vec<Range>);

/// Text that is no range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// Neither a range nor a name.
    #[error("{0:?} is no address, no range such as 10.0.0.0/8, and none of {names}, all", names = names())]
    Unknown(String),
    /// A range whose address has bits beyond the prefix.
    #[error("{range} has bits set beyond its prefix; write {truncated}")]
    HostBits {
        /// The range, as written.
        range: IpNet,
        /// The range without these bits.
        truncated: IpNet,
    },
    /// IPv4 in the notation of IPv6.
    #[error("{0} is a range of IPv4 addresses that are mapped to IPv6; write it as IPv4")]
    Mapped(IpNet),
    /// Metadata addresses by their class.
    #[error("metadata addresses are named one by one, such as 169.254.169.254")]
    Metadata,
}

/// The classes that an option may name.
const NAMED: [Class; 10] = [
    Class::Loopback,
    Class::Private,
    Class::Shared,
    Class::LinkLocal,
    Class::Multicast,
    Class::Broadcast,
    Class::Unspecified,
    Class::Documentation,
    Class::Benchmarking,
    Class::Reserved,
];

impl Class {
    /// Those that an option may name.
    pub(crate) fn named() -> impl Iterator<Item = Self> {
        NAMED.into_iter()
    }
}

fn names() -> String {
    NAMED.map(Class::as_str).join(", ")
}

impl Range {
    /// Whether it has this address, of this class.
    pub(crate) fn has(&self, address: IpAddr, class: Class) -> bool {
        match self {
            Self::Class(named) => class == *named,
            Self::All => class != Class::Metadata,
            Self::Net(net) => net.contains(&address),
        }
    }

    /// Whether it names this address and no other.
    pub(crate) fn is_exactly(&self, address: IpAddr) -> bool {
        matches!(self, Self::Net(net) if *net == IpNet::from(address))
    }
}

impl FromStr for Range {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        if text == "all" {
            return Ok(Self::All);
        }
        if text == Class::Metadata.as_str() {
            return Err(RangeError::Metadata);
        }
        if let Some(class) = NAMED.into_iter().find(|class| class.as_str() == text) {
            return Ok(Self::Class(class));
        }
        let address = || text.parse::<IpAddr>().map(IpNet::from);
        let net = text.parse().or_else(|_| address()).map_err(|_| RangeError::Unknown(text.to_owned()))?;
        checked(net).map(Self::Net)
    }
}

fn checked(net: IpNet) -> Result<IpNet, RangeError> {
    if let IpNet::V6(v6) = net
        && v6.addr().to_ipv4_mapped().is_some()
    {
        return Err(RangeError::Mapped(net));
    }
    let truncated = net.trunc();
    if truncated == net { Ok(net) } else { Err(RangeError::HostBits { range: net, truncated }) }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Class(class) => class.fmt(f),
            Self::All => f.write_str("all"),
            Self::Net(net) if net.prefix_len() == net.max_prefix_len() => net.addr().fmt(f),
            Self::Net(net) => net.fmt(f),
        }
    }
}

impl FromStr for Ranges {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
        words.map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_shown_as_they_were_written() {
        for text in ["loopback", "all", "10.0.0.0/8", "10.1.2.3", "fd00::/8", "fd00::1", "link-local"] {
            assert_eq!(text.parse::<Range>().unwrap().to_string(), text);
        }
        let found: Ranges = " loopback, 10.0.0.0/8,,".parse().unwrap();
        assert_eq!(found.0.iter().map(ToString::to_string).collect::<Vec<_>>(), ["loopback", "10.0.0.0/8"]);
        assert_eq!("".parse(), Ok(Ranges::default()));
    }

    #[test]
    fn what_is_no_range_is_refused_with_what_to_write() {
        for (text, expected) in [
            (
                "localhost",
                "\"localhost\" is no address, no range such as 10.0.0.0/8, and none of loopback, private, shared, \
                 link-local, multicast, broadcast, unspecified, documentation, benchmarking, reserved, all",
            ),
            ("10.1.2.3/8", "10.1.2.3/8 has bits set beyond its prefix; write 10.0.0.0/8"),
            (
                "::ffff:10.0.0.0/104",
                "::ffff:10.0.0.0/104 is a range of IPv4 addresses that are mapped to IPv6; write it as IPv4",
            ),
            ("metadata", "metadata addresses are named one by one, such as 169.254.169.254"),
        ] {
            assert_eq!(text.parse::<Range>().unwrap_err().to_string(), expected);
        }
        for text in ["10.0.0.0/33", "10.0.0/8", "public", "Loopback", "0x7f.1", "10.0.0.0/-1", "[::1]"] {
            assert!(matches!(text.parse::<Range>(), Err(RangeError::Unknown(_))), "{text}");
        }
    }
}
