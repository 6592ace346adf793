//! Lists: a page that is rendered already, after a few bytes of its own. It must not call upstreams.

use bytes::Bytes;
use mcp::json;
use mcp::meta;
use mcp::method::Method;
use mcp::revision::Era;

use crate::context::RequestContext;
use crate::error::Failure;
use crate::respond::Reply;
use crate::session::cursor::Cursor;
use crate::snapshot::{List, Server};
use crate::transport::Message;

/// Answers a list request with its page.
pub(super) fn page(
    context: &RequestContext<'_>,
    era: Era,
    message: &Message<'_>,
    method: Method,
) -> Result<Reply, Failure> {
    let (list, member) = of_method(method).ok_or(Failure::Method)?;
    let generation = generation(context.server(), list);
    let number = number(context, message, member, generation)?;
    let pages = context.view().pages(list, era);
    let page = pages.pages.get(number as usize).ok_or_else(outdated)?.clone();
    let next = number + 1;
    let mut members = String::new();
    if (next as usize) < pages.pages.len() {
        let cursor = Cursor { generation, page: next }.seal(&context.snapshot.trust, context.owner(), member);
        let cursor = cursor.map_err(|error| Failure::Internal(error.to_string()))?;
        members = format!(r#""nextCursor":"{cursor}","#);
    }
    if era == Era::Modern {
        members.push_str(&cache_hints(context));
    }
    let id = message.envelope.id.unwrap_or("null");
    let start = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{{members}"{member}":"#);
    // A page contains the end of the message as well.
    Ok(Reply::json([Bytes::from(start), page]))
}

/// Renders the members of a modern result. Another token may see another list, so the page must not be shared.
fn cache_hints(context: &RequestContext<'_>) -> String {
    format!(
        r#""resultType":"complete","ttlMs":0,"cacheScope":"private","_meta":{{"{}":{}}},"#,
        meta::SERVER_INFO,
        context.server_info(),
    )
}

/// Returns the number of the page that the cursor names; the first without one.
fn number(
    context: &RequestContext<'_>,
    message: &Message<'_>,
    member: &str,
    generation: u64,
) -> Result<u32, Failure> {
    // No cursor of ours is empty.
    let given = message.params.cursor.filter(|raw| *raw != "\"\"");
    let Some(raw) = given else { return Ok(0) };
    let text = json::string(raw).map_err(|_| Failure::params("params.cursor must be a string"))?;
    let cursor = Cursor::open(&context.snapshot.trust, context.owner(), member, &text);
    let cursor = cursor.ok_or_else(|| Failure::params("params.cursor was not issued for this list"))?;
    if cursor.generation == generation { Ok(cursor.page) } else { Err(outdated()) }
}

fn outdated() -> Failure {
    Failure::params("the list has changed since this cursor was issued; start again without a cursor")
}

fn of_method(method: Method) -> Option<(List, &'static str)> {
    let list = match method {
        Method::ToolsList => List::Tools,
        Method::PromptsList => List::Prompts,
        Method::ResourcesList => List::Resources,
        Method::ResourcesTemplatesList => List::ResourceTemplates,
        _ => return None,
    };
    Some((list, method.list_member()?))
}

fn generation(server: &Server, list: List) -> u64 {
    match list {
        List::Tools => server.tools_generation,
        List::Prompts => server.prompts_generation,
        List::Resources | List::ResourceTemplates => server.resources_generation,
    }
}
