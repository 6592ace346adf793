//! What differs between two sets of resources.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::{Item, Items};

/// Walks through the names of which `before` and `after` do not have the same version, with what `before` has, in one pass over
/// both. What both share is not even compared.
pub(super) fn differences<'a>(
    before: &'a Items,
    after: &'a Items,
) -> impl Iterator<Item = (&'a Arc<str>, Option<&'a Arc<Item>>)> {
    let (mut before, mut after) = (before.iter().peekable(), after.iter().peekable());
    std::iter::from_fn(move || {
        loop {
            let order = match (before.peek(), after.peek()) {
                (None, None) => return None,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((old, _)), Some((new, _))) if Arc::ptr_eq(old, new) => Ordering::Equal,
                (Some((old, _)), Some((new, _))) => old.cmp(new),
            };
            match order {
                Ordering::Less => return before.next().map(|(name, item)| (name, Some(item))),
                Ordering::Greater => return after.next().map(|(name, _)| (name, None)),
                Ordering::Equal => {
                    let pair = before.next().zip(after.next());
                    if let Some(((name, old), (_, new))) = pair
                        && !Arc::ptr_eq(old, new)
                        && old.version != new.version
                    {
                        return Some((name, Some(old)));
                    }
                }
            }
        }
    })
}
