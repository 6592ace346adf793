//! The options of every listener whose callers authenticate. It must not know what is served there.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::accept::within_file_limit;
use crate::connections::Connections;
use crate::table::ConnectionLimits;

/// The options of the connections to a listener.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct ConnectionOptions {
    /// Maximum number of connections. At most three quarters of them have not authenticated; past that a new one closes
    /// the oldest of those. A credential gets as many as are free, so half of them when alone.
    #[arg(long, env = "TRUNKLINE_MAX_CONNECTIONS", value_name = "COUNT", default_value_t = 10_000, value_parser = at_least(2))]
    pub max_connections: usize,
    /// Maximum number of connections from one address (IPv6: one /64) that have not authenticated; past it a new one
    /// closes the oldest of them.
    #[arg(long, env = "TRUNKLINE_MAX_UNAUTHENTICATED_PER_ADDRESS", value_name = "COUNT", default_value_t = 1_024, value_parser = at_least(1))]
    pub max_unauthenticated_per_address: usize,
    /// Address or network of load balancers, whose connections count for no address and no credential; repeatable (in
    /// the environment: separated by commas).
    #[arg(long = "balancer-address", env = "TRUNKLINE_BALANCER_ADDRESS", value_name = "ADDRESS", value_delimiter = ',', value_parser = parse_network)]
    pub balancer_addresses: Vec<IpNet>,
    /// Time allowed for authenticating after connecting, TLS included, in seconds; then the connection is closed.
    #[arg(long, env = "TRUNKLINE_AUTHENTICATION_TIMEOUT", value_name = "SECONDS", default_value = "10", value_parser = parse_seconds)]
    pub authentication_timeout: Duration,
}

impl Default for ConnectionOptions {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            max_unauthenticated_per_address: 1_024,
            balancer_addresses: Vec::new(),
            authentication_timeout: Duration::from_secs(10),
        }
    }
}

impl ConnectionOptions {
    /// Creates the connections of a listener, of which there are none yet. Warns where the limit of open files allows
    /// fewer than are asked for.
    pub fn connections(&self) -> Connections {
        let max_connections = within_file_limit(self.max_connections);
        if max_connections < self.max_connections {
            tracing::warn!(
                max_connections,
                "the limit of open files allows fewer connections than --max-connections; raise it with `ulimit -n`"
            );
        }
        let limits = ConnectionLimits::authenticated(
            max_connections,
            self.max_unauthenticated_per_address,
            self.balancer_addresses.clone(),
        );
        Connections::new(limits, Some(self.authentication_timeout))
    }
}

/// Reads a network as operators write it: `10.0.0.0/8`, or one address.
///
/// # Errors
/// If it is neither; the text says what it must be.
fn parse_network(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    let address = || text.parse::<IpAddr>().map(IpNet::from);
    let network = text.parse().or_else(|_| address());
    network.map_err(|_| "must be an IP address, or a network such as 10.0.0.0/8".to_owned())
}

/// Reads a positive number of seconds, fractions allowed.
///
/// # Errors
/// If it is none; the text says what it must be.
pub fn parse_seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value <= 1e9 => Ok(Duration::from_secs_f64(value)),
        _ => Err("must be a positive number of seconds".to_owned()),
    }
}

/// Reads a number that is at least `min`.
pub fn at_least(min: u64) -> impl clap::builder::TypedValueParser<Value = usize> {
    use clap::builder::TypedValueParser as _;
    clap::value_parser!(u64).range(min..).try_map(usize::try_from)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        options: ConnectionOptions,
    }

    #[test]
    fn the_options_default_to_what_default_says_and_what_cannot_work_is_refused() {
        assert_eq!(Program::parse_from(["x"]).options, ConnectionOptions::default());
        for bad in [
            ["--max-connections", "1"],
            ["--max-unauthenticated-per-address", "0"],
            ["--balancer-address", "10.0.0.0/33"],
            ["--authentication-timeout", "0"],
        ] {
            assert!(Program::try_parse_from(["x"].iter().chain(&bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn networks_are_read_as_operators_write_them() {
        let read = |text: &str| parse_network(text).map(|network| network.to_string());
        assert_eq!(read(" 192.0.2.1").unwrap(), "192.0.2.1/32");
        assert_eq!(read("2001:db8::/32").unwrap(), "2001:db8::/32");
        for bad in ["", "10.0.0.0/33", "example.org", "10.0.0"] {
            assert_eq!(
                read(bad).unwrap_err(),
                "must be an IP address, or a network such as 10.0.0.0/8",
                "{bad}"
            );
        }
    }
}
