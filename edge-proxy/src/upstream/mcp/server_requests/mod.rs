//! Requests from a legacy upstream to a client, such as elicitations: the ids that clients see of them, and the way of the
//! responses back, from whichever edge they reach.

mod deliver;
mod id;

pub(in crate::upstream) use self::deliver::deliver_response;
pub use self::id::ServerRequestId;
pub(super) use self::id::{ReplyTo, seal};
