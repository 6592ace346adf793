//! A line to an address that can be cut, or go silent, and be mended. It must not know what is said on it.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::{PATIENCE, eventually};

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Whole,
    /// Who is connected is cut off, and who connects is refused.
    Cut,
    /// Nothing arrives, and nobody is told.
    Silent,
}

/// A line, until it is dropped.
pub(crate) struct Line {
    address: SocketAddr,
    state: watch::Sender<State>,
    accepting: AbortHandle,
}

impl Line {
    /// To an address of this machine.
    pub(crate) async fn to(target: &str) -> Self {
        Self::to_first(&[target]).await
    }

    /// To the first of these addresses that takes connections, as a load balancer may lead.
    pub(crate) async fn to_first(targets: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let targets: Vec<String> = targets.iter().map(|target| (*target).to_owned()).collect();
        let (state, states) = watch::channel(State::Whole);
        let accepting = tokio::spawn(async move {
            loop {
                let (near, _) = listener.accept().await.unwrap();
                if *states.borrow() == State::Whole {
                    tokio::spawn(carry(near, targets.clone(), states.clone()));
                }
            }
        });
        Self { address, state, accepting: accepting.abort_handle() }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Cuts the line, and waits until every connection on it is closed: one that has not seen the cut would outlive it
    /// where the line is mended at once.
    pub(crate) async fn cut(&self) {
        self.state.send_replace(State::Cut);
        // The task that accepts has a receiver, and each connection has one.
        eventually("the line is cut", PATIENCE, || async {
            let connections = self.state.receiver_count() - 1;
            if connections == 0 { Ok(()) } else { Err(format!("{connections} connections are open")) }
        })
        .await;
    }

    pub(crate) fn silence(&self) {
        self.state.send_replace(State::Silent);
    }

    pub(crate) fn mend(&self) {
        self.state.send_replace(State::Whole);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.accepting.abort();
        self.state.send_replace(State::Cut);
    }
}

async fn carry(mut near: TcpStream, targets: Vec<String>, mut states: watch::Receiver<State>) {
    let mut connected = None;
    for target in targets {
        if let Ok(far) = TcpStream::connect(target).await {
            connected = Some(far);
            break;
        }
    }
    let Some(mut far) = connected else { return };
    let changed = tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => return,
        state = states.wait_for(|state| *state != State::Whole) => state.map(|state| *state),
    };
    // Whoever is on a line that went silent finds out by himself; a mended line is another one.
    if changed.is_ok_and(|state| state == State::Silent) {
        let _ = states.wait_for(|state| *state == State::Cut).await;
    }
}
