//! What is said at the start about approvals. It must not know what they are for.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use url::Url;

/// A week: nobody remembers longer what they asked for.
const MAX_TIMEOUT: u64 = 7 * 86_400;

/// Approvals of calls that rules hold back.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Approvals")]
pub struct ApprovalOptions {
    /// Time from asking for an approval to the call [seconds, at most a week].
    #[arg(long, env = "TRUNKLINE_APPROVAL_TIMEOUT", value_name = "SECONDS", default_value_t = 3_600, value_parser = clap::value_parser!(u64).range(1..=MAX_TIMEOUT))]
    pub approval_timeout: u64,
    /// Address at which people reach this control plane with a browser, such as https://trunkline.example.org: clients are told of the
    /// page below it that says what a call waits for. Default: they are told of none.
    #[arg(long, env = "TRUNKLINE_APPROVAL_URL", value_name = "URL", value_parser = page_url)]
    pub approval_url: Option<Url>,
    /// Webhook that is told of approvals, with their arguments. Default: none is.
    #[arg(
        long,
        env = "TRUNKLINE_APPROVAL_WEBHOOK_URL",
        value_name = "URL",
        requires = "approval_webhook_secret_file",
        value_parser = http_url
    )]
    pub approval_webhook_url: Option<Url>,
    /// File with the secret that signs webhooks, `whsec_` and base64 or any text of at least 16 bytes; while one replaces another, both, a
    /// line each. With it decisions are taken at /webhooks/approvals.
    #[arg(long, env = "TRUNKLINE_APPROVAL_WEBHOOK_SECRET_FILE", value_name = "FILE")]
    pub approval_webhook_secret_file: Option<PathBuf>,
}

impl Default for ApprovalOptions {
    fn default() -> Self {
        Self {
            approval_timeout: 3_600,
            approval_url: None,
            approval_webhook_url: None,
            approval_webhook_secret_file: None,
        }
    }
}

impl ApprovalOptions {
    /// From asking to use.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.approval_timeout)
    }
}

fn http_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let url =
        url.filter(|url| url.username().is_empty() && url.password().is_none() && url.fragment().is_none());
    url.ok_or_else(|| "must be a URL such as https://trunkline.example.org, without a password".to_owned())
}

/// Pages are below it.
fn page_url(text: &str) -> Result<Url, String> {
    let url = http_url(text)?;
    match url.query() {
        None => Ok(url),
        Some(_) => Err("must have no `?`: the addresses of pages begin with it".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_of_the_web_and_hold_no_secret() {
        assert!(
            http_url("https://trunkline.example.org").is_ok() && http_url("http://127.0.0.1:1/x?y").is_ok()
        );
        assert!(page_url("https://a/x/").is_ok() && page_url("https://a/x?y").is_err());
        for bad in [
            "",
            "trunkline.example.org",
            "file:///etc/passwd",
            "javascript:1",
            "https://a:b@c",
            "https://a#b",
        ] {
            assert!(http_url(bad).is_err(), "{bad}");
        }
    }
}
