//! The control plane as a program: arguments, start, wait, renew on SIGHUP, drain.

use std::process::ExitCode;

use anyhow::Context as _;
use secrecy::ExposeSecret as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use trunkline_control_plane::{app, config::Config, observe};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let config: Config = startup::options::parse();
    startup::run("trunkline-control-plane", || {
        observe::init(config.log_format, &config.log).context("--log (TRUNKLINE_LOG)")?;
        inbound::raise_file_limit();
        // A second provider is impossible: nothing was installed before.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let runtime = tokio::runtime::Runtime::new().context("cannot start the async runtime")?;
        runtime.block_on(serve(config))
    })
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let mut stop = StopSignals::new()?;
    let mut hangup = signal(SignalKind::hangup()).context("cannot wait for SIGHUP")?;
    let running = tokio::select! {
        running = app::start(config) => running?,
        // A start may wait for the database.
        () = stop.wait() => return Ok(()),
    };
    tracing::info!(address = %running.addr, "control plane is ready");
    if let Some(link) = &running.setup_link {
        // Here and nowhere else: it is stored as a hash.
        eprintln!(
            "no administrator exists yet: become the first with `mcpctl login --link {} --email YOUR@EMAIL` within 24 hours",
            link.expose_secret()
        );
    }
    loop {
        tokio::select! {
            () = stop.wait() => break,
            _ = hangup.recv() => running.renew(),
        }
    }
    tracing::info!("draining");
    running.drain().await;
    Ok(())
}

/// The signals that stop the program.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
