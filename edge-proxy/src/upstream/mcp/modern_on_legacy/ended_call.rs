//! Notes that a parked call which a client has resumed has ended, so that its `requestState` resumes nothing more.
//!
//! It must not know how calls are parked or resumed.

use std::rc::Rc;
use std::sync::Arc;

use super::parked_call::ParkedCall;
use crate::session::{EndedCall, event};
use crate::upstream::{Context, Environment};

/// The end of a parked call that a client has resumed.
#[derive(Clone)]
pub(in crate::upstream) struct ParkedCallEnd {
    environment: Arc<Environment>,
    call: EndedCall,
}

impl ParkedCallEnd {
    /// That of `parked`.
    pub(super) fn of(context: &Rc<Context>, parked: &ParkedCall) -> Self {
        let call = EndedCall::of(&parked.upstream, &parked.session, parked.number);
        Self { environment: Arc::clone(&context.environment), call }
    }

    /// Whether it has come, as far as this edge knows.
    pub(super) fn has_come(&self) -> bool {
        self.environment.ended_calls.contains(self.call)
    }

    /// Notes that it has come, here and at the siblings.
    pub(super) fn note(self) {
        self.environment.ended_calls.add(self.call);
        let ended = event::call_ended(self.call);
        tokio::task::spawn_local(async move { self.environment.fleet.broadcast(ended).await });
    }
}

impl std::fmt::Debug for ParkedCallEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ParkedCallEnd").field(&self.call).finish()
    }
}
