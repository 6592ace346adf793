//! Collections that the standard library does not have. They must not know what is in them.

pub(crate) mod byte_queue;
mod once_map;
mod shared_map;
mod two_generation_cache;

pub(crate) use once_map::OnceMap;
pub(crate) use shared_map::{NoRoom, SharedMap};
pub(crate) use two_generation_cache::TwoGenerationCache;
