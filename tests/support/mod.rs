//! The verbs of the tests: start a gateway, an upstream, a client; ask, and wait with a limit. It must not
//! know what any test asserts.

pub(crate) mod admin;
pub(crate) mod clients;
pub(crate) mod fake;
pub(crate) mod gateway;
pub(crate) mod line;
pub(crate) mod process;
pub(crate) mod upstreams;
pub(crate) mod wire;

use std::future::Future;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// How long anything may take to start or to become true: generous, since machines are slow at times.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The root of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A binary of ours, from the same profile as this test.
pub(crate) fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().unwrap().parent().unwrap().join(name);
    assert!(
        path.exists(),
        "{} is missing: run `cargo build --workspace --bins --tests` first",
        path.display()
    );
    path
}

/// A program that `tests/setup.sh` installs.
pub(crate) fn tool(path: &str) -> PathBuf {
    let path = root().join(".tools").join(path);
    assert!(path.exists(), "{} is missing: run `make test`, or `tests/setup.sh tools` first", path.display());
    path
}

/// The ports that tests give out: below those that the system gives to connections that go out, which would take one
/// while nobody listens on it, such as between a kill and the start after it.
const PORTS: std::ops::Range<u16> = 12_000..32_000;

/// A port that is free, and that no other test of this process is given.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let (count, first) = (PORTS.end - PORTS.start, std::process::id() as usize * 397);
    loop {
        // Test programs that run at the same time begin elsewhere.
        let turn = first + usize::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = PORTS.start + (turn % usize::from(count)) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Asks again until there is an answer, or fails with what was last said after `limit`.
pub(crate) async fn eventually<T, F>(what: &str, limit: Duration, mut ask: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, String>>,
{
    let start = Instant::now();
    loop {
        match ask().await {
            Ok(value) => return value,
            Err(last) => assert!(start.elapsed() < limit, "{what}: not within {limit:?}; last: {last}"),
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}
