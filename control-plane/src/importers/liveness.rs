//! Whether something still listens where an upstream is: a connection that is opened and closed again.
//!
//! It must not know what is spoken there.

use std::io;
use std::time::Duration;

use egress::CheckedResolver;
use tokio::net::TcpStream;
use tokio::time::timeout;
use trunkline::registry::v1::Upstream;
use trunkline::registry::v1::upstream::Reach;
use url::{Host, Url};

/// What takes longer to accept a connection is worth a probe.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Tells whether something listens at the address of an upstream, as far as that can be told.
pub(crate) async fn is_listening(upstream: &Upstream, resolver: &CheckedResolver) -> bool {
    let Some((host, port)) = address(upstream) else { return true };
    let opened = async {
        let addresses = resolver.resolve(&host, port).await.map_err(io::Error::other)?;
        TcpStream::connect(addresses.as_slice()).await
    };
    matches!(timeout(TIMEOUT, opened).await, Ok(Ok(_)))
}

/// The host and the port of an upstream. `None`: it dials in.
fn address(upstream: &Upstream) -> Option<(String, u16)> {
    let Some(Reach::Http(http)) = &upstream.reach else { return None };
    let url = Url::parse(&http.url).ok()?;
    let host = match url.host()? {
        Host::Domain(name) => name.to_owned(),
        Host::Ipv4(address) => address.to_string(),
        Host::Ipv6(address) => address.to_string(),
    };
    Some((host, url.port_or_known_default()?))
}

#[cfg(test)]
mod tests {
    use egress::Rule;
    use tokio::net::TcpListener;
    use trunkline::registry::v1::{HttpReach, TunnelReach};

    use super::*;

    fn at(url: String) -> Upstream {
        Upstream { reach: Some(Reach::Http(HttpReach { url })), ..Upstream::default() }
    }

    #[tokio::test]
    async fn a_listener_that_has_ended_is_told_from_one_that_has_not() {
        let resolver = CheckedResolver::system(Rule::new(vec!["127.0.0.0/8".parse().unwrap()], Vec::new()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = at(format!("http://{}/mcp", listener.local_addr().unwrap()));
        assert!(is_listening(&upstream, &resolver).await);
        drop(listener);
        assert!(!is_listening(&upstream, &resolver).await);
    }

    #[test]
    fn addresses_are_found_in_urls() {
        let found = |url: &str| address(&at(url.to_owned()));
        assert_eq!(found("https://a.example/mcp"), Some(("a.example".to_owned(), 443)));
        assert_eq!(found("ws://[::1]/mcp"), Some(("::1".to_owned(), 80)));
        let dials_in = Upstream { reach: Some(Reach::Tunnel(TunnelReach {})), ..Upstream::default() };
        assert_eq!(address(&dials_in), None);
    }
}
