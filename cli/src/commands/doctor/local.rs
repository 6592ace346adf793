//! What can be looked at on this machine: the context file, the environment, and the ports of `mcpctl dev`.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use url::Url;

use super::check::Check;
use crate::answers::Answers;
use crate::client::caller::{EARLIER_VARIABLE, VARIABLE};
use crate::commands::dev;
use crate::context::environment::{API_KEY, CONTROL, EDGE};
use crate::context::{Context, ContextFile};
use crate::error::tls;
use crate::suggest::did_you_mean;

const FILE: &str = "context file";
const CONTEXT: &str = "context";
const ENVIRONMENT: &str = "environment";
const PORTS: &str = "ports of dev";

/// The context file: whether it can be read, and by whom; and the context in it.
pub(super) fn contexts(file: &ContextFile) -> Vec<Check> {
    if let Some(given) = file.given() {
        return vec![of_environment(given)];
    }
    let path = file.path();
    let contexts = match file.read() {
        Ok(contexts) => contexts,
        Err(error) => {
            return vec![Check::error(FILE, error, "mend that file")];
        }
    };
    if !path.exists() {
        let advice = "run `mcpctl dev`, or `mcpctl config set-context NAME --control URL --edge URL`";
        return vec![Check::fail(FILE, format!("{} does not exist", path.display()), advice)];
    }
    let mut checks = vec![rights(path)];
    match file.current_name(&contexts) {
        None => checks.push(Check::fail(
            CONTEXT,
            "none is the current one",
            "run `mcpctl config use-context NAME`",
        )),
        Some(name) => checks.extend(context(file, &name)),
    }
    checks
}

/// The gateway that variables name.
fn of_environment(given: &Context) -> Check {
    let url = |url: &Option<String>| url.clone().unwrap_or_else(|| "none".to_owned());
    let text =
        format!("of {CONTROL} and {EDGE}: control plane {}, edge {}", url(&given.control), url(&given.edge));
    Check::ok(CONTEXT, text)
}

/// Secrets are in it: nobody else may read it.
fn rights(path: &Path) -> Check {
    #[cfg(unix)]
    if let Ok(data) = std::fs::metadata(path) {
        let mode = std::os::unix::fs::PermissionsExt::mode(&data.permissions()) & 0o777;
        if mode & 0o077 != 0 {
            let text = format!("{} holds secrets, and others may read it ({mode:03o})", path.display());
            return Check::warn(FILE, text, format!("run `chmod 600 {}`", path.display()));
        }
    }
    Check::ok(FILE, format!("{} can be read by you alone", path.display()))
}

fn context(file: &ContextFile, name: &str) -> Vec<Check> {
    let context = match file.current() {
        Ok(context) => context,
        Err(error) => {
            return vec![Check::error(
                CONTEXT,
                error,
                "run `mcpctl config get-contexts`, and `mcpctl config use-context NAME`",
            )];
        }
    };
    let set = |flag: &str| format!("run `mcpctl config set-context {name} {flag}`");
    let mut checks = Vec::new();
    match (&context.control, &context.edge) {
        (Some(control), Some(edge)) => {
            checks.push(Check::ok(CONTEXT, format!("{name}: control plane {control}, edge {edge}")));
        }
        // Who was given a bearer has no control plane.
        (None, Some(edge)) => checks.push(Check::ok(
            CONTEXT,
            format!("{name}: edge {edge}, and no control plane: servers are called, and nothing is managed"),
        )),
        (Some(control), None) => checks.push(Check::warn(
            CONTEXT,
            format!("{name}: control plane {control}, and no edge: nothing is called"),
            set("--edge URL"),
        )),
        (None, None) => {
            checks.push(Check::fail(CONTEXT, format!("{name}: empty"), set("--control URL --edge URL")))
        }
    }
    if let Err(error) = context.control_bearer() {
        checks.push(Check::fail("admin token", error.to_string(), set("--admin-token-file FILE")));
    }
    if let Err(error) = tls::material_of(&context) {
        let advice = set("--ca-file FILE, or --client-cert FILE --client-key FILE");
        checks.push(Check::fail("certificates", error.to_string(), advice));
    }
    checks
}

/// The variables that change what programs do. `hosts`: what of ours stands in the files of hosts, which may name others.
pub(super) fn environment(hosts: &[String]) -> Vec<Check> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let mut checks = Vec::new();
    for name in ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
        let Some(value) = set(name) else { continue };
        // A proxy's URL may hold a password.
        let host = Url::parse(&value).ok().and_then(|url| url.host_str().map(str::to_owned));
        let except = set("NO_PROXY").or_else(|| set("no_proxy")).unwrap_or_else(|| "nothing".to_owned());
        let host = host.unwrap_or_else(|| "no URL".to_owned());
        checks.push(Check::ok(
            ENVIRONMENT,
            format!(
                "{name} is {host}: edges beyond this machine are called through it, except {except} (NO_PROXY); the control \
                 plane is never"
            ),
        ));
    }
    let known =
        [dev::variables(), [VARIABLE, EARLIER_VARIABLE, API_KEY, CONTROL, EDGE].map(str::to_owned).to_vec()]
            .concat();
    let is_of_host = |name: &String| hosts.iter().any(|entry| entry.contains(name.as_str()));
    let ours = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let mut ours: Vec<_> =
        ours.filter(|name| name.starts_with("TRUNKLINE_") || name.starts_with("MCPCTL_")).collect();
    ours.sort();
    let (used, unknown): (Vec<_>, Vec<_>) =
        ours.into_iter().partition(|name| known.contains(name) || is_of_host(name));
    for name in unknown {
        let hint = did_you_mean(&name, known.iter().map(String::as_str));
        checks.push(Check::warn(
            ENVIRONMENT,
            format!(
                "{name} is set, and neither a program of Trunkline nor the file of a host names it{hint}"
            ),
            "unset it, unless a program of yours reads it",
        ));
    }
    if !used.is_empty() {
        checks.push(Check::ok(ENVIRONMENT, format!("set: {}", used.join(", "))));
    }
    checks
}

/// Whether ports of `mcpctl dev` matter: it is used here, or nothing is used yet.
pub(super) fn is_of_dev(file: &ContextFile) -> bool {
    if file.given().is_some() {
        return false;
    }
    let current = file.read().ok().and_then(|contexts| file.current_name(&contexts));
    current.is_none_or(|name| name == dev::CONTEXT)
}

/// The ports that `mcpctl dev` listens on unless it is told otherwise.
pub(super) async fn ports() -> Vec<Check> {
    let mut checks = Vec::new();
    for (port, option, expected) in [
        (4444, "--edge-listen", Answers::Edge),
        (4445, "--control-listen", Answers::ControlPlane),
        (4446, "--ops-listen", Answers::EdgeOperations),
    ] {
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            checks.push(Check::ok(PORTS, format!("{port} is free")));
            continue;
        }
        let check = match Answers::at(&format!("http://127.0.0.1:{port}")).await {
            found if found == expected => Check::ok(PORTS, format!("{port} is that of a running gateway")),
            _ => Check::warn(
                PORTS,
                format!("{port} is in use by another program"),
                format!("start `mcpctl dev {option} 127.0.0.1:0`, or end that program"),
            ),
        };
        checks.push(check);
    }
    checks
}
