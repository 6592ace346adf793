//! Ids of tasks: sealed, so that any edge leads a question about a task to the upstream that does it, and only its
//! owner's. It must not know what is asked.

use mcp::json;

use crate::session::Owner;
use crate::session::seal::{self, Binding, Purpose, SealError};
use crate::snapshot::Trust;

/// The extension that tasks belong to.
pub const EXTENSION: &str = "io.modelcontextprotocol/tasks";

/// A task at an upstream.
#[derive(Debug, PartialEq, Eq)]
pub struct Task {
    /// The id of the upstream.
    pub upstream: String,
    /// The tool that began it, as the client calls it.
    pub tool: String,
    /// Its id there.
    pub id: String,
}

impl Task {
    /// The id that the client is given.
    pub(super) fn seal(&self, trust: &Trust, owner: Owner<'_>) -> Result<String, SealError> {
        let content = seal::join([self.upstream.as_bytes(), self.tool.as_bytes(), self.id.as_bytes()]);
        seal::seal(trust, binding(owner), &content)
    }

    /// The task that an id of ours names.
    pub fn open(trust: &Trust, owner: Owner<'_>, text: &str) -> Option<Self> {
        let content = seal::open(trust, binding(owner), text)?;
        let [upstream, tool, id] = seal::split(&content)?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        Some(Self { upstream: text(upstream)?, tool: text(tool)?, id: text(id)? })
    }
}

/// Whether capabilities, a client's or a server's, name the extension.
pub fn knows_tasks(capabilities: &str) -> bool {
    let [extensions] = json::members(capabilities, ["extensions"]).unwrap_or_default();
    extensions.is_some_and(|raw| json::members(raw, [EXTENSION]).is_ok_and(|[tasks]| tasks.is_some()))
}

fn binding(owner: Owner<'_>) -> Binding<'_> {
    Binding { purpose: Purpose::Task, server: owner.server, token: owner.token, about: &[] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::seal::tests::trust;

    #[test]
    fn a_task_is_its_owners_alone() {
        let (trust, owner) = (trust(&[1]), Owner { server: "s", token: "t" });
        let task = Task { upstream: "u".into(), tool: "u_slow".into(), id: "7".into() };
        let text = task.seal(&trust, owner).unwrap();
        assert_eq!(Task::open(&trust, owner, &text), Some(task));
        assert_eq!(Task::open(&trust, Owner { server: "s", token: "u" }, &text), None);
        assert_eq!(Task::open(&trust, owner, "7"), None);
    }

    #[test]
    fn the_extension_is_looked_for_where_it_belongs() {
        assert!(knows_tasks(r#"{"extensions":{"io.modelcontextprotocol/tasks":{}}}"#));
        for other in
            ["{}", r#"{"extensions":{}}"#, r#"{"io.modelcontextprotocol/tasks":{}}"#, r#"{"extensions":1}"#]
        {
            assert!(!knows_tasks(other), "{other}");
        }
    }
}
