//! Registers what this process offers as an upstream. One that points elsewhere is not taken over without consent, except
//! from this host: what is exposed again may listen on another port.

use std::time::Duration;

use prost_reflect::DynamicMessage;
use serde_json::{Map, Value, json};

use crate::commands::Invocation;
use crate::confirm::{confirm, needs_yes};
use crate::context::Context;
use crate::control_client::ControlClient;
use crate::error::{Error, Exit, Result};
use crate::kinds::Kind;
use crate::output::eprint;
use crate::reflection;

/// The annotation of an upstream with the name of the host that exposes it. The control plane looks after it closely, since it ends
/// with a process of ours.
const EXPOSED: &str = "trunkline.dev/exposed";
/// What an upstream without a URL points to.
const TUNNEL: &str = "a tunnel";
/// The pauses between attempts to reach the control plane.
const FIRST_DELAY: Duration = Duration::from_millis(250);
const MAX_DELAY: Duration = Duration::from_secs(15);
/// The time to look before a command is started.
const LOOKING: Duration = Duration::from_secs(5);
/// The time to tell the control plane that it has ended.
const TELLING: Duration = Duration::from_secs(2);

/// The answer to the question whether an upstream that points elsewhere is to point here.
#[derive(Debug, Clone, Copy)]
pub struct Consent {
    /// It may be asked, or `yes` is the answer.
    pub replace: bool,
    /// It was given with the command.
    pub yes: bool,
    /// Whether somebody can answer: stdin is not the file.
    pub is_asked: bool,
}

/// Registers a URL, and waits until it is probed. Returns the upstream.
pub async fn register(
    client: &ControlClient,
    id: &str,
    url: &str,
    consent: Consent,
) -> Result<DynamicMessage> {
    let kind = Kind::from_word("upstream");
    let name = kind.full_name(id)?;
    claim(client, &name, Some(url), consent).await?;
    // The update only stores the URL. The refresh probes it and waits for the outcome.
    let answer = client.call(&kind.method("Refresh"), json!({ "name": name })).await?;
    let upstream = reflection::submessage(&answer, kind.singular)
        .ok_or_else(|| Error::failure("the response contains no upstream"))?;
    eprint(format!("registered as upstream {id}; it stays registered when this process ends"));
    Ok(upstream)
}

/// Does something with the control plane as soon as that is there. Fails where it refuses or something else answers, and not where
/// it is away.
pub async fn patiently<T>(label: &str, action: impl AsyncFn() -> Result<T>) -> Result<T> {
    let (mut delay, mut told) = (FIRST_DELAY, String::new());
    loop {
        let error = match action().await {
            Err(error) if error.is_temporary => error.to_string(),
            done => return done,
        };
        // What goes on is said once.
        if told != error {
            eprint(format!("[{label}] waiting for the control plane: {error}; retrying"));
            told = error;
        }
        tokio::time::sleep(delay.mul_f64(rand::random_range(0.8..1.2))).await;
        delay = (delay * 2).min(MAX_DELAY);
    }
}

/// Finds out before a command is started whether it could be registered: a control plane that refuses does so at once, and one that
/// is away may come later. `url`: where it will be, as far as that is known.
pub async fn check(context: &Context, name: &str, url: Option<&str>, consent: Consent) -> Result {
    context.control_url()?;
    context.control_bearer()?;
    let found = async {
        let client = ControlClient::connect(context, LOOKING).await?;
        existing(&client, name).await
    };
    let found = match tokio::time::timeout(LOOKING, found).await {
        Err(_) => None,
        Ok(Err(error)) if error.is_temporary => None,
        Ok(found) => found?,
    };
    match found.filter(|existing| !consent.replace && !is_ours(existing) && !is_at(existing, url)) {
        Some(elsewhere) => Err(elsewhere_already(name, from(&elsewhere), url.unwrap_or("this command"))),
        None => Ok(()),
    }
}

/// Tells the control plane that these upstreams have ended, so that it says so at once. One that cannot be told finds out by
/// itself.
pub async fn tell_end(invocation: &Invocation, ids: &[String]) {
    if ids.is_empty() {
        return;
    }
    let kind = Kind::from_word("upstream");
    let told = async {
        let client = invocation.client().await?;
        for id in ids {
            let request = json!({ "name": kind.full_name(id)?, "noWait": true });
            client.call(&kind.method("Refresh"), request).await?;
        }
        Result::Ok(())
    };
    // Who stops a program does not wait for a gateway that has ended before it.
    let _ = tokio::time::timeout(TELLING, told).await;
}

/// Makes an upstream point here: to a URL, or without one to a tunnel that this process opens.
pub async fn claim(client: &ControlClient, name: &str, url: Option<&str>, consent: Consent) -> Result {
    let existing = existing(client, name).await?;
    let (mut upstream, mut mask) = match url {
        Some(url) => (json!({ "name": name, "http": { "url": url } }), "http.url".to_owned()),
        None => (json!({ "name": name, "tunnel": {} }), "tunnel".to_owned()),
    };
    let annotations = existing.as_ref().map(annotations).unwrap_or_default();
    let is_ours = existing.as_ref().is_some_and(is_ours);
    if let Some(elsewhere) = existing.filter(|existing| !is_ours && !is_at(existing, url)) {
        agree(name, from(&elsewhere), url.unwrap_or(TUNNEL), consent).await?;
    }
    if !is_ours {
        upstream["meta"] = json!({ "annotations": annotations });
        upstream["meta"]["annotations"][EXPOSED] = host();
        mask.push_str(",meta.annotations");
    }
    let request = json!({ "upstream": upstream, "updateMask": mask, "allowMissing": true });
    client.call(&Kind::from_word("upstream").method("Update"), request).await?;
    Ok(())
}

/// The upstream of a name, if there is one.
async fn existing(client: &ControlClient, name: &str) -> Result<Option<Value>> {
    let kind = Kind::from_word("upstream");
    match client.call(&kind.method("Get"), json!({ "name": name })).await {
        Err(error) if error.exit == Exit::NotFound => Ok(None),
        answer => {
            Ok(reflection::submessage(&answer?, kind.singular).map(|upstream| reflection::to_json(&upstream)))
        }
    }
}

/// Whether this host exposes an upstream.
fn is_ours(upstream: &Value) -> bool {
    annotations(upstream).get(EXPOSED) == Some(&host())
}

/// Whether an upstream points to a URL, or without one is a tunnel.
fn is_at(upstream: &Value, url: Option<&str>) -> bool {
    upstream["http"]["url"].as_str() == url
}

/// Where an upstream points to.
fn from(upstream: &Value) -> &str {
    upstream["http"]["url"].as_str().unwrap_or(TUNNEL)
}

fn elsewhere_already(name: &str, from: &str, to: &str) -> Error {
    Error::new(
        Exit::Conflict,
        format!("{name} exists and points to {from}; add --replace to point it to {to}"),
    )
}

fn annotations(upstream: &Value) -> Map<String, Value> {
    upstream["meta"]["annotations"].as_object().cloned().unwrap_or_default()
}

/// The name of this host, as it is annotated.
fn host() -> Value {
    let system = rustix::system::uname();
    let name = system.nodename().to_string_lossy();
    if name.is_empty() { "unknown".into() } else { name.into() }
}

async fn agree(name: &str, from: &str, to: &str, consent: Consent) -> Result {
    if !consent.replace {
        return Err(elsewhere_already(name, from, to));
    }
    let what = format!("this points {name} to {to}, away from {from}");
    if !consent.is_asked && !consent.yes {
        return Err(needs_yes(&what));
    }
    // Ctrl-C ends the program while somebody is asked.
    let asked = tokio::task::spawn_blocking(move || confirm(&what, consent.yes)).await;
    asked.map_err(|error| Error::failure(error.to_string()))?
}
