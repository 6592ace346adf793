//! What the audit log does by itself: refusals and sign-ins are gathered and written, the chain is sealed and shortened, and looked
//! through when somebody asks.
//!
//! It must not know the rpcs that are recorded.

mod keeper;
mod recorder;
mod verify;

pub use keeper::{AuditKeeper, AuditRetention};
pub use recorder::{AuditRecorder, Incident};
pub use verify::verify;
