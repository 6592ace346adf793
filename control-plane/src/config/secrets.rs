//! The stores of secrets that upstreams may refer to. Nothing is open that is not named here.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory as _};
use inbound::parse_seconds;
use url::Url;

use super::Config;

/// The stores of secrets that upstreams may refer to, in the place of secrets.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Secrets by reference")]
pub struct SecretOptions {
    /// Beginning of the names of variables that upstreams may refer to. No option of the control plane is ever one of them.
    #[arg(long, env = "TRUNKLINE_SECRET_ENV_PREFIX", value_name = "PREFIX", default_value = ENV_PREFIX, value_parser = env_prefix)]
    pub secret_env_prefix: String,
    /// Folder of files that upstreams may refer to; they are read again when they change. Default: none.
    #[arg(long, env = "TRUNKLINE_SECRET_DIR", value_name = "DIR")]
    pub secret_dir: Option<PathBuf>,
    /// Vault whose KV engines of version 2 upstreams may refer to [URL]. Default: none.
    #[arg(long, env = "TRUNKLINE_SECRET_VAULT_ADDRESS", value_name = "URL", value_parser = base, requires = "secret_vault_token_file", requires = "secret_vault_prefix")]
    pub secret_vault_address: Option<Url>,
    /// File with the token for Vault; read again each time.
    #[arg(
        long,
        env = "TRUNKLINE_SECRET_VAULT_TOKEN_FILE",
        value_name = "FILE",
        requires = "secret_vault_address"
    )]
    pub secret_vault_token_file: Option<PathBuf>,
    /// Where in Vault upstreams may refer to: a mount, and a path in it, such as secret/trunkline.
    #[arg(long, env = "TRUNKLINE_SECRET_VAULT_PREFIX", value_name = "MOUNT[/PATH]", value_parser = vault_prefix, requires = "secret_vault_address")]
    pub secret_vault_prefix: Option<String>,
    /// Authorities of Vault's certificate [PEM file]. Default: those of the system.
    #[arg(long, env = "TRUNKLINE_SECRET_VAULT_CA", value_name = "FILE", requires = "secret_vault_address")]
    pub secret_vault_ca: Option<PathBuf>,
    /// Opens Secrets of Kubernetes, in the namespace of the control plane's service account.
    #[arg(long, env = "TRUNKLINE_SECRET_KUBERNETES")]
    pub secret_kubernetes: bool,
    /// Beginning of the names of the Secrets that upstreams may refer to.
    #[arg(long, env = "TRUNKLINE_SECRET_KUBERNETES_PREFIX", value_name = "PREFIX", default_value = KUBERNETES_PREFIX, value_parser = kubernetes_prefix)]
    pub secret_kubernetes_prefix: String,
    /// Address of the API of Kubernetes [URL]. Default: as KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT say.
    #[arg(long, env = "TRUNKLINE_SECRET_KUBERNETES_API", value_name = "URL", value_parser = base)]
    pub secret_kubernetes_api: Option<Url>,
    /// Folder with the token, the namespace and ca.crt of the service account.
    #[arg(long, env = "TRUNKLINE_SECRET_KUBERNETES_ACCOUNT", value_name = "DIR", default_value = KUBERNETES_ACCOUNT)]
    pub secret_kubernetes_account: PathBuf,
    /// Interval at which Vault and Kubernetes are asked again [seconds].
    #[arg(long, env = "TRUNKLINE_SECRET_REFRESH", value_name = "SECONDS", default_value = "30", value_parser = parse_seconds)]
    pub secret_refresh: Duration,
}

const ENV_PREFIX: &str = "TRUNKLINE_SECRET_";
const KUBERNETES_PREFIX: &str = "trunkline-secret-";
const KUBERNETES_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

impl Default for SecretOptions {
    fn default() -> Self {
        Self {
            secret_env_prefix: ENV_PREFIX.to_owned(),
            secret_dir: None,
            secret_vault_address: None,
            secret_vault_token_file: None,
            secret_vault_prefix: None,
            secret_vault_ca: None,
            secret_kubernetes: false,
            secret_kubernetes_prefix: KUBERNETES_PREFIX.to_owned(),
            secret_kubernetes_api: None,
            secret_kubernetes_account: KUBERNETES_ACCOUNT.into(),
            secret_refresh: Duration::from_secs(30),
        }
    }
}

/// The variables of the options of the control plane, among them the master key: nobody refers to those.
pub fn option_variables() -> Vec<String> {
    let command = Config::command();
    let variables = command.get_arguments().filter_map(|argument| argument.get_env());
    variables.map(|name| name.to_string_lossy().into_owned()).collect()
}

fn env_prefix(text: &str) -> Result<String, String> {
    let is_name = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    match is_name && text.len() > 1 && text.ends_with('_') && text != "TRUNKLINE_" {
        true => Ok(text.to_owned()),
        false => Err(
            "must be the beginning of names that nothing else has, and end with _, such as TRUNKLINE_SECRET_"
                .to_owned(),
        ),
    }
}

fn vault_prefix(text: &str) -> Result<String, String> {
    let text = text.trim_matches('/');
    let is_plain = |segment: &str| {
        !matches!(segment, "" | "." | "..")
            && !segment.contains(['\\', '%', '?', '#'])
            && !segment.chars().any(char::is_control)
    };
    match text.split('/').all(is_plain) {
        true => Ok(text.to_owned()),
        false => Err("must be a mount, and a path in it, such as secret/trunkline".to_owned()),
    }
}

fn kubernetes_prefix(text: &str) -> Result<String, String> {
    let is_name =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.';
    match !text.is_empty() && text.bytes().all(is_name) {
        true => Ok(text.to_owned()),
        false => Err("must be the beginning of names of Secrets, such as trunkline-secret-".to_owned()),
    }
}

fn base(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("must be a URL: {error}"))?;
    let is_plain = matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    match is_plain {
        true => Ok(url),
        false => Err("must be a URL of http or https without user, query and fragment".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_open_no_more_than_they_say() {
        for good in ["TRUNKLINE_SECRET_", "MCP_", "x_1_"] {
            assert!(env_prefix(good).is_ok(), "{good:?}");
        }
        for bad in ["", "_", "TRUNKLINE_", "TRUNKLINE", "A-", "A", "É_"] {
            assert!(env_prefix(bad).is_err(), "{bad:?}");
        }
        assert_eq!(vault_prefix("secret/trunkline/"), Ok("secret/trunkline".to_owned()));
        for bad in ["", "/", "secret//x", "secret/..", "a/./b", "a?b"] {
            assert!(vault_prefix(bad).is_err(), "{bad:?}");
        }
        assert!(kubernetes_prefix("").is_err() && kubernetes_prefix("A").is_err());
        assert!(base("ftp://h").is_err() && base("http://u:p@h").is_err() && base("https://h/v").is_ok());
    }

    #[test]
    fn the_keys_of_the_control_plane_are_options() {
        let variables = option_variables();
        for name in [
            "TRUNKLINE_MASTER_KEY",
            "TRUNKLINE_PREVIOUS_MASTER_KEY",
            "TRUNKLINE_ADMIN_TOKEN",
            "TRUNKLINE_DATABASE_URL",
        ] {
            assert!(variables.iter().any(|known| known == name), "{name}");
        }
    }
}
