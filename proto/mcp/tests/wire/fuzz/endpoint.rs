//! No endpoint event makes us post anywhere but to the origin of its stream.

use mcp::endpoint::{MAX_BYTES, resolve};
use url::Url;

pub(crate) fn check(data: &[u8]) {
    for base in ["https://host:8443/base/sse?key=k", "http://[::1]/sse"] {
        let base = Url::parse(base).expect("a URL");
        let Ok(url) = resolve(&base, data) else { continue };
        assert!(data.len() <= MAX_BYTES);
        assert_eq!((url.scheme(), url.host_str()), (base.scheme(), base.host_str()));
        assert_eq!(url.port_or_known_default(), base.port_or_known_default());
        assert!(url.username().is_empty() && url.password().is_none() && url.fragment().is_none());
    }
}
