//! `mcpctl dev`: runs a whole gateway in one process, on embedded storage. The only file that knows the other two programs.

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{CommandFactory as _, Parser as _};
use printable::logs::{PrintableFields, filter as log_filter};
use secrecy::ExposeSecret as _;
use serde_json::json;
use startup::DirectoryLock;
use trunkline_control_plane::{app as control_plane, config::Config as ControlConfig};
use trunkline_edge_proxy::{app as edge_proxy, config::Config as EdgeConfig};

use crate::client::caller;
use crate::commands::Invocation;
use crate::commands::expose::StopSignal;
use crate::complete;
use crate::context::kept::KeptContexts;
use crate::context::{Context, ContextFile, Contexts, Secret, data_home};
use crate::control_client::ControlClient;
use crate::error::{Error, Result};
use crate::output::eprint;
use crate::output::progress::Spinner;
use crate::reflection;

const CONTEXT: &str = "dev";
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
        default_value = "127.0.0.1:4444"
    )]
    edge_listen: SocketAddr,
    /// Address that `mcpctl` and other administrators connect to (gRPC and JSON)
    #[arg(
        long,
        env = "TRUNKLINE_LISTEN",
        hide_env_values = true,
        value_name = "ADDR",
        default_value = "127.0.0.1:4445"
    )]
    control_listen: SocketAddr,
    /// Address for health, readiness and metrics of the edge
    #[arg(
        long,
        env = "TRUNKLINE_EDGE_OPS_LISTEN",
        hide_env_values = true,
        value_name = "ADDR",
        default_value = "127.0.0.1:4446"
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

    // The file of an earlier run would signal readiness too soon.
    let kept = KeptContexts::put_aside(file.clone())?;
    let control = tokio::select! {
        started = control_plane::start(control_config(&args, &folder)?) => started,
        () = stop.wait() => return Err(stopped()),
    };
    let control = control.map_err(start_failure("the control plane"))?;
    let join_token = control.create_join_token().await.map_err(start_failure("the control plane"))?;
    spinner.text("starting the edge");
    let control_url = format!("http://{}", control.addr);
    let edge = edge_proxy::start(&edge_config(&args, &folder, &control_url, &join_token)?);
    let edge = edge.map_err(start_failure("the edge"))?;
    let context = Context {
        control: Some(control_url),
        edge: Some(format!("http://{}", edge.client_addr)),
        admin_token: Some(Secret::new(control.admin_token.expose_secret())),
        ..kept.contexts()?.contexts.remove(CONTEXT).unwrap_or_default()
    };
    spinner.text("waiting for the edge to receive its snapshot");
    let ready = tokio::select! {
        ready = wait_until_ready(&context, invocation.timeout()) => ready,
        () = stop.wait() => Err(stopped()),
    };
    ready?;
    kept.replace(|contexts| set_dev_context(contexts, context.clone()))?;
    drop(spinner);
    print_next_steps(&context, &file, edge.ops_addr, &args.egress().rule());
    stop.wait().await;
    eprint("Stopping. Press Ctrl-C again to stop at once.");
    tokio::select! {
        () = async { edge.drain().await; control.drain().await } => {}
        () = stop.wait() => {}
    }
    Ok(())
}

/// Returns the environment variables that the programs read.
pub fn variables() -> Vec<String> {
    let mut names: Vec<_> = [complete::VARIABLE, caller::VARIABLE].map(str::to_owned).to_vec();
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

fn start_failure<E: std::fmt::Display>(what: &'static str) -> impl Fn(E) -> Error {
    // `{:#}` prints the whole chain of causes.
    move |error| {
        Error::failure(format!("cannot start {what}: {error:#}; check that no other gateway is running here"))
    }
}

/// All other options come from the environment, as when the programs run separately.
fn control_config(args: &Args, folder: &Path) -> Result<ControlConfig> {
    let words = ["trunkline-control-plane", "--listen", &args.control_listen.to_string(), "--data-dir"];
    let words = words.map(std::ffi::OsString::from).into_iter().chain([folder.join("control").into()]);
    let config = ControlConfig::try_parse_from(words);
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
    let config = EdgeConfig::try_parse_from(words);
    let config = config.map_err(|error| Error::usage(format!("the edge: {error}")))?;
    Ok(EdgeConfig { egress: args.egress(), ..config })
}

/// Takes the data directory for this process.
fn lock(folder: &Path, address: SocketAddr) -> Result<DirectoryLock> {
    DirectoryLock::take(folder, "dev", address).map_err(|error| Error::failure(error.to_string()))
}

fn stopped() -> Error {
    Error::failure("stopped before the gateway was ready")
}

/// Bearers that were saved while the gateway started stay.
fn set_dev_context(contexts: &mut Contexts, mut context: Context) {
    if let Some(saved) = contexts.contexts.remove(CONTEXT) {
        context.tokens.extend(saved.tokens);
    }
    contexts.contexts.insert(CONTEXT.to_owned(), context);
    contexts.current_context = Some(CONTEXT.to_owned());
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
    let default = ContextFile::locate(None, None);
    let pointer = match default.path() == file.path() {
        true => String::new(),
        false => format!("  export MCPCTL_CONFIG={}\n", file.path().display()),
    };
    let text = format!(
        "\nTrunkline is ready.

  edge           {}   (clients: /servers/NAME/mcp)
  control plane  {}   (gRPC and JSON)
  operations     http://{ops}   (/metrics)
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
    );
    text.lines().for_each(eprint);
}
