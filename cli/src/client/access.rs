//! Access bearers: what somebody who is signed in calls servers with where no saved token covers it.

use std::time::Duration;

use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::watch;

use crate::client::caller::{BearerSource, Caller, CallerFlags, Wanted, callers};
use crate::commands::Invocation;
use crate::context::{Context, Secret, environment};
use crate::control_client::ControlClient;
use crate::error::{Error, Exit, Result};
use crate::output::eprint;
use crate::reflection;

const CREATE: &str = "trunkline.identity.v1.SessionService/CreateAccessBearer";
/// How sessions and API keys begin; the admin token is nobody's, and calls nothing.
const OF_PEOPLE: [&str; 2] = ["tls_", "tlk_"];
/// Interval between attempts to renew one.
const RETRY: Duration = Duration::from_secs(5);

/// An access bearer, and for how long it is good.
struct AccessBearer {
    secret: Secret,
    lasts: Duration,
}

/// Returns who may call, best first: the saved tokens that cover what is wanted, or else whoever is signed in, or whom the certificate
/// of the context names.
pub async fn callers_or_signed_in(
    invocation: &Invocation,
    context: &Context,
    server: &str,
    wanted: Wanted<'_>,
    flags: &CallerFlags,
) -> Result<Vec<Caller>> {
    let file = invocation.context_file.path();
    let error = match callers(context, file, server, wanted, flags) {
        Err(error) if error.exit == Exit::NotFound => error,
        found => return found,
    };
    if flags.token.is_some() || flags.bearer_file.is_some() {
        return Err(error);
    }
    let caller = signed_in(invocation, context).await?.or_else(|| Caller::of_certificate(context));
    caller.map(|caller| vec![caller]).ok_or(error)
}

/// Returns whoever is signed in, as one who may call; `None` where that is nobody.
pub async fn signed_in(invocation: &Invocation, context: &Context) -> Result<Option<Caller>> {
    if context.control.is_none() || !is_of_a_person(context)? {
        return Ok(None);
    }
    let bearer = ask(invocation, context).await?;
    let source = BearerSource::SignedIn(who(context));
    Ok(Some(Caller { bearer: bearer.secret, source }))
}

/// The name of who is signed in in a context, as long as no key of the environment takes their place.
pub fn session_of(context: &Context) -> Option<String> {
    let is_person = context.control.is_some() && environment::api_key().is_none();
    context.session.as_ref().filter(|_| is_person).map(|_| who(context))
}

/// Renews the access bearer of whoever is signed in at half of its lifetime, for ever.
pub async fn keep_renewed(invocation: &Invocation, context: &Context, bearer: &watch::Sender<Secret>) {
    let mut wait = Duration::ZERO;
    loop {
        tokio::time::sleep(wait).await;
        wait = match ask(invocation, context).await {
            Ok(renewed) => {
                bearer.send_replace(renewed.secret);
                (renewed.lasts / 2).max(RETRY)
            }
            Err(error) if error.is_temporary => RETRY,
            Err(error) => return eprint(format!("cannot renew the access of {}: {error}", who(context))),
        };
    }
}

async fn ask(invocation: &Invocation, context: &Context) -> Result<AccessBearer> {
    let client = ControlClient::connect(context, invocation.timeout()).await?;
    let answer = reflection::to_json(&client.call(CREATE, json!({})).await?);
    let text = |member: &str| answer[member].as_str().unwrap_or_default().to_owned();
    let ends = OffsetDateTime::parse(&text("expireTime"), &Rfc3339)
        .map_err(|error| Error::failure(format!("the response contains no valid expiry: {error}")))?;
    let lasts = (ends - OffsetDateTime::now_utc()).try_into().unwrap_or_default();
    Ok(AccessBearer { secret: Secret::new(text("bearer")), lasts })
}

fn is_of_a_person(context: &Context) -> Result<bool> {
    let bearer = context.control_bearer()?;
    Ok(bearer.is_some_and(|bearer| OF_PEOPLE.iter().any(|prefix| bearer.expose().starts_with(prefix))))
}

fn who(context: &Context) -> String {
    if environment::api_key().is_some() {
        return format!("the API key in {}", environment::API_KEY);
    }
    let principal = context.session.as_ref().and_then(|session| session.principal.clone());
    principal.unwrap_or_else(|| "the API key".to_owned())
}
