//! The commands, one file per verb; and the invocation that they share.

pub mod access;
pub mod api_keys;
pub mod apply;
pub mod approvals;
pub mod audit;
pub mod bearers;
pub mod call;
pub mod changes;
pub mod client_config;
pub mod completion;
pub mod config;
pub mod connect;
pub mod contexts;
pub mod create;
pub mod delete;
pub mod describe;
pub mod dev;
pub mod difference;
pub mod doctor;
pub mod each;
pub mod edit;
pub mod explain;
pub mod export;
pub mod expose;
pub mod fields;
pub mod get;
pub mod import;
pub mod keys;
pub mod last_uses;
mod left_behind;
pub mod lint;
pub mod login;
pub mod man;
pub mod members;
pub mod options;
pub mod passwords;
pub mod people;
pub mod ping;
pub mod prompt;
pub mod protection;
pub mod read;
pub mod reference;
pub mod register;
pub mod revoke;
pub mod revoked;
pub mod rollout;
pub mod schema;
pub mod sets;
pub mod targets;
pub mod team_fields;
pub mod teams;
pub mod token_fields;
pub mod top;
pub mod tunnel;
pub mod update;
pub mod upstream;
pub mod usage;
pub mod users;
pub mod wait;
pub mod warnings;
pub mod watching;
pub mod whoami;

use std::time::Duration;

use crate::args::{Args, Command, GlobalArgs};
use crate::bridge::reaper;
use crate::client::interruption;
use crate::context::{Context, ContextFile, SavedToken};
use crate::control_client::ControlClient;
use crate::error::{Error, Result};
use crate::output::{self, Format};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// The global flags of one run of the program, resolved.
#[derive(Debug, Clone)]
pub struct Invocation {
    pub context_file: ContextFile,
    /// The output format, if one was given.
    pub format: Option<Format>,
    /// The timeout, if one was given.
    pub timeout: Option<Duration>,
}

impl Invocation {
    /// Resolves the global flags.
    pub fn new(global: GlobalArgs) -> Result<Self> {
        let global = global.or_of_environment()?;
        let context_file = ContextFile::locate(global.config, global.context).or_of_environment();
        Ok(Self { context_file, format: global.output, timeout: global.timeout })
    }

    /// Returns the current context.
    pub fn context(&self) -> Result<Context> {
        self.context_file.current()
    }

    /// Connects to the control plane of the current context.
    pub async fn client(&self) -> Result<ControlClient> {
        ControlClient::connect(&self.context()?, self.timeout()).await
    }

    /// Returns the timeout for one response.
    pub fn timeout(&self) -> Duration {
        self.timeout.unwrap_or(DEFAULT_TIMEOUT)
    }

    /// Saves the bearer of a token that exists now, and says so where it cannot: the token is not made a second time for that.
    /// Returns whether it is saved.
    pub fn save_bearer(&self, name: &str, token: SavedToken) -> bool {
        match self.context_file.save_new_token(name, token) {
            Ok(Some(kept)) => {
                output::eprint(format!(
                    "the bearer that was handed over and saved as {name} is saved as {kept} now"
                ));
            }
            Ok(None) => {}
            Err(error) => {
                output::eprint(format!(
                    "warning: the bearer of tokens/{name} is not saved; keep it: {error}"
                ));
                return false;
            }
        }
        true
    }

    /// Removes the bearer of a token that is of no use any more, and says so where it cannot.
    pub fn forget_bearer(&self, name: &str) {
        if let Err(error) = self.context_file.forget_token(name) {
            output::eprint(format!(
                "warning: the bearer of tokens/{name} is still in the context file: {error}"
            ));
        }
    }

    /// Returns the output format.
    pub fn format(&self) -> &Format {
        self.format.as_ref().unwrap_or(&Format::Table)
    }
}

/// Runs a command. Returns the exit code of a command that did not fail.
pub fn run(args: Args) -> Result<u8> {
    let invocation = Invocation::new(args.global)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::failure(format!("cannot start the async runtime: {error}")))?;
    let code = runtime.block_on(dispatch(invocation, args.command));
    // A thread that still reads stdin must not keep the process alive.
    runtime.shutdown_background();
    code
}

/// Returns the name of a command that prints nothing in formats.
fn without_formats(command: &Command) -> Option<&'static str> {
    match command {
        Command::Dev(_) => Some("dev"),
        Command::Diff(_) => Some("diff"),
        Command::Expose(_) => Some("expose"),
        Command::Connect(_) => Some("connect"),
        Command::Import(_) => Some("import"),
        Command::Completion(_) => Some("completion"),
        Command::Man(_) => Some("man"),
        Command::Options => Some("options"),
        _ => None,
    }
}

async fn dispatch(invocation: Invocation, command: Command) -> Result<u8> {
    if let Some(name) = without_formats(&command).filter(|_| invocation.format.is_some()) {
        return Err(Error::usage(format!("{name} has no output formats; leave -o out")));
    }
    // `wait` looks once, as that of kubectl does.
    if invocation.timeout == Some(Duration::ZERO) && !matches!(command, Command::Wait(_)) {
        return Err(Error::usage(
            "nothing responds in no time; use --timeout with a time such as 500ms, 30s or 5m",
        ));
    }
    match command {
        Command::Get(args) => get::run(&invocation, args).await?,
        Command::Describe(args) => describe::run(&invocation, args).await?,
        Command::Create(args) => create::run(&invocation, args).await?,
        Command::Edit(args) => edit::run(&invocation, args).await?,
        Command::Update(args) => update::run(&invocation, args).await?,
        Command::Wait(args) => wait::run(&invocation, args).await?,
        Command::Delete(args) => delete::run(&invocation, args).await?,
        Command::Revoke(args) => revoke::run(&invocation, args).await?,
        Command::Add(args) => teams::add(&invocation, args).await?,
        Command::Remove(args) => teams::remove(&invocation, args).await?,
        Command::Invite(args) => teams::invite(&invocation, args).await?,
        Command::Bind(args) => teams::bind(&invocation, args).await?,
        Command::Unbind(args) => teams::unbind(&invocation, args).await?,
        Command::Disable(args) => users::set_state(&invocation, args, false).await?,
        Command::Enable(args) => users::set_state(&invocation, args, true).await?,
        Command::ResetPassword(args) => users::reset_password(&invocation, args).await?,
        Command::Login(args) => login::login(&invocation, args).await?,
        Command::Logout(args) => login::logout(&invocation, args).await?,
        Command::ChangePassword(args) => passwords::change(&invocation, args).await?,
        Command::Whoami => whoami::run(&invocation).await?,
        Command::Refresh(args) => upstream::refresh(&invocation, args).await?,
        Command::Probe(args) => upstream::probe(&invocation, args).await?,
        Command::Lint(args) => lint::run(&invocation, args).await?,
        Command::Apply(args) => apply::run(&invocation, args).await?,
        Command::Diff(args) => return apply::diff(&invocation, args).await,
        Command::Explain(args) => explain::run(&invocation, args)?,
        Command::Schema(args) => schema::run(&invocation, args)?,
        Command::Export(args) => export::run(&invocation, args).await?,
        Command::Access(args) => return access::run(&invocation, args).await,
        Command::Approvals(args) => approvals::run(&invocation, args).await?,
        Command::Audit(args) => return audit::run(&invocation, *args).await,
        Command::Keys(args) => keys::run(&invocation, args).await?,
        Command::Top(args) => top::run(&invocation, args).await?,
        Command::Usage(args) => usage::run(&invocation, args).await?,
        Command::Call(args) => return call::run(&invocation, args).await,
        Command::Read(args) => read::run(&invocation, args).await?,
        Command::Prompt(args) => prompt::run(&invocation, args).await?,
        Command::Ping(args) => ping::run(&invocation, args).await?,
        Command::ClientConfig(args) => client_config::run(&invocation, args).await?,
        Command::Expose(args) => expose::run(&invocation, args).await?,
        Command::Connect(args) => connect::run(&invocation, args).await?,
        Command::Import(args) => import::run(&invocation, args).await?,
        Command::Reap(args) => return reaper::run(args).await,
        Command::EndBy(args) => return interruption::run(&args),
        Command::Dev(args) => dev::run(&invocation, args).await?,
        Command::Config(args) => config::run(&invocation, args).await?,
        Command::Doctor(args) => return doctor::run(&invocation, args).await,
        Command::Completion(args) => completion::run(args)?,
        Command::Man(args) => man::run(args)?,
        Command::Options => options::run()?,
        Command::Version => version(&invocation)?,
    }
    Ok(0)
}

fn version(invocation: &Invocation) -> Result {
    let version = serde_json::json!({ "version": env!("CARGO_PKG_VERSION") });
    let people = || concat!("mcpctl ", env!("CARGO_PKG_VERSION")).to_owned();
    output::print(&output::value(&version, invocation.format(), people)?)
}
