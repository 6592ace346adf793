//! The checks that every listener makes, whatever it serves: the names that it answers to, the connections that it keeps
//! open for strangers, where their requests come from, the memory that request bodies may take, how long the rest of one is read, the shares that callers have of what is bounded, and the
//! log lines that strangers cause, what is told of events that are ever the same; and the certificates of TLS.
//!
//! It must not know what is served, nor how callers prove who they are.

mod accept;
mod body;
mod body_budget;
pub mod browser;
mod client_address;
mod client_io;
mod coalescer;
mod connections;
pub mod cors;
mod guarded;
pub mod http;
mod line_endings;
mod line_limit;
mod linger;
pub mod names;
mod options;
mod proxy_protocol;
mod shares;
mod table;
pub mod tls;
mod transport_rule;
mod write_timeout;

pub use accept::{accept, raise_file_limit, within_file_limit};
pub use body::{BodyError, BodyLimits, BoundedBody, Framing};
pub use body_budget::{BodyBudget, OverBudget, Reservation};
pub use client_address::{ClientAddressSource, ClientAddresses};
pub use client_io::{ClientIo, client_io, into_stream};
pub use coalescer::{Coalescer, Recurring, Repeated};
pub use connections::{
    CloseReason, Connection, ConnectionHandle, ConnectionHolder, Connections, PublicRequest,
    RequestInProgress, TooManyConnections,
};
pub use guarded::Guarded;
pub use line_limit::LineLimit;
pub use linger::{LentBody, linger};
pub use options::{ConnectionOptions, at_least, parse_seconds};
pub use proxy_protocol::ProxyProtocolError;
pub use shares::{Holder, OverShare, Share, Shares};
pub use table::{
    Authenticated, ConnectionId, ConnectionLimits, ConnectionTable, Eviction, Full, HolderId, Opened,
};
pub use transport_rule::TransportRule;
