//! Watches an MCP server for changes that it announces.

use std::future::ready;

use futures_util::StreamExt as _;
use mcp::client::{ChangeNotice, Session};

use crate::importers::{Announced, Announcements};

/// Listens for announced changes of lists. `None` where the server announces none.
pub(super) async fn announcements(session: &Session) -> Option<Announcements> {
    match session.listen().await {
        Ok(notices) => {
            let heard = notices.take_while(|notice| ready(notice.is_ok()));
            Some(heard.filter_map(|notice| ready(notice.ok().map(announced))).boxed())
        }
        Err(error) => {
            tracing::debug!(%error, "cannot subscribe to the changes of an upstream");
            None
        }
    }
}

fn announced(notice: ChangeNotice) -> Announced {
    match notice {
        ChangeNotice::Tools => Announced { tools: true, ..Announced::default() },
        ChangeNotice::Resources => Announced { resources: true, ..Announced::default() },
        ChangeNotice::Prompts => Announced { prompts: true, ..Announced::default() },
    }
}
