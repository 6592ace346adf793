//! What is said at the start of options that work and are seldom meant: secrets and arguments that others may read, and a folder that is
//! not there.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::config::Config;

/// Logs a warning for each.
pub(super) fn warn(config: &Config) {
    for warning in found(config) {
        tracing::warn!("{warning}");
    }
}

fn found(config: &Config) -> Vec<String> {
    let approvals = &config.approvals;
    let url = approvals.approval_webhook_url.as_ref();
    let url = url.filter(|url| url.scheme() == "http" && !mcp::endpoint::is_loopback(url)).map(|url| {
        let host = url.host_str().unwrap_or_default();
        format!("--approval-webhook-url is http: the arguments of calls go to {host} in clear; use https")
    });
    let file = approvals.approval_webhook_secret_file.as_deref().filter(|file| others_read(file)).map(|file| {
        let file = file.display();
        format!("--approval-webhook-secret-file {file} is readable by every user of this machine, who could approve calls; run `chmod 600 {file}`")
    });
    let folder = config.secrets.secret_dir.as_deref().filter(|folder| !folder.is_dir()).map(|folder| {
        let folder = folder.display();
        format!(
            "--secret-dir {folder} is no folder: what upstreams refer to there cannot be read until it is one"
        )
    });
    [url, file, folder].into_iter().flatten().collect()
}

fn others_read(file: &Path) -> bool {
    std::fs::metadata(file).is_ok_and(|found| found.permissions().mode() & 0o004 != 0)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[test]
    fn what_is_seldom_meant_is_told_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        std::fs::write(&file, "x").unwrap();
        let told = |url: &str, mode: u32, dir: &Path| {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            let config = Config::parse_from([
                "x".as_ref(),
                "--approval-webhook-url".as_ref(),
                url.as_ref(),
                "--approval-webhook-secret-file".as_ref(),
                file.as_os_str(),
                "--secret-dir".as_ref(),
                dir.as_os_str(),
            ]);
            found(&config)
        };
        for fine in ["https://bot.example.org", "http://127.0.0.1:9", "http://[::1]:9", "http://localhost:9"]
        {
            assert_eq!(told(fine, 0o640, folder.path()), [""; 0], "{fine}");
        }
        let missing = folder.path().join("missing");
        assert_eq!(
            told("http://bot.example.org/x", 0o644, &missing),
            [
                "--approval-webhook-url is http: the arguments of calls go to bot.example.org in clear; use https".to_owned(),
                format!(
                    "--approval-webhook-secret-file {0} is readable by every user of this machine, who could approve calls; run `chmod 600 {0}`",
                    file.display()
                ),
                format!(
                    "--secret-dir {} is no folder: what upstreams refer to there cannot be read until it is one",
                    missing.display()
                ),
            ]
        );
    }
}
