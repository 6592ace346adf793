//! The program: reads the configuration, starts an edge, renews it on SIGHUP, stops it on SIGTERM or SIGINT.

use std::process::ExitCode;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use trunkline_edge_proxy::config::Config;
use trunkline_edge_proxy::{app, observe};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let config: Config = startup::options::parse();
    startup::run("trunkline-edge-proxy", || run(&config))
}

fn run(config: &Config) -> anyhow::Result<()> {
    observe::start_logs(config.log_format, &config.log)?;
    inbound::raise_file_limit();
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        tracing::debug!("a TLS provider is installed already");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let context = runtime.enter();
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
    let mut hangup = signal(SignalKind::hangup()).context("SIGHUP")?;
    let running = app::start(config)?;
    drop(context);
    runtime.block_on(async {
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => running.renew(),
            }
        }
        running.drain().await;
        Ok(())
    })
}
