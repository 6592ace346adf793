//! A small load generator: each connection has one request in flight, and every answer is checked. It must not
//! know who answers.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::LocalSet;

use crate::cell::Expected;
use crate::cpu;
use crate::line::{Answer, Line, Transport, find};

/// One measurement.
pub(crate) struct Job {
    pub(crate) address: String,
    /// Whose CPU time is charged, children included.
    pub(crate) pid: u32,
    pub(crate) transport: Transport,
    pub(crate) path: String,
    pub(crate) connections: usize,
    /// `initialize`, where there are sessions.
    pub(crate) hello: Option<String>,
    /// Headers, without `content-length`.
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
    pub(crate) longest_us: f64,
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
    let (used, elapsed) = (cpu::used(job.pid).saturating_sub(before), start.elapsed());
    shared.done.set(true);
    for task in tasks {
        task.await.unwrap();
    }
    let mut latencies = shared.latencies.take();
    latencies.sort_unstable();
    assert!(!latencies.is_empty(), "not one answer within the window: {} {}", job.path, job.head);
    let count = latencies.len() as f64;
    let at = |part: f64| f64::from(latencies[((count - 1.0) * part) as usize]) / 1e3;
    Measured {
        cpu_us: used.as_secs_f64() * 1e6 / count,
        per_second: count / elapsed.as_secs_f64(),
        p50_us: at(0.5),
        p99_us: at(0.99),
        longest_us: at(1.0),
    }
}

struct Connection {
    line: Line,
    request: Vec<u8>,
    id_at: usize,
    expected: Expected,
}

impl Connection {
    async fn open(job: &Job) -> Self {
        let line = Line::open(job).await;
        let request = line.request(&job.path, &job.body);
        let id_at = find(&request, b"\"id\":1000000000").unwrap() + "\"id\":".len();
        Self { line, request, id_at, expected: job.expected }
    }

    async fn drive(mut self, shared: Rc<Shared>) {
        let mut number = 1_000_000_000_u64;
        while !shared.done.get() {
            number += 1;
            let id = number.to_string();
            self.request[self.id_at..self.id_at + 10].copy_from_slice(id.as_bytes());
            let start = Instant::now();
            let answer = self.line.ask(&self.request).await;
            let took = start.elapsed();
            // An edge refuses for a moment where it has no share of a rate yet, or another one; such answers count as none.
            if answer.head.starts_with("HTTP/1.1 429") {
                continue;
            }
            answer.check(self.expected, &id);
            if shared.measuring.get() {
                shared.latencies.borrow_mut().push(took.as_nanos().try_into().unwrap_or(u32::MAX));
            }
        }
    }
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
