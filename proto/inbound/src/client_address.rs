//! Where a request came from: the other end of its socket, or what a trusted proxy in front says of it.
//!
//! A proxy is believed only where its own address is a configured one, and of what it passes on only what trusted proxies
//! wrote: lists of hops are read from their end, up to the first that is not one of ours. What cannot be read is not known. It
//! must not know what the address is for.

use std::net::{IpAddr, SocketAddr};

use http::header::FORWARDED;
use http::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;
use tokio::io::AsyncRead;

use crate::proxy_protocol::{self, ProxyProtocolError, ProxySource};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// What says where a request came from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ClientAddressSource {
    /// The socket.
    #[default]
    Socket,
    /// The PROXY protocol, version 2, which every connection of a balancer must begin with.
    ProxyProtocol,
    /// The header `Forwarded` (RFC 7239) of balancers.
    Forwarded,
    /// The header `X-Forwarded-For` of balancers.
    XForwardedFor,
}

impl ClientAddressSource {
    /// Its name, as on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Socket => "socket",
            Self::ProxyProtocol => "proxy-protocol",
            Self::Forwarded => "forwarded",
            Self::XForwardedFor => "x-forwarded-for",
        }
    }
}

/// Tells where the requests to a listener came from.
#[derive(Debug, Clone, Default)]
pub struct ClientAddresses {
    source: ClientAddressSource,
    /// Whom to believe.
    trusted: Vec<IpNet>,
}

impl ClientAddresses {
    /// Believes `source`, where proxies at `trusted` say it.
    pub fn new(source: ClientAddressSource, trusted: Vec<IpNet>) -> Self {
        Self { source, trusted }
    }

    /// The address of the client of a new connection from `peer`, as far as the connection says it. Reads what a trusted proxy
    /// has to say before anything else is read.
    ///
    /// # Errors
    /// If a trusted proxy does not say it, in time and as it must. The connection is to be closed then.
    pub async fn of_connection(
        &self,
        stream: &mut (impl AsyncRead + Unpin),
        peer: IpAddr,
    ) -> Result<Option<IpAddr>, ProxyProtocolError> {
        let peer = peer.to_canonical();
        if self.source != ClientAddressSource::ProxyProtocol || !self.is_trusted(peer) {
            return Ok(Some(peer));
        }
        Ok(match proxy_protocol::read(stream).await? {
            ProxySource::Proxy => Some(peer),
            ProxySource::Client(address) => Some(address.to_canonical()),
            ProxySource::Unknown => None,
        })
    }

    /// The address of the client of a request on a connection from `connection`, as [`of_connection`](Self::of_connection) told
    /// it. `None`: not known.
    pub fn of_request(&self, connection: Option<IpAddr>, headers: &HeaderMap) -> Option<IpAddr> {
        let (name, read): (_, fn(&[u8], &mut Hops<'_>)) = match self.source {
            ClientAddressSource::Socket | ClientAddressSource::ProxyProtocol => return connection,
            ClientAddressSource::Forwarded => (FORWARDED, read_forwarded),
            ClientAddressSource::XForwardedFor => (X_FORWARDED_FOR, read_x_forwarded_for),
        };
        if !self.is_trusted(connection?) {
            return connection;
        }
        let mut hops = Hops { trusted: &self.trusted, first: None, last_stranger: None };
        headers.get_all(name).iter().map(HeaderValue::as_bytes).for_each(|line| read(line, &mut hops));
        hops.client()
    }

    fn is_trusted(&self, address: IpAddr) -> bool {
        is_within(&self.trusted, address)
    }
}

fn is_within(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

/// The hops of a request, from the first to the last, in order. Nothing is kept of a hop that a later stranger makes
/// unbelievable.
struct Hops<'a> {
    trusted: &'a [IpNet],
    first: Option<Option<IpAddr>>,
    /// The last hop that is not one of ours, or cannot be read: whatever stands before it, its sender may have made up.
    last_stranger: Option<Option<IpAddr>>,
}

impl Hops<'_> {
    fn add(&mut self, hop: Option<IpAddr>) {
        self.first.get_or_insert(hop);
        if !hop.is_some_and(|address| is_within(self.trusted, address)) {
            self.last_stranger = Some(hop);
        }
    }

    /// The client: the last stranger; where every hop is one of ours, the first. A trusted proxy that says nothing leaves it
    /// unknown.
    fn client(self) -> Option<IpAddr> {
        self.last_stranger.or(self.first).flatten()
    }
}

/// Reads one line of `X-Forwarded-For`.
fn read_x_forwarded_for(line: &[u8], hops: &mut Hops<'_>) {
    for item in line.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|item| !item.is_empty()) {
        hops.add(node(item));
    }
}

/// Reads one line of `Forwarded`. One that breaks its grammar is one hop that cannot be read, whatever was in it: what an
/// earlier sender left open may have swallowed what a later one wrote.
fn read_forwarded(line: &[u8], hops: &mut Hops<'_>) {
    let mut found = Hops { trusted: hops.trusted, first: None, last_stranger: None };
    if forwarded_elements(line, |element| found.add(element)).is_none() {
        hops.add(None);
        return;
    }
    hops.first = hops.first.or(found.first);
    hops.last_stranger = found.last_stranger.or(hops.last_stranger);
}

/// Calls `each` with the client that each element of a line names. Returns `None` where the grammar is broken.
fn forwarded_elements(mut rest: &[u8], mut each: impl FnMut(Option<IpAddr>)) -> Option<()> {
    loop {
        let element = forwarded_element(&mut rest)?;
        if let Some(client) = element {
            each(client);
        }
        match rest.split_first() {
            None => return Some(()),
            Some((b',', tail)) => rest = tail,
            Some(_) => return None,
        }
    }
}

/// Reads one element, up to the comma behind it: `None` where it breaks the grammar, `Some(None)` where it is empty, else the
/// client that it names, if it names one.
fn forwarded_element(rest: &mut &[u8]) -> Option<Option<Option<IpAddr>>> {
    let (mut client, mut pairs) = (None, 0);
    loop {
        *rest = rest.trim_ascii_start();
        if !matches!(rest.first(), None | Some(b',' | b';')) {
            let (name, value) = forwarded_pair(rest)?;
            pairs += 1;
            // Said twice, it is not known which one is meant.
            if name.eq_ignore_ascii_case(b"for") && client.replace(node(&value)).is_some() {
                return None;
            }
            *rest = rest.trim_ascii_start();
        }
        match rest.first() {
            Some(b';') => *rest = &rest[1..],
            _ => return Some((pairs > 0).then(|| client.flatten())),
        }
    }
}

/// Reads `name=value` or `name="value"`.
fn forwarded_pair<'a>(rest: &mut &'a [u8]) -> Option<(&'a [u8], Vec<u8>)> {
    let name = token(rest)?;
    *rest = rest.strip_prefix(b"=")?;
    let value = match rest.strip_prefix(b"\"") {
        Some(quoted) => {
            *rest = quoted;
            quoted_string(rest)?
        }
        None => token(rest)?.to_vec(),
    };
    Some((name, value))
}

/// Takes a token (RFC 9110, section 5.6.2). Some proxies write ports without the quotes that they need: `:` is taken as well, and
/// so are brackets.
fn token<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:[]".contains(&byte);
    let end = rest.iter().position(|byte| !is_part(*byte)).unwrap_or(rest.len());
    let (token, tail) = rest.split_at(end);
    *rest = tail;
    (!token.is_empty()).then_some(token)
}

/// Takes the rest of a quoted string, behind its first quote.
fn quoted_string(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    loop {
        let (first, tail) = rest.split_first()?;
        *rest = tail;
        match first {
            b'"' => return Some(text),
            b'\\' => {
                let (escaped, tail) = rest.split_first()?;
                *rest = tail;
                text.push(*escaped);
            }
            other => text.push(*other),
        }
    }
}

/// Reads a node: an address, with or without brackets and port. `unknown`, names that hide one, and all else are not known.
fn node(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let bare =
        || text.strip_prefix('[')?.strip_suffix(']')?.parse::<std::net::Ipv6Addr>().ok().map(IpAddr::V6);
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    text.parse::<IpAddr>().ok().or_else(bare).or_else(with_port).map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BALANCER: &str = "10.0.0.1";

    fn addresses(source: ClientAddressSource) -> ClientAddresses {
        ClientAddresses::new(source, vec!["10.0.0.0/24".parse().unwrap(), "fd00::/64".parse().unwrap()])
    }

    fn address(text: &str) -> Option<IpAddr> {
        (!text.is_empty()).then(|| text.parse().unwrap())
    }

    fn headers(name: &HeaderName, lines: &[&[u8]]) -> HeaderMap {
        lines.iter().map(|line| (name.clone(), HeaderValue::from_bytes(line).unwrap())).collect()
    }

    fn of(source: ClientAddressSource, name: &HeaderName, lines: &[&str]) -> Option<IpAddr> {
        let lines: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
        addresses(source).of_request(address(BALANCER), &headers(name, &lines))
    }

    #[test]
    fn x_forwarded_for_is_read_from_its_end_over_hops_of_ours() {
        let cases: [(&[&str], &str); 17] = [
            (&["192.0.2.1"], "192.0.2.1"),
            (&["192.0.2.1, 10.0.0.7"], "192.0.2.1"),
            (&["192.0.2.1", "10.0.0.7"], "192.0.2.1"),
            // The client writes what it likes in front.
            (&["203.0.113.9, 192.0.2.1"], "192.0.2.1"),
            (&["10.0.0.9, 192.0.2.1"], "192.0.2.1"),
            (&["203.0.113.9", "192.0.2.1, 10.0.0.7"], "192.0.2.1"),
            (&["unknown, 192.0.2.1"], "192.0.2.1"),
            (&["192.0.2.1:4711"], "192.0.2.1"),
            (&["[2001:db8::1]:4711"], "2001:db8::1"),
            (&["[2001:db8::1]"], "2001:db8::1"),
            (&["2001:db8::1, fd00::5"], "2001:db8::1"),
            (&["::ffff:192.0.2.1, ::ffff:10.0.0.7"], "192.0.2.1"),
            // Nobody but ours had a hand in it.
            (&["10.0.0.9, 10.0.0.7"], "10.0.0.9"),
            (&[",, 192.0.2.1 ,,"], "192.0.2.1"),
            // What cannot be read hides what stands before it.
            (&["192.0.2.1, unknown"], ""),
            (&["192.0.2.1, _hidden, 10.0.0.7"], ""),
            (&[], ""),
        ];
        for (lines, expected) in cases {
            let found = of(ClientAddressSource::XForwardedFor, &X_FORWARDED_FOR, lines);
            assert_eq!(found, address(expected), "{lines:?}");
        }
        for odd in [
            "",
            "192.0.2.256",
            "192.0.2.1/32",
            "localhost",
            "fe80::1%eth0",
            "\"192.0.2.1\"",
            "1.2.3.4 5.6.7.8",
        ] {
            assert_eq!(of(ClientAddressSource::XForwardedFor, &X_FORWARDED_FOR, &[odd]), None, "{odd}");
        }
    }

    #[test]
    fn forwarded_is_read_as_rfc_7239_has_it() {
        let cases: [(&[&str], &str); 20] = [
            (&["for=192.0.2.60;proto=http;by=203.0.113.43"], "192.0.2.60"),
            (&["For=\"[2001:db8:cafe::17]:4711\""], "2001:db8:cafe::17"),
            (&["for=192.0.2.43, for=10.0.0.3"], "192.0.2.43"),
            (&["for=192.0.2.43", "for=10.0.0.3"], "192.0.2.43"),
            (&["for=203.0.113.9, for=192.0.2.1;proto=https , for=\"10.0.0.3\""], "192.0.2.1"),
            (&["for=\"192.0.2.1:80\""], "192.0.2.1"),
            (&["for=192.0.2.1:80"], "192.0.2.1"),
            (&["for=\"192.0.2\\.1\""], "192.0.2.1"),
            (&[" ; for=192.0.2.1 ;, ,"], "192.0.2.1"),
            // An element that names no client, behind one that does.
            (&["for=192.0.2.1, proto=https"], ""),
            (&["for=192.0.2.1, for=unknown"], ""),
            (&["for=unknown, for=192.0.2.1"], "192.0.2.1"),
            (&["for=_mdn, for=10.0.0.3"], ""),
            // What a client leaves open swallows nothing that a proxy writes behind it.
            (&["for=\"203.0.113.9, for=192.0.2.1"], ""),
            (&["for=\"203.0.113.9", "for=192.0.2.1"], "192.0.2.1"),
            (&["x=\", for=\"[2001:db8::1]\""], ""),
            (&["for=192.0.2.1;for=192.0.2.2"], ""),
            (&["for = 192.0.2.1"], ""),
            (&["192.0.2.1"], ""),
            (&[], ""),
        ];
        for (lines, expected) in cases {
            assert_eq!(of(ClientAddressSource::Forwarded, &FORWARDED, lines), address(expected), "{lines:?}");
        }
    }

    #[test]
    fn only_the_chosen_header_of_a_trusted_peer_is_believed() {
        let both: HeaderMap = [(FORWARDED, "for=192.0.2.1"), (X_FORWARDED_FOR, "192.0.2.2")]
            .map(|(name, value)| (name, HeaderValue::from_static(value)))
            .into_iter()
            .collect();
        let of = |source, peer: &str| addresses(source).of_request(address(peer), &both);
        for (source, from_balancer) in [
            (ClientAddressSource::Socket, BALANCER),
            (ClientAddressSource::ProxyProtocol, BALANCER),
            (ClientAddressSource::Forwarded, "192.0.2.1"),
            (ClientAddressSource::XForwardedFor, "192.0.2.2"),
        ] {
            assert_eq!(of(source, BALANCER), address(from_balancer), "{source:?}");
            assert_eq!(of(source, "203.0.113.9"), address("203.0.113.9"), "{source:?}");
        }
        let nobody = ClientAddresses::new(ClientAddressSource::Forwarded, Vec::new());
        assert_eq!(nobody.of_request(address(BALANCER), &both), address(BALANCER));
    }

    #[tokio::test]
    async fn the_proxy_protocol_is_read_of_trusted_peers_only() {
        let proxied = addresses(ClientAddressSource::ProxyProtocol);
        let header =
            crate::proxy_protocol::tests::header(0x21, 0x11, &[192, 0, 2, 1, 10, 0, 0, 1, 1, 2, 3, 4]);
        let mut stream = &[&header[..], b"GET"].concat()[..];
        let client = proxied.of_connection(&mut stream, BALANCER.parse().unwrap()).await.unwrap();
        assert_eq!((client, stream), (address("192.0.2.1"), &b"GET"[..]));
        // A stranger's is no header, but the beginning of a request that cannot be read.
        let mut stream = &header[..];
        let client = proxied.of_connection(&mut stream, "203.0.113.9".parse().unwrap()).await.unwrap();
        assert_eq!((client, stream.len()), (address("203.0.113.9"), header.len()));
        let mut none = &b"GET / HTTP/1.1\r\n\r\n"[..];
        assert!(proxied.of_connection(&mut none, BALANCER.parse().unwrap()).await.is_err());
        let mut unread = &header[..];
        let by_header = addresses(ClientAddressSource::Forwarded);
        by_header.of_connection(&mut unread, BALANCER.parse().unwrap()).await.unwrap();
        assert_eq!(unread.len(), header.len());
    }

    proptest! {
        /// Whatever stands in front, what the last proxies wrote decides.
        #[test]
        fn a_client_cannot_say_where_it_is(
            made_up in proptest::collection::vec("[ -~]{0,60}", 0..4),
            stranger in any::<[u8; 4]>().prop_map(IpAddr::from),
            own in 0usize..3,
        ) {
            prop_assume!(!addresses(ClientAddressSource::Socket).is_trusted(stranger));
            let name = |source| if source == ClientAddressSource::Forwarded { FORWARDED } else { X_FORWARDED_FOR };
            for (source, prefix) in [(ClientAddressSource::Forwarded, "for="), (ClientAddressSource::XForwardedFor, "")] {
                let ours = vec![format!("{prefix}10.0.0.3"); own].join(", ");
                let written = format!("{prefix}{stranger}");
                let lines: Vec<String> = made_up.iter().cloned().chain([written.clone(), ours.clone()]).collect();
                let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
                prop_assert_eq!(of(source, &name(source), &lines), Some(stranger));
                // In one line, a proxy adds to what the client wrote; that can be made unreadable, and no more.
                let joined = made_up.iter().cloned().chain([written]).collect::<Vec<_>>().join(", ");
                let found = of(source, &name(source), &[&joined]);
                prop_assert!(found.is_none_or(|found| found == stranger), "{} {:?}", joined, found);
            }
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(lines in proptest::collection::vec("[\t -~\u{80}-\u{ff}]{0,80}", 0..4)) {
            let lines: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
            for (source, name) in [
                (ClientAddressSource::Forwarded, FORWARDED),
                (ClientAddressSource::XForwardedFor, X_FORWARDED_FOR),
            ] {
                addresses(source).of_request(address(BALANCER), &headers(&name, &lines));
            }
        }
    }
}
