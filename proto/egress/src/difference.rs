//! What one rule refuses that another allows, and the options that mend it. It must not know whose rules they are.

use ipnet::IpNet;

use crate::class::Class;
use crate::range::Range;
use crate::rule::Rule;

impl Rule {
    /// Returns the options with which this rule would refuse nothing that `other` allows. `None`: it refuses nothing of that.
    #[must_use]
    pub fn options_to_allow(&self, other: &Self) -> Option<String> {
        let missing: Vec<_> = other.allow.iter().filter(|range| !covers(&self.allow, **range)).collect();
        let concerns = |denied: &Range| {
            let allowed = other.allow.iter().any(|range| overlap(*range, *denied));
            (allowed || has_public(*denied)) && !other.deny.iter().any(|range| includes(*range, *denied))
        };
        let denied: Vec<_> = self.deny.iter().filter(|range| concerns(range)).collect();
        let mut options = Vec::new();
        if !missing.is_empty() {
            options.push(format!("with --egress-allow {}", list(self.allow.iter().chain(missing))));
        }
        if !denied.is_empty() {
            options.push(format!("without --egress-deny {}", list(denied)));
        }
        (!options.is_empty()).then(|| options.join(" and "))
    }
}

fn list<'a>(ranges: impl IntoIterator<Item = &'a Range>) -> String {
    ranges.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// Whether these ranges allow everything that `wanted` allows.
fn covers(ranges: &[Range], wanted: Range) -> bool {
    let class = |class: Class| {
        let nets = class.nets();
        let has_class =
            ranges.iter().any(|range| matches!(range, Range::All) || *range == Range::Class(class));
        has_class || (!nets.is_empty() && nets.into_iter().all(|net| has_net(ranges, net)))
    };
    match wanted {
        Range::All => Class::named().all(class),
        Range::Class(wanted) => class(wanted),
        // A metadata address is allowed by its own name alone, and within a range it is not.
        Range::Net(net) if Class::within(net) == [Class::Metadata] => ranges.contains(&wanted),
        Range::Net(net) => {
            let is_free = |class: &Class| matches!(class, Class::Public | Class::Metadata);
            has_net(ranges, net) || Class::within(net).into_iter().all(|one| is_free(&one) || class(one))
        }
    }
}

fn has_net(ranges: &[Range], wanted: IpNet) -> bool {
    ranges.iter().any(|range| matches!(range, Range::Net(net) if net.contains(&wanted)))
}

/// Whether every address of the second is one of the first.
fn includes(range: Range, other: Range) -> bool {
    match (range, other) {
        (Range::Net(net), Range::Net(other)) => net.contains(&other),
        (Range::Class(class), Range::Net(other)) => Class::within(other) == [class],
        (Range::All, Range::Net(other)) => !Class::within(other).contains(&Class::Metadata),
        (Range::All, _) => true,
        (range, other) => range == other,
    }
}

/// Whether they have addresses in common.
fn overlap(range: Range, other: Range) -> bool {
    match (range, other) {
        (Range::Net(net), Range::Net(other)) => net.contains(&other) || other.contains(&net),
        (Range::Net(net), Range::Class(class)) | (Range::Class(class), Range::Net(net)) => {
            Class::within(net).contains(&class)
        }
        (Range::Net(net), Range::All) | (Range::All, Range::Net(net)) => {
            Class::within(net) != [Class::Metadata]
        }
        (Range::Class(class), Range::Class(other)) => class == other,
        (Range::All, _) | (_, Range::All) => true,
    }
}

/// Whether it has addresses that are allowed without being named.
fn has_public(range: Range) -> bool {
    match range {
        Range::All => true,
        Range::Class(class) => class == Class::Public,
        Range::Net(net) => Class::within(net).contains(&Class::Public),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(of: &str, other: &str) -> Option<String> {
        let rule = |text: &str| text.parse::<Rule>().unwrap();
        rule(of).options_to_allow(&rule(other))
    }

    #[test]
    fn what_is_missing_is_named_beside_what_is_there() {
        for (of, other, expected) in [
            ("public addresses", "public addresses, loopback", "with --egress-allow loopback"),
            (
                "public addresses, 10.0.0.0/8",
                "public addresses, loopback, 10.1.0.0/16",
                "with --egress-allow 10.0.0.0/8,loopback",
            ),
            (
                "public addresses, 127.0.0.1",
                "public addresses, loopback",
                "with --egress-allow 127.0.0.1,loopback",
            ),
            ("public addresses, private", "public addresses, all", "with --egress-allow private,all"),
            (
                "public addresses, all",
                "public addresses, 169.254.169.254",
                "with --egress-allow all,169.254.169.254",
            ),
            ("public addresses; never 8.8.0.0/16", "public addresses", "without --egress-deny 8.8.0.0/16"),
            (
                "public addresses; never loopback, 10.0.0.0/8",
                "public addresses, loopback",
                "with --egress-allow loopback and without --egress-deny loopback",
            ),
        ] {
            assert_eq!(options(of, other).as_deref(), Some(expected), "{of} | {other}");
        }
    }

    #[test]
    fn rules_that_refuse_nothing_more_need_nothing() {
        for (of, other) in [
            ("public addresses", "public addresses"),
            ("public addresses, all", "public addresses, loopback, 10.0.0.0/8, 0.0.0.0/0, ::/0"),
            ("public addresses, private", "public addresses, 10.1.0.0/16, fd00::/8"),
            ("public addresses, 127.0.0.0/8, ::1", "public addresses, loopback"),
            ("public addresses", "public addresses, 8.8.8.8"),
            ("public addresses, 0.0.0.0/0, ::/0", "public addresses, all"),
            ("public addresses, loopback; never 10.0.0.0/8", "public addresses, loopback"),
            ("public addresses, private; never 10.1.0.0/16", "public addresses, private; never 10.0.0.0/8"),
            ("public addresses, private; never 10.1.0.0/16", "public addresses, private; never private"),
        ] {
            assert_eq!(options(of, other), None, "{of} | {other}");
        }
    }
}
