//! What an edge makes of a bearer: whether it accepts it, and shows it a server.

use std::time::Duration;

use mcp::client::ClientError;

use crate::client::caller::Caller;
use crate::client::session::EdgeServer;
use crate::client::trouble::{Repeating, is_rejection};
use crate::client::unmet::Unmet;
use crate::context::Context;
use crate::error::Error;

/// What an edge says of a bearer.
pub enum Acceptance {
    /// It opens a session with the server.
    Opened,
    /// It accepts the bearer, and shows it no such server.
    Hidden,
    /// It rejects the bearer.
    Rejected(Error),
    /// It accepts the bearer, and a condition of its token does not hold here and now.
    Unmet(Error),
    /// No edge has answered.
    Unknown(Error),
}

impl Acceptance {
    /// Asks the edge of a context.
    pub async fn at(context: &Context, server: &str, caller: &Caller, patience: Duration) -> Self {
        let asked = async {
            let server = EdgeServer::of(context, server, patience)?;
            let opened = server.open(caller.authorization()?, "{}").await;
            Ok::<_, Error>((server, opened))
        };
        match asked.await {
            Ok((_, Ok(session))) => {
                session.close().await;
                Self::Opened
            }
            Ok((_, Err(ClientError::Rpc { status: 404, .. }))) => Self::Hidden,
            Ok((server, Err(error))) if is_rejection(&error) => {
                Self::Rejected(server.explain(error, caller, Repeating::Harmless))
            }
            Ok((server, Err(error))) => {
                let is_unmet = Unmet::of(&error).is_some_and(|unmet| unmet.is_of_condition());
                let told = server.diagnosed(error, caller).await;
                if is_unmet { Self::Unmet(told) } else { Self::Unknown(told) }
            }
            Err(error) => Self::Unknown(error),
        }
    }
}
