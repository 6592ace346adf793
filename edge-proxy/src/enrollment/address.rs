//! The address at which siblings reach this edge. It must not know what they send.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::{UdpSocket, lookup_host};
use tonic::transport::Uri;

/// The address at which siblings reach this edge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdvertisedAddress {
    /// None: it takes no calls of siblings.
    Absent,
    /// The configured `host:port`.
    Configured(String),
    /// The address of this machine on the route to a control plane, with this port.
    OutboundAddress(u16),
}

impl AdvertisedAddress {
    /// Takes what is configured, else the address listened on if others can use it.
    pub fn new(configured: Option<&str>, listening: Option<SocketAddr>) -> Self {
        match (configured, listening) {
            (_, None) => Self::Absent,
            (Some(address), Some(_)) => Self::Configured(address.to_owned()),
            (None, Some(listening)) if listening.ip().is_unspecified() => {
                Self::OutboundAddress(listening.port())
            }
            (None, Some(listening)) => Self::Configured(listening.to_string()),
        }
    }

    /// Returns the address for a control plane; empty for none.
    pub async fn for_control_plane(&self, control_plane: &Uri) -> String {
        match self {
            Self::Absent => String::new(),
            Self::Configured(address) => address.clone(),
            Self::OutboundAddress(port) => match outbound_address(control_plane).await {
                Ok(ip) => SocketAddr::new(ip, *port).to_string(),
                Err(error) => {
                    tracing::warn!(%error, "cannot determine the address for other edges; set it with --sibling-advertise");
                    String::new()
                }
            },
        }
    }
}

/// The address that this machine would send from. Nothing is sent.
async fn outbound_address(control_plane: &Uri) -> io::Result<IpAddr> {
    let host = control_plane.host().unwrap_or_default().trim_matches(['[', ']']);
    // The port has no part in choosing a route.
    let port = control_plane.port_u16().unwrap_or(443);
    let there = lookup_host((host, port)).await?.next();
    let there = there.ok_or_else(|| io::Error::other(format!("{host} has no address")))?;
    let any: IpAddr =
        if there.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(there).await?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_edge_says_what_others_can_use() {
        let plane = Uri::from_static("http://127.0.0.1:4445");
        let any: SocketAddr = "0.0.0.0:4447".parse().unwrap();
        let one: SocketAddr = "10.1.2.3:4447".parse().unwrap();
        for (configured, listening, expected) in [
            (None, None, ""),
            (Some("e1.example:4447"), None, ""),
            (Some("e1.example:4447"), Some(any), "e1.example:4447"),
            (None, Some(one), "10.1.2.3:4447"),
            (None, Some(any), "127.0.0.1:4447"),
        ] {
            assert_eq!(
                AdvertisedAddress::new(configured, listening).for_control_plane(&plane).await,
                expected
            );
        }
    }
}
