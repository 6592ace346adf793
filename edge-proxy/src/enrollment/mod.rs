//! The identity of this edge towards control planes: its id, its credential, and its address for siblings.
//!
//! It must not know the streams that these open.

mod address;
mod credential;
pub(crate) mod edge_id;

pub use address::AdvertisedAddress;
pub use credential::{CredentialError, EdgeCredential, Enrollment, unreached};
