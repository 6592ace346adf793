//! Fetches the catalogue of an MCP server, over all pages.

use mcp::client::{ClientError, Session};
use mcp::method::Method;

use super::{Failure, Lists, broken};

/// The maximum number of entries of a list.
const MAX_ENTRIES: usize = 20_000;

/// Fetches everything that the server offers.
pub(super) async fn lists(session: &Session, capabilities: &str) -> Result<Lists, Failure> {
    let list = |method, capability| list(session, capabilities, method, capability);
    Ok(Lists {
        tools: list(Method::ToolsList, "tools").await?,
        resources: list(Method::ResourcesList, "resources").await?,
        templates: list(Method::ResourcesTemplatesList, "resources").await?,
        prompts: list(Method::PromptsList, "prompts").await?,
    })
}

async fn list(
    session: &Session,
    capabilities: &str,
    method: Method,
    capability: &str,
) -> Result<Vec<String>, Failure> {
    if !has(capabilities, capability) {
        return Ok(Vec::new());
    }
    match session.list_all(method, MAX_ENTRIES).await {
        Ok(entries) => Ok(entries),
        // Many servers have resources and know nothing of templates, and some declare more than they have.
        Err(ClientError::Rpc { code: mcp::error::METHOD_NOT_FOUND, .. }) => Ok(Vec::new()),
        Err(error) => {
            let Failure { state, reason, .. } = broken(error);
            Err(Failure::new(state, format!("{}: {reason}", method.as_str())))
        }
    }
}

fn has(capabilities: &str, capability: &str) -> bool {
    matches!(mcp::json::members(capabilities, [capability]), Ok([Some(raw)]) if raw != "null")
}
