//! Registers what this process offers as an upstream. One that points elsewhere is not taken over without consent, except
//! from this host: what is exposed again may listen on another port.

use std::time::Duration;

use prost_reflect::DynamicMessage;
use serde_json::{Map, Value, json};

use crate::commands::Invocation;
use crate::confirm::{confirm, needs_yes};
use crate::control_client::ControlClient;
use crate::error::{Error, Exit, Result};
use crate::kinds::Kind;
use crate::output::eprint;
use crate::reflection;

/// The annotation of an upstream with the name of the host that exposes it. The control plane looks after it closely, since it ends
/// with a process of ours.
const EXPOSED: &str = "trunkline.dev/exposed";
/// The pauses between attempts to reach the control plane.
const FIRST_DELAY: Duration = Duration::from_millis(250);
const MAX_DELAY: Duration = Duration::from_secs(15);
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
    let kind = Kind::from_word("upstream");
    let existing = match client.call(&kind.method("Get"), json!({ "name": name })).await {
        Err(error) if error.exit == Exit::NotFound => None,
        answer => {
            reflection::submessage(&answer?, kind.singular).map(|upstream| reflection::to_json(&upstream))
        }
    };
    let host = host();
    let (mut upstream, mut mask) = match url {
        Some(url) => (json!({ "name": name, "http": { "url": url } }), "http.url".to_owned()),
        None => (json!({ "name": name, "tunnel": {} }), "tunnel".to_owned()),
    };
    let annotations = existing.as_ref().map(annotations).unwrap_or_default();
    let is_here = |existing: &Value| existing["http"]["url"].as_str() == url;
    let is_ours = annotations.get(EXPOSED) == Some(&host);
    if let Some(elsewhere) = existing.filter(|existing| !is_ours && !is_here(existing)) {
        agree(name, elsewhere["http"]["url"].as_str(), url, consent).await?;
    }
    if !is_ours {
        upstream["meta"] = json!({ "annotations": annotations });
        upstream["meta"]["annotations"][EXPOSED] = host;
        mask.push_str(",meta.annotations");
    }
    let request = json!({ "upstream": upstream, "updateMask": mask, "allowMissing": true });
    client.call(&kind.method("Update"), request).await?;
    Ok(())
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

async fn agree(name: &str, from: Option<&str>, to: Option<&str>, consent: Consent) -> Result {
    let [from, to] = [from, to].map(|url| url.unwrap_or("a tunnel"));
    if !consent.replace {
        let text = format!("{name} exists and points to {from}; add --replace to point it to {to}");
        return Err(Error::new(Exit::Conflict, text));
    }
    let what = format!("this points {name} to {to}, away from {from}");
    if !consent.is_asked && !consent.yes {
        return Err(needs_yes(&what));
    }
    // Ctrl-C ends the program while somebody is asked.
    let asked = tokio::task::spawn_blocking(move || confirm(&what, consent.yes)).await;
    asked.map_err(|error| Error::failure(error.to_string()))?
}
