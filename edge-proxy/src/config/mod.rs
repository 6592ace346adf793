//! How an edge is told what to do: flags and environment. Reading them is all this does.

mod control_planes;
pub mod limits;
pub mod published;
mod secret;
pub mod tls;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use inbound::ClientAddressSource;
use mcp::border::text_without_mark;
use serde_json::json;
use tonic::transport::Uri;

use startup::options::address;

pub use control_planes::ControlPlanes;
use limits::Limits;
use published::PublishedNames;
pub use secret::Secret;
use tls::TlsOptions;

/// The edge of Trunkline: terminates MCP, enforces scopes and calls upstreams.
///
/// It takes what it serves from a control plane, keeps a copy on disk, and serves from that copy when no
/// control plane answers.
#[derive(Debug, Clone, Parser)]
#[command(name = "trunkline-edge-proxy", version)]
pub struct Config {
    /// Address that clients connect to. The default serves only this machine; 0.0.0.0:4444 serves the network.
    #[arg(long, env = "TRUNKLINE_EDGE_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:4444", value_parser = address)]
    pub listen: SocketAddr,
    /// Address for health, readiness, metrics and the state in force. It requires no credential.
    #[arg(long, env = "TRUNKLINE_EDGE_OPS_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:4446", value_parser = address)]
    pub ops_listen: SocketAddr,
    /// URL of a control plane; repeatable (in the environment: separated by commas). They are tried in turn.
    #[arg(
        long = "control-plane",
        env = "TRUNKLINE_CONTROL_PLANE",
        value_name = "URL",
        value_delimiter = ',',
        value_parser = control_plane,
        default_value = "http://127.0.0.1:4445"
    )]
    pub control_planes: Vec<Uri>,
    /// PEM file of the authorities to trust for the control plane's certificate, for https URLs; read anew before each attempt
    /// to connect. Default: those that the system trusts.
    #[arg(long, env = "TRUNKLINE_CONTROL_PLANE_CA", value_name = "FILE")]
    pub control_plane_ca: Option<PathBuf>,
    /// Join token with which this edge enrols. Required until it has its own credential. An edge that is enrolled already and
    /// has lost its credential needs one that was created for its id.
    #[arg(long, env = "TRUNKLINE_JOIN_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub join_token: Option<Secret>,
    /// File with the join token.
    #[arg(long, env = "TRUNKLINE_JOIN_TOKEN_FILE", value_name = "FILE", conflicts_with = "join_token")]
    pub join_token_file: Option<PathBuf>,
    /// Name of this edge: `[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`. Default: the host name and a random
    /// part, generated once and kept in the data directory.
    #[arg(long, env = "TRUNKLINE_EDGE_ID", value_name = "ID", value_parser = edge_id)]
    pub edge_id: Option<String>,
    /// Directory for the edge's credential, its copy of the snapshot and unsent usage. Default:
    /// `$XDG_DATA_HOME/trunkline`, else `~/.local/share/trunkline`.
    #[arg(long, env = "TRUNKLINE_DATA_DIR", value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,
    /// URL under which clients reach this edge, for display. Default: the URL of the listening address.
    #[arg(long, env = "TRUNKLINE_EDGE_ADVERTISE_ADDRESS", value_name = "URL", value_parser = advertise_address)]
    pub advertise_address: Option<String>,
    /// Address that other edges of the fleet (its siblings) connect to, over TLS with pinned certificates; `off` for an
    /// edge without siblings. Sessions require it where there are several edges.
    #[arg(
        long,
        env = "TRUNKLINE_EDGE_SIBLING_LISTEN",
        value_name = "ADDRESS",
        value_parser = sibling_listen,
        default_value = "0.0.0.0:4447"
    )]
    pub sibling_listen: SiblingListen,
    /// Where other edges reach this one, `host:port`. Default: the address of --sibling-listen; where that is
    /// unspecified, the address that this machine has towards the control plane.
    #[arg(long, env = "TRUNKLINE_EDGE_SIBLING_ADVERTISE", value_name = "ADDRESS", value_parser = sibling_advertise)]
    pub sibling_advertise: Option<String>,
    /// Threads that serve clients. Default: one for each core.
    #[arg(long, env = "TRUNKLINE_EDGE_WORKERS", value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,
    /// Time allowed for calls and streams to end after SIGTERM, in seconds.
    #[arg(long, env = "TRUNKLINE_EDGE_DRAIN_TIMEOUT", value_name = "SECONDS", default_value_t = 20)]
    pub drain_timeout: u64,
    /// Entries in one page of a list.
    #[arg(long, env = "TRUNKLINE_EDGE_PAGE_SIZE", value_name = "COUNT", default_value_t = 1_000, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub page_size: u16,
    /// Memory for rendered lists, in bytes. Beyond it, lists are rendered for each request.
    #[arg(long, env = "TRUNKLINE_EDGE_LIST_CACHE_BYTES", value_name = "BYTES", default_value_t = 256 << 20)]
    pub list_cache_bytes: usize,
    /// Key that encrypts the copy of the snapshot: 32 bytes in Base64. Default: generated once and kept in the
    /// data directory.
    #[arg(long, env = "TRUNKLINE_EDGE_SNAPSHOT_KEY", value_name = "KEY", hide_env_values = true)]
    pub snapshot_key: Option<Secret>,
    /// What is recorded of calls that are let in: `off`, or `digest` for who called what, with the SHA-256 of the arguments. Refusals are
    /// always recorded.
    #[arg(long, env = "TRUNKLINE_EDGE_AUDIT_CALLS", value_name = "WHAT", value_enum, default_value_t)]
    pub audit_calls: AuditedCalls,
    /// Refuses calls while there is no room for what is recorded, because no control plane takes it.
    #[arg(long, env = "TRUNKLINE_EDGE_AUDIT_FAIL_CLOSED")]
    pub audit_fail_closed: bool,
    /// Format of log lines on stderr.
    #[arg(long, env = "TRUNKLINE_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
    /// Log filter: a level, or a list of target=level.
    #[arg(long, env = "TRUNKLINE_LOG", value_name = "FILTER", default_value = "info", value_parser = printable::logs::checked)]
    pub log: String,
    /// Every bound of the road of a call.
    #[command(flatten)]
    pub limits: Limits,
    /// Where upstreams may be.
    #[command(flatten)]
    pub egress: egress::Options,
    /// The names this edge answers to.
    #[command(flatten)]
    pub published: PublishedNames,
    /// TLS of the client port.
    #[command(flatten)]
    pub tls: TlsOptions,
}

/// What is recorded of calls that are let in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum AuditedCalls {
    /// Nothing.
    #[default]
    Off,
    /// Who called what, with the digest of the arguments.
    Digest,
}

impl AuditedCalls {
    fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Digest => "digest",
        }
    }
}

/// Longest egress rule that control planes take, in bytes.
const MAX_EGRESS: usize = 4_096;

/// The address that siblings connect to; `None` for an edge without siblings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SiblingListen(pub Option<SocketAddr>);

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    /// Returns the name of the format, as on the command line.
    fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

/// What cannot be made of the configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file that an option names cannot be read.
    #[error("{option} {}: {error}", path.display())]
    File {
        /// The option.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A file of certificates holds none.
    #[error("{option} {}: it contains no certificate; one begins with -----BEGIN CERTIFICATE-----", path.display())]
    NoCertificate {
        /// The option.
        option: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// There is no home directory to put the data directory in.
    #[error("no home directory found; set --data-dir")]
    NoHome,
    /// There is nobody to believe the addresses of clients of.
    #[error(
        "--client-address {0} requires --balancer-address, the addresses of the proxies that are believed"
    )]
    NoBalancer(&'static str),
    /// TLS to the control plane cannot be set up.
    #[error("TLS to the control plane: {0}")]
    Tls(#[from] tonic::transport::Error),
}

impl Config {
    /// Where data is kept.
    pub fn data_dir(&self) -> Result<PathBuf, ConfigError> {
        if let Some(folder) = &self.data_dir {
            return Ok(folder.clone());
        }
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = || set("HOME").map(|home| home.join(".local/share"));
        set("XDG_DATA_HOME").or_else(home).map(|base| base.join("trunkline")).ok_or(ConfigError::NoHome)
    }

    /// The URL under which clients reach the edge that listens at `address`, for display.
    pub fn client_address(&self, address: SocketAddr) -> String {
        let scheme = if self.tls.tls_cert.is_some() { "https" } else { "http" };
        self.advertise_address.clone().unwrap_or_else(|| format!("{scheme}://{address}"))
    }

    /// Checks that there is somebody to believe the addresses of clients of.
    pub fn check_client_address(&self) -> Result<(), ConfigError> {
        let Limits { client_address: source, connections, .. } = &self.limits;
        if *source == ClientAddressSource::Socket || !connections.balancer_addresses.is_empty() {
            return Ok(());
        }
        Err(ConfigError::NoBalancer(source.as_str()))
    }

    /// The join token, from wherever it is.
    pub fn join_token(&self) -> Result<Option<Secret>, ConfigError> {
        let Some(path) = &self.join_token_file else { return Ok(self.join_token.clone()) };
        let text = read("--join-token-file", path)?;
        Ok(Some(Secret::new(text.trim())))
    }

    /// The control planes, as they are connected to.
    pub fn control_planes(&self) -> Result<ControlPlanes, ConfigError> {
        ControlPlanes::new(self.control_planes.clone(), self.control_plane_ca.clone())
    }

    /// Threads that serve clients.
    pub fn workers(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        self.workers.map_or_else(cores, usize::from)
    }

    /// The configuration in force, without secrets.
    pub fn to_json(&self) -> serde_json::Value {
        let planes: Vec<String> = self.control_planes.iter().map(without_user_info).collect();
        json!({
            "listen": self.listen.to_string(),
            "opsListen": self.ops_listen.to_string(),
            "controlPlanes": planes,
            "controlPlaneCa": self.control_plane_ca,
            "joinToken": self.join_token.is_some() || self.join_token_file.is_some(),
            "edgeId": self.edge_id,
            "dataDir": self.data_dir().ok(),
            "advertiseAddress": self.advertise_address,
            "siblingListen": self.sibling_listen.0.map(|address| address.to_string()),
            "siblingAdvertise": self.sibling_advertise,
            "workers": self.workers(),
            "drainTimeoutSeconds": self.drain_timeout,
            "pageSize": self.page_size,
            "listCacheBytes": self.list_cache_bytes,
            "auditCalls": self.audit_calls.as_str(),
            "auditFailClosed": self.audit_fail_closed,
            "snapshotKey": self.snapshot_key.is_some(),
            "log": self.log,
            "logFormat": self.log_format.as_str(),
            "limits": self.limits.to_json(),
            "egressAllow": words(self.egress.allowed()),
            "egressDeny": words(self.egress.denied()),
            "allowedHosts": self.published.hosts.allowed_hosts,
            "allowedOrigins": self.published.allowed_origins,
            "publicPathPrefix": self.published.public_path_prefix,
            "tls": self.tls.to_json(),
        })
    }

    /// The egress rule, as control planes are told it. Nothing where it is longer than they take.
    pub(crate) fn stated_egress(&self) -> String {
        Some(self.egress.rule().to_string()).filter(|text| text.len() <= MAX_EGRESS).unwrap_or_default()
    }
}

fn words(ranges: impl Iterator<Item = egress::Range>) -> Vec<String> {
    ranges.map(|range| range.to_string()).collect()
}

fn without_user_info(uri: &Uri) -> String {
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let address = authority.rsplit_once('@').map_or(authority, |(_, address)| address);
    format!("{}://{address}{}", uri.scheme_str().unwrap_or_default(), uri.path())
}

fn read(option: &'static str, path: &std::path::Path) -> Result<String, ConfigError> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|error| ConfigError::File { option, path: path.to_owned(), error })?;
    Ok(text_without_mark(&text).to_owned())
}

fn control_plane(text: &str) -> Result<Uri, String> {
    let uri: Uri = text.trim().parse().map_err(|error| format!("{error}"))?;
    match (uri.scheme_str(), uri.host()) {
        (Some("http" | "https"), Some(_)) => Ok(uri),
        _ => Err("must be http://HOST:PORT or https://HOST:PORT".to_owned()),
    }
}

fn sibling_listen(text: &str) -> Result<SiblingListen, String> {
    match text.trim() {
        "" | "off" => Ok(SiblingListen(None)),
        text => match address(text) {
            Ok(address) => Ok(SiblingListen(Some(address))),
            Err(why) => Err(format!("{why}, or `off`")),
        },
    }
}

/// Whether a control plane accepts `text` from an edge: others print it on terminals.
fn is_printable(text: &str, longest: usize) -> bool {
    text.len() <= longest && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn advertise_address(text: &str) -> Result<String, String> {
    let text = text.trim();
    if is_printable(text, 512) {
        Ok(text.to_owned())
    } else {
        Err("must be at most 512 bytes of printable ASCII without spaces".to_owned())
    }
}

fn sibling_advertise(text: &str) -> Result<String, String> {
    let text = text.trim();
    let found = text.rsplit_once(':').filter(|_| is_printable(text, 260));
    let good = found.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p > 0));
    if good { Ok(text.to_owned()) } else { Err("must be HOST:PORT".to_owned()) }
}

/// Whether `text` may name an edge.
pub(crate) fn edge_id(text: &str) -> Result<String, String> {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let fits = !text.is_empty()
        && text.len() <= 63
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-');
    if fits { Ok(text.to_owned()) } else { Err("must match [a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?".to_owned()) }
}

#[cfg(test)]
mod tests;
