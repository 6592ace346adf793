//! The options of every program that connects to where resources say. It must not know what it connects to.

use crate::range::{Range, Ranges};
use crate::rule::Rule;

/// The options of the egress rule.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Egress")]
pub struct Options {
    /// Addresses that upstreams may have besides public ones: ranges such as 10.0.0.0/8, addresses, and classes
    /// (loopback, private, shared, link-local, …, or all), separated by commas; repeatable. Addresses of cloud metadata
    /// are allowed only one by one. Default: none.
    #[arg(long, env = "TRUNKLINE_EGRESS_ALLOW", value_name = "RANGES")]
    pub egress_allow: Vec<Ranges>,
    /// Addresses that no upstream may have, whatever --egress-allow says; written in the same way.
    #[arg(long, env = "TRUNKLINE_EGRESS_DENY", value_name = "RANGES")]
    pub egress_deny: Vec<Ranges>,
}

impl Options {
    /// Returns the rule that they make.
    #[must_use]
    pub fn rule(&self) -> Rule {
        Rule::new(self.allowed().collect(), self.denied().collect())
    }

    /// Returns what is allowed besides public addresses.
    pub fn allowed(&self) -> impl Iterator<Item = Range> {
        self.egress_allow.iter().flat_map(|list| list.0.iter().copied())
    }

    /// Returns what is denied.
    pub fn denied(&self) -> impl Iterator<Item = Range> {
        self.egress_deny.iter().flat_map(|list| list.0.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn lists_are_joined() {
        let words =
            ["x", "--egress-allow=loopback,10.0.0.0/8", "--egress-allow", "", "--egress-allow=fd00::/8"];
        let parsed = Program::try_parse_from([&words[..], &["--egress-deny=10.1.0.0/16"]].concat());
        let Program { options } = parsed.unwrap_or_else(|error| panic!("{error}"));
        let shown = "public addresses, loopback, 10.0.0.0/8, fd00::/8; never 10.1.0.0/16";
        assert_eq!(options.rule().to_string(), shown);
    }

    #[test]
    fn what_is_no_range_stops_the_program() {
        let parsed = Program::try_parse_from(["x", "--egress-allow=loopback,10.0.0.1/8"]);
        let error = parsed.map(drop).unwrap_err().to_string();
        assert!(error.contains("10.0.0.1/8 has bits set beyond its prefix; write 10.0.0.0/8"), "{error}");
    }
}
