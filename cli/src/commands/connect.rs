//! `mcpctl connect SERVER`: connects stdio to a server of the edge.

use std::path::Path;

use tokio::sync::watch;

use crate::bridge::connect::{self, OwnedBearer, Target};
use crate::client::access::{callers_or_signed_in, keep_renewed};
use crate::client::caller::{BearerSource, Caller, CallerFlags, Wanted};
use crate::client::standing::or_nonexistent;
use crate::commands::Invocation;
use crate::error::{Error, Result, tls};
use crate::output;

/// Arguments of `connect`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the server
    server: String,
    #[command(flatten)]
    caller: CallerFlags,
}

/// Runs `connect`.
pub async fn run(invocation: &Invocation, args: Args) -> Result {
    let context = invocation.context()?;
    let server = args.server.strip_prefix("servers/").unwrap_or(&args.server);
    let url = context.server_url(server)?;
    let url: url::Url =
        url.parse().map_err(|error| Error::usage(format!("invalid edge URL {url}: {error}")))?;
    if args.caller.bearer_file.as_deref() == Some(Path::new("-")) {
        return Err(Error::usage(
            "--bearer-file - cannot be used here: stdin carries the messages of the host",
        ));
    }
    let found = callers_or_signed_in(invocation, &context, server, Wanted::Anything, &args.caller).await;
    let callers = match found {
        Ok(callers) => callers,
        Err(error) => return Err(or_nonexistent(invocation, server, error).await),
    };
    callers.iter().try_for_each(|caller| caller.authorization().map(drop))?;
    let Some(first) = callers.first() else { return Ok(()) };
    output::eprint(format!("connecting stdio to {url} with {first}"));
    let material = tls::material_of(&context)?;
    let renewed =
        matches!(first.source, BearerSource::SignedIn(_)).then(|| watch::Sender::new(first.bearer.clone()));
    let owned = |caller: Caller| OwnedBearer {
        whose: caller.to_string(),
        secret: caller.bearer,
        renewed: renewed.as_ref().map(watch::Sender::subscribe),
    };
    let target = Target { url, bearers: callers.into_iter().map(owned).collect(), tls: material };
    let relayed = connect::run(target, tokio::io::stdin(), tokio::io::stdout());
    let Some(renewed) = &renewed else { return relayed.await };
    let renewing = async {
        keep_renewed(invocation, &context, renewed).await;
        // The bearer of now may be good for a while.
        std::future::pending().await
    };
    tokio::select! {
        ended = relayed => ended,
        () = renewing => Ok(()),
    }
}
