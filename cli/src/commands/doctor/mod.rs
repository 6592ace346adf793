//! `mcpctl doctor`: looks at everything that has to work between here and the tools, and says what to do where it does not.

mod calls;
mod certificate;
mod check;
mod clients;
mod control;
mod edge;
mod egress;
mod local;
mod rights;

use serde_json::json;

use crate::commands::{Invocation, client_config};
use crate::error::{Exit, Result};
use crate::output::{self, Format, progress::Spinner, sections};
use check::{Check, Outcome};

/// Arguments of `doctor`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Do not open sessions with the saved bearers, which takes a moment for each
    #[arg(long)]
    no_clients: bool,
}

/// Runs `doctor`.
pub async fn run(invocation: &Invocation, args: Args) -> Result<u8> {
    let spinner = Spinner::start("looking at this machine");
    let mut checks = local::contexts(&invocation.context_file);
    checks.extend(local::environment(&client_config::own_entries(invocation)));
    if local::is_of_dev(&invocation.context_file) {
        checks.extend(local::ports().await);
    }
    if let Ok(context) = invocation.context() {
        spinner.text("asking the control plane");
        let found = control::checks(invocation, &context).await;
        checks.extend(found.checks);
        let edge = edge::check(&context, &found.edges).await;
        let is_there = edge.as_ref().is_none_or(|edge| edge.outcome == Outcome::Ok);
        checks.extend(edge);
        if !args.no_clients {
            spinner.text("calling as clients do");
            let known =
                clients::Survey { edges: found.edges, servers: found.servers, ended: found.ended, is_there };
            checks.extend(clients::checks(invocation, &context, &known).await);
        }
    }
    drop(spinner);
    print(&checks, invocation.format())?;
    let count = |outcome| checks.iter().filter(|check| check.outcome == outcome).count();
    let [ok, warn, fail] = [Outcome::Ok, Outcome::Warn, Outcome::Fail].map(count);
    output::eprint(format!("{ok} ok, {warn} to look at, {fail} failed"));
    Ok(if fail > 0 { Exit::Failure as u8 } else { 0 })
}

fn print(checks: &[Check], format: &Format) -> Result {
    let documents = || {
        checks.iter().map(|check| {
            json!({ "name": check.name, "outcome": check.outcome.word(), "text": check.text, "advice": check.advice })
        })
    };
    if matches!(format, Format::Name) {
        let names = checks.iter().map(|check| format!("{} {}\n", check.outcome.word(), check.name));
        return output::print(&names.collect::<String>());
    }
    let documents: Vec<_> = documents().collect();
    output::print(&output::value(&documents, format, || check::render(checks, sections::width()))?)
}
