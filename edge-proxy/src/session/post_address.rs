//! The address that a client of HTTP+SSE posts to: sealed, so that any edge can deliver to the one that has the stream.
//!
//! It must not know what is posted.

use super::seal::{self, HandleBinding, Purpose, SealError};
use super::{HandleOwner, WaiterAddress};
use crate::snapshot::Trust;

/// Seals the address of a connection.
pub fn seal(trust: &Trust, owner: HandleOwner<'_>, address: &WaiterAddress) -> Result<String, SealError> {
    let content = seal::join([address.edge.as_bytes(), &address.number.to_be_bytes()]);
    seal::seal(trust, binding(owner), &content)
}

/// Opens the address of a connection, if it is the owner's.
pub fn open(trust: &Trust, owner: HandleOwner<'_>, text: &str) -> Option<WaiterAddress> {
    let content = seal::open(trust, binding(owner), text)?;
    let [edge, number] = seal::split(&content)?;
    Some(WaiterAddress {
        edge: std::str::from_utf8(edge).ok()?.into(),
        number: u64::from_be_bytes(number.try_into().ok()?),
    })
}

fn binding(owner: HandleOwner<'_>) -> HandleBinding<'_> {
    HandleBinding {
        purpose: Purpose::PostAddress,
        server: owner.server,
        principal: owner.principal,
        about: &[],
    }
}

#[cfg(test)]
mod tests {
    use super::super::seal::tests::trust;
    use super::*;

    #[test]
    fn a_mailbox_is_found_by_its_owner_alone() {
        let (trust, owner) = (trust(&[1]), HandleOwner { server: "s", principal: "t" });
        let address = WaiterAddress { edge: "e".into(), number: u64::MAX };
        let handle = seal(&trust, owner, &address).unwrap();
        assert_eq!(open(&trust, owner, &handle), Some(address));
        for other in
            [HandleOwner { server: "s", principal: "u" }, HandleOwner { server: "r", principal: "t" }]
        {
            assert_eq!(open(&trust, other, &handle), None);
        }
        assert_eq!(open(&trust, owner, &handle[..handle.len() - 2]), None);
    }
}
