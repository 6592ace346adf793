//! Which `Host` and `Origin` a request may carry: the flags. The client port and the operations port enforce them.

use inbound::names::HostOptions;

/// Names under which browsers and clients may reach this edge.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Names")]
pub struct PublishedNames {
    /// The names that its ports answer to.
    #[command(flatten)]
    pub hosts: HostOptions,
    /// `Origin` to accept, such as `https://app.example.com`, or `*` for all; repeatable. Loopback origins are
    /// accepted when listening on loopback, and requests without `Origin` always.
    #[arg(
        long = "allowed-origin",
        env = "TRUNKLINE_ALLOWED_ORIGINS",
        value_name = "ORIGIN",
        value_delimiter = ',',
        value_parser = inbound::names::origin
    )]
    pub allowed_origins: Vec<String>,
    /// Path under which a proxy publishes this edge, and which the proxy strips, such as `/gateway`. URLs that clients
    /// receive start with it.
    #[arg(long, env = "TRUNKLINE_PUBLIC_PATH_PREFIX", value_name = "PATH", default_value = "", hide_default_value = true, value_parser = path_prefix)]
    pub public_path_prefix: String,
}

/// What may stand before the path of a URL.
fn path_prefix(text: &str) -> Result<String, String> {
    let prefix = text.trim_end_matches('/');
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~%".contains(&byte);
    if prefix.is_empty()
        || (prefix.starts_with('/') && !prefix.starts_with("//") && prefix.bytes().all(plain))
    {
        return Ok(prefix.to_owned());
    }
    Err("must be a path such as /gateway".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_a_path() {
        for (text, prefix) in [("", ""), ("/", ""), ("/gateway/", "/gateway"), ("/a/b", "/a/b")] {
            assert_eq!(path_prefix(text).as_deref(), Ok(prefix), "{text}");
        }
        for text in ["gateway", "//evil.com", "/a?b", "/a b", "http://x"] {
            assert!(path_prefix(text).is_err(), "{text}");
        }
    }
}
