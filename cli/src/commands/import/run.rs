//! `mcpctl import --expose`: runs the servers of a file that are commands, and registers each when it is ready.

use futures_util::future::join_all;

use super::transport::Transport;
use super::{Args, Resolved, Trouble};
use crate::bridge::child::Program;
use crate::bridge::expose::{self, Eras, Running, Settings};
use crate::commands::Invocation;
use crate::commands::expose::StopSignal;
use crate::commands::register::{Consent, patiently, register, tell_end};
use crate::commands::upstream;
use crate::error::{Error, Result};
use crate::output::eprint;

/// A command that runs and is to be offered.
struct Started {
    server: String,
    id: String,
    running: Running,
}

/// Runs them until this process is stopped.
pub(super) async fn run_all(
    invocation: &Invocation,
    args: &Args,
    commands: Vec<Resolved>,
    trouble: &mut Trouble,
) -> Result {
    let mut stop = StopSignal::new()?;
    let consent = Consent { replace: args.replace, yes: args.yes, is_asked: !args.is_stdin() };
    let mut started = Vec::new();
    let offered = tokio::select! {
        offered = offer_all(invocation, consent, commands, &mut started, trouble) => Some(offered),
        () = stop.wait() => None,
    };
    if matches!(offered, Some(Ok(()))) && !started.is_empty() {
        let all = if trouble.skipped.is_empty() { "All servers" } else { "All other servers" };
        eprint(format!("{all} are running. Press Ctrl-C to stop them."));
        stop.wait().await;
    }
    let names: Vec<_> = started.iter().map(|one| one.id.clone()).collect();
    join_all(started.into_iter().map(|one| one.running.stop())).await;
    tell_end(invocation, &names).await;
    offered.unwrap_or(Ok(()))
}

/// Starts the commands, and registers each when it is ready: none waits for another. Those that cannot be offered are
/// stopped.
async fn offer_all(
    invocation: &Invocation,
    consent: Consent,
    commands: Vec<Resolved>,
    started: &mut Vec<Started>,
    trouble: &mut Trouble,
) -> Result {
    for one in commands {
        let key = one.server.key.clone();
        match start(one).await {
            Ok(one) => started.extend(one),
            Err(error) => trouble.skip_if_refused(&key, error)?,
        }
    }
    let offers = join_all(started.iter().map(|one| offer(invocation, consent, one))).await;
    let (mut refused, mut outcome) = (Vec::new(), Ok(()));
    for (one, offered) in std::mem::take(started).into_iter().zip(offers) {
        match offered {
            Ok(verdict) => {
                if let Err(reason) = verdict {
                    trouble.broken(&one.server, &one.id, &reason.to_string());
                }
                started.push(one);
            }
            Err(error) => {
                outcome = outcome.and(trouble.skip_if_refused(&one.server, error));
                refused.push(one.running.stop());
            }
        }
    }
    join_all(refused).await;
    outcome
}

/// Runs a command.
async fn start(Resolved { server, transport }: Resolved) -> Result<Option<Started>> {
    let Transport::Stdio { command, env } = transport else { return Ok(None) };
    eprint(format!("[{}] running {}", server.id, server.transport.shown()));
    let mut program = Program::new(command.into_iter().map(Into::into).collect(), Some(server.id.clone()));
    program.env = env;
    if !program.exists() {
        return Err(Error::not_found("command not found"));
    }
    let settings = Settings {
        listen: Some(([127, 0, 0, 1], 0).into()),
        hosts: Vec::new(),
        origins: Vec::new(),
        restart: true,
        start_timeout: std::time::Duration::from_secs(120),
        eras: Eras::Auto,
        env_from_headers: Vec::new(),
    };
    let running = expose::start(program, settings).await?;
    Ok(Some(Started { server: server.key, id: server.id, running }))
}

/// Registers a command that is ready. Returns whether the gateway can use it.
async fn offer(invocation: &Invocation, consent: Consent, one: &Started) -> Result<Result> {
    let (id, who) = (&one.id, one.running.ready().await?);
    let url = one.running.url().unwrap_or_default();
    eprint(format!("[{id}] {who}; listening at {url}"));
    let upstream =
        patiently(id, async || register(&invocation.client().await?, id, &url, consent).await).await?;
    let verdict = upstream::check_works(&upstream);
    if verdict.is_ok() {
        upstream::report_state(&upstream);
    }
    Ok(verdict)
}
