//! The addresses that Trunkline may connect to: one rule for everything that it dials.
//!
//! It must not know what is dialled, nor why.
