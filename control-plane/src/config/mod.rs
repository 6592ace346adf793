//! What the control plane is told at start: flags, and an environment variable for each.
//!
//! It must not know what the values are used for.

mod approvals;
mod secrets;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Parser, ValueEnum};
use inbound::names::HostOptions;
use inbound::{ConnectionOptions, at_least, parse_seconds};
use secrecy::SecretString;

pub use approvals::ApprovalOptions;
pub use secrets::{SecretOptions, option_variables};

/// The control plane of Trunkline: keeps the registry and streams it to edges.
#[derive(Debug, Clone, Parser)]
#[command(name = "trunkline-control-plane", version)]
pub struct Config {
    /// Address and port for gRPC, JSON and health [host:port].
    #[arg(long, env = "TRUNKLINE_LISTEN", default_value = "127.0.0.1:4445", value_parser = startup::options::address)]
    pub listen: SocketAddr,
    /// The names that the listener answers to.
    #[command(flatten)]
    pub hosts: HostOptions,
    /// Folder for the embedded database, the master key and the admin token. Default: trunkline in the
    /// user's data directory ($XDG_DATA_HOME or ~/.local/share).
    #[arg(long, env = "TRUNKLINE_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// `sqlite:…` or `postgres://…`. Default: registry.db in the data directory.
    #[arg(long, env = "TRUNKLINE_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub database_url: Option<SecretString>,
    /// Redis through which replicas notify each other of changes and agree on their parts of rates, `redis://…`. Default: none; replicas use the
    /// notifications of PostgreSQL and poll every few seconds.
    #[arg(long, env = "TRUNKLINE_REDIS_URL", value_name = "URL", hide_env_values = true)]
    pub redis_url: Option<SecretString>,
    /// TLS of the listener.
    #[command(flatten)]
    pub tls: Tls,
    /// Bounds of the listener.
    #[command(flatten)]
    pub limits: Limits,
    /// Keys and credentials.
    #[command(flatten)]
    pub keys: KeyOptions,
    /// How people sign in.
    #[command(flatten)]
    pub sign_in: SignInOptions,
    /// Maximum number of upstreams that are refreshed at the same time [number].
    #[arg(long, env = "TRUNKLINE_SYNC_CONCURRENCY", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub sync_concurrency: u16,
    /// Maximum number of edges that are sent much of the registry at the same time [number]. Further ones wait their turn.
    #[arg(long, env = "TRUNKLINE_STREAM_CONCURRENCY", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub stream_concurrency: u16,
    /// Retention of usage records [days].
    #[arg(long, env = "TRUNKLINE_USAGE_RETENTION", value_name = "DAYS", default_value_t = 90, value_parser = clap::value_parser!(u16).range(1..))]
    pub usage_retention: u16,
    /// What is kept of the audit log.
    #[command(flatten)]
    pub audit: AuditOptions,
    /// Format of log lines on stderr.
    #[arg(long, env = "TRUNKLINE_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Log filter: a level, or `target=level,…`.
    #[arg(long, env = "TRUNKLINE_LOG", default_value = "info", value_parser = printable::logs::checked)]
    pub log: String,
    // The last: what follows them would be under their headings in the help.
    /// Approvals of calls that rules hold back.
    #[command(flatten)]
    pub approvals: ApprovalOptions,
    /// Secrets that upstreams may refer to.
    #[command(flatten)]
    pub secrets: SecretOptions,
    /// Where upstreams may be.
    #[command(flatten)]
    pub egress: egress::Options,
}

/// TLS of the listener.
#[derive(Debug, Clone, Args)]
pub struct Tls {
    /// Certificate chain [PEM file]; read anew when it changes and at SIGHUP. Default: no TLS.
    #[arg(long = "tls-cert", env = "TRUNKLINE_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Private key of the certificate [PEM file]; read anew with it.
    #[arg(long = "tls-key", env = "TRUNKLINE_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Time for which browsers use nothing but https for this host [seconds]; 0 says nothing. It is said over TLS only.
    #[arg(long, env = "TRUNKLINE_HSTS_MAX_AGE", value_name = "SECONDS", default_value_t = inbound::browser::YEAR)]
    pub hsts_max_age: u64,
}

/// Bounds of the listener: connections of those who have not authenticated, and bodies.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct Limits {
    /// Connections.
    #[command(flatten)]
    pub connections: ConnectionOptions,
    /// Time allowed for sending a request body, or one message of a stream [seconds].
    #[arg(long, env = "TRUNKLINE_BODY_TIMEOUT", value_name = "SECONDS", default_value = "30", value_parser = parse_seconds)]
    pub body_timeout: Duration,
    /// Memory for request bodies [bytes, at least 134217728]. One caller gets what is left for others, so half of it
    /// when alone; past it requests get RESOURCE_EXHAUSTED or 503.
    #[arg(long, env = "TRUNKLINE_MAX_BODY_MEMORY_BYTES", value_name = "BYTES", default_value_t = 256 << 20, value_parser = at_least(MIN_BODY_MEMORY))]
    pub max_body_memory_bytes: usize,
}

/// Twice the largest request: a caller that is alone gets half.
const MIN_BODY_MEMORY: u64 = 128 << 20;

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: ConnectionOptions::default(),
            body_timeout: Duration::from_secs(30),
            max_body_memory_bytes: 256 << 20,
        }
    }
}

/// Keys and credentials.
#[derive(Debug, Clone, Args)]
pub struct KeyOptions {
    /// Bearer token of the administrator. Default: admin-token in the data directory, generated if missing. `off`: none is accepted.
    #[arg(long, env = "TRUNKLINE_ADMIN_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub admin_token: Option<SecretString>,
    /// Key that seals all other keys [32 bytes in base64]. Default: master.key in the data directory, generated
    /// if missing. Replicas that share a database need the same key.
    #[arg(long, env = "TRUNKLINE_MASTER_KEY", value_name = "KEY", hide_env_values = true)]
    pub master_key: Option<SecretString>,
    /// Previous master key, for rotating to a new one [32 bytes in base64].
    #[arg(long, env = "TRUNKLINE_PREVIOUS_MASTER_KEY", value_name = "KEY", hide_env_values = true)]
    pub previous_master_key: Option<SecretString>,
    /// Value of `iss` in bearers. Changing it invalidates all bearers.
    #[arg(long, env = "TRUNKLINE_TOKEN_ISSUER", default_value = "trunkline", value_parser = NonEmptyStringValueParser::new())]
    pub token_issuer: String,
    /// Age at which the signing key is replaced [days].
    #[arg(long, env = "TRUNKLINE_SIGNING_KEY_ROTATION", value_name = "DAYS", default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..))]
    pub signing_key_rotation: u16,
    /// Age at which the key that seals edges' handles is replaced [days].
    #[arg(long, env = "TRUNKLINE_SEALING_KEY_ROTATION", value_name = "DAYS", default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..))]
    pub sealing_key_rotation: u16,
    /// Time for which edges trust bearers without contact with a control plane [hours].
    #[arg(long, env = "TRUNKLINE_TRUST_MAX_AGE", value_name = "HOURS", default_value_t = 24, value_parser = clap::value_parser!(u16).range(1..))]
    pub trust_max_age: u16,
}

/// How people sign in.
#[derive(Debug, Clone, Args)]
pub struct SignInOptions {
    /// Accepts passwords and one-time links over plain HTTP from other machines, too, where anybody on the way can read them.
    #[arg(long, env = "TRUNKLINE_INSECURE_SIGN_IN")]
    pub insecure_sign_in: bool,
    /// Accepts API keys as passwords of HTTP Basic, over TLS or from this machine.
    #[arg(long, env = "TRUNKLINE_BASIC_AUTH")]
    pub basic_auth: bool,
    /// Whether a link for the first administrator is made where there is none.
    #[arg(skip = true)]
    pub makes_setup_link: bool,
}

/// What is kept of the audit log.
#[derive(Debug, Clone, Args)]
pub struct AuditOptions {
    /// Retention of audit records [days].
    #[arg(long = "audit-retention", env = "TRUNKLINE_AUDIT_RETENTION", value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(u16).range(1..))]
    pub retention: u16,
    /// Maximum number of audit records [number, at least 1000]. The oldest are removed.
    #[arg(long = "audit-max-records", env = "TRUNKLINE_AUDIT_MAX_RECORDS", value_name = "RECORDS", default_value_t = 2_000_000, value_parser = clap::value_parser!(i64).range(1_000..))]
    pub max_records: i64,
    /// Refuses changes that cannot be recorded in the audit log.
    #[arg(long = "audit-fail-closed", env = "TRUNKLINE_AUDIT_FAIL_CLOSED")]
    pub fail_closed: bool,
}

/// Form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// There is no place for data.
#[derive(Debug, thiserror::Error)]
#[error("no home directory found; set --data-dir")]
pub struct NoDataDir;

impl Config {
    /// All defaults, with data in `data_dir`, listening on `listen`. It reads no environment.
    pub fn local(data_dir: &Path, listen: SocketAddr) -> Self {
        Self {
            listen,
            hosts: HostOptions::default(),
            data_dir: Some(data_dir.to_owned()),
            database_url: None,
            redis_url: None,
            tls: Tls { tls_cert: None, tls_key: None, hsts_max_age: inbound::browser::YEAR },
            limits: Limits::default(),
            keys: KeyOptions {
                admin_token: None,
                master_key: None,
                previous_master_key: None,
                token_issuer: "trunkline".to_owned(),
                signing_key_rotation: 30,
                sealing_key_rotation: 7,
                trust_max_age: 24,
            },
            sign_in: SignInOptions { insecure_sign_in: false, basic_auth: false, makes_setup_link: false },
            approvals: ApprovalOptions::default(),
            secrets: SecretOptions::default(),
            egress: egress::Options::default(),
            sync_concurrency: 16,
            stream_concurrency: 32,
            usage_retention: 90,
            audit: AuditOptions { retention: 365, max_records: 2_000_000, fail_closed: false },
            log_format: LogFormat::Text,
            log: "info".to_owned(),
        }
    }

    /// Where data is.
    pub fn data_dir(&self) -> Result<PathBuf, NoDataDir> {
        let given = self.data_dir.clone();
        let shared = || std::env::var_os("XDG_DATA_HOME").filter(|dir| !dir.is_empty()).map(PathBuf::from);
        let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share"));
        given.or_else(|| Some(shared().or_else(home)?.join("trunkline"))).ok_or(NoDataDir)
    }
}

/// So many days.
pub fn days(count: u16) -> Duration {
    Duration::from_secs(u64::from(count) * 86_400)
}

/// So many hours.
pub fn hours(count: u16) -> Duration {
    Duration::from_secs(u64::from(count) * 3_600)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn every_flag_has_a_variable_and_a_help_text() {
        let command = Config::command();
        command.clone().debug_assert();
        for argument in
            command.get_arguments().filter(|known| !["help", "version"].contains(&known.get_id().as_str()))
        {
            let variable = argument.get_env().map(|name| name.to_string_lossy().into_owned());
            assert!(variable.is_some_and(|name| name.starts_with("TRUNKLINE_")), "{}", argument.get_id());
            assert!(argument.get_help().is_some(), "{}", argument.get_id());
        }
    }

    #[test]
    fn limits_default_to_what_default_says_and_what_cannot_work_is_refused() {
        assert_eq!(Config::parse_from(["x"]).limits, Limits::default());
        for bad in
            [["--max-connections", "1"], ["--body-timeout", "0"], ["--max-body-memory-bytes", "134217727"]]
        {
            assert!(Config::try_parse_from(["x"].iter().chain(&bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let config =
            Config::parse_from(["x", "--admin-token", "s3cret", "--database-url", "postgres://u:s3cret@h/d"]);
        assert!(!format!("{config:?}").contains("s3cret"));
    }
}
