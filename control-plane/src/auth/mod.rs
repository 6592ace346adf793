//! Proof: who may speak to the control plane, and the keys by which edges believe bearers and handles.
//!
//! It must not know the registry, the stream or any service.

pub mod admin;
pub mod aead;
pub mod api_key;
pub mod audit_seal;
pub mod caller;
pub mod credential;
pub mod keys;
pub mod link;
pub mod master;
pub mod password;
pub mod session;
pub mod throttle;
pub mod tunnel;
pub mod vault;
