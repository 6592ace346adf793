//! Streams through a tunnel, between two tasks.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so where it stands")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _, stream};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinHandle;
use tokio_util::sync::PollSender;
use tunnel::{Stream, Tunnel, Tunnels, accept, carrier};

/// A tunnel whose far side sends back what it hears, and the tasks of both sides.
async fn echoing() -> (Tunnel, JoinHandle<()>, JoinHandle<()>) {
    let (near, far) = tokio::io::duplex(64 << 10);
    let far = tokio::spawn(async move { drop(accept(far, echo, || {}).await) });
    let (tunnel, driver) = Tunnel::start(near).await.unwrap();
    (tunnel, tokio::spawn(async move { drop(driver.await) }), far)
}

async fn echo(stream: Stream) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    if tokio::io::copy(&mut reader, &mut writer).await.is_ok() {
        let _ = writer.shutdown().await;
    }
}

async fn said_back(tunnel: &Tunnel, said: Vec<u8>) -> Vec<u8> {
    let (mut reader, mut writer) = tokio::io::split(tunnel.open().await.unwrap());
    let writing = async {
        writer.write_all(&said).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let reading = async {
        let mut heard = Vec::new();
        reader.read_to_end(&mut heard).await.unwrap();
        heard
    };
    tokio::join!(writing, reading).1
}

#[tokio::test]
async fn streams_do_not_mix_and_one_that_is_not_read_holds_up_no_other() {
    let (tunnel, _driver, _far) = echoing().await;
    // More than a stream's window, many times, which nobody reads.
    let mut stuck = Vec::new();
    for _ in 0..100 {
        let (unread, mut writer) = tokio::io::split(tunnel.open().await.unwrap());
        let flood = tokio::spawn(async move { while writer.write_all(&[0; 64 << 10]).await.is_ok() {} });
        stuck.push((unread, flood.abort_handle()));
    }
    let each = (0..50u8).map(|number| {
        let tunnel = tunnel.clone();
        tokio::spawn(async move { said_back(&tunnel, vec![number; 100_000]).await })
    });
    for (number, heard) in (0..50u8).zip(each.collect::<Vec<_>>()) {
        assert!(heard.await.unwrap() == vec![number; 100_000], "stream {number}");
    }
    stuck.into_iter().for_each(|(_, flood)| flood.abort());
}

#[tokio::test]
async fn a_tunnel_whose_far_side_went_is_over() {
    let (tunnel, driver, far) = echoing().await;
    assert_eq!(said_back(&tunnel, b"there?".to_vec()).await, b"there?");
    assert!(!tunnel.is_ended());
    far.abort();
    driver.await.unwrap();
    assert!(tunnel.is_ended());
    tunnel.open().await.unwrap_err();
}

#[tokio::test]
async fn when_the_driver_goes_every_stream_ends() {
    let (tunnel, driver, _far) = echoing().await;
    let mut stream = tunnel.open().await.unwrap();
    driver.abort();
    assert!(driver.await.unwrap_err().is_cancelled());
    assert!(tunnel.is_ended());
    stream.read_to_end(&mut Vec::new()).await.unwrap_err();
}

#[tokio::test]
async fn a_far_side_that_takes_nothing_is_given_nothing_to_keep() {
    // It answers, opens no window, and says so; what is left of a stream that nobody wants is its reset.
    let (near, far) = tokio::io::duplex(64 << 10);
    let (resets, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let far = tokio::spawn(async move {
        let mut connection =
            h2::server::Builder::new().initial_window_size(0).handshake::<_, Bytes>(far).await.unwrap();
        let mut streams = tokio::task::JoinSet::new();
        while let Some(Ok((mut request, mut answer))) = connection.accept().await {
            let sending = answer.send_response(http::Response::new(()), false).unwrap();
            let resets = resets.clone();
            streams.spawn(async move {
                let _sending = sending;
                let ended = request.body_mut().data().await;
                resets.send(ended.map(|data| data.unwrap_err().reason())).unwrap();
            });
        }
    });
    let (tunnel, driver) = Tunnel::start(near).await.unwrap();
    let driver = tokio::spawn(async move { drop(driver.await) });
    for _ in 0..1_100 {
        let mut stream = tunnel.open().await.unwrap();
        let writing = tokio::time::timeout(Duration::from_millis(1), stream.write_all(&[0; 1 << 20]));
        writing.await.unwrap_err();
    }
    for _ in 0..1_100 {
        assert_eq!(heard.recv().await.unwrap(), Some(Some(h2::Reason::CANCEL)));
    }
    driver.abort();
    far.abort();
}

#[tokio::test]
async fn a_tunnel_has_no_more_streams_than_it_may() {
    let (tunnel, _driver, _far) = echoing().await;
    let mut streams = Vec::new();
    for _ in 0..1_024 {
        streams.push(tunnel.open().await.unwrap());
    }
    assert_eq!(tunnel.open().await.unwrap_err().kind(), std::io::ErrorKind::QuotaExceeded);
    streams.pop();
    tunnel.open().await.unwrap();
}

#[tokio::test]
async fn the_roster_takes_the_youngest_that_works_and_forgets_those_that_end() {
    let tunnels = Arc::new(Tunnels::default());
    let mut changes = tunnels.changes();
    assert_eq!(tunnels.open("a").await.unwrap_err().kind(), std::io::ErrorKind::NotConnected);
    let (old, _driver, _far) = echoing().await;
    let (dead, driver, far) = echoing().await;
    let kept = tunnels.register("a", old).unwrap();
    let gone = tunnels.register("a", dead).unwrap();
    assert!(changes.has_changed().unwrap());
    changes.borrow_and_update();
    far.abort();
    driver.await.unwrap();
    tunnels.open("a").await.unwrap();
    assert_eq!((tunnels.count(), tunnels.keys()), (2, vec!["a".into()]));
    drop(gone);
    assert!(changes.has_changed().unwrap());
    assert_eq!(tunnels.count(), 1);
    tunnels.retain(|key| key != "a");
    kept.close_requested().await;
    drop(kept);
    assert!(!tunnels.has("a"));
}

#[tokio::test]
async fn there_are_no_more_to_one_far_side_than_anybody_needs() {
    let tunnels = Arc::new(Tunnels::default());
    let (tunnel, _driver, _far) = echoing().await;
    let held: Vec<_> = (0..16).map(|_| tunnels.register("a", tunnel.clone()).unwrap()).collect();
    assert!(!tunnels.has_room("a"));
    assert_eq!(tunnels.register("a", tunnel.clone()).unwrap_err(), tunnel::Full);
    assert!(tunnels.has_room("b"));
    drop(held);
    assert!(tunnels.has_room("a"));
}

#[tokio::test]
async fn a_side_that_stops_says_so_and_its_streams_go_on() {
    let (near, far) = tokio::io::duplex(64 << 10);
    let (told, mut is_told) = tokio::sync::mpsc::unbounded_channel();
    let far = tokio::spawn(async move { drop(accept(far, echo, || told.send(()).unwrap()).await) });
    let (tunnel, driver) = Tunnel::start(near).await.unwrap();
    let driver = tokio::spawn(async move { drop(driver.await) });
    let (mut reader, mut writer) = tokio::io::split(tunnel.open().await.unwrap());
    tunnel.announce_draining().await.unwrap();
    is_told.recv().await.unwrap();
    assert!(is_told.is_empty() && !tunnel.is_ended());
    writer.write_all(b"still here").await.unwrap();
    writer.shutdown().await.unwrap();
    let mut heard = Vec::new();
    reader.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, b"still here");
    driver.abort();
    far.await.unwrap();
}

#[tokio::test]
async fn a_peer_that_speaks_another_protocol_ends_the_tunnel() {
    let (mut near, far) = tokio::io::duplex(1 << 10);
    let serving = tokio::spawn(async move { accept(far, echo, || {}).await });
    near.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let served = tokio::time::timeout(Duration::from_secs(10), serving).await.unwrap();
    served.unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// However the bytes are cut into frames, they arrive as they were written.
    #[test]
    fn frames_are_no_boundaries(parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..20)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let sent: Vec<u8> = parts.concat();
        let heard = runtime.block_on(async move {
            let (sender, mut frames) = tokio::sync::mpsc::channel::<Bytes>(1);
            let sink = PollSender::new(sender).sink_map_err(std::io::Error::other);
            let mut writer = carrier(stream::pending(), sink);
            let written = tokio::spawn(async move {
                for part in parts {
                    writer.write_all(&part).await.unwrap();
                }
                writer.shutdown().await.unwrap();
            });
            let sink = futures_util::sink::drain::<Bytes>().sink_map_err(|never: std::convert::Infallible| match never {});
            let frames = stream::poll_fn(move |cx| frames.poll_recv(cx));
            let mut reader = carrier(frames.map(Ok), sink);
            let mut heard = Vec::new();
            reader.read_to_end(&mut heard).await.unwrap();
            written.await.unwrap();
            heard
        });
        prop_assert_eq!(heard, sent);
    }
}
