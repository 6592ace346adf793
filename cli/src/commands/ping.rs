//! `mcpctl ping SERVER`: asks a server through the edge for a sign of life, as a client would, and the control plane how the upstreams
//! behind it are, where there is an admin token.

use std::time::Instant;

use mcp::method::Method;
use mcp::revision::Era;
use serde_json::json;

use crate::client::caller::Wanted;
use crate::client::conversation::Conversation;
use crate::client::session::{EdgeSession, Inquiry, SessionFlags};
use crate::client::{answer, standing};
use crate::commands::Invocation;
use crate::error::Result;
use crate::output;
use crate::output::progress::Spinner;

/// Arguments of `ping`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the server
    server: String,
    #[command(flatten)]
    session: SessionFlags,
}

/// Runs `ping`.
pub async fn run(invocation: &Invocation, args: Args) -> Result {
    let spinner = Spinner::start(format!("opening a session with {}", args.server));
    let start = Instant::now();
    let session = EdgeSession::open(invocation, &args.server, &args.session, Wanted::Anything).await?;
    let opened = start.elapsed();
    // The modern era has no ping: what a client asks first is answered as well.
    let method = match session.server.revision.era() {
        Era::Legacy => Method::Ping,
        Era::Modern => Method::ServerDiscover,
    };
    let start = Instant::now();
    let inquiry = Inquiry::reading(method, "{}");
    let answer = session.request(inquiry, &mut Conversation::beside(&spinner)).await;
    let took = start.elapsed();
    answer?;
    // The edge answers by itself, whatever is behind it.
    let trouble = standing::trouble(invocation, &session.server.name).await;
    drop(spinner);
    let millis = |time: std::time::Duration| (time.as_secs_f64() * 10_000.0).round() / 10.0;
    let told = json!({
        "server": session.server.name,
        "protocol": session.mcp.revision().to_string(),
        "caller": session.caller.to_string(),
        "openMillis": millis(opened),
        "pingMillis": millis(took),
        "trouble": trouble,
    });
    answer::print(invocation, &told.to_string(), |_| {
        format!(
            "the edge answers for {} in {} ms (session opened in {} ms, protocol {}, with {})",
            session.server.name,
            millis(took),
            millis(opened),
            session.mcp.revision(),
            session.caller
        )
    })?;
    if let Some(trouble) = trouble.filter(|_| invocation.format().is_for_people()) {
        output::eprint(format!("warning: {trouble}"));
    }
    Ok(())
}
