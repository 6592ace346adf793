//! `mcpctl dev`: runs a whole gateway in one process, on embedded storage. The only file that knows the other two programs.

use std::io::IsTerminal as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::CommandFactory as _;
use printable::logs::{PrintableFields, filter as log_filter};
use secrecy::ExposeSecret as _;
use serde_json::json;
use startup::options::{address, parse_from};
use startup::{DirectoryLock, LockError};
use trunkline_control_plane::app::{self as control_plane, Running as ControlPlane};
use trunkline_control_plane::config::Config as ControlConfig;
use trunkline_edge_proxy::app::{self as edge_proxy, StartError};
use trunkline_edge_proxy::config::Config as EdgeConfig;

use crate::client::caller;
use crate::commands::Invocation;
use crate::commands::expose::StopSignal;
use crate::complete;
use crate::context::{Context, ContextFile, Contexts, Secret, data_home};
use crate::control_client::ControlClient;
use crate::error::{Error, Result};
use crate::output::eprint;
use crate::output::progress::Spinner;
use crate::reflection;
use crate::shell;

pub const CONTEXT: &str = crate::context::DEV;
const EDGE: &str = "local";
/// Time allowed for the gateway to become ready.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// What is logged unless told otherwise: hardly ever a line.
const DEFAULT_LOG: &str = "warn";

/// Arguments of `dev`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Data directory [default: $XDG_DATA_HOME/trunkline, else ~/.local/share/trunkline]
    #[arg(long, env = "TRUNKLINE_DATA_DIR", hide_env_values = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Address that clients connect to
    #[arg(
        long,
        env = "TRUNKLINE_EDGE_LISTEN",
        hide_env_values = true,
        value_name = "ADDR",
        default_value = "127.0.0.1:4444",
        value_parser = address
    )]
    edge_listen: SocketAddr,
    /// Address that `mcpctl` and other administrators connect to (gRPC and JSON)
    #[arg(
        long,
        env = "TRUNKLINE_LISTEN",
        hide_env_values = true,
        value_name = "ADDR",
        default_value = "127.0.0.1:4445",
        value_parser = address
    )]
    control_listen: SocketAddr,
    /// Address for health, readiness and metrics of the edge
    #[arg(
        long,
        env = "TRUNKLINE_EDGE_OPS_LISTEN",
        hide_env_values = true,
        value_name = "ADDR",
        default_value = "127.0.0.1:4446",
        value_parser = address
    )]
    ops_listen: SocketAddr,
    /// Addresses that upstreams may have besides public ones: ranges such as 10.0.0.0/8, addresses, and classes (loopback,
    /// private, shared, link-local, …, or all), separated by commas; repeatable
    #[arg(
        long,
        env = "TRUNKLINE_EGRESS_ALLOW",
        hide_env_values = true,
        value_name = "RANGES",
        default_value = "loopback"
    )]
    egress_allow: Vec<egress::Ranges>,
    /// Addresses that no upstream may have, whatever --egress-allow says; written in the same way
    #[arg(long, env = "TRUNKLINE_EGRESS_DENY", hide_env_values = true, value_name = "RANGES")]
    egress_deny: Vec<egress::Ranges>,
    /// Log filter: a level, or a list of target=level
    #[arg(
        long,
        env = "TRUNKLINE_LOG",
        hide_env_values = true,
        value_name = "FILTER",
        default_value = DEFAULT_LOG,
        value_parser = printable::logs::checked
    )]
    log: String,
}

/// Runs `dev`.
pub async fn run(invocation: &Invocation, args: Args) -> Result {
    let filter = log_filter(&args.log).map_err(|error| Error::usage(format!("invalid --log: {error}")))?;
    // A second subscriber occurs only in tests; the first one stays.
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let _ = logs
        .with_ansi(
            std::io::stderr().is_terminal()
                && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        )
        .fmt_fields(PrintableFields)
        .try_init();
    inbound::raise_file_limit();
    let folder = args.data_dir.clone().unwrap_or_else(|| data_home().join("trunkline"));
    let folder = std::path::absolute(folder)?;
    let file = ContextFile::locate(Some(folder.join("mcpctl.yaml")), None);
    // First of all: a second gateway here must not get so far as to touch the files of the first.
    let _lock = lock(&folder, args.control_listen)?;
    let mut stop = StopSignal::new()?;
    // Log lines would tear the progress line.
    let spinner = match args.log == DEFAULT_LOG {
        true => Spinner::start("starting the control plane"),
        false => Spinner::hidden(),
    };

    // What cannot be read is for its owner to mend. It is written when there is something to say, and stays whole until then.
    file.read()?;
    let (control, join_token) = tokio::select! {
        started = start_control(&args, &folder) => started?,
        () = stop.wait() => return Err(stopped()),
    };
    spinner.text("starting the edge");
    let control_url = url_here(control.addr);
    let edge = edge_proxy::start(&edge_config(&args, &folder, &control_url, &join_token)?);
    let edge = edge.map_err(|error| edge_failure(&error))?;
    let context = Context {
        control: Some(control_url),
        edge: Some(url_here(edge.client_addr)),
        admin_token: Some(Secret::new(control.admin_token.expose_secret())),
        ..Context::default()
    };
    spinner.text("waiting for the edge to receive its snapshot");
    let ready = tokio::select! {
        ready = wait_until_ready(&context, invocation.timeout()) => ready,
        () = stop.wait() => Err(stopped()),
    };
    ready?;
    let before = file.edit(|contexts| Ok(set_dev_context(contexts, context.clone())))?;
    drop(spinner);
    print_next_steps(&context, &file, edge.ops_addr, &args.egress().rule());
    if let Some(before) = &before {
        eprint(format!(
            "The current context of {} is {CONTEXT} now; when this ends, it is {before} again.",
            file.path().display()
        ));
    }
    stop.wait().await;
    eprint("Stopping. Press Ctrl-C again to stop at once.");
    if let Some(before) = before {
        put_back(&file, &before);
    }
    tokio::select! {
        () = async { edge.drain().await; control.drain().await } => {}
        () = stop.wait() => {}
    }
    Ok(())
}

/// Returns the environment variables that the programs read.
pub fn variables() -> Vec<String> {
    let own = [complete::VARIABLE, caller::VARIABLE, caller::EARLIER_VARIABLE];
    let mut names: Vec<_> = own.map(str::to_owned).to_vec();
    names.extend(crate::args::VARIABLES.map(str::to_owned));
    for command in [ControlConfig::command(), EdgeConfig::command(), crate::args::command()] {
        collect_variables(&command, &mut names);
    }
    names
}

fn collect_variables(command: &clap::Command, names: &mut Vec<String>) {
    let own = command.get_arguments().filter_map(|arg| arg.get_env()?.to_str());
    names.extend(own.map(str::to_owned));
    command.get_subcommands().for_each(|inner| collect_variables(inner, names));
}

impl Args {
    /// The egress rule of both programs.
    fn egress(&self) -> egress::Options {
        let (egress_allow, egress_deny) = (self.egress_allow.clone(), self.egress_deny.clone());
        egress::Options { egress_allow, egress_deny }
    }
}

/// Starts the control plane, and makes a join token for the edge.
async fn start_control(args: &Args, folder: &Path) -> Result<(ControlPlane, String)> {
    let config = control_config(args, folder)?;
    let is_shared = config.database_url.is_some();
    let failure = |error: &(dyn std::error::Error + 'static), text: String| {
        let mut causes = std::iter::successors(Some(error), |error| error.source());
        let is_taken = causes.any(|cause| cause.downcast_ref::<std::io::Error>().is_some_and(is_taken));
        start_failure("the control plane", &text, is_taken.then_some("--control-listen"))
    };
    let mut control = control_plane::start(config)
        .await
        .map_err(|error| failure(error.as_ref(), startup::causes(&error)))?;
    // The edge enrols again whenever it must. In a database of others, one of this name may be theirs.
    let join_token = match is_shared {
        true => control.create_join_token().await,
        false => control.create_join_token_of(EDGE).await,
    };
    let join_token = join_token.map_err(|error| failure(error.as_ref(), startup::causes(&error)))?;
    Ok((control, join_token))
}

fn edge_failure(error: &StartError) -> Error {
    let option = match error {
        StartError::Listen { option: "--listen", error, .. } if is_taken(error) => Some("--edge-listen"),
        StartError::Listen { option, error, .. } if is_taken(error) => Some(*option),
        _ => None,
    };
    start_failure("the edge", &error.to_string(), option)
}

fn is_taken(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::AddrInUse
}

/// `taken`: the option that names the address, where somebody else listens on it.
fn start_failure(what: &str, error: &str, taken: Option<&str>) -> Error {
    let advice = taken.map_or_else(String::new, |option| {
        format!("; stop what listens there, perhaps another gateway, or name another address with {option}")
    });
    Error::failure(format!("cannot start {what}: {error}{advice}"))
}

/// All other options come from the environment, as when the programs run separately.
fn control_config(args: &Args, folder: &Path) -> Result<ControlConfig> {
    let words = ["trunkline-control-plane", "--listen", &args.control_listen.to_string(), "--data-dir"];
    let words = words.map(std::ffi::OsString::from).into_iter().chain([folder.join("control").into()]);
    let config = parse_from::<ControlConfig>(words);
    let config = config.map_err(|error| Error::usage(format!("the control plane: {error}")))?;
    Ok(ControlConfig { egress: args.egress(), ..config })
}

fn edge_config(args: &Args, folder: &Path, control_url: &str, join_token: &str) -> Result<EdgeConfig> {
    let (listen, ops) = (args.edge_listen.to_string(), args.ops_listen.to_string());
    let words = [
        "trunkline-edge-proxy",
        "--listen",
        &listen,
        "--ops-listen",
        &ops,
        "--control-plane",
        control_url,
        "--join-token",
        join_token,
        "--sibling-listen",
        "off",
        "--edge-id",
        EDGE,
        "--data-dir",
    ];
    let words = words.map(std::ffi::OsString::from).into_iter().chain([folder.join("edge").into()]);
    let config = parse_from::<EdgeConfig>(words);
    let config = config.map_err(|error| Error::usage(format!("the edge: {error}")))?;
    Ok(EdgeConfig { egress: args.egress(), ..config })
}

/// Takes the data directory for this process. A gateway beside another needs addresses of its own as well.
fn lock(folder: &Path, address: SocketAddr) -> Result<DirectoryLock> {
    DirectoryLock::take(folder, "dev", address).map_err(|error| match error {
        LockError::InUse { of, holder } => Error::failure(format!(
            "{} is in use by {holder}; stop that first, or start this one with another --data-dir, --edge-listen, \
             --control-listen and --ops-listen",
            of.display()
        )),
        LockError::Failed { .. } => Error::failure(error.to_string()),
    })
}

fn stopped() -> Error {
    Error::failure("stopped before the gateway was ready")
}

/// Makes the gateway the current context. Bearers that are saved for it stay. Returns the context that was current before.
fn set_dev_context(contexts: &mut Contexts, context: Context) -> Option<String> {
    let saved = contexts.contexts.remove(CONTEXT).unwrap_or_default();
    let (client_cert, client_key) = (saved.client_cert, saved.client_key);
    let context =
        Context { tokens: saved.tokens, ca_file: saved.ca_file, client_cert, client_key, ..context };
    contexts.contexts.insert(CONTEXT.to_owned(), context);
    contexts.current_context.replace(CONTEXT.to_owned()).filter(|before| before != CONTEXT)
}

/// Makes the context current again that was so before, unless somebody has chosen another meanwhile.
fn put_back(file: &ContextFile, before: &str) {
    let done = file.edit(|contexts| {
        if contexts.current_context.as_deref() == Some(CONTEXT) && contexts.contexts.contains_key(before) {
            contexts.current_context = Some(before.to_owned());
        }
        Ok(())
    });
    if let Err(error) = done {
        eprint(format!("warning: the current context stays {CONTEXT}: {error}"));
    }
}

/// What another terminal needs before it reaches this gateway: what is set there is taken to be what is set here.
fn pointer(file: &ContextFile) -> String {
    let [config, context] =
        ["MCPCTL_CONFIG", "MCPCTL_CONTEXT"].map(|name| std::env::var_os(name).filter(|it| !it.is_empty()));
    let locate = |named| ContextFile::locate(config.clone().map(PathBuf::from), named);
    let mut lines = String::new();
    let is_read =
        std::path::absolute(locate(Some(CONTEXT.to_owned())).path()).ok().as_deref() == Some(file.path());
    if !is_read {
        let path = file.path().to_string_lossy();
        lines.push_str(&format!("  export MCPCTL_CONFIG={}\n", shell::quoted(&path)));
    }
    let there = locate(None);
    let current = there.read().ok().and_then(|contexts| there.current_name(&contexts));
    let is_other = is_read && current.is_some_and(|current| current != CONTEXT);
    if is_other || context.is_some_and(|context| context != CONTEXT) {
        lines.push_str(&format!("  export MCPCTL_CONTEXT={CONTEXT}\n"));
    }
    lines
}

/// The URL of an address on this machine: one that stands for all is none to connect to.
fn url_here(address: SocketAddr) -> String {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(ip, address.port()))
}

/// Waits until the edge has acknowledged the current revision.
async fn wait_until_ready(context: &Context, timeout: Duration) -> Result {
    let client = ControlClient::connect(context, timeout).await?;
    let acknowledged = async {
        loop {
            let answer = client.call("trunkline.discovery.v1.FleetService/ListEdges", json!({})).await?;
            let newest = reflection::number(&answer, "revision");
            let name = format!("edges/{EDGE}");
            let edges = reflection::submessages(&answer, "edges");
            let edge = edges.iter().find(|edge| reflection::text(edge, "name") == name);
            let connected = edge.is_some_and(|edge| reflection::to_json(edge)["connected"] == true);
            if connected && edge.is_some_and(|edge| reflection::number(edge, "acked_revision") >= newest) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let late = |_| Err(Error::failure("the edge was not ready in time; run with --log info to see why"));
    tokio::time::timeout(START_TIMEOUT, acknowledged).await.unwrap_or_else(late)
}

/// Prints the addresses and what to do next.
fn print_next_steps(context: &Context, file: &ContextFile, ops: SocketAddr, egress: &egress::Rule) {
    let url = |url: &Option<String>| url.clone().unwrap_or_default();
    let pointer = pointer(file);
    let text = format!(
        "\nTrunkline is ready.

  edge           {}   (clients: /servers/NAME/mcp)
  control plane  {}   (gRPC and JSON)
  operations     {}   (/metrics)
  egress         {egress}   (where upstreams may be; --egress-allow)

Next, in another terminal:

{pointer}  mcpctl expose --register time -- uvx mcp-server-time     # any stdio server; keeps running there
  mcpctl create upstream docs --url https://example.com/mcp   # or a server with a URL
  mcpctl create server dev --tool 'time/*'
  mcpctl create token laptop --server dev
  mcpctl call dev get_current_time timezone=UTC
  mcpctl client-config dev --for claude

Press Ctrl-C to stop. All data is kept.",
        url(&context.edge),
        url(&context.control),
        url_here(ops),
    );
    text.lines().for_each(eprint);
}
