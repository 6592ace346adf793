//! Ports for the processes of tests, each given once, whatever process the test runs in. It must not know who listens there.

use std::net::TcpListener;
use std::ops::Range;
use std::sync::Mutex;

/// The ports that tests give out: below those that the system gives to connections that go out, which would take one
/// while nobody listens on it, such as between a kill and the start after it.
const PORTS: Range<u16> = 12_000..32_000;
/// How many ports a process claims at once.
pub(crate) const BLOCK: u16 = 50;

/// The blocks of this process.
struct Claims {
    /// A block belongs to the process that listens on its first port, until that ends.
    first: Vec<TcpListener>,
    left: Range<u16>,
}

/// A port that is free, and that no test of this process or another is given.
pub(crate) fn free_port() -> u16 {
    static CLAIMS: Mutex<Claims> = Mutex::new(Claims { first: Vec::new(), left: 0..0 });
    let mut claims = CLAIMS.lock().unwrap();
    loop {
        match claims.left.next() {
            Some(port) if TcpListener::bind(("127.0.0.1", port)).is_ok() => return port,
            Some(_) => {}
            None => claims.more(),
        }
    }
}

impl Claims {
    /// Claims a block that no process has. Programs that run at the same time begin to look at different places.
    fn more(&mut self) {
        let blocks = u32::from((PORTS.end - PORTS.start) / BLOCK);
        for turn in 0..blocks {
            let block = (std::process::id() + turn) % blocks;
            let first = PORTS.start + block as u16 * BLOCK;
            if let Ok(claim) = TcpListener::bind(("127.0.0.1", first)) {
                self.first.push(claim);
                self.left = first + 1..first + BLOCK;
                return;
            }
        }
        panic!("no ports are left");
    }
}
