//! Speaks the protocol to a server over Streamable HTTP in both eras, HTTP+SSE and WebSocket.
//!
//! It must not know who asks or why. Everything that a server sends is bounded in size, and every wait in time.
//! Texts of errors never hold what the endpoint's headers or query say.

mod answer;
mod body;
mod channel;
mod connections;
mod dial;
mod endpoint;
mod error;
mod handshake;
mod hearer;
mod http;
mod input;
mod list;
mod listen;
mod notice;
mod probe;
mod quirk_log;
mod resolve;
mod rpc;
mod session;
mod websocket;

pub use crate::fault::Fault;
pub use crate::quirk::Quirk;
pub use dial::{Connection, Dial};
pub use endpoint::{ClientInfo, Endpoint, Reach, TlsMaterial};
pub use error::{ClientError, ProbeError};
pub use handshake::ServerFacts;
pub use hearer::{Answering, Hearer};
pub use list::Listing;
pub use listen::Notices;
pub use notice::ChangeNotice;
pub use probe::{Attempt, Findings, LegacySide, ModernSide, Probe, Transport, probe, probe_modern};
pub use quirk_log::QuirkNote;
pub use resolve::{Resolution, Resolve, ResolveError};
pub use session::Session;
pub use url::Url;
pub use websocket::SUBPROTOCOL;

/// The largest message that is read, as a body or as an event.
pub const MAX_MESSAGE_BYTES: usize = 16 << 20;
