//! One connection of a client, over any transport: a request goes out, and its answer comes back whole. It must not know
//! what is asked, nor the libraries that the edge is made of.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::load::Job;
use crate::support::fake::header;

/// How a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    /// Each message is a request.
    Http,
    /// Messages are posted, and answers come on a stream.
    Sse,
    /// Frames both ways.
    WebSocket,
}

/// An answer.
pub(crate) struct Answer {
    /// Its head; of what has none, that of the request it came for.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

/// A connection of a client.
pub(crate) enum Line {
    Http { wire: Wire, head: String },
    Sse { wire: Wire, head: String, stream: Wire, text: Vec<u8> },
    WebSocket { wire: Wire },
}

impl Line {
    /// Connects, and begins the session where there is one.
    pub(crate) async fn open(job: &Job) -> Self {
        let mut wire = Wire::connect(&job.address).await;
        let mut line = match job.transport {
            Transport::Http => Self::Http { wire, head: job.head.clone() },
            Transport::Sse => Self::listen(wire, job).await,
            Transport::WebSocket => {
                let upgrade = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\nsec-websocket-protocol: mcp\r\n";
                wire.write(format!("GET {} HTTP/1.1\r\n{}{upgrade}\r\n", job.path, job.head).as_bytes())
                    .await;
                let head = wire.head().await;
                assert!(head.starts_with("HTTP/1.1 101"), "{head}");
                Self::WebSocket { wire }
            }
        };
        if let Some(hello) = &job.hello {
            let request = line.request(&job.path, hello);
            let answer = line.ask(&request).await;
            if let Self::Http { head, .. } = &mut line {
                let session = header(&answer.head, "mcp-session-id").expect("initialize gave no session");
                *head += &format!("mcp-session-id: {session}\r\n");
            }
            let ready = line.request(&job.path, r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
            line.tell(&ready).await;
        }
        line
    }

    async fn listen(mut stream: Wire, job: &Job) -> Self {
        stream.write(format!("GET {} HTTP/1.1\r\n{}\r\n", job.path, job.head).as_bytes()).await;
        let head = stream.head().await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let mut text = Vec::new();
        let first = String::from_utf8(next_event(&mut stream, &mut text).await).unwrap();
        let path = first.strip_prefix("event: endpoint\ndata: ").expect("its first event is no endpoint");
        let wire = Wire::connect(&job.address).await;
        Self::Sse { wire, head: format!("POST {} HTTP/1.1\r\n{}", path.trim_end(), job.head), stream, text }
    }

    /// A message as it is written.
    pub(crate) fn request(&self, path: &str, body: &str) -> Vec<u8> {
        match self {
            Self::Http { head, .. } => {
                format!("POST {path} HTTP/1.1\r\n{head}content-length: {}\r\n\r\n{body}", body.len()).into()
            }
            Self::Sse { head, .. } => format!("{head}content-length: {}\r\n\r\n{body}", body.len()).into(),
            Self::WebSocket { .. } => frame(body),
        }
    }

    /// Writes a request, and reads its answer to the last byte.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> Answer {
        match self {
            Self::Http { wire, .. } => {
                wire.write(request).await;
                wire.answer().await
            }
            Self::Sse { wire, stream, text, .. } => {
                wire.write(request).await;
                let head = wire.answer().await.head;
                assert!(head.starts_with("HTTP/1.1 202"), "{head}");
                let body = next_event(stream, text).await;
                Answer { head: "HTTP/1.1 200 on the stream".to_owned(), body }
            }
            Self::WebSocket { wire } => {
                wire.write(request).await;
                let body = wire.frame().await;
                Answer { head: "HTTP/1.1 200 in a frame".to_owned(), body }
            }
        }
    }

    /// Writes a notification.
    async fn tell(&mut self, notification: &[u8]) {
        match self {
            Self::Http { wire, .. } | Self::Sse { wire, .. } => {
                wire.write(notification).await;
                let head = wire.answer().await.head;
                assert!(head.starts_with("HTTP/1.1 202"), "{head}");
            }
            Self::WebSocket { wire } => wire.write(notification).await,
        }
    }
}

/// The next event that is no comment.
async fn next_event(stream: &mut Wire, text: &mut Vec<u8>) -> Vec<u8> {
    loop {
        while let Some(end) = find(text, b"\n\n") {
            let rest = text.split_off(end + 2);
            let event = std::mem::replace(text, rest);
            if !event.starts_with(b":") {
                return event;
            }
        }
        let more = stream.chunk().await;
        assert!(!more.is_empty(), "the stream ended");
        text.extend_from_slice(&more);
    }
}

/// A frame of text. Its mask is zero, so that its id can be counted up in place; whoever reads it unmasks it all the same.
fn frame(body: &str) -> Vec<u8> {
    let mut frame = vec![0x81];
    match u16::try_from(body.len()) {
        Ok(length @ ..126) => frame.push(0x80 | length as u8),
        Ok(length) => {
            frame.push(0x80 | 126);
            frame.extend(length.to_be_bytes());
        }
        Err(_) => {
            frame.push(0x80 | 127);
            frame.extend((body.len() as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(body.as_bytes());
    frame
}

/// A socket, and what was read from it and not taken.
pub(crate) struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Wire {
    async fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    async fn head(&mut self) -> String {
        let head = self.until(b"\r\n\r\n").await;
        String::from_utf8_lossy(&head).into_owned()
    }

    /// One HTTP answer.
    async fn answer(&mut self) -> Answer {
        let head = self.head().await;
        let body = if header(&head, "transfer-encoding").is_some_and(|v| v.contains("chunked")) {
            let mut body = Vec::new();
            loop {
                let chunk = self.chunk().await;
                if chunk.is_empty() {
                    break body;
                }
                body.extend_from_slice(&chunk);
            }
        } else {
            let length = header(&head, "content-length").and_then(|v| v.parse().ok()).unwrap_or(0);
            self.take(length).await
        };
        Answer { head, body }
    }

    /// One chunk of a body; an empty one is the last.
    async fn chunk(&mut self) -> Vec<u8> {
        let size = self.until(b"\r\n").await;
        let size = std::str::from_utf8(&size[..size.len() - 2]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        let mut chunk = self.take(size + 2).await;
        chunk.truncate(size);
        chunk
    }

    /// The payload of one frame of text.
    async fn frame(&mut self) -> Vec<u8> {
        loop {
            let start = self.take(2).await;
            let length = match start[1] {
                126 => u16::from_be_bytes(self.take(2).await.try_into().unwrap()).into(),
                127 => u64::from_be_bytes(self.take(8).await.try_into().unwrap()),
                length => u64::from(length),
            };
            let payload = self.take(length as usize).await;
            match start[0] {
                0x81 => return payload,
                // A ping; nobody is asked twice within a measurement.
                0x89 => {}
                other => panic!("a frame of kind {other:x}: {}", String::from_utf8_lossy(&payload)),
            }
        }
    }

    async fn until(&mut self, mark: &[u8]) -> Vec<u8> {
        loop {
            if let Some(at) = find(&self.buffer, mark) {
                return self.take(at + mark.len()).await;
            }
            self.fill().await;
        }
    }

    async fn take(&mut self, length: usize) -> Vec<u8> {
        while self.buffer.len() < length {
            self.fill().await;
        }
        let rest = self.buffer.split_off(length);
        std::mem::replace(&mut self.buffer, rest)
    }

    async fn fill(&mut self) {
        self.buffer.reserve(64 << 10);
        let count = self.stream.read_buf(&mut self.buffer).await.unwrap();
        assert!(count > 0, "the connection was closed: {}", String::from_utf8_lossy(&self.buffer));
    }
}

pub(crate) fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}
