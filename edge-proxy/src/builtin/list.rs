//! Lists: a page that is rendered already, after a few bytes of this request. It must not call upstreams.

use bytes::Bytes;
use mcp::json;
use mcp::meta;
use mcp::method::Method;
use mcp::revision::Era;

use crate::error::Failure;
use crate::respond::Reply;
use crate::scene::Scene;
use crate::session::cursor::Cursor;
use crate::snapshot::{List, Server};
use crate::transport::Message;

/// The page of a list that a request asks for.
pub(super) fn page(
    scene: &Scene<'_>,
    era: Era,
    message: &Message<'_>,
    method: Method,
) -> Result<Reply, Failure> {
    let (list, member) = of_method(method).ok_or(Failure::Method)?;
    let generation = generation(&scene.view.server, list);
    let number = number(scene, message, member, generation)?;
    let pages = scene.view.pages(list, era);
    let page = pages.pages.get(number as usize).ok_or_else(outdated)?.clone();
    let next = number + 1;
    let mut said = String::new();
    if (next as usize) < pages.pages.len() {
        let cursor = Cursor { generation, page: next }.seal(&scene.snapshot.trust, scene.owner(), member);
        let cursor = cursor.map_err(|error| Failure::Internal(error.to_string()))?;
        said = format!(r#""nextCursor":"{cursor}","#);
    }
    if era == Era::Modern {
        said.push_str(&cache_hints(scene));
    }
    let id = message.envelope.id.unwrap_or("null");
    let start = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{{said}"{member}":"#);
    // A page holds the end of the message as well.
    Ok(Reply::json([Bytes::from(start), page]))
}

/// What a modern list says of itself. Another token may see another list, so nobody may share it.
fn cache_hints(scene: &Scene<'_>) -> String {
    format!(
        r#""resultType":"complete","ttlMs":0,"cacheScope":"private","_meta":{{"{}":{}}},"#,
        meta::SERVER_INFO,
        scene.server_info(),
    )
}

/// The page that the cursor names; the first where there is none.
fn number(scene: &Scene<'_>, message: &Message<'_>, member: &str, generation: u64) -> Result<u32, Failure> {
    let Some(raw) = message.params.cursor.filter(|raw| *raw != "null") else { return Ok(0) };
    let text = json::string(raw).map_err(|_| Failure::params("params.cursor must be a string"))?;
    let cursor = Cursor::open(&scene.snapshot.trust, scene.owner(), member, &text);
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
