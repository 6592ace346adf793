//! `mcpctl login` and `logout`: signs a person in at the control plane of the current context, and out again.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use prost_reflect::DynamicMessage;
use serde_json::{Value, json};

use crate::ask;
use crate::commands::Invocation;
use crate::commands::fields::read_text;
use crate::context::{Context, SavedSession, Secret};
use crate::control_client::ControlClient;
use crate::error::{Error, Result};
use crate::output;
use crate::parse::to_the_second;
use crate::reflection;

const SERVICE: &str = "trunkline.identity.v1.SessionService";

/// Arguments of `login`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Email address to sign in with; with --link, that of the first administrator
    #[arg(long, value_name = "EMAIL", required_unless_present = "link")]
    email: Option<String>,
    /// One-time link, or its secret, to sign in with instead of a password; one of an invitation or a reset asks for a new password
    #[arg(long, value_name = "LINK")]
    link: Option<String>,
    /// File with the password; - reads stdin. Without it, it is asked for on the terminal, or read from stdin
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

/// Runs `login`.
pub async fn login(invocation: &Invocation, args: Args) -> Result {
    // Nobody is asked for what cannot be saved.
    let context = invocation.context_file.existing()?;
    let stranger = Context { session: None, admin_token: None, admin_token_file: None, ..context.clone() };
    let client = ControlClient::connect(&stranger, invocation.timeout()).await?;
    let file = args.password_file.as_deref();
    let answer = match &args.link {
        Some(link) => redeem(&client, link, args.email.as_deref(), file)
            .await
            .map_err(|error| error.calling("email", "--email"))?,
        None => {
            let password = password("Password: ", file)?;
            let device = context.device.as_ref().map(Secret::expose).unwrap_or_default();
            let request = json!({
                "email": args.email, "password": password.expose(), "device": device, "agent": agent(),
            });
            let answer = client.call(&format!("{SERVICE}/SignIn"), request).await?;
            if reflection::to_json(&answer)["mustChangePassword"] == true {
                change(invocation, &context, &answer, &password).await?;
            }
            answer
        }
    };
    save(invocation, &answer)
}

/// Uses a link up. Whether it takes a password is found out by it.
async fn redeem(
    client: &ControlClient,
    link: &str,
    email: Option<&str>,
    file: Option<&Path>,
) -> Result<DynamicMessage> {
    let method = format!("{SERVICE}/RedeemLink");
    // The secret of a link for browsers is behind its `#`.
    let secret = link.rsplit_once('#').map_or(link, |(_, secret)| secret).trim();
    let mut request = json!({ "secret": secret, "email": email.unwrap_or_default(), "agent": agent() });
    let wants_password = match client.call(&method, request.clone()).await {
        Err(error) if is_about_password(&error) => error,
        answer => return answer,
    };
    if file.is_none() && !std::io::stdin().is_terminal() {
        output::eprint(format!("{wants_password}; reading it from stdin"));
    }
    request["password"] = new_password(file)?.expose().into();
    client.call(&method, request).await
}

fn is_about_password(error: &Error) -> bool {
    let violations = error.refusal.iter().flat_map(|refusal| &refusal.violations);
    violations.into_iter().any(|(field, _)| field == "password")
}

/// Chooses another password, where nothing else works before that.
async fn change(
    invocation: &Invocation,
    context: &Context,
    answer: &DynamicMessage,
    password: &Secret,
) -> Result {
    let session =
        SavedSession { secret: Secret::new(reflection::text(answer, "secret")), ..SavedSession::default() };
    let context = Context { session: Some(session), ..context.clone() };
    output::eprint("another password must be chosen before anything else");
    let new = new_password(None)?;
    let request = json!({ "password": password.expose(), "newPassword": new.expose() });
    let client = ControlClient::connect(&context, invocation.timeout()).await?;
    client.call(&format!("{SERVICE}/ChangePassword"), request).await.map(drop)
}

/// Saves the session, and says whose it is.
fn save(invocation: &Invocation, answer: &DynamicMessage) -> Result {
    let json = reflection::to_json(answer);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let name = text(&json["session"]["name"]);
    let principal = name.split("/sessions/").next().unwrap_or_default().to_owned();
    let expires = text(&json["session"]["expireTime"]);
    let session = SavedSession {
        secret: Secret::new(text(&json["secret"])),
        principal: Some(principal.clone()),
        expires: Some(expires.clone()),
    };
    invocation.context_file.save_session(session, Secret::new(text(&json["device"])))?;
    let people = || format!("signed in as {principal} until {}", to_the_second(&expires));
    let shown = json!({ "principal": principal, "session": name, "expireTime": expires });
    output::print(&output::value(&shown, invocation.format(), people)?)
}

/// Runs `logout`.
pub async fn logout(invocation: &Invocation) -> Result {
    let context = invocation.context()?;
    let Some(session) = &context.session else {
        return Err(Error::usage("nobody is signed in in this context"));
    };
    let ended = async {
        let client = ControlClient::connect(&context, invocation.timeout()).await?;
        client.call(&format!("{SERVICE}/SignOut"), json!({})).await
    };
    let ended = ended.await;
    // Whatever the control plane says, it is not used any more.
    invocation.context_file.forget_session()?;
    let who = session.principal.as_deref().unwrap_or("the session");
    match ended {
        Ok(_) => output::print(&format!("{who} signed out")),
        Err(error) if is_over(&error) => {
            output::print(&format!("{who} signed out; the session had ended already"))
        }
        Err(error) => {
            output::eprint(format!(
                "the session is forgotten here, and may go on at the control plane until it ends: {error}"
            ));
            Err(Error::failure(format!("{who} is not signed out at the control plane")))
        }
    }
}

fn is_over(error: &Error) -> bool {
    error.refusal.as_ref().is_some_and(|refusal| refusal.reason == "SESSION_INVALID")
}

/// What the control plane shows in the list of sessions.
fn agent() -> &'static str {
    concat!("mcpctl ", env!("CARGO_PKG_VERSION"))
}

/// Reads a password: from a file, else from the terminal, else from stdin.
fn password(question: &str, file: Option<&Path>) -> Result<Secret> {
    let text = match file {
        Some(path) => read_text(path)?,
        None if std::io::stdin().is_terminal() => ask::secret(question)?,
        None => read_text(Path::new("-"))?,
    };
    Ok(Secret::new(text.trim_end_matches(['\r', '\n'])))
}

/// Reads a password that somebody chooses, on a terminal twice.
fn new_password(file: Option<&Path>) -> Result<Secret> {
    let first = password("New password: ", file)?;
    if file.is_none() && std::io::stdin().is_terminal() && password("Again: ", None)? != first {
        return Err(Error::usage("the passwords differ; nothing was changed"));
    }
    Ok(first)
}
