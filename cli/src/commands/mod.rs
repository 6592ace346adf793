//! One file a verb. Here: what they share, and who is called for which.

pub mod apply;
pub mod call;
pub mod client_config;
pub mod completion;
pub mod config;
pub mod connect;
pub mod create;
pub mod delete;
pub mod describe;
pub mod dev;
pub mod export;
pub mod expose;
pub mod fields;
pub mod get;
pub mod import;
pub mod revoke;
pub mod rollout;
pub mod tunnel;
pub mod update;
pub mod upstream;
pub mod usage;

use std::time::Duration;

use crate::args::{Args, Command, Global};
use crate::bridge::guard;
use crate::context::{Context, Store};
use crate::error::{Error, Result};
use crate::output::{self, Format};
use crate::rpc::Client;

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// What every verb works with.
#[derive(Debug, Clone)]
pub struct Session {
    /// The context file.
    pub store: Store,
    /// The form of the output, where one was asked for.
    pub format: Option<Format>,
    /// How long to wait, where that was said.
    pub timeout: Option<Duration>,
}

impl Session {
    fn new(global: Global) -> Self {
        let store = Store::locate(global.config, global.context);
        Self { store, format: global.output, timeout: global.timeout }
    }

    /// The context that is meant.
    pub fn context(&self) -> Result<Context> {
        self.store.current()
    }

    /// A connection to its control plane.
    pub async fn client(&self) -> Result<Client> {
        Client::open(&self.context()?, self.timeout()).await
    }

    /// How long to wait for one answer.
    pub fn timeout(&self) -> Duration {
        self.timeout.unwrap_or(DEFAULT_TIMEOUT)
    }

    /// The form of the output.
    pub fn format(&self) -> Format {
        self.format.unwrap_or(Format::Table)
    }
}

/// Runs a command to its end; the number is the exit code of one that did not fail.
pub fn run(args: Args) -> Result<u8> {
    let session = Session::new(args.global);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::failure(format!("no runtime: {error}")))?;
    let code = runtime.block_on(dispatch(session, args.command));
    // A thread that still reads stdin must not keep the process.
    runtime.shutdown_background();
    code
}

async fn dispatch(session: Session, command: Command) -> Result<u8> {
    match command {
        Command::Get(args) => get::run(&session, args).await?,
        Command::Describe(args) => describe::run(&session, args).await?,
        Command::Create(args) => create::run(&session, args).await?,
        Command::Update(args) => update::run(&session, args).await?,
        Command::Delete(args) => delete::run(&session, args).await?,
        Command::Revoke(args) => revoke::run(&session, args).await?,
        Command::Refresh(args) => upstream::refresh(&session, args).await?,
        Command::Probe(args) => upstream::probe(&session, args).await?,
        Command::Apply(args) => apply::run(&session, args).await?,
        Command::Diff(args) => return apply::diff(&session, args).await,
        Command::Export(args) => export::run(&session, args).await?,
        Command::Usage(args) => usage::run(&session, args).await?,
        Command::Call(args) => return call::run(&session, args).await,
        Command::ClientConfig(args) => client_config::run(&session, args)?,
        Command::Expose(args) => expose::run(&session, args).await?,
        Command::Connect(args) => connect::run(&session, args).await?,
        Command::Import(args) => import::run(&session, args).await?,
        Command::Guard(args) => return guard::run(args).await,
        Command::Dev(args) => dev::run(&session, args).await?,
        Command::Config(args) => config::run(&session, args)?,
        Command::Completion(args) => completion::run(args)?,
        Command::Version => output::out(concat!("mcpctl ", env!("CARGO_PKG_VERSION")))?,
    }
    Ok(0)
}
