//! The product, whole: real processes, real sockets, real clients and databases. It must not know how
//! anything works inside. `make test` runs it; alone: `tests/services.sh cargo test --test product`.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so where it stands")]

mod attacks;
mod callers;
mod calling;
mod completion;
mod conversation;
mod definitions;
mod doctor;
mod editing;
mod errors;
mod fidelity;
mod files;
mod fleet;
mod guards;
mod harness;
mod hostile;
mod hosts;
mod importing;
mod journey;
mod matrix;
mod messages;
mod options;
mod outage;
mod outputs;
mod parked;
mod pipes;
mod reaching;
mod refusals;
mod rights;
mod rolling;
mod secrets_in_files;
mod secure;
mod sessions;
mod sets;
mod sources;
mod starting;
mod states;
mod support;
mod tasks;
mod terminal;
mod tidy;
mod transports;
mod tunnels;
mod verbs;
mod watching;
