//! `mcpctl connect SERVER`: connects stdio to a server of the edge.

use crate::bridge::connect::{self, Target};
use crate::commands::Invocation;
use crate::error::{Error, Result};
use crate::output;

/// Arguments of `connect`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the server
    server: String,
    /// Saved token to use [default: the first that may call the server]
    #[arg(long, value_name = "NAME")]
    token: Option<String>,
}

/// Runs `connect`.
pub async fn run(invocation: &Invocation, args: Args) -> Result {
    let context = invocation.context()?;
    let server = args.server.strip_prefix("servers/").unwrap_or(&args.server);
    let url = context.server_url(server)?;
    let url = url.parse().map_err(|error| Error::usage(format!("invalid edge URL {url}: {error}")))?;
    let (name, token) = context.token_for(server, args.token.as_deref())?;
    output::eprint(format!("connecting stdio to {url} with token {name}"));
    let target = Target { url, bearer: token.bearer.clone() };
    connect::run(target, tokio::io::stdin(), tokio::io::stdout()).await
}
