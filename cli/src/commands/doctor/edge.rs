//! Whether an edge is at the URL of the context, asked without a bearer: only an edge refuses that as edges do.

use std::time::Duration;

use super::check::Check;
use crate::client::session::EdgeServer;
use crate::context::Context;

const EDGE: &str = "edge";
/// Time for the answer.
const PATIENCE: Duration = Duration::from_secs(10);
const ADVICE: &str =
    "check that an edge is running there, or run `mcpctl config set-context NAME --edge URL`";

/// Asks for a server, which need not exist: who has no bearer is told nothing of servers.
pub(super) async fn check(context: &Context) -> Option<Check> {
    let edge = context.edge.as_ref()?;
    let asked = async { EdgeServer::of(context, "doctor", PATIENCE)?.refuses_nobody().await };
    Some(match asked.await {
        Ok(()) => Check::ok(EDGE, format!("{edge} answers as an edge does")),
        Err(error) => Check::error(EDGE, error, ADVICE),
    })
}
