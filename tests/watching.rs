//! `mcpctl get -w` and `top -w`: they outlive a control plane that restarts, and end in time and with what they watch.

use crate::support::gateway::{Gateway, Store};
use crate::support::terminal::WIDE;
use crate::support::{PATIENCE, eventually};
use crate::verbs::told;

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_goes_on_after_a_control_plane_that_restarts() {
    let mut gateway = Gateway::start(Store::Sqlite, 0).await;
    gateway.ctl("create server first").await;
    let mut get = gateway.terminal(&["get", "servers", "-w"], WIDE, &[]);
    let top = gateway.terminal(&["top", "servers", "-w"], WIDE, &[]);
    get.wait_for("first").await;
    top.wait_for("first").await;
    gateway.stop_control();
    let away = "waiting for the control plane: the control plane at http://";
    get.wait_for(away).await;
    top.wait_for(away).await;
    gateway.start_control().await;
    get.wait_for("the control plane answers again").await;
    gateway.ctl("create server second").await;
    get.wait_for("second").await;
    // It shows all of it anew, in the place of what it has said.
    top.wait_for("second").await;
    assert_eq!(get.screen().matches(away).count(), 1, "{}", get.screen());
    get.type_keys("\u{3}");
    assert_eq!(get.ended().await, -1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_ends_in_time_and_with_what_it_watches() {
    let gateway = Gateway::start(Store::Sqlite, 0).await;
    gateway.ctl("create server first").await;
    for line in [&["get", "servers", "-w", "-o", "name"][..], &["top", "servers", "-w", "-o", "name"]] {
        let line: Vec<_> = line.iter().copied().chain(["--timeout", "1500ms"]).collect();
        let (printed, said, code) = told(&gateway.try_ctl(&line).await);
        assert_eq!((said.as_str(), code), ("ended after 1.500s (--timeout)\n", 0), "{line:?}");
        assert!(printed.starts_with("servers/first\n"), "{line:?}: {printed}");
    }
    let mut watch = gateway.terminal(&["get", "server", "first", "-w"], WIDE, &[]);
    watch.wait_for("first").await;
    gateway.ctl("delete server first").await;
    assert_eq!(watch.ended().await, 3);
    eventually("it says why", PATIENCE, || {
        let screen = watch.screen();
        let is_told = screen.contains("error: servers/first does not exist");
        std::future::ready(if is_told { Ok(()) } else { Err(screen) })
    })
    .await;
}
