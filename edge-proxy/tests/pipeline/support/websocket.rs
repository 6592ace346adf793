//! A client of WebSocket that says exactly what it is told to.

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::{Edge, PATIENCE};

pub(crate) struct Socket {
    pub(crate) socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// The subprotocol that was selected.
    pub(crate) subprotocol: Option<String>,
}

impl Socket {
    /// Opens a socket at a path with these headers; else the status and body of the answer.
    pub(crate) async fn connect(
        edge: &Edge,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, (u16, String)> {
        let mut request = format!("ws://{}{path}", edge.address).into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        match connect_async(request).await {
            Ok((socket, response)) => {
                let selected = response.headers().get("sec-websocket-protocol");
                let subprotocol = selected.map(|value| value.to_str().unwrap().to_owned());
                Ok(Self { socket, subprotocol })
            }
            Err(Error::Http(response)) => {
                let body = response.body().clone().unwrap_or_default();
                Err((response.status().as_u16(), String::from_utf8(body).unwrap()))
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// A socket with the bearer of the edge's clients.
    pub(crate) async fn open(edge: &Edge) -> Self {
        Self::open_by(edge, &edge.bearer).await
    }

    /// A socket with this bearer.
    pub(crate) async fn open_by(edge: &Edge, bearer: &str) -> Self {
        let bearer = format!("Bearer {bearer}");
        let headers = [("authorization", bearer.as_str()), ("sec-websocket-protocol", "mcp")];
        Self::connect(edge, "/servers/dev/ws", &headers).await.unwrap_or_else(|refused| panic!("{refused:?}"))
    }

    /// The same, with the handshake behind it.
    pub(crate) async fn session(edge: &Edge, revision: &str, capabilities: &str) -> Self {
        Self::session_by(edge, &edge.bearer, revision, capabilities).await
    }

    pub(crate) async fn session_by(edge: &Edge, bearer: &str, revision: &str, capabilities: &str) -> Self {
        let mut opened = Self::open_by(edge, bearer).await;
        let answer = opened.ask(&super::initialize(revision, capabilities)).await;
        assert!(answer.contains(&format!(r#""protocolVersion":"{revision}""#)), "{answer}");
        opened.say(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await;
        opened
    }

    pub(crate) async fn say(&mut self, body: &str) {
        self.socket.send(Message::text(body)).await.unwrap();
    }

    pub(crate) async fn ask(&mut self, body: &str) -> String {
        self.say(body).await;
        self.next().await
    }

    /// The next message.
    pub(crate) async fn next(&mut self) -> String {
        match self.frame().await {
            Some(Message::Text(text)) => text.to_string(),
            other => panic!("no message but {other:?}"),
        }
    }

    /// The next message, or the code with which the edge closes.
    pub(crate) async fn next_or_code(&mut self) -> Result<String, u16> {
        match self.frame().await {
            Some(Message::Text(text)) => Ok(text.to_string()),
            Some(Message::Close(Some(frame))) => Err(frame.code.into()),
            other => panic!("neither message nor close but {other:?}"),
        }
    }

    /// The code with which the edge closes, after whatever else it says.
    pub(crate) async fn closed(&mut self) -> u16 {
        loop {
            match self.frame().await {
                Some(Message::Close(Some(frame))) => return frame.code.into(),
                Some(Message::Text(_)) => {}
                other => panic!("no close but {other:?}"),
            }
        }
    }

    async fn frame(&mut self) -> Option<Message> {
        loop {
            let frame = tokio::time::timeout(PATIENCE, self.socket.next()).await;
            match frame.expect("nothing came")? {
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                Ok(frame) => return Some(frame),
                Err(error) => panic!("{error}"),
            }
        }
    }
}
