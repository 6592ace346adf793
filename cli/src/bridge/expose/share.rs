//! Fair shares of what clients hold here without a credential: an address has what is left for others. It must not know what
//! is held.

use std::convert::Infallible;
use std::net::IpAddr;

use axum::extract::FromRequestParts;
use http::request::Parts;
use inbound::ConnectionHandle;

/// Where a request comes from: the address that it counts for. Through a tunnel there is none, and nobody to share with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Source(Option<IpAddr>);

impl<S: Sync> FromRequestParts<S> for Source {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(parts.extensions.get::<ConnectionHandle>().map(ConnectionHandle::subscriber)))
    }
}

impl Source {
    /// Returns whether one more of at most `max` things is for it, where `taken` are the sources of those that there are: it may
    /// have as many as are left then.
    pub fn has_room(self, max: usize, taken: impl Iterator<Item = Self>) -> bool {
        let (mut all, mut own) = (1, 1);
        for source in taken {
            all += 1;
            own += usize::from(source == self);
        }
        max.checked_sub(all).is_some_and(|free| self.0.is_none() || own <= free)
    }
}

#[cfg(test)]
impl Source {
    /// The last number of an address.
    pub fn address(last: u8) -> Self {
        Self(Some([192, 0, 2, last].into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_what_is_left_and_a_tunnel_has_all() {
        let mut taken = Vec::new();
        let mut fill = |source: Source| {
            let before = taken.len();
            while source.has_room(12, taken.iter().copied()) {
                taken.push(source);
            }
            taken.len() - before
        };
        let [first, second] = [1, 2].map(Source::address);
        assert_eq!([fill(first), fill(first), fill(second), fill(Source::default())], [6, 0, 3, 3]);
        assert_eq!(fill(Source::address(3)), 0);
    }
}
