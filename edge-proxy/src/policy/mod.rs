//! Whether a caller may do what it asks: the one place where a `Permit` is made.
//!
//! It must not know HTTP or upstream connections. What is not allowed is told like what does not exist.

use std::sync::Arc;

use crate::route::Destination;
use crate::snapshot::{Entry, List, View, glob};

/// The right to call one entry. Only `check` makes one, and an upstream is called with one only.
#[derive(Debug, Clone)]
pub struct Permit {
    entry: Arc<Entry>,
    original: Option<Box<str>>,
}

impl Permit {
    /// The entry that may be called.
    pub fn entry(&self) -> &Arc<Entry> {
        &self.entry
    }

    /// What the upstream knows the target by.
    pub fn original(&self) -> &str {
        self.original.as_deref().unwrap_or(&self.entry.original)
    }
}

/// A permit for a destination that `view` shows.
pub fn check(view: &View, destination: Destination) -> Option<Permit> {
    let allowed = match destination.list {
        List::Tools => view.tools.contains(destination.position),
        List::Prompts => view.prompts.contains(destination.position),
        List::Resources => view.resources.contains(destination.position),
        List::ResourceTemplates => {
            view.resource_templates.contains(destination.position)
                || destination.exposed_uri.as_deref().is_some_and(|uri| glob::any(&view.resource_globs, uri))
        }
    };
    allowed.then_some(Permit { entry: destination.entry, original: destination.original })
}
