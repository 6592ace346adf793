//! A small load generator: each connection has one request in flight, and every answer is checked. It must not
//! know who answers.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

use crate::cell::Expected;
use crate::cpu;

/// One measurement.
pub(crate) struct Job {
    pub(crate) address: String,
    /// Whose CPU time is charged, children included.
    pub(crate) pid: u32,
    pub(crate) connections: usize,
    /// The whole `initialize`, where there are sessions.
    pub(crate) hello: Option<Vec<u8>>,
    /// Request line and headers, without `content-length`.
    pub(crate) head: String,
    /// The body, with an id of ten digits.
    pub(crate) body: String,
    pub(crate) expected: Expected,
}

/// What came of it.
#[derive(Clone, Copy)]
pub(crate) struct Measured {
    pub(crate) cpu_us: f64,
    pub(crate) per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

#[derive(Default)]
struct Shared {
    /// Only what ends while this is set counts.
    measuring: Cell<bool>,
    done: Cell<bool>,
    latencies: std::cell::RefCell<Vec<u32>>,
}

/// Runs one measurement on this thread.
pub(crate) fn run(job: &Job, warm_up: Duration, window: Duration) -> Measured {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, measure(job, warm_up, window))
}

async fn measure(job: &Job, warm_up: Duration, window: Duration) -> Measured {
    let shared = Rc::new(Shared::default());
    let mut tasks = Vec::new();
    for _ in 0..job.connections {
        let connection = Connection::open(job).await;
        tasks.push(tokio::task::spawn_local(connection.drive(Rc::clone(&shared))));
    }
    tokio::time::sleep(warm_up).await;
    let (before, start) = (cpu::used(job.pid), Instant::now());
    shared.measuring.set(true);
    tokio::time::sleep(window).await;
    shared.measuring.set(false);
    let (used, elapsed) = (cpu::used(job.pid) - before, start.elapsed());
    shared.done.set(true);
    for task in tasks {
        task.await.unwrap();
    }
    let mut latencies = shared.latencies.take();
    latencies.sort_unstable();
    assert!(!latencies.is_empty(), "not one answer within the window: {}", job.head);
    let count = latencies.len() as f64;
    let at = |part: f64| f64::from(latencies[((count - 1.0) * part) as usize]) / 1e3;
    Measured {
        cpu_us: used.as_secs_f64() * 1e6 / count,
        per_second: count / elapsed.as_secs_f64(),
        p50_us: at(0.5),
        p99_us: at(0.99),
    }
}

struct Connection {
    stream: TcpStream,
    request: Vec<u8>,
    id_at: usize,
    buffer: Vec<u8>,
    expected: Expected,
}

impl Connection {
    async fn open(job: &Job) -> Self {
        let stream = TcpStream::connect(&job.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut connection =
            Self { stream, request: Vec::new(), id_at: 0, buffer: Vec::new(), expected: job.expected };
        let mut head = job.head.clone();
        if let Some(hello) = &job.hello {
            connection.stream.write_all(hello).await.unwrap();
            let answer = connection.answer().await;
            let session = header(&answer.head, "mcp-session-id").expect("initialize gave no session");
            head += &format!("mcp-session-id: {session}\r\n");
            let ready = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
            let request = format!("{head}content-length: {}\r\n\r\n{ready}", ready.len());
            connection.stream.write_all(request.as_bytes()).await.unwrap();
            connection.answer().await;
        }
        let request = format!("{head}content-length: {}\r\n\r\n{}", job.body.len(), job.body);
        connection.id_at = request.find("\"id\":1000000000").unwrap() + "\"id\":".len();
        connection.request = request.into_bytes();
        connection
    }

    async fn drive(mut self, shared: Rc<Shared>) {
        let mut number = 1_000_000_000_u64;
        while !shared.done.get() {
            number += 1;
            let id = number.to_string();
            self.request[self.id_at..self.id_at + 10].copy_from_slice(id.as_bytes());
            let start = Instant::now();
            self.stream.write_all(&self.request).await.unwrap();
            let answer = self.answer().await;
            let took = start.elapsed();
            answer.check(self.expected, &id);
            if shared.measuring.get() {
                shared.latencies.borrow_mut().push(took.as_nanos().try_into().unwrap_or(u32::MAX));
            }
        }
    }

    /// Reads one answer to its last byte.
    async fn answer(&mut self) -> Answer {
        let end = loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                break at + 4;
            }
            self.fill().await;
        };
        let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        self.buffer.drain(..end);
        let body = if header(&head, "transfer-encoding").is_some_and(|v| v.contains("chunked")) {
            self.chunks().await
        } else {
            let length = header(&head, "content-length").and_then(|v| v.parse().ok()).unwrap_or(0);
            self.take(length).await
        };
        Answer { head, body }
    }

    async fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let end = loop {
                if let Some(at) = find(&self.buffer, b"\r\n") {
                    break at;
                }
                self.fill().await;
            };
            let size = std::str::from_utf8(&self.buffer[..end]).unwrap();
            let size = usize::from_str_radix(size, 16).unwrap();
            self.buffer.drain(..end + 2);
            let chunk = self.take(size + 2).await;
            if size == 0 {
                return body;
            }
            body.extend_from_slice(&chunk[..size]);
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

struct Answer {
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn check(&self, expected: Expected, id: &str) {
        let fine = self.head.starts_with("HTTP/1.1 200")
            && self.body.len() >= expected.least
            && (!expected.id || find(&self.body, id.as_bytes()).is_some());
        let start = &self.body[..self.body.len().min(400)];
        assert!(fine, "a wrong answer to {id}: {} {}", self.head, String::from_utf8_lossy(start));
    }
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    crate::support::fake::header(head, name)
}
