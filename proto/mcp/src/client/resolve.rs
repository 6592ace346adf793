//! The addresses of the host of a URL, which the caller chooses. It must not know which are good.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolving};
use url::{Host, Url};

/// What `Resolve` returns: addresses to try in turn; their ports are not looked at.
pub type Resolution = Pin<Box<dyn Future<Output = Result<Vec<SocketAddr>, ResolveError>> + Send>>;

/// Finds the addresses that may be connected to. It is asked for every connection, and also about a host that is an
/// address already.
pub trait Resolve: Send + Sync {
    /// Resolves a host: a name, or an address without brackets.
    fn resolve(&self, host: &str) -> Resolution;
}

/// Why a host has no address that may be connected to.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// It has no address.
    #[error("{0}")]
    Failed(#[from] io::Error),
    /// It has, but the caller does not want to connect to it. The text is shown as it is.
    #[error("{0}")]
    Refused(String),
}

/// A resolver in the form of `reqwest`, which asks it for names alone.
pub(super) struct Names(pub(super) Arc<dyn Resolve>);

impl reqwest::dns::Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        let found = self.0.resolve(name.as_str());
        Box::pin(async move { Ok(Box::new(found.await?.into_iter()) as Addrs) })
    }
}

/// Checks a host that is an address, which is connected to without a look at `Names`.
pub(super) async fn check_address(resolver: &dyn Resolve, url: &Url) -> Result<(), ResolveError> {
    let address = match url.host() {
        Some(Host::Ipv4(address)) => address.to_string(),
        Some(Host::Ipv6(address)) => address.to_string(),
        Some(Host::Domain(_)) | None => return Ok(()),
    };
    resolver.resolve(&address).await.map(drop)
}

/// Finds the refusal among the causes of an error.
pub(super) fn refusal(error: &reqwest::Error) -> Option<String> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(ResolveError::Refused(text)) = error.downcast_ref() {
            return Some(text.clone());
        }
        cause = error.source();
    }
    None
}
