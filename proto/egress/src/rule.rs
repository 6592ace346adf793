//! The rule: the addresses that are allowed. It must not know how an address was found.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use crate::class::Class;
use crate::embedded::{canonical, embedded};
use crate::range::{Range, RangeError, Ranges};

/// The addresses that are allowed: public ones, and what an operator allows, without what an operator denies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    pub(crate) allow: Vec<Range>,
    pub(crate) deny: Vec<Range>,
}

/// Text that is no rule as [`Rule`] is shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// It begins otherwise.
    #[error("a rule begins with `{PUBLIC}`")]
    Start,
    /// It names no range.
    #[error(transparent)]
    Range(#[from] RangeError),
}

/// What every rule allows, unless it denies it.
const PUBLIC: &str = "public addresses";
/// What comes before that which a rule denies.
const NEVER: &str = "; never ";

/// An address that is not allowed. Its text says what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub struct Refusal {
    /// The address that would have been connected to.
    pub address: IpAddr,
    /// The class that it was refused for: its own, or that of an IPv4 address that it leads to.
    pub class: Class,
    leads_to: Option<Ipv4Addr>,
    denied_by: Option<Range>,
}

impl Rule {
    /// Makes the rule. What `deny` names is not allowed whatever `allow` names; a metadata address is allowed only where
    /// `allow` has that very address.
    #[must_use]
    pub fn new(allow: Vec<Range>, deny: Vec<Range>) -> Self {
        Self { allow, deny }
    }

    /// Checks an address, and every IPv4 address that it leads to.
    ///
    /// # Errors
    /// The first of them that is not allowed.
    pub fn check(&self, address: IpAddr) -> Result<(), Refusal> {
        let dialled = canonical(address);
        self.check_one(dialled).map_err(|(class, denied_by)| Refusal {
            address: dialled,
            class,
            leads_to: None,
            denied_by,
        })?;
        let IpAddr::V6(outer) = dialled else { return Ok(()) };
        embedded(outer).try_for_each(|inner| {
            self.check_one(inner.into()).map_err(|(class, denied_by)| Refusal {
                address: dialled,
                class,
                leads_to: Some(inner),
                denied_by,
            })
        })
    }

    fn check_one(&self, address: IpAddr) -> Result<(), (Class, Option<Range>)> {
        let class = Class::of(address);
        if let Some(range) = self.deny.iter().find(|range| range.has(address, class)) {
            return Err((class, Some(*range)));
        }
        let allowed = match class {
            Class::Public => true,
            Class::Metadata => self.allow.iter().any(|range| range.is_exactly(address)),
            _ => self.allow.iter().any(|range| range.has(address, class)),
        };
        if allowed { Ok(()) } else { Err((class, None)) }
    }
}

/// What is allowed, for people.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PUBLIC)?;
        self.allow.iter().try_for_each(|range| write!(f, ", {range}"))?;
        let words = |range: &Range| range.to_string();
        match self.deny.is_empty() {
            true => Ok(()),
            false => write!(f, "{NEVER}{}", self.deny.iter().map(words).collect::<Vec<_>>().join(", ")),
        }
    }
}

/// Reads a rule as it is shown.
impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let (allow, deny) = text.split_once(NEVER).unwrap_or((text, ""));
        let allow = allow.strip_prefix(PUBLIC).filter(|rest| rest.is_empty() || rest.starts_with(','));
        let ranges = |text: &str| text.parse::<Ranges>().map(|ranges| ranges.0);
        Ok(Self::new(ranges(allow.ok_or(RuleError::Start)?)?, ranges(deny)?))
    }
}

impl Refusal {
    /// Says why, about the host that resolved to the address where there is one.
    pub(crate) fn text(&self, host: Option<&str>) -> String {
        let address = self.address;
        let path = match (host, self.leads_to) {
            (None, None) => format!("{address} is"),
            (None, Some(inner)) => format!("{address} leads to {inner},"),
            (Some(host), None) => format!("{host} resolves to {address},"),
            (Some(host), Some(inner)) => format!("{host} resolves to {address}, which leads to {inner},"),
        };
        format!("{path} {}, {}", self.class.described(), self.reason())
    }

    fn reason(&self) -> String {
        let allow = self.leads_to.map_or(self.address, IpAddr::V4);
        let refused =
            "which the egress rule does not allow; start the control plane and the edges with --egress-allow";
        match (self.denied_by, self.class) {
            (Some(range), _) => format!("which --egress-deny lists as {range}"),
            (None, Class::Metadata) => format!("{refused} {allow}"),
            (None, class) => format!("{refused} {allow} or --egress-allow {class}"),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(None))
    }
}

#[cfg(test)]
mod tests;
