//! Background work: upstreams are asked for their catalogues and kept current, keys are replaced, and
//! replicas tell each other of changes, and compare their egress rules.
//!
//! It must not know gRPC services or edges.

mod agreement;
mod catalogue_sync;
mod expiry;
mod finding;
mod housekeeping;
mod import;
mod key_care;
mod list_status;
mod notifications;
mod own_bearer;
mod pace;
mod record;
mod stale;
mod supervisor;
mod unfit;

pub use agreement::Agreement;
pub use catalogue_sync::{CatalogueSync, RefreshError};
pub use housekeeping::Housekeeping;
pub use key_care::{KeyCare, KeyCareError, KeyReport, KeyUse, Need};
pub use notifications::Notifications;
pub use supervisor::Supervisor;
