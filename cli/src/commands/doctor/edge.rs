//! Whether an edge is at the URL of the context, asked without a bearer: only an edge refuses that as edges do.

use std::time::Duration;

use super::check::Check;
use crate::client::session::EdgeServer;
use crate::context::Context;
use crate::error::Result;
use crate::shell::quoted;

const EDGE: &str = "edge";
/// Time for the answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Time for the answers of other edges.
const PATIENCE_ELSEWHERE: Duration = Duration::from_secs(3);
/// So many other edges are looked for.
const MAX_ELSEWHERE: usize = 4;
const ADVICE: &str =
    "check that an edge is running there, or run `mcpctl config set-context NAME --edge URL`";

/// Asks for a server, which need not exist: who has no bearer is told nothing of servers. `known`: where edges are, as the control
/// plane says. One of them may be the edge of the context, which has moved.
pub(super) async fn check(context: &Context, known: &[String]) -> Option<Check> {
    let edge = context.edge.as_ref()?;
    let failed = match ask(context, PATIENCE).await {
        Ok(()) => return Some(Check::ok(EDGE, format!("{edge} answers as an edge does"))),
        Err(error) => Check::error(EDGE, error, ADVICE),
    };
    for other in known.iter().filter(|other| *other != edge).take(MAX_ELSEWHERE) {
        let there = Context { edge: Some(other.clone()), ..context.clone() };
        if ask(&there, PATIENCE_ELSEWHERE).await.is_ok() {
            let name = quoted(&context.name);
            let text = format!("{}; an edge of this gateway is at {other}", failed.text);
            return Some(Check::fail(
                EDGE,
                text,
                format!("run `mcpctl config set-context {name} --edge {other}`"),
            ));
        }
    }
    Some(failed)
}

async fn ask(context: &Context, patience: Duration) -> Result {
    EdgeServer::of(context, "doctor", patience)?.refuses_nobody().await
}
