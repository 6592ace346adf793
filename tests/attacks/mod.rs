//! Attacks on a whole gateway, over real sockets: one file for each thing that an attacker is after. Each asserts what the
//! attacker gets, and that what others have goes on.

mod addresses;
mod deputies;
mod egress;
mod enrollment;
mod floods;
mod names;
mod scopes;
mod seats;
mod sign_in;
mod terminal;
mod tunnels;
mod upstreams;
mod withdrawn;
mod withdrawn_people;
