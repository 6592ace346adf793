//! The side of a client of servers: whose bearer is presented, and the session with a server of the edge.
//!
//! It must not know what is asked for in the session.

pub mod acceptance;
pub mod access;
pub mod answer;
pub mod approved;
pub mod bearer_form;
pub mod caller;
pub mod clock;
pub mod conversation;
pub mod form;
pub mod interruption;
pub mod media;
pub mod proxy;
pub mod search;
pub mod session;
pub mod signature;
pub mod standing;
pub mod token_states;
mod tries;
pub mod trouble;
pub mod unmet;
