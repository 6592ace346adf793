//! Bodies of lists, rendered when first requested and kept while there is room.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use mcp::revision::Era;

/// A list that clients request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum List {
    /// `tools/list`.
    Tools,
    /// `resources/list`.
    Resources,
    /// `resources/templates/list`.
    ResourceTemplates,
    /// `prompts/list`.
    Prompts,
}

impl List {
    /// All of them.
    pub const ALL: [List; 4] = [List::Tools, List::Resources, List::ResourceTemplates, List::Prompts];
}

/// The limits of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageLimits {
    /// Entries a page, at least 1.
    pub entries: usize,
}

/// The pages of one list. There is always one, even if it is empty.
#[derive(Debug)]
pub struct Pages {
    /// The array of definitions of each page, and the end of the message that it stands in: `[{…},{…}]}}`. Nothing
    /// comes after it, because what follows a long part costs a write and a packet of its own.
    pub pages: Vec<Bytes>,
}

/// The end of the result, and of the message.
const END: &[u8] = b"}}";

/// The bytes of rendered lists that all views may keep together. Past it, lists are rendered for each request and
/// dropped again.
#[derive(Debug, Clone)]
pub struct Budget(Arc<AtomicUsize>);

/// The rendered lists of one view, by list and era.
#[derive(Debug)]
pub struct Lists {
    slots: [OnceLock<Arc<Pages>>; 8],
    limits: PageLimits,
    budget: Budget,
}

impl Default for PageLimits {
    fn default() -> Self {
        PageLimits { entries: 1_000 }
    }
}

impl Default for Budget {
    fn default() -> Self {
        Budget::new(256 << 20)
    }
}

impl Budget {
    /// Creates a budget of so many bytes.
    pub fn new(bytes: usize) -> Budget {
        Budget(Arc::new(AtomicUsize::new(bytes)))
    }

    /// Counts the bytes that are left.
    #[cfg(test)]
    pub(super) fn left(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes)).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Pages {
    /// Joins definitions into arrays.
    pub fn render(definitions: &[&Bytes], limits: PageLimits) -> Pages {
        if definitions.is_empty() {
            return Pages { pages: vec![array(&[])] };
        }
        Pages { pages: definitions.chunks(limits.entries.max(1)).map(array).collect() }
    }

    /// Counts the bytes of the bodies.
    pub fn bytes(&self) -> usize {
        self.pages.iter().map(Bytes::len).sum()
    }
}

fn array(definitions: &[&Bytes]) -> Bytes {
    let length = definitions.iter().map(|d| d.len() + 1).sum::<usize>() + 2 + END.len();
    let mut body = Vec::with_capacity(length);
    body.push(b'[');
    for (at, definition) in definitions.iter().enumerate() {
        if at > 0 {
            body.push(b',');
        }
        body.extend_from_slice(definition);
    }
    body.push(b']');
    body.extend_from_slice(END);
    Bytes::from(body)
}

impl Lists {
    /// Creates lists that are not rendered yet.
    pub fn new(limits: PageLimits, budget: Budget) -> Lists {
        Lists { slots: std::array::from_fn(|_| OnceLock::new()), limits, budget }
    }

    /// Returns the pages of `list` in `era`, rendering `definitions` if they are not kept.
    pub fn get<'a>(&self, list: List, era: Era, definitions: impl FnOnce() -> Vec<&'a Bytes>) -> Arc<Pages> {
        let slot = self.slot(list, era);
        if let Some(pages) = slot.get() {
            return Arc::clone(pages);
        }
        let pages = Arc::new(Pages::render(&definitions(), self.limits));
        let size = pages.bytes();
        // Two workers may render the same list at once; the second result is dropped.
        if self.budget.take(size) && slot.set(Arc::clone(&pages)).is_err() {
            self.budget.give_back(size);
        }
        pages
    }

    /// Iterates over the lists that are kept.
    pub fn rendered(&self) -> impl Iterator<Item = (List, Era)> {
        let all = List::ALL.into_iter().flat_map(|list| [(list, Era::Legacy), (list, Era::Modern)]);
        all.filter(|(list, era)| self.slot(*list, *era).get().is_some())
    }

    fn slot(&self, list: List, era: Era) -> &OnceLock<Arc<Pages>> {
        &self.slots[list as usize * 2 + era as usize]
    }
}

impl Drop for Lists {
    fn drop(&mut self) {
        self.budget.give_back(self.slots.iter().filter_map(OnceLock::get).map(|pages| pages.bytes()).sum());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bodies(pages: &Pages) -> Vec<&[u8]> {
        pages.pages.iter().map(AsRef::as_ref).collect()
    }

    #[test]
    fn pages_hold_at_most_so_many_entries_and_are_never_none() {
        let definitions: Vec<Bytes> = (1..=5).map(|n| Bytes::from(n.to_string())).collect();
        let all: Vec<&Bytes> = definitions.iter().collect();
        let limits = PageLimits { entries: 2 };
        assert_eq!(bodies(&Pages::render(&all, limits)), [&b"[1,2]}}"[..], b"[3,4]}}", b"[5]}}"]);
        assert_eq!(bodies(&Pages::render(&all[..2], limits)), [b"[1,2]}}"]);
        assert_eq!(bodies(&Pages::render(&[], limits)), [b"[]}}"]);
    }

    #[test]
    fn lists_are_rendered_once_while_the_budget_lasts_and_give_it_back() {
        let budget = Budget::new(7);
        let (first, second) = (Bytes::from_static(b"1"), Bytes::from_static(b"2"));
        let lists = Lists::new(PageLimits::default(), budget.clone());
        let rendered = lists.get(List::Tools, Era::Modern, || vec![&first]);
        let again = lists.get(List::Tools, Era::Modern, || unreachable!("it is kept"));
        assert!(Arc::ptr_eq(&rendered, &again));

        let over = lists.get(List::Prompts, Era::Modern, || vec![&second]);
        let over_again = lists.get(List::Prompts, Era::Modern, || vec![&second]);
        assert!(!Arc::ptr_eq(&over, &over_again), "there is no room to keep it");
        assert_eq!(bodies(&over_again), [b"[2]}}"]);

        drop(lists);
        assert!(budget.take(7));
    }
}
