//! The harness itself: what a test leaves behind when it fails or is killed, and that tests in several processes do not
//! meet. Those that are ignored are run here, each in a process of its own.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use crate::support::folder::{Folder, journeys};
use crate::support::ports::BLOCK;
use crate::support::process::{Process, is_running};
use crate::support::{PATIENCE, eventually, free_port};

/// One of the ignored tests below.
fn alone(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("harness::{test}"), "--ignored", "--nocapture"]);
    command.stdin(Stdio::null());
    command
}

/// Starts a process that says something and goes on.
fn start(folder: &Folder) -> Process {
    let mut command = Command::new("sh");
    command.args(["-c", "echo said; exec sleep 1000"]);
    Process::start("talker", command, folder.path())
}

#[test]
fn a_test_that_fails_leaves_its_logs_and_says_where() {
    let folder = journeys().join("harness.fails");
    let _ = std::fs::remove_dir_all(&folder);
    let output = alone("fails").output().unwrap();
    assert!(!output.status.success());
    let talk = String::from_utf8_lossy(&output.stderr);
    let line = format!("--- the logs of this test's processes are in {} ---", folder.display());
    assert!(talk.lines().any(|said| said == line), "{talk}");
    assert_eq!(std::fs::read_to_string(folder.join("talker.log")).unwrap(), "said\n");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
#[ignore = "fails on purpose"]
async fn fails() {
    let folder = Folder::new();
    let talker = start(&folder);
    eventually("it has said something", PATIENCE, || async {
        assert!(talker.output().is_empty(), "on purpose");
        Err::<(), _>(String::new())
    })
    .await;
}

#[test]
fn a_test_that_passes_leaves_nothing() {
    let output = alone("passes").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!journeys().join("harness.passes").exists());
}

#[test]
#[ignore = "another test runs it"]
fn passes() {
    let folder = Folder::new();
    let _talker = start(&folder);
    assert!(folder.path().ends_with("harness.passes"), "{}", folder.path().display());
}

#[tokio::test]
async fn a_test_that_is_killed_leaves_no_process() {
    let mut test = alone("waits").stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(test.stdout.take().unwrap()).lines();
    let talker = lines.map(Result::unwrap).find_map(|line| line.strip_prefix("talker ")?.parse().ok());
    let talker = talker.unwrap();
    assert!(is_running(talker));
    test.kill().unwrap();
    test.wait().unwrap();
    eventually("its process is gone", PATIENCE, || async {
        if is_running(talker) { Err(talker.to_string()) } else { Ok(()) }
    })
    .await;
    std::fs::remove_dir_all(journeys().join("harness.waits")).unwrap();
}

#[test]
#[ignore = "goes on until it is killed"]
fn waits() {
    let folder = Folder::new();
    let talker = start(&folder);
    println!("\ntalker {}", talker.pid());
    std::thread::sleep(PATIENCE);
}

#[test]
fn no_two_tests_are_given_the_same_port() {
    let ours: Vec<u16> = (0..2 * BLOCK).map(|_| free_port()).collect();
    let output = alone("takes_ports").output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let theirs: Vec<u16> =
        printed.lines().filter_map(|line| line.strip_prefix("port ")?.parse().ok()).collect();
    assert_eq!(theirs.len(), 2 * usize::from(BLOCK), "{printed}");
    let mut all = [ours, theirs].concat();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 4 * usize::from(BLOCK));
}

#[test]
#[ignore = "another test runs it"]
fn takes_ports() {
    println!();
    (0..2 * BLOCK).for_each(|_| println!("port {}", free_port()));
}
