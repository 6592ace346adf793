//! Rules: which calls are allowed of those that may be made anyway, as people wrote them, in a subset of CEL.
//!
//! A program of the subset is valid CEL and means the same as there; what is outside is refused where it stands. Programs are evaluated on
//! the bytes of a request's arguments, within bounds of time and depth. This module must not know who may write rules, nor how an edge
//! keeps what it found out.

mod check;
mod eval;
mod facts;
mod fields;
mod functions;
mod json;
mod lexer;
mod numbers;
mod parser;
mod program;
mod ruling;
mod shape;
mod syntax;
mod vain;

pub use check::Issue;
pub use facts::{Caller, Fact, Facts, OwnFacts, Target};
pub use fields::{FieldPath, FieldPathError, Reached};
pub use program::{Needs, Program, ProgramError, Unevaluable};
pub use ruling::{Effect, Mask, Obligations, Outcome, Refusal, Rule, Rules, Verdict};
pub use shape::{Constant, Kinds, Shape};
pub use vain::Known;
