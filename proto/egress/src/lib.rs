//! The addresses that Trunkline may connect to: one rule for everything that it dials because a resource says so.
//!
//! A host is resolved by a [`CheckedResolver`], and only the addresses that it returns are connected to, so the address
//! that was checked is the address that is dialled. It must not know what is dialled, nor why.

mod class;
mod difference;
mod embedded;
mod options;
mod range;
mod resolver;
mod rule;

pub use class::Class;
pub use options::Options;
pub use range::{Range, RangeError, Ranges};
pub use resolver::{CheckedResolver, Resolve, ResolveError};
pub use rule::{Refusal, Rule, RuleError};
