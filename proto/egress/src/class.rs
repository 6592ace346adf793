//! The classes of addresses, by the special-purpose registries of IANA (RFC 6890). It must not know which are allowed.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// The class of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Reachable from the whole Internet.
    Public,
    /// This host on this network, RFC 1122 §3.2.1.3 and RFC 4291 §2.5.2; Linux connects it to itself.
    Unspecified,
    /// This host, RFC 1122 §3.2.1.3 and RFC 4291 §2.5.3.
    Loopback,
    /// Private networks, RFC 1918 and RFC 4193.
    Private,
    /// Shared by carriers for their translation of addresses, RFC 6598.
    Shared,
    /// This link, RFC 3927 and RFC 4291 §2.5.6.
    LinkLocal,
    /// Groups of hosts, RFC 1112 and RFC 4291 §2.7.
    Multicast,
    /// Every host of a network, RFC 919.
    Broadcast,
    /// Examples in texts, RFC 5737, RFC 3849 and RFC 9637.
    Documentation,
    /// Tests of network devices, RFC 2544 and RFC 5180.
    Benchmarking,
    /// For protocols or for the future, and no host on the Internet.
    Reserved,
    /// Where clouds give out credentials of the machine or the container that asks.
    Metadata,
}

impl Class {
    /// All classes.
    pub const ALL: [Self; 12] = [
        Self::Public,
        Self::Unspecified,
        Self::Loopback,
        Self::Private,
        Self::Shared,
        Self::LinkLocal,
        Self::Multicast,
        Self::Broadcast,
        Self::Documentation,
        Self::Benchmarking,
        Self::Reserved,
        Self::Metadata,
    ];

    /// Classifies an address as it is written, whatever is embedded in it.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => {
                let known = IPV4.iter().find(|(net, _)| net.contains(&address));
                known.map_or(Self::Public, |(_, class)| *class)
            }
            IpAddr::V6(address) => {
                let known = IPV6.iter().find(|(net, _)| net.contains(&address));
                known.map_or(Self::Reserved, |(_, class)| *class)
            }
        }
    }

    /// The classes that addresses within a range have, each once.
    pub(crate) fn within(range: IpNet) -> Vec<Self> {
        let table = table();
        let around = table.iter().find(|(net, _)| net.contains(&range)).map(|(_, class)| *class);
        let inside = table.iter().filter(|(net, _)| range.contains(net) && *net != range);
        let rest = around.unwrap_or(if range.addr().is_ipv4() { Self::Public } else { Self::Reserved });
        let mut found: Vec<_> = inside.map(|(_, class)| *class).chain([rest]).collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The ranges that the class is made of.
    pub(crate) fn nets(self) -> Vec<IpNet> {
        let rest = (self == Self::Reserved).then(|| IpNet::from(v6([0; 8], 0)));
        table().into_iter().filter(|(_, class)| *class == self).map(|(net, _)| net).chain(rest).collect()
    }

    /// Returns the name of the class in options and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Unspecified => "unspecified",
            Self::Loopback => "loopback",
            Self::Private => "private",
            Self::Shared => "shared",
            Self::LinkLocal => "link-local",
            Self::Multicast => "multicast",
            Self::Broadcast => "broadcast",
            Self::Documentation => "documentation",
            Self::Benchmarking => "benchmarking",
            Self::Reserved => "reserved",
            Self::Metadata => "metadata",
        }
    }

    /// Returns the words for an address of the class.
    pub(crate) fn described(self) -> &'static str {
        match self {
            Self::Public => "a public address",
            Self::Unspecified => "an unspecified address",
            Self::Loopback => "a loopback address",
            Self::Private => "a private address",
            Self::Shared => "a shared address (carrier-grade NAT)",
            Self::LinkLocal => "a link-local address",
            Self::Multicast => "a multicast address",
            Self::Broadcast => "the broadcast address",
            Self::Documentation => "a documentation address",
            Self::Benchmarking => "a benchmarking address",
            Self::Reserved => "a reserved address",
            Self::Metadata => "a cloud metadata address",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Both registries, the most special range of each first.
fn table() -> Vec<(IpNet, Class)> {
    let v4 = IPV4.into_iter().map(|(net, class)| (IpNet::from(net), class));
    v4.chain(IPV6.into_iter().map(|(net, class)| (IpNet::from(net), class))).collect()
}

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(segments: [u16; 8], prefix: u8) -> Ipv6Net {
    let [a, b, c, d, e, f, g, h] = segments;
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), prefix)
}

/// The IANA IPv4 Special-Purpose Address Registry, the most special first. What is not in it is public. Its entries that
/// are globally reachable (AS112, AMT) are left out, but for two within 192.0.0.0/24, at which nobody serves.
const IPV4: [(Ipv4Net, Class); 23] = [
    // Amazon, Google, Azure, OpenStack and most others.
    (v4(169, 254, 169, 254, 32), Class::Metadata),
    // Amazon ECS (credentials of tasks) and EKS (identities of pods).
    (v4(169, 254, 170, 2, 32), Class::Metadata),
    (v4(169, 254, 170, 23, 32), Class::Metadata),
    // Scaleway.
    (v4(169, 254, 42, 42, 32), Class::Metadata),
    // Alibaba.
    (v4(100, 100, 100, 200, 32), Class::Metadata),
    // The wire server of Azure, a public address.
    (v4(168, 63, 129, 16, 32), Class::Metadata),
    // Oracle.
    (v4(192, 0, 0, 192, 32), Class::Metadata),
    (v4(0, 0, 0, 0, 8), Class::Unspecified),
    (v4(127, 0, 0, 0, 8), Class::Loopback),
    (v4(10, 0, 0, 0, 8), Class::Private),
    (v4(172, 16, 0, 0, 12), Class::Private),
    (v4(192, 168, 0, 0, 16), Class::Private),
    (v4(100, 64, 0, 0, 10), Class::Shared),
    (v4(169, 254, 0, 0, 16), Class::LinkLocal),
    (v4(192, 0, 2, 0, 24), Class::Documentation),
    (v4(198, 51, 100, 0, 24), Class::Documentation),
    (v4(203, 0, 113, 0, 24), Class::Documentation),
    (v4(198, 18, 0, 0, 15), Class::Benchmarking),
    // IETF protocol assignments, RFC 6890 §2.1.
    (v4(192, 0, 0, 0, 24), Class::Reserved),
    // Relays of 6to4, deprecated by RFC 7526.
    (v4(192, 88, 99, 0, 24), Class::Reserved),
    (v4(255, 255, 255, 255, 32), Class::Broadcast),
    (v4(224, 0, 0, 0, 4), Class::Multicast),
    // The rest of RFC 1112 §4.
    (v4(240, 0, 0, 0, 4), Class::Reserved),
];

/// The IANA IPv6 Special-Purpose Address Registry, the most special first, and global unicast (RFC 4291 §2.4), of which
/// it is a part. What is not in it is reserved: 64:ff9b:1::/48, 100::/64, 5f00::/16, site-local and what IANA has not
/// given out. Addresses that embed IPv4 are checked for that as well, see `embedded`.
const IPV6: [(Ipv6Net, Class); 15] = [
    // Amazon, with the identities of pods of EKS.
    (v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], 128), Class::Metadata),
    (v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23], 128), Class::Metadata),
    // Google.
    (v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128), Class::Metadata),
    // Scaleway.
    (v6([0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42], 128), Class::Metadata),
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 128), Class::Unspecified),
    (v6([0, 0, 0, 0, 0, 0, 0, 1], 128), Class::Loopback),
    // The well-known prefix of NAT64 (RFC 6052), which leads to the IPv4 address in it.
    (v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96), Class::Public),
    (v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7), Class::Private),
    (v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), Class::LinkLocal),
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), Class::Multicast),
    (v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), Class::Documentation),
    (v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), Class::Documentation),
    (v6([0x2001, 2, 0, 0, 0, 0, 0, 0], 48), Class::Benchmarking),
    // IETF protocol assignments, RFC 2928; Teredo (RFC 4380) is in it.
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), Class::Reserved),
    (v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3), Class::Public),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registries_of_iana_are_known() {
        for (class, addresses) in [
            (Class::Unspecified, "0.0.0.0 0.0.0.1 0.255.255.255 ::"),
            (Class::Loopback, "127.0.0.1 127.0.0.0 127.255.255.255 ::1"),
            (Class::Private, "10.0.0.0 10.255.255.255 172.16.0.0 172.31.255.255 192.168.0.0 192.168.255.255"),
            (Class::Private, "fc00:: fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff fd00:ec2::253"),
            (Class::Shared, "100.64.0.0 100.127.255.255 100.100.100.199"),
            (Class::LinkLocal, "169.254.0.0 169.254.255.255 169.254.169.253 fe80:: fe80::1 febf:ffff::"),
            (Class::Multicast, "224.0.0.0 239.255.255.255 ff00:: ff02::1 ffff::"),
            (Class::Broadcast, "255.255.255.255"),
            (Class::Documentation, "192.0.2.0 192.0.2.255 198.51.100.7 203.0.113.255"),
            (Class::Documentation, "2001:db8:: 2001:db8:ffff:: 3fff:: 3fff:fff::"),
            (Class::Benchmarking, "198.18.0.0 198.19.255.255 2001:2:: 2001:2:0:ffff::"),
            (Class::Reserved, "192.0.0.0 192.0.0.8 192.0.0.170 192.0.0.255 192.88.99.0 192.88.99.255"),
            (Class::Reserved, "240.0.0.0 255.255.255.254"),
            (
                Class::Reserved,
                "::2 ::ffff:0:0 ::808:808 64:ff9b:1:: 64:ff9b:1:ffff:: 100:: 100:0:0:1:: 5f00::",
            ),
            (
                Class::Reserved,
                "2001:: 2001:1::1 2001:10:: 2001:20:: 2001:30:: 2001:1ff:: fec0:: 4000:: 1fff::",
            ),
            (Class::Metadata, "169.254.169.254 169.254.170.2 169.254.170.23 169.254.42.42 100.100.100.200"),
            (Class::Metadata, "168.63.129.16 192.0.0.192"),
            (Class::Metadata, "fd00:ec2::254 fd00:ec2::23 fd20:ce::254 fd00:42::42"),
            (
                Class::Public,
                "1.0.0.0 8.8.8.8 9.255.255.255 11.0.0.0 172.15.255.255 172.32.0.0 192.167.255.255",
            ),
            (
                Class::Public,
                "100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 169.253.255.255 169.255.0.0",
            ),
            (Class::Public, "192.0.1.0 192.0.3.0 198.17.255.255 198.20.0.0 223.255.255.255 192.31.196.1"),
            (Class::Public, "192.52.193.1 192.175.48.1 2000:: 2001:200:: 2002:: 2606:4700:4700::1111"),
            (Class::Public, "2001:4860:4860::8888 2620:4f:8000::1 3ffe:: 3fff:1000:: 64:ff9b::808:808"),
        ] {
            for address in addresses.split(' ') {
                assert_eq!(Class::of(address.parse().unwrap()), class, "{address}");
            }
        }
    }

    #[test]
    fn no_entry_hides_another() {
        for (index, (net, class)) in IPV4.iter().enumerate() {
            assert_eq!(Class::of(net.network().into()), *class, "{index}: {net}");
        }
        for (index, (net, class)) in IPV6.iter().enumerate() {
            assert_eq!(Class::of(net.network().into()), *class, "{index}: {net}");
        }
    }

    #[test]
    fn every_class_has_its_own_name() {
        let names: std::collections::BTreeSet<&str> = Class::ALL.iter().map(|class| class.as_str()).collect();
        assert_eq!(names.len(), Class::ALL.len());
    }
}
