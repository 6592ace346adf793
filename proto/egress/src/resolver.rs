//! Resolves hosts to the addresses that may be connected to. It must not know what connects.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};

use futures_util::future::BoxFuture;

use crate::rule::{Refusal, Rule};

/// Resolves the names of hosts.
pub trait Resolve: fmt::Debug + Send + Sync {
    /// Returns the addresses of a host, in the order in which they are to be tried.
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>>;
}

/// Resolves as the system does: by its files, its name servers, and its notations of addresses (`0x7f.1`).
#[derive(Debug)]
struct System;

impl Resolve for System {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
    }
}

/// Resolves hosts, and returns only addresses that the rule allows.
#[derive(Debug)]
pub struct CheckedResolver {
    rule: Rule,
    resolver: Box<dyn Resolve>,
    /// Whose rule it is, where there are several.
    owner: Option<String>,
}

/// The error of resolving a host.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// It has no address.
    #[error("{0}")]
    Failed(io::Error),
    /// None of its addresses is allowed.
    #[error("{}", refused(.host, .refusal, .owner.as_deref()))]
    Refused {
        /// The host, as it was asked for.
        host: String,
        /// The first address, and why it is not allowed.
        refusal: Refusal,
        /// Whose rule it is, where there are several.
        owner: Option<String>,
    },
}

fn refused(host: &str, refusal: &Refusal, owner: Option<&str>) -> String {
    let is_name = host.parse::<IpAddr>().is_err();
    let text = refusal.text(is_name.then_some(host));
    match owner {
        Some(owner) => format!("{text} (the rule of {owner})"),
        None => text,
    }
}

impl CheckedResolver {
    /// Resolves as the system does.
    #[must_use]
    pub fn system(rule: Rule) -> Self {
        Self::new(rule, System)
    }

    /// Resolves with `resolver`.
    #[must_use]
    pub fn new(rule: Rule, resolver: impl Resolve + 'static) -> Self {
        Self { rule, resolver: Box::new(resolver), owner: None }
    }

    /// Names whose rule it is in what is refused: there are others with rules of their own.
    #[must_use]
    pub fn of(self, owner: String) -> Self {
        Self { owner: Some(owner), ..self }
    }

    /// Returns the rule.
    #[must_use]
    pub fn rule(&self) -> &Rule {
        &self.rule
    }

    /// Resolves a host now, and returns those of its addresses that are allowed: never none. They are what is to be
    /// connected to; another look at the name could find others.
    ///
    /// # Errors
    /// If it has no address, or none that is allowed.
    pub async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, ResolveError> {
        let mut found = self.resolver.resolve(host, port).await.map_err(ResolveError::Failed)?;
        let mut refusal = None;
        found.retain(|address| match self.rule.check(address.ip()) {
            Ok(()) => true,
            Err(refused) => {
                refusal.get_or_insert(refused);
                false
            }
        });
        match refusal {
            _ if !found.is_empty() => Ok(found),
            Some(refusal) => {
                Err(ResolveError::Refused { host: host.to_owned(), refusal, owner: self.owner.clone() })
            }
            None => Err(ResolveError::Failed(io::Error::other("the name has no address"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers every name with the same addresses.
    #[derive(Debug)]
    struct Fixed(&'static [&'static str]);

    impl Resolve for Fixed {
        fn resolve<'a>(&'a self, _: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
            let found = self.0.iter().map(|text| SocketAddr::new(text.parse().unwrap(), port)).collect();
            Box::pin(async move { Ok(found) })
        }
    }

    async fn resolved(host: &str, found: &'static [&'static str]) -> Result<String, String> {
        let rule = Rule::new(vec!["10.0.0.0/8".parse().unwrap()], Vec::new());
        let resolver = CheckedResolver::new(rule, Fixed(found));
        let addresses = resolver.resolve(host, 80).await.map_err(|error| error.to_string())?;
        Ok(addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
    }

    #[tokio::test]
    async fn only_allowed_addresses_are_returned() {
        let mixed = &["127.0.0.1", "8.8.8.8", "::1", "10.0.0.1", "::ffff:169.254.169.254"];
        assert_eq!(resolved("a.example", mixed).await.unwrap(), "8.8.8.8:80 10.0.0.1:80");
    }

    #[tokio::test]
    async fn a_host_without_any_is_refused_by_the_first() {
        let expected = "a.example resolves to 127.0.0.1, a loopback address, which the egress rule does not \
                        allow; start the control plane and the edges with --egress-allow 127.0.0.1 or --egress-allow \
                        loopback";
        assert_eq!(resolved("a.example", &["127.0.0.1", "192.168.0.1"]).await.unwrap_err(), expected);
        assert_eq!(resolved("a.example", &[]).await.unwrap_err(), "the name has no address");
    }

    #[tokio::test]
    async fn a_refusal_says_whose_rule_it_is_where_there_are_several() {
        let resolver = CheckedResolver::system(Rule::default()).of("the control plane on web-1".to_owned());
        let error = resolver.resolve("10.1.2.3", 80).await.unwrap_err().to_string();
        assert!(
            error.ends_with("--egress-allow private (the rule of the control plane on web-1)"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn every_notation_of_an_address_is_checked_as_what_it_means() {
        let resolver = CheckedResolver::system(Rule::default());
        for host in [
            "127.0.0.1",
            "127.1",
            "0x7f.1",
            "2130706433",
            "017700000001",
            "0x7f000001",
            "localhost",
            "::1",
            "0",
        ] {
            let found = resolver.resolve(host, 80).await;
            // Systems differ in the notations that they know.
            assert!(found.is_err(), "{host}: {found:?}");
        }
        for host in ["127.0.0.1", "localhost", "::1"] {
            let found = resolver.resolve(host, 80).await;
            let refused = matches!(&found, Err(ResolveError::Refused { refusal, .. }) if refusal.class == crate::Class::Loopback);
            assert!(refused, "{host}: {found:?}");
        }
    }
}
