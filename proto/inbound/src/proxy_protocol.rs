//! The PROXY protocol, version 2, as a server reads it: before anything else, within bounds of bytes and time.
//!
//! Version 1 is text, which a client could send as well, and is refused. It must not know whom to believe.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The beginning of every header.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// The bytes of a header in front of its addresses.
const HEAD: usize = 16;
/// The bytes of a whole header at most: those of the addresses and of what balancers add, in the smallest packet there is.
const MAX_BYTES: usize = 536;
/// The time that a proxy has for its header. It is in its first packet, which may have to be sent again.
const TIMEOUT: Duration = Duration::from_secs(3);

/// The reason that a connection does not begin as it must.
#[derive(Debug, thiserror::Error)]
pub enum ProxyProtocolError {
    /// There is no such header.
    #[error("it does not begin with a header of the PROXY protocol, version 2")]
    Missing,
    /// There is a header of the older version.
    #[error("it begins with version 1 of the PROXY protocol; configure the balancer to send version 2")]
    Version1,
    /// The header breaks the protocol.
    #[error("its PROXY protocol header is malformed")]
    Malformed,
    /// The header is too long.
    #[error("its PROXY protocol header has more than {MAX_BYTES} bytes")]
    TooLong,
    /// The header did not come in time.
    #[error("its PROXY protocol header did not arrive in time")]
    Timeout,
    /// The connection broke off.
    #[error("it was interrupted: {0}")]
    Interrupted(#[from] std::io::Error),
}

/// Where a proxied connection comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProxySource {
    /// From the proxy itself, as health checks do.
    Proxy,
    /// From this client.
    Client(IpAddr),
    /// From a client without an address of a kind that is known here.
    Unknown,
}

/// Reads the header in front of a connection, and not a byte more.
pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<ProxySource, ProxyProtocolError> {
    match tokio::time::timeout(TIMEOUT, read_header(stream)).await {
        Ok(read) => read,
        Err(_) => Err(ProxyProtocolError::Timeout),
    }
}

async fn read_header(stream: &mut (impl AsyncRead + Unpin)) -> Result<ProxySource, ProxyProtocolError> {
    let mut head = [0; HEAD];
    let mut filled = 0;
    // Byte by byte: what is no header may be shorter than one, and its sender waits for an answer.
    while filled < HEAD {
        let read = stream.read(&mut head[filled..]).await?;
        if read == 0 {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
        }
        filled += read;
        check_signature(&head[..filled])?;
    }
    let mut addresses = [0; MAX_BYTES - HEAD];
    let length = usize::from(u16::from_be_bytes([head[14], head[15]]));
    let addresses = addresses.get_mut(..length).ok_or(ProxyProtocolError::TooLong)?;
    stream.read_exact(addresses).await?;
    source(head[12], head[13], addresses)
}

fn check_signature(begun: &[u8]) -> Result<(), ProxyProtocolError> {
    let compared = begun.len().min(SIGNATURE.len());
    if begun[..compared] == SIGNATURE[..compared] {
        Ok(())
    } else if begun.starts_with(b"PROXY") {
        Err(ProxyProtocolError::Version1)
    } else {
        Err(ProxyProtocolError::Missing)
    }
}

/// Reads the version and command, the family and transport, and the addresses with what follows them.
fn source(version_and_command: u8, family: u8, addresses: &[u8]) -> Result<ProxySource, ProxyProtocolError> {
    const STREAM: u8 = 1;
    match version_and_command {
        0x20 => return Ok(ProxySource::Proxy),
        0x21 => {}
        _ => return Err(ProxyProtocolError::Malformed),
    }
    let malformed = ProxyProtocolError::Malformed;
    match (family >> 4, family & 0xf) {
        // The source, the destination, and a port of each.
        (1, STREAM) if addresses.len() >= 12 => {
            let octets = addresses.first_chunk::<4>().ok_or(malformed)?;
            Ok(ProxySource::Client(Ipv4Addr::from(*octets).into()))
        }
        (2, STREAM) if addresses.len() >= 36 => {
            let octets = addresses.first_chunk::<16>().ok_or(malformed)?;
            Ok(ProxySource::Client(Ipv6Addr::from(*octets).into()))
        }
        (0, 0) | (3, STREAM) => Ok(ProxySource::Unknown),
        _ => Err(malformed),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt as _;
    use tokio::time::Instant;

    use super::*;

    /// A header of the protocol.
    pub(crate) fn header(version_and_command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let length = u16::try_from(addresses.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[version_and_command, family], &length, addresses].concat()
    }

    const V4: [u8; 12] = [192, 0, 2, 1, 10, 0, 0, 1, 0x12, 0x34, 0, 80];

    async fn read_all(bytes: &[u8]) -> Result<(ProxySource, usize), String> {
        let mut stream = bytes;
        let source = read(&mut stream).await.map_err(|error| error.to_string())?;
        Ok((source, stream.len()))
    }

    #[tokio::test]
    async fn headers_are_read_to_their_end_and_no_further() {
        let client = |text: &str| ProxySource::Client(text.parse().unwrap());
        let v6: Vec<u8> =
            [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1].into_iter().chain([0; 20]).collect();
        let longest = [&V4[..], &[0; MAX_BYTES - HEAD - 12]].concat();
        for (header, expected) in [
            (header(0x21, 0x11, &V4), client("192.0.2.1")),
            (header(0x21, 0x21, &v6), client("2001:db8::1")),
            (header(0x21, 0x11, &longest), client("192.0.2.1")),
            (header(0x20, 0x00, &[]), ProxySource::Proxy),
            (header(0x20, 0x11, &V4), ProxySource::Proxy),
            (header(0x21, 0x00, &[]), ProxySource::Unknown),
            (header(0x21, 0x31, &[0; 216]), ProxySource::Unknown),
        ] {
            let with_request = [&header[..], b"POST /"].concat();
            assert_eq!(read_all(&with_request).await, Ok((expected, 6)), "{header:?}");
        }
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused() {
        let mut too_long = header(0x21, 0x11, &V4);
        too_long[14..16].copy_from_slice(&521u16.to_be_bytes());
        for (bytes, reason) in [
            (b"PROXY TCP4 192.0.2.1 10.0.0.1 1 2\r\n".to_vec(), "version 1"),
            (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "does not begin"),
            (b"\r\n\r\nGET / HTTP/1.1\r\n\r\n".to_vec(), "does not begin"),
            (b"x".to_vec(), "does not begin"),
            (too_long, "more than 536 bytes"),
            (header(0x11, 0x11, &V4), "malformed"),
            (header(0x22, 0x11, &V4), "malformed"),
            (header(0x31, 0x11, &V4), "malformed"),
            (header(0x21, 0x12, &V4), "malformed"),
            (header(0x21, 0x41, &V4), "malformed"),
            (header(0x21, 0x11, &V4[..11]), "malformed"),
            (header(0x21, 0x21, &[0; 35]), "malformed"),
            (header(0x21, 0x11, &V4)[..20].to_vec(), "interrupted"),
            (SIGNATURE[..5].to_vec(), "interrupted"),
            (Vec::new(), "interrupted"),
        ] {
            let refused = read_all(&bytes).await.unwrap_err();
            assert!(refused.contains(reason), "{bytes:?}: {refused}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_header_that_does_not_come_is_not_waited_for() {
        let (mut balancer, mut ours) = tokio::io::duplex(64);
        balancer.write_all(&SIGNATURE).await.unwrap();
        let started = Instant::now();
        assert!(matches!(read(&mut ours).await, Err(ProxyProtocolError::Timeout)));
        assert_eq!(started.elapsed(), TIMEOUT);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_within_bounds(
            is_signed in any::<bool>(),
            bytes in proptest::collection::vec(any::<u8>(), 0..700),
        ) {
            let bytes = if is_signed { [&SIGNATURE[..], &bytes].concat() } else { bytes };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let mut stream = &bytes[..];
            let read = runtime.block_on(read(&mut stream));
            prop_assert!(bytes.len() - stream.len() <= MAX_BYTES);
            prop_assert!(read.is_err() || bytes.starts_with(&SIGNATURE));
        }
    }
}
