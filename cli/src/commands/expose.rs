//! `mcpctl expose -- COMMAND…`: exposes a stdio MCP server over HTTP or through a tunnel, and registers it as an upstream.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::bridge::child::Program;
use crate::bridge::expose::instances::EnvFromHeader;
use crate::bridge::expose::{self, Eras, Running, Settings};
use crate::commands::Invocation;
use crate::commands::register::{Consent, check, patiently, register, tell_end};
use crate::commands::tunnel::Tunnels;
use crate::error::{Error, Result};
use crate::kinds::{Kind, short_name};
use crate::output::{self, eprint};
use crate::parse;

/// Time after which it is said that a command has not answered yet.
const NOTABLE: Duration = Duration::from_secs(3);

/// Arguments of `expose`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Address to listen on; port 0 picks a free port
    #[arg(
        long,
        env = "TRUNKLINE_EXPOSE_LISTEN",
        hide_env_values = true,
        default_value = "127.0.0.1:0",
        value_name = "ADDR",
        value_parser = startup::options::address
    )]
    listen: SocketAddr,
    /// Register it as this upstream; one that exists and points elsewhere needs --replace
    #[arg(long, value_name = "NAME")]
    register: Option<String>,
    /// Point an upstream here that exists and points elsewhere
    #[arg(long, requires = "register")]
    replace: bool,
    /// Do that without a question
    #[arg(short, long, requires = "replace")]
    yes: bool,
    /// URL under which the gateway reaches it [default: the listening address]
    #[arg(long, value_name = "URL", requires = "register")]
    advertise: Option<String>,
    /// Restart policy for when the command exits
    #[arg(long, value_enum, default_value = "always")]
    restart: Restart,
    /// Prefix for the command's stderr lines [default: name of the upstream or the command]
    #[arg(long, value_name = "NAME")]
    label: Option<String>,
    /// Host name that clients may use besides localhost and the listening address; repeatable
    #[arg(long = "allow-host", value_name = "NAME", value_parser = inbound::names::host)]
    hosts: Vec<String>,
    /// Origin of web pages that may call it besides those of localhost and the allowed hosts, or *; repeatable
    #[arg(long = "allow-origin", value_name = "ORIGIN", value_parser = inbound::names::origin)]
    origins: Vec<String>,
    /// Time allowed for the command to complete the handshake
    #[arg(long, default_value = "2m", value_name = "DURATION", value_parser = parse::duration)]
    start_timeout: Duration,
    /// Dial out instead of listening, to the control plane at URL [default: that of the context] and to the edges; for
    /// networks that accept no connections from outside
    #[arg(
        long,
        value_name = "URL",
        num_args = 0..=1,
        requires = "register",
        conflicts_with_all = ["listen", "advertise"]
    )]
    connect: Option<Option<String>>,
    /// URL of an edge, or of the load balancer in front of the edges, to dial [default: that of the context]; repeatable
    #[arg(long = "edge", value_name = "URL", requires = "connect")]
    edges: Vec<String>,
    /// Eras of the protocol to expose
    #[arg(long, value_enum, default_value = "auto")]
    era: Eras,
    /// Set a variable in the command's environment from a request header; each value gets its own copy of the command;
    /// repeatable
    #[arg(long = "env-from-header", value_name = "NAME=HEADER")]
    env_from_headers: Vec<EnvFromHeader>,
    /// Command to run, with its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Restart {
    /// Restart with backoff.
    Always,
    /// Exit when the command exits.
    Never,
}

/// Runs `expose`.
pub async fn run(invocation: &Invocation, args: Args) -> Result {
    let program = Program::new(args.command, args.label.or_else(|| args.register.clone()));
    if !program.exists() {
        let word = program.command[0].display().to_string();
        return Err(Error::not_found(format!(
            "command {word} not found; check that it is installed and in PATH"
        )));
    }
    if let Some(name) = &args.register {
        parse::id(&short_name(name)).map_err(|why| Error::usage(format!("--register {name}: {why}")))?;
    }
    let consent = Consent { replace: args.replace, yes: args.yes, is_asked: true };
    let tunnels = match (args.connect, &args.register) {
        (Some(control), Some(name)) => Some(Tunnels::new(invocation, name, control, &args.edges)?),
        _ => None,
    };
    if let Some(name) = &args.register {
        let known = (args.listen.port() != 0).then(|| expose::url_at(args.listen));
        let url = args.advertise.clone().or(known);
        check_first(invocation, name, tunnels.as_ref(), url.as_deref(), consent).await?;
    }
    let settings = Settings {
        listen: tunnels.is_none().then_some(args.listen),
        hosts: args.hosts,
        origins: args.origins,
        restart: args.restart == Restart::Always,
        start_timeout: args.start_timeout,
        eras: args.era,
        env_from_headers: args.env_from_headers,
    };
    // Of the end of a tunnel the control plane hears by itself.
    let ends_unheard: Vec<_> = args.register.iter().filter(|_| tunnels.is_none()).cloned().collect();
    let label = program.label.clone();
    let to = Registration { invocation, name: args.register, url: args.advertise, consent };
    let running = expose::start(program, settings).await?;
    let mut stop = StopSignal::new()?;
    let served = tokio::select! {
        served = serve(&running, &label, args.start_timeout, tunnels, to) => served,
        () = stop.wait() => Ok(()),
    };
    eprint(format!("[{label}] stopping"));
    running.stop().await;
    tell_end(invocation, &ends_unheard).await;
    served
}

/// Refuses before the command runs what would end it afterwards.
async fn check_first(
    invocation: &Invocation,
    name: &str,
    tunnels: Option<&Tunnels>,
    url: Option<&str>,
    consent: Consent,
) -> Result {
    match tunnels {
        Some(tunnels) => tunnels.check(consent).await,
        None => {
            let name = Kind::from_word("upstream").full_name(name)?;
            check(&invocation.context()?, &name, url, consent).await
        }
    }
}

/// What it is registered as.
struct Registration<'a> {
    invocation: &'a Invocation,
    name: Option<String>,
    url: Option<String>,
    consent: Consent,
}

/// Waits for the command's handshake, and says so where that takes its time.
async fn ready(running: &Running, label: &str, start_timeout: Duration) -> Result<String> {
    let waits = async {
        tokio::time::sleep(NOTABLE).await;
        let time = parse::short_duration(start_timeout.try_into().unwrap_or_default());
        eprint(format!("[{label}] waiting for {label} to answer initialize (--start-timeout {time})"));
        std::future::pending().await
    };
    tokio::select! {
        ready = running.ready() => ready,
        never = waits => never,
    }
}

async fn serve(
    running: &Running,
    label: &str,
    start_timeout: Duration,
    tunnels: Option<Tunnels>,
    to: Registration<'_>,
) -> Result {
    let who = ready(running, label, start_timeout).await?;
    let mut ended = std::pin::pin!(async {
        running.ended().await;
        Err(Error::failure(format!("{label} exited (--restart never)")))
    });
    if let Some(tunnels) = tunnels {
        eprint(format!("[{label}] {who}"));
        return tokio::select! {
            ended = tunnels.run(running, label, to.consent) => ended,
            ended = ended => ended,
        };
    }
    let url = running.url().unwrap_or_default();
    eprint(format!("[{label}] {who}; listening at {url}"));
    output::print(&url)?;
    if let Some(name) = to.name {
        let url = to.url.unwrap_or(url);
        let registered = patiently(label, async || {
            let client = to.invocation.client().await?;
            register(&client, &name, &url, to.consent).await
        });
        tokio::select! {
            upstream = registered => super::upstream::report_state(&upstream?),
            ended = &mut ended => return ended,
        }
    }
    ended.await
}

/// The signals that stop the program: SIGINT, SIGTERM and SIGHUP.
pub struct StopSignal {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl StopSignal {
    /// Installs the handlers; from now on these signals do not end the process.
    pub fn new() -> Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for one of them.
    pub async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}
