//! The edges of the fleet.

use std::sync::Arc;

use trunkline::edge::v1 as wire;
use trunkline::edge::v1::StreamType;

use super::super::{Sibling, Siblings};
use super::accepted::AcceptedResources;
use super::{InvalidResource, decode};

const PREFIX: &str = "siblings/";

/// Returns the accepted edges.
pub(super) fn of(accepted: &AcceptedResources) -> Arc<Siblings> {
    let siblings = accepted.of(StreamType::Sibling).filter_map(|(name, accepted)| {
        let id = name.strip_prefix(PREFIX)?;
        Some((id.into(), convert(&decode(accepted)).ok()?))
    });
    Arc::new(siblings.collect())
}

pub(super) fn convert(sibling: &wire::Sibling) -> Result<Sibling, InvalidResource> {
    let bad =
        |field: &'static str, problem: &str| InvalidResource::Field { field, problem: problem.to_owned() };
    let address = sibling.address.rsplit_once(':');
    let address = address.filter(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    address.ok_or_else(|| bad("address", "is not host:port"))?;
    let certificate = sibling.certificate_sha256.as_slice().try_into();
    let certificate = certificate.map_err(|_| bad("certificate_sha256", "must have 32 bytes"))?;
    Ok(Sibling { address: sibling.address.as_str().into(), certificate })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_reached_or_known_is_refused() {
        let sibling = |address: &str, length: usize| wire::Sibling {
            name: "siblings/e".into(),
            address: address.into(),
            certificate_sha256: vec![7; length],
        };
        for good in ["10.0.0.1:4447", "[::1]:4447", "edge-1.example:4447"] {
            assert_eq!(convert(&sibling(good, 32)).unwrap().certificate, [7; 32], "{good}");
        }
        for (address, length) in [("", 32), ("host", 32), (":1", 32), ("host:99999", 32), ("host:1", 31)] {
            assert!(convert(&sibling(address, length)).is_err(), "{address} {length}");
        }
    }
}
