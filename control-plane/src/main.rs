//! The control plane as a program: arguments, start, wait, drain.

use anyhow::Context as _;
use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};
use trunkline_control_plane::{app, config::Config, observe};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let config = Config::parse();
    observe::init(config.log_format, &config.log).context("--log (TRUNKLINE_LOG)")?;
    inbound::raise_file_limit();
    // A second provider is impossible: nothing was installed before.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let running = app::start(config).await?;
    tracing::info!(address = %running.addr, "control plane is ready");
    tokio::select! {
        _ = terminate.recv() => {}
        interrupt = tokio::signal::ctrl_c() => interrupt.context("cannot wait for ctrl-c")?,
    }
    tracing::info!("draining");
    running.drain().await;
    Ok(())
}
