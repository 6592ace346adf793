//! The verbs of the tests: start a gateway, an upstream, a client; ask, and wait with a limit. It must not
//! know what any test asserts.

pub(crate) mod admin;
pub(crate) mod clients;
pub(crate) mod fake;
pub(crate) mod folder;
pub(crate) mod gateway;
pub(crate) mod line;
pub(crate) mod literals;
pub(crate) mod people;
pub(crate) mod ports;
pub(crate) mod process;
pub(crate) mod snapshot_file;
pub(crate) mod terminal;
pub(crate) mod upstreams;
pub(crate) mod wire;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub(crate) use ports::free_port;

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

/// The longest that a busy machine excuses. After it a heartbeat could bring what a push did not.
const MAX_EXCUSE: Duration = Duration::from_secs(10);

/// How long something may take that is to be over in a second: a second, or on a machine that is busy as long as asking
/// something fifty times takes there just now, up to [`MAX_EXCUSE`].
pub(crate) async fn about_a_second(ask: impl AsyncFn()) -> Duration {
    let start = Instant::now();
    for _ in 0..5 {
        ask().await;
    }
    (start.elapsed() * 10).clamp(Duration::from_secs(1), MAX_EXCUSE)
}

/// Fails unless one of these took less than it may: a pause of ours would be in each, and those of the machine are not
/// ours.
pub(crate) fn assert_in_time(what: &str, timed: &[(Duration, Duration)]) {
    assert!(timed.iter().any(|(took, may_take)| took < may_take), "{what} takes too long: {timed:?}");
}
