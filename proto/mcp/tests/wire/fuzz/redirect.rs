//! No `Location` sends a request to another origin, or off TLS, and what is said of it is safe to print.

use mcp::redirect::follow;
use mcp::secrets::Secrets;
use url::Url;

pub(crate) fn check(location: &[u8]) {
    for base in ["https://host:8443/base/mcp?key=k", "https://user:pw@host/mcp", "http://[::1]/mcp"] {
        let base = Url::parse(base).expect("a URL");
        match follow(&base, 307, Some(location)) {
            Ok(followed) => {
                assert_eq!(followed.url.origin(), base.origin());
                assert_eq!(
                    (followed.url.username(), followed.url.password()),
                    (base.username(), base.password())
                );
                assert!(followed.url != base && followed.url.fragment().is_none());
            }
            Err(reason) => {
                let said = reason.quoted(&Secrets::default());
                assert!(said.chars().count() <= 1_000 && !said.chars().any(char::is_control));
            }
        }
    }
}
