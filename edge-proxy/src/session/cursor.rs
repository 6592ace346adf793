//! Cursors of lists: sealed, bound to caller, server and list. It must not know what is listed.

use super::HandleOwner;
use super::seal::{self, HandleBinding, Purpose, SealError};
use crate::snapshot::Trust;

/// The position in a list where its next page starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// The generation of the list.
    pub generation: u64,
    /// The number of the page.
    pub page: u32,
}

impl Cursor {
    /// Seals the cursor for a client.
    pub fn seal(self, trust: &Trust, owner: HandleOwner<'_>, list: &str) -> Result<String, SealError> {
        let mut content = [0; 12];
        content[..8].copy_from_slice(&self.generation.to_be_bytes());
        content[8..].copy_from_slice(&self.page.to_be_bytes());
        seal::seal(trust, binding(owner, &[list]), &content)
    }

    /// Opens a cursor that a client sent.
    pub fn open(trust: &Trust, owner: HandleOwner<'_>, list: &str, text: &str) -> Option<Self> {
        let content = seal::open(trust, binding(owner, &[list]), text)?;
        let (generation, page) = content.split_first_chunk::<8>()?;
        Some(Self {
            generation: u64::from_be_bytes(*generation),
            page: u32::from_be_bytes(page.try_into().ok()?),
        })
    }
}

fn binding<'a>(owner: HandleOwner<'a>, about: &'a [&'a str]) -> HandleBinding<'a> {
    HandleBinding { purpose: Purpose::Cursor, server: owner.server, principal: owner.principal, about }
}

#[cfg(test)]
mod tests {
    use super::super::seal::tests::trust;
    use super::*;

    #[test]
    fn a_cursor_is_good_for_its_owner_and_its_list() {
        let (trust, owner) = (trust(&[1]), HandleOwner { server: "s", principal: "t" });
        let cursor = Cursor { generation: u64::MAX, page: 3 };
        let text = cursor.seal(&trust, owner, "tools").unwrap();
        assert_eq!(Cursor::open(&trust, owner, "tools", &text), Some(cursor));
        assert_eq!(Cursor::open(&trust, owner, "prompts", &text), None);
        assert_eq!(Cursor::open(&trust, HandleOwner { server: "s", principal: "u" }, "tools", &text), None);
        assert_eq!(Cursor::open(&trust, owner, "tools", ""), None);
    }
}
