//! `border`, `redirect`, `session_loss` and `version_refusal`: what is tolerated, what is not, and that nothing else changes.

mod body;
mod cookies;
mod event_reader;
mod events;
mod excerpt;
mod ids;
mod mend;
mod quirks;
mod redirect;
mod session_loss;
mod version_refusal;
