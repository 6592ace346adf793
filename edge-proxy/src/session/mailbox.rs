//! Where a client of HTTP+SSE posts its messages: sealed, so that any edge leads them to the edge that holds the stream.
//!
//! It must not know what is posted.

use super::Owner;
use super::seal::{self, Binding, Purpose, SealError};
use crate::held::Place;
use crate::snapshot::Trust;

/// The handle of the connection that is held at `place`.
pub fn seal(trust: &Trust, owner: Owner<'_>, place: &Place) -> Result<String, SealError> {
    let content = seal::join([place.edge.as_bytes(), &place.number.to_be_bytes()]);
    seal::seal(trust, binding(owner), &content)
}

/// Where the connection is held that a handle names, if it is the owner's.
pub fn open(trust: &Trust, owner: Owner<'_>, text: &str) -> Option<Place> {
    let content = seal::open(trust, binding(owner), text)?;
    let [edge, number] = seal::split(&content)?;
    Some(Place {
        edge: std::str::from_utf8(edge).ok()?.into(),
        number: u64::from_be_bytes(number.try_into().ok()?),
    })
}

fn binding(owner: Owner<'_>) -> Binding<'_> {
    Binding { purpose: Purpose::Mailbox, server: owner.server, token: owner.token, about: &[] }
}

#[cfg(test)]
mod tests {
    use super::super::seal::tests::trust;
    use super::*;

    #[test]
    fn a_mailbox_is_found_by_its_owner_alone() {
        let (trust, owner) = (trust(&[1]), Owner { server: "s", token: "t" });
        let place = Place { edge: "e".into(), number: u64::MAX };
        let handle = seal(&trust, owner, &place).unwrap();
        assert_eq!(open(&trust, owner, &handle), Some(place));
        for other in [Owner { server: "s", token: "u" }, Owner { server: "r", token: "t" }] {
            assert_eq!(open(&trust, other, &handle), None);
        }
        assert_eq!(open(&trust, owner, &handle[..handle.len() - 2]), None);
    }
}
