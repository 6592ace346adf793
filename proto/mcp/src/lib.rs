//! The Model Context Protocol on the wire, all revisions.
//!
//! It knows nothing of Trunkline: no scopes, no registry, no snapshot. Reading order: [`message`] and [`json`] look at
//! bytes without copying them, [`splice`] edits them, [`cut`] takes values out of them, [`sse`] and [`stdio`] frame them, [`endpoint`] is
//! where those of HTTP+SSE go; [`uri`] is what clients may make of URI templates, [`mentions`] where results name others; [`revision`], [`method`],
//! [`error`], [`header`] and [`meta`] are the tables of the protocol; [`secrets`] are taken out of what a peer says;
//! [`border`] is what is made of messages and bodies that are not as they should be, [`quirk`] names it, [`entry`],
//! [`redirect`], [`session_loss`] and [`version_refusal`] are its kin; `client` (a feature) speaks it to a server.

pub mod border;
pub mod canonical;
#[cfg(feature = "client")]
pub mod client;
pub mod cut;
pub mod endpoint;
pub mod entry;
pub mod error;
pub mod extension;
#[cfg(feature = "fault")]
pub mod fault;
pub mod header;
pub mod json;
pub mod mentions;
pub mod message;
pub mod meta;
pub mod method;
pub mod quirk;
pub mod redirect;
pub mod revision;
mod scan;
pub mod secrets;
pub mod session_loss;
pub mod splice;
pub mod sse;
pub mod stdio;
pub mod uri;
pub mod version_refusal;
