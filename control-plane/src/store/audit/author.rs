//! Who makes the change that is under way, and by which rpc.
//!
//! It goes with the task that answers a request, and not through the hands of whoever writes: so nobody can forget to pass it on.

use std::sync::Arc;

/// The principal of what happens by itself.
pub const CONTROL_PLANE: &str = "system/control-plane";

tokio::task_local! {
    static AUTHOR: Arc<Author>;
}

/// Who calls, and what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Author {
    /// The name of the principal. Empty: nobody that is known.
    pub actor: String,
    /// Its uid. Empty: it has none.
    pub actor_uid: String,
    /// The name of the session or API key that proved it.
    pub through: String,
    /// Where they call from. Empty: not known.
    pub address: String,
    /// `{package}.{service}/{rpc}`.
    pub action: String,
    /// What they call the request.
    pub request_id: String,
}

impl Author {
    /// Runs a call: all that it changes meanwhile is theirs.
    pub async fn runs<F: Future>(self: Arc<Self>, call: F) -> F::Output {
        AUTHOR.scope(self, call).await
    }

    /// Whose call this is. `None`: nobody's, it happens by itself.
    pub fn current() -> Option<Arc<Self>> {
        AUTHOR.try_with(Arc::clone).ok()
    }

    /// What happens by itself.
    pub fn control_plane(action: &str) -> Arc<Self> {
        Arc::new(Self { actor: CONTROL_PLANE.to_owned(), action: action.to_owned(), ..Self::default() })
    }
}
