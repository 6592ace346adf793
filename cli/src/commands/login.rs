//! `mcpctl login` and `logout`: signs a person in at the control plane of the current context, and out again.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::Duration;

use prost_reflect::DynamicMessage;
use serde_json::{Value, json};

use crate::commands::Invocation;
use crate::commands::passwords::{self, Passwords};
use crate::context::{Context, SavedSession, Secret, environment};
use crate::control_client::ControlClient;
use crate::error::{Error, Result};
use crate::output;
use crate::parse::to_the_second;
use crate::reflection;
use crate::shell::quoted;

const SERVICE: &str = "trunkline.identity.v1.SessionService";

/// Arguments of `login`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Email address to sign in with [default: that of who is signed in]; with --link, that of the first administrator
    #[arg(long, value_name = "EMAIL")]
    email: Option<String>,
    /// One-time link, or its secret, to sign in with instead of a password; one of an invitation or a reset asks for a new password
    #[arg(long, value_name = "LINK")]
    link: Option<String>,
    /// File with the password; - reads a line of stdin. Without it, it is asked for on the terminal, or read from stdin
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// File with the new password, where another one must be chosen; - reads a line of stdin
    #[arg(long, value_name = "FILE")]
    new_password_file: Option<PathBuf>,
}

/// Arguments of `logout`.
#[derive(Debug, clap::Args)]
pub struct LogoutArgs {
    /// End all sessions of whoever is signed in, on every device
    #[arg(long)]
    all: bool,
}

/// Runs `login`.
pub async fn login(invocation: &Invocation, args: Args) -> Result {
    // Nobody is asked for what cannot be saved.
    let context = invocation.context_file.existing()?;
    let email = args.email.clone().or_else(|| known_email(&context));
    if args.link.is_none() && email.is_none() {
        let text = "nobody is signed in in this context; say who signs in with --email";
        return Err(Error::usage(text));
    }
    let client = ControlClient::connect_as(&context, None, invocation.timeout()).await?;
    let answer = match &args.link {
        Some(link) => {
            redeem(&client, link, &args).await.map_err(|error| error.calling("email", "--email"))?
        }
        None => sign_in(invocation, &context, &client, &email.unwrap_or_default(), &args).await?,
    };
    save(invocation, &answer)?;
    say_what_else_counts(&context, args.link.is_some());
    Ok(())
}

/// Signs in with a password, and chooses another where nothing else works before that.
async fn sign_in(
    invocation: &Invocation,
    context: &Context,
    client: &ControlClient,
    email: &str,
    args: &Args,
) -> Result<DynamicMessage> {
    let mut passwords = Passwords::default();
    let password = passwords.read(&format!("Password of {email}: "), args.password_file.as_deref())?;
    let device = context.device.as_ref().map(Secret::expose).unwrap_or_default();
    let request =
        json!({ "email": email, "password": password.expose(), "device": device, "agent": agent() });
    let answer = client.call(&format!("{SERVICE}/SignIn"), request).await?;
    if reflection::to_json(&answer)["mustChangePassword"] == true {
        output::eprint("another password must be chosen before anything else");
        let new = passwords.chosen(args.new_password_file.as_deref())?;
        let session = Secret::new(reflection::text(&answer, "secret"));
        passwords::set(invocation, context, &session, [&password, &new]).await?;
    }
    Ok(answer)
}

/// The address of whoever is, or was, signed in.
fn known_email(context: &Context) -> Option<String> {
    Some(context.session.as_ref()?.principal.as_deref()?.strip_prefix("users/")?.to_owned())
}

/// Says which other credential the context has, or takes the place of the session.
fn say_what_else_counts(context: &Context, is_by_link: bool) {
    if environment::api_key().is_some() {
        output::eprint(format!(
            "{key} is set, and commands go on with that key; unset {key} to act as whoever is signed in",
            key = environment::API_KEY
        ));
    }
    if is_by_link && context.has_admin_token() && !context.is_of_dev() {
        let name = quoted(&context.name);
        output::eprint(format!(
            "context {} keeps its admin token, which counts again after `mcpctl logout`; to take it out, run `mcpctl config \
             set-context {name} --clear admin-token`",
            context.name
        ));
    }
}

/// Uses a link up. Whether it takes a password is found out by it.
async fn redeem(client: &ControlClient, link: &str, args: &Args) -> Result<DynamicMessage> {
    let method = format!("{SERVICE}/RedeemLink");
    // The secret of a link for browsers is behind its `#`.
    let secret = link.rsplit_once('#').map_or(link, |(_, secret)| secret).trim();
    let email = args.email.as_deref().unwrap_or_default();
    let mut request = json!({ "secret": secret, "email": email, "agent": agent() });
    let wants_password = match client.call(&method, request.clone()).await {
        Err(error) if is_about_password(&error) => error,
        answer => return answer,
    };
    let file = args.new_password_file.as_deref().or(args.password_file.as_deref());
    if file.is_none() && !std::io::stdin().is_terminal() {
        output::eprint(format!("{wants_password}; reading it from stdin"));
    }
    request["password"] = Passwords::default().chosen(file)?.expose().into();
    client.call(&method, request).await
}

fn is_about_password(error: &Error) -> bool {
    let violations = error.refusal.iter().flat_map(|refusal| &refusal.violations);
    violations.into_iter().any(|(field, _)| field == "password")
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
pub async fn logout(invocation: &Invocation, args: LogoutArgs) -> Result {
    let context = invocation.context()?;
    let Some(session) = &context.session else {
        return Err(Error::usage("nobody is signed in in this context"));
    };
    let ended = end(&context, session, args.all, invocation.timeout()).await;
    // Whatever the control plane says, it is not used any more.
    invocation.context_file.forget_session()?;
    let who = session.principal.as_deref().unwrap_or("the session");
    let told = match ended {
        Ok(()) if args.all => output::print(&format!("{who} signed out on every device")),
        Ok(()) => output::print(&format!("{who} signed out")),
        Err(error) if is_over(&error) => {
            output::print(&format!("{who} signed out; the session had ended already"))
        }
        Err(error) => {
            output::eprint(format!(
                "the session is forgotten here, and may go on at the control plane until it ends: {error}"
            ));
            Err(Error::failure(format!("{who} is not signed out at the control plane")))
        }
    };
    say_what_goes_on(&context);
    told
}

/// Ends a session, or all of the same person, by the session itself: no other credential may do that.
async fn end(context: &Context, session: &SavedSession, all: bool, timeout: Duration) -> Result {
    let client = ControlClient::connect_as(context, Some(&session.secret), timeout).await?;
    if all {
        let caller = client.call(&format!("{SERVICE}/GetCaller"), json!({})).await?;
        let name = format!("{}/sessions/-", reflection::text(&caller, "principal"));
        return client.call(&format!("{SERVICE}/RevokeSession"), json!({ "name": name })).await.map(drop);
    }
    client.call(&format!("{SERVICE}/SignOut"), json!({})).await.map(drop)
}

/// Signs out whoever is signed in in a context that goes away. It goes away in any case.
pub async fn sign_out_of(context: &Context, timeout: Duration) {
    let Some(session) = &context.session else { return };
    let who = session.principal.as_deref().unwrap_or("whoever was signed in");
    match end(context, session, false, timeout).await {
        Ok(()) => output::eprint(format!("{who} signed out")),
        Err(error) if is_over(&error) => {}
        Err(error) => output::eprint(format!(
            "warning: the session of {who} may go on at the control plane until it ends: {error}"
        )),
    }
}

/// Says which credential counts after the session. Who signs out may not expect any.
fn say_what_goes_on(context: &Context) {
    if environment::api_key().is_some() {
        output::eprint(format!("commands go on with the API key in {}", environment::API_KEY));
    } else if context.has_admin_token() {
        let advice = match context.is_of_dev() {
            true => String::new(),
            false => format!(
                "; to take that out, run `mcpctl config set-context {} --clear admin-token`",
                quoted(&context.name)
            ),
        };
        output::eprint(format!(
            "context {} goes on as system/administrator by its admin token{advice}",
            context.name
        ));
    }
}

fn is_over(error: &Error) -> bool {
    error.refusal.as_ref().is_some_and(|refusal| refusal.reason == "SESSION_INVALID")
}

/// What the control plane shows in the list of sessions.
fn agent() -> &'static str {
    concat!("mcpctl ", env!("CARGO_PKG_VERSION"))
}
