//! The servers of a file that have a URL: what would become of each is worked out first, so that nothing that exists is
//! changed unseen; then they are stored, and it is waited for whether they work.

use futures_util::StreamExt as _;
use prost_reflect::DynamicMessage;
use serde_json::{Value, json};

use super::transport::{self, Transport};
use super::{Args, Resolved, Trouble};
use crate::commands::difference::difference;
use crate::commands::{Invocation, upstream};
use crate::confirm::{self, confirm, needs_yes};
use crate::control_client::ControlClient;
use crate::error::{Error, Exit, Result};
use crate::kinds::Kind;
use crate::output::progress::Spinner;
use crate::output::{eprint, print};
use crate::reflection;

/// So many are probed at a time.
const AT_ONCE: usize = 8;

/// What is to be done with a server.
struct Plan {
    key: String,
    id: String,
    /// The upstream that it is to be, and the fields of it that the file says.
    upstream: Value,
    mask: &'static str,
    state: Existing,
}

/// What is there already.
enum Existing {
    Nothing,
    /// It is the same, in this state.
    Same(Box<DynamicMessage>),
    /// It differs, so.
    Other(String),
}

/// What became of a server.
enum Outcome {
    /// It works, as far as that was waited for.
    Stored(Option<DynamicMessage>),
    /// It is stored, and does not work for this reason.
    Broken(String),
}

/// Imports them.
pub(super) async fn import(
    invocation: &Invocation,
    args: &Args,
    servers: Vec<Resolved>,
    trouble: &mut Trouble,
) -> Result {
    if servers.is_empty() {
        return Ok(());
    }
    let client = match invocation.client().await {
        Err(error) if args.dry_run => {
            eprint(format!("what exists already is not known: {error}"));
            return servers
                .iter()
                .try_for_each(|one| print(&format!("upstreams/{} imported (dry run)", one.server.id)));
        }
        client => client?,
    };
    let mut plans = Vec::new();
    for server in servers {
        let key = server.server.key.clone();
        match plan(&client, server).await {
            Ok(plan) => plans.push(plan),
            Err(error) => trouble.skip_if_refused(&key, error)?,
        }
    }
    let plans = agreed(args, plans, trouble)?;
    if args.dry_run {
        return plans.iter().try_for_each(|plan| print(&format!("upstreams/{} imported (dry run)", plan.id)));
    }
    let spinner = Spinner::start("waiting for the imported servers to answer");
    let outcomes = futures_util::stream::iter(plans)
        .map(|plan| async {
            let outcome = store(&client, &plan, args.no_wait).await;
            (plan, outcome)
        })
        .buffered(AT_ONCE)
        .collect::<Vec<_>>()
        .await;
    drop(spinner);
    outcomes.into_iter().try_for_each(|(plan, outcome)| report(&plan, outcome, trouble))
}

/// Works out what would become of a server, on the control plane.
async fn plan(client: &ControlClient, Resolved { server, transport }: Resolved) -> Result<Plan> {
    let kind = Kind::from_word("upstream");
    let name = kind.full_name(&server.id)?;
    let (upstream, mask) = upstream_of(&name, &transport);
    let mut plan = Plan { key: server.key, id: server.id, upstream, mask, state: Existing::Nothing };
    let before = match client.call(&kind.method("Get"), json!({ "name": name })).await {
        Err(error) if error.exit == Exit::NotFound => None,
        answer => reflection::submessage(&answer?, kind.singular),
    };
    let request =
        json!({ "upstream": plan.upstream, "updateMask": mask, "allowMissing": true, "validateOnly": true });
    let after = reflection::submessage(&client.call(&kind.method("Update"), request).await?, kind.singular);
    if let Some(before) = before {
        let text = difference(kind, &name, Some(&before), after.as_ref())?;
        plan.state = match text.is_empty() {
            true => Existing::Same(Box::new(before)),
            false => Existing::Other(text),
        };
    }
    Ok(plan)
}

fn upstream_of(name: &str, transport: &Transport) -> (Value, &'static str) {
    let Transport::Http { url, headers } = transport else { return (json!({ "name": name }), "") };
    let mut upstream = json!({ "name": name, "http": { "url": url } });
    match transport::credential(headers) {
        None => (upstream, "http.url"),
        Some(credential) => {
            upstream["credential"] = credential;
            (upstream, "http.url,credential")
        }
    }
}

/// Leaves what may be stored: what exists and differs is shown and asked about, or skipped.
fn agreed(args: &Args, plans: Vec<Plan>, trouble: &mut Trouble) -> Result<Vec<Plan>> {
    let (mut agreed, mut changed) = (Vec::new(), 0);
    for plan in plans {
        match &plan.state {
            Existing::Nothing => agreed.push(plan),
            Existing::Same(upstream) => {
                print(&format!("upstreams/{} unchanged", plan.id))?;
                report_trouble(upstream);
            }
            Existing::Other(_) if !args.replace => {
                trouble.skipped(&plan.key, &format!("upstreams/{} exists; --replace to change it", plan.id));
            }
            Existing::Other(text) => {
                eprint(text);
                changed += 1;
                agreed.push(plan);
            }
        }
    }
    if changed > 0 && !args.dry_run {
        let what = format!("this changes {}", confirm::resources(changed));
        if args.is_stdin() && !args.yes {
            return Err(needs_yes(&what));
        }
        confirm(&what, args.yes)?;
    }
    Ok(agreed)
}

/// Says that an upstream which stays as it is does not work, if it does not.
fn report_trouble(upstream: &DynamicMessage) {
    if let "unreachable" | "unauthorized" | "incompatible" = reflection::state(upstream).0.as_str() {
        upstream::report_state(upstream);
    }
}

/// Stores a server, and waits until it is known whether it works.
async fn store(client: &ControlClient, plan: &Plan, no_wait: bool) -> Result<Outcome> {
    let kind = Kind::from_word("upstream");
    let answer = if matches!(plan.state, Existing::Nothing) {
        let request = json!({ "upstreamId": plan.id, "upstream": plan.upstream, "noWait": no_wait });
        client.call(&kind.method("Create"), request).await?
    } else {
        let request = json!({ "upstream": plan.upstream, "updateMask": plan.mask });
        client.call(&kind.method("Update"), request).await?;
        if no_wait {
            return Ok(Outcome::Stored(None));
        }
        let name = &plan.upstream["name"];
        match client.call(&kind.method("Refresh"), json!({ "name": name })).await {
            Ok(answer) => answer,
            Err(error) => return Ok(Outcome::Broken(error.to_string())),
        }
    };
    let upstream = reflection::submessage(&answer, kind.singular)
        .ok_or_else(|| Error::failure("the response contains no upstream"))?;
    if no_wait {
        return Ok(Outcome::Stored(None));
    }
    Ok(match upstream::check_works(&upstream) {
        Ok(()) => Outcome::Stored(Some(upstream)),
        Err(error) => Outcome::Broken(error.to_string()),
    })
}

fn report(plan: &Plan, outcome: Result<Outcome>, trouble: &mut Trouble) -> Result {
    let id = &plan.id;
    let done = if matches!(plan.state, Existing::Nothing) { "imported" } else { "replaced" };
    match outcome {
        Ok(Outcome::Stored(Some(upstream))) => {
            print(&format!("upstreams/{id} {done}"))?;
            upstream::report_state(&upstream);
        }
        Ok(Outcome::Stored(None)) => {
            print(&format!("upstreams/{id} stored; whether it works is not known yet"))?
        }
        Ok(Outcome::Broken(reason)) => trouble.broken(&plan.key, id, &reason),
        Err(error) => trouble.skip_if_refused(&plan.key, error)?,
    }
    Ok(())
}
