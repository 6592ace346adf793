use std::net::Ipv6Addr;

use proptest::prelude::*;

use super::*;
use crate::range::Ranges;

fn rule(allow: &str, deny: &str) -> Rule {
    let ranges = |text: &str| text.parse::<Ranges>().unwrap().0;
    Rule::new(ranges(allow), ranges(deny))
}

fn allows(rule: &Rule, address: &str) -> bool {
    rule.check(address.parse().unwrap()).is_ok()
}

fn refusal(rule: &Rule, address: &str) -> String {
    rule.check(address.parse().unwrap()).unwrap_err().to_string()
}

#[test]
fn by_itself_only_public_addresses_are_allowed() {
    for address in
        ["8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1"]
    {
        assert!(allows(&Rule::default(), address), "{address}");
    }
    for address in
        ["127.0.0.1", "::1", "10.0.0.1", "169.254.169.254", "0.0.0.0", "::", "fe80::1", "100.64.0.1"]
    {
        assert!(!allows(&Rule::default(), address), "{address}");
    }
}

#[test]
fn what_is_allowed_is_a_class_a_range_or_all() {
    for (allow, yes, no) in [
        ("loopback", "127.9.9.9 ::1 ::ffff:127.0.0.1", "10.0.0.1 0.0.0.0 :: 64:ff9b::10.0.0.1"),
        ("private", "10.0.0.1 192.168.1.1 fc00::1 64:ff9b::10.0.0.1 2002:a00:1::", "127.0.0.1 100.64.0.1"),
        ("10.1.0.0/16", "10.1.2.3 ::ffff:10.1.2.3 64:ff9b::10.1.2.3", "10.2.0.0 127.0.0.1"),
        ("10.1.2.3,fd00::/8", "10.1.2.3 fd12::1", "10.1.2.4 fc00::1 fd00:ec2::254"),
        ("all", "127.0.0.1 10.0.0.1 0.0.0.0 ::10.0.0.1 224.0.0.1 240.0.0.1 fe80::1", "169.254.169.254"),
        // The range of an address that leads to another says nothing of the other.
        (
            "64:ff9b::/96,2002::/16,2001::/32,reserved",
            "::8.8.8.8",
            "64:ff9b::10.0.0.1 2002:a00:1:: ::10.0.0.1",
        ),
    ] {
        for address in yes.split(' ') {
            assert!(allows(&rule(allow, ""), address), "{allow}: {address}");
        }
        for address in no.split(' ') {
            assert!(!allows(&rule(allow, ""), address), "{allow}: {address}");
        }
    }
}

#[test]
fn a_metadata_address_is_allowed_only_by_its_own_name() {
    for (address, wide) in [
        ("169.254.169.254", "all,link-local,169.254.0.0/16,0.0.0.0/0"),
        ("100.100.100.200", "all,shared,100.64.0.0/10"),
        ("168.63.129.16", "all,168.63.0.0/16"),
        ("fd00:ec2::254", "all,private,fd00::/8,::/0"),
    ] {
        assert!(!allows(&rule(wide, ""), address), "{address}");
        assert!(allows(&rule(address, ""), address), "{address}");
    }
    let exact = rule("169.254.169.254,reserved", "");
    for address in
        ["::ffff:169.254.169.254", "64:ff9b::169.254.169.254", "2002:a9fe:a9fe::", "::169.254.169.254"]
    {
        assert!(!allows(&rule("all", ""), address), "{address}");
        assert!(allows(&exact, address), "{address}");
    }
}

#[test]
fn what_is_denied_is_denied_whatever_is_allowed() {
    let denying = rule("all,169.254.169.254", "8.8.8.0/24,loopback,169.254.169.254");
    for address in
        ["8.8.8.8", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "::8.8.8.8", "127.0.0.1", "169.254.169.254"]
    {
        assert!(!allows(&denying, address), "{address}");
    }
    assert!(allows(&denying, "8.8.4.4"));
    assert!(!allows(&rule("", "all"), "8.8.4.4"));
}

#[test]
fn a_refusal_says_why_and_what_to_do() {
    for (allow, deny, address, expected) in [
        (
            "",
            "",
            "10.1.2.3",
            "10.1.2.3 is a private address, which the egress rule does not allow; start the control plane and the edges with \
             --egress-allow 10.1.2.3 or --egress-allow private",
        ),
        (
            "",
            "",
            "::ffff:127.0.0.1",
            "127.0.0.1 is a loopback address, which the egress rule does not allow; start the control plane and the \
             edges with --egress-allow 127.0.0.1 or --egress-allow loopback",
        ),
        (
            "",
            "",
            "64:ff9b::10.1.2.3",
            "64:ff9b::a01:203 leads to 10.1.2.3, a private address, which the egress rule does not allow; start the \
             control plane and the edges with --egress-allow 10.1.2.3 or --egress-allow private",
        ),
        (
            "all",
            "",
            "169.254.169.254",
            "169.254.169.254 is a cloud metadata address, which the egress rule does not allow; start the control plane \
             and the edges with --egress-allow 169.254.169.254",
        ),
        ("", "8.8.8.0/24", "8.8.8.8", "8.8.8.8 is a public address, which --egress-deny lists as 8.8.8.0/24"),
    ] {
        assert_eq!(refusal(&rule(allow, deny), address), expected);
    }
}

#[test]
fn a_rule_is_shown_to_people() {
    assert_eq!(Rule::default().to_string(), "public addresses");
    assert_eq!(rule("loopback,10.0.0.0/8", "").to_string(), "public addresses, loopback, 10.0.0.0/8");
    assert_eq!(
        rule("all", "10.1.0.0/16,fd00::1").to_string(),
        "public addresses, all; never 10.1.0.0/16, fd00::1"
    );
}

#[test]
fn a_rule_is_read_as_it_is_shown() {
    for (allow, deny) in [("", ""), ("loopback,10.0.0.0/8", ""), ("", "fd00::1"), ("all", "private,10.0.0.1")]
    {
        let rule = rule(allow, deny);
        assert_eq!(rule.to_string().parse(), Ok(rule));
    }
    for other in
        ["", "loopback", "public addresses loopback", "public addresses, nowhere", "public addresses; x"]
    {
        assert!(other.parse::<Rule>().is_err(), "{other:?}");
    }
}

/// Every form of IPv6 that leads to an IPv4 address.
fn wrapped(inner: Ipv4Addr, noise: u128) -> [IpAddr; 7] {
    let low = u128::from(inner.to_bits());
    let under = |prefix: u128| Ipv6Addr::from_bits(prefix | low).into();
    let teredo = 0x2001_u128 << 112;
    let other = u128::from(Ipv4Addr::new(8, 8, 8, 8).to_bits());
    let flags = (noise & 0xffff_ffff) << 32;
    [
        under(0),
        under(0xffff << 32),
        under(0xffff << 48),
        under(0x0064_ff9b_u128 << 96),
        Ipv6Addr::from_bits(0x2002_u128 << 112 | low << 80 | noise >> 48).into(),
        Ipv6Addr::from_bits(teredo | low << 64 | flags | (!other & 0xffff_ffff)).into(),
        Ipv6Addr::from_bits(teredo | other << 64 | flags | (!low & 0xffff_ffff)).into(),
    ]
}

/// Addresses near the edges of the ranges, and any.
fn addresses() -> impl Strategy<Value = Ipv4Addr> {
    let special = prop::sample::select(vec![
        "0.0.0.2",
        "10.0.0.0",
        "100.64.0.0",
        "127.0.0.1",
        "169.254.169.254",
        "172.16.0.0",
        "192.0.0.192",
        "192.168.0.1",
        "198.18.0.0",
        "203.0.113.9",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "168.63.129.16",
    ]);
    prop_oneof![special.prop_map(|text| text.parse().unwrap()), any::<u32>().prop_map(Ipv4Addr::from_bits),]
}

fn rules() -> impl Strategy<Value = Rule> {
    let words =
        ["loopback", "private", "10.0.0.0/9", "all", "169.254.169.254", "::/0", "reserved", "link-local"];
    let list = || prop::sample::subsequence(words.to_vec(), 0..3);
    (list(), list()).prop_map(|(allow, deny)| rule(&allow.join(","), &deny.join(",")))
}

proptest! {
    #[test]
    fn no_form_of_a_forbidden_address_is_allowed(inner in addresses(), noise: u128, rule in rules()) {
        prop_assume!(rule.check(inner.into()).is_err());
        for address in wrapped(inner, noise) {
            prop_assert!(rule.check(address).is_err(), "{address} leads to {inner}; allowed: {rule}");
        }
    }

    #[test]
    fn what_is_not_public_is_allowed_only_by_name(address: u128) {
        let address = IpAddr::from(Ipv6Addr::from_bits(address));
        if Rule::default().check(address).is_ok() {
            prop_assert_eq!(Class::of(address.to_canonical()), Class::Public);
        }
    }
}
