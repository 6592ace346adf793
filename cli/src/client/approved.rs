//! A call that a rule may hold back: on a terminal it is made again once somebody there says that it is approved. Modern servers ask for
//! that word themselves.

use mcp::client::ClientError;

use crate::client::conversation::Conversation;
use crate::client::form;
use crate::client::session::{EdgeSession, Inquiry};
use crate::client::unmet::Unmet;
use crate::output::progress::Spinner;

/// Makes a call, and makes it again as often as it waits and somebody says that it is approved.
pub async fn ask(
    session: &EdgeSession,
    inquiry: Inquiry<'_>,
    spinner: &Spinner,
) -> Result<String, ClientError> {
    loop {
        let answer = session.ask(inquiry, &mut Conversation::beside(spinner)).await;
        let unmet = answer.as_ref().err().and_then(Unmet::of);
        let Some(awaited) = unmet.as_ref().and_then(Unmet::awaited) else { return answer };
        if !session.is_legacy() || !form::can_be_asked() || !is_approved(awaited, spinner) {
            return answer;
        }
    }
}

/// The runtime must not wait for somebody who types.
fn is_approved(awaited: &str, spinner: &Spinner) -> bool {
    tokio::task::block_in_place(|| spinner.suspend(|| form::ask_approved(awaited)))
}
