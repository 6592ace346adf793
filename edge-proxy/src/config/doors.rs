//! Which `Host` and `Origin` a request may carry: the flags. `transport::door` enforces them.

/// Names under which browsers and clients may reach this edge.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Names")]
pub struct Doors {
    /// A value of `Host` to accept, with or without a port; may be repeated. Without any: the address listened
    /// on and loopback names when listening on loopback, every name otherwise.
    #[arg(
        long = "allowed-host",
        env = "TRUNKLINE_ALLOWED_HOSTS",
        value_name = "HOST[:PORT]",
        value_delimiter = ','
    )]
    pub allowed_hosts: Vec<String>,
    /// An `Origin` to accept, such as `https://app.example.com`, or `*` for all; may be repeated. Loopback
    /// origins are accepted when listening on loopback, and requests without `Origin` always.
    #[arg(
        long = "allowed-origin",
        env = "TRUNKLINE_ALLOWED_ORIGINS",
        value_name = "ORIGIN",
        value_delimiter = ','
    )]
    pub allowed_origins: Vec<String>,
}
