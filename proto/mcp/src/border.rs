//! The border: what a peer plainly means is taken, what it may mean in two ways is not.
//!
//! Whatever a server or a client sends is first read strictly; only what fails there comes here, or what is odd by a bit
//! that is never set for sane peers. What leaves is valid in every case. It must not know who asks, nor what a message is
//! about.

pub mod body;
pub mod cookies;
mod errors;
pub mod event_reader;
pub mod events;
pub(crate) mod excerpt;
pub mod head;
pub mod ids;
pub mod mark;
pub mod mend;

pub use body::{Coding, InflateError, Inflater, Media};
pub use event_reader::EventReader;
pub use events::{Skipped, Take};
pub use ids::Spelling;
pub use mark::{text_without_mark, without_mark};
pub use mend::{Mended, Peer, Unreadable, mend};
