//! Every kind of client against every kind of upstream, and the table of it in `docs/PROTOCOL.md`. The SDKs of Python and
//! TypeScript are at both ends; `tests/matrix` says what they do.

use std::process::Stdio;

use crate::support::{binary, root, tool};

#[tokio::test]
async fn every_client_reaches_every_upstream_as_the_table_says() {
    let programs = binary("mcpctl").parent().unwrap().to_owned();
    let mut run = tokio::process::Command::new(tool("python/bin/python"));
    run.arg(root().join("tests/matrix/run.py")).arg("--programs").arg(programs);
    run.arg("--check").arg(root().join("docs/PROTOCOL.md"));
    let output = run.stdin(Stdio::null()).kill_on_drop(true).output().await.unwrap();
    let (table, talk) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{table}\n{talk}");
}
