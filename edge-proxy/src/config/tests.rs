use super::*;

fn config(args: &[&str]) -> Result<Config, clap::Error> {
    Config::try_parse_from([&["edge"], args].concat())
}

#[test]
fn the_command_line_is_consistent_and_every_flag_has_an_environment_variable() {
    use clap::CommandFactory as _;
    let command = Config::command();
    command.clone().debug_assert();
    for flag in command.get_arguments().filter(|arg| !matches!(arg.get_id().as_str(), "help" | "version")) {
        let env = flag.get_env().unwrap_or_else(|| panic!("{} has none", flag.get_id()));
        assert!(env.to_string_lossy().starts_with("TRUNKLINE_"), "{env:?}");
        assert!(flag.get_help().is_some(), "{} has no help", flag.get_id());
    }
}

#[test]
fn flags_end_up_where_they_are_used() {
    let config = config(&[
        "--listen=127.0.0.1:1",
        "--control-plane=http://a:1,https://b:2",
        "--workers=3",
        "--page-size=7",
        "--join-token=s3cr3t",
        "--data-dir=/nowhere",
        "--sibling-listen=127.0.0.1:0",
        "--sibling-advertise=e1.example:4447",
    ])
    .unwrap();
    assert_eq!(config.listen.port(), 1);
    let uris: Vec<String> = config.control_planes.iter().map(ToString::to_string).collect();
    assert_eq!(uris, ["http://a:1/", "https://b:2/"]);
    assert_eq!((config.workers(), config.page_size), (3, 7));
    assert_eq!(config.sibling_listen, SiblingListen(Some("127.0.0.1:0".parse().unwrap())));
    assert_eq!(config.sibling_advertise.as_deref(), Some("e1.example:4447"));
    assert_eq!(config.join_token().unwrap().unwrap().expose(), "s3cr3t");
    assert_eq!(config.data_dir().unwrap(), PathBuf::from("/nowhere"));
    let shown = format!("{config:?}{}", config.to_json());
    assert!(!shown.contains("s3cr3t"), "{shown}");
}

#[test]
fn the_configuration_is_shown_as_json_without_secrets() {
    let config = config(&[
        "--join-token=s3cr3t",
        "--snapshot-key=s3cr3t",
        "--control-plane=http://user:s3cr3t@a:1",
        "--allowed-host=a.example",
        "--egress-allow=loopback,10.0.0.0/8",
        "--egress-deny=10.1.2.3",
        "--body-timeout=2.5",
    ])
    .unwrap();
    let shown = config.to_json();
    assert_eq!(shown["controlPlanes"], json!(["http://a:1/"]));
    assert_eq!((&shown["joinToken"], &shown["snapshotKey"]), (&json!(true), &json!(true)));
    assert_eq!(shown["allowedHosts"], json!(["a.example"]));
    assert_eq!(shown["egressAllow"], json!(["loopback", "10.0.0.0/8"]));
    assert_eq!(shown["egressDeny"], json!(["10.1.2.3"]));
    assert_eq!(shown["limits"]["bodyTimeoutSeconds"], json!(2.5));
    assert_eq!(shown["limits"]["maxBodyBytes"], json!(4 << 20));
    let text = shown.to_string();
    assert!(!text.contains("s3cr3t"), "{text}");
    assert!(!text.contains("Some(") && !text.contains("Limits {"), "{text}");
}

#[test]
fn an_edge_may_be_alone() {
    assert_eq!(config(&[]).unwrap().sibling_listen.0.map(|address| address.port()), Some(4447));
    for alone in ["--sibling-listen=off", "--sibling-listen="] {
        assert_eq!(config(&[alone]).unwrap().sibling_listen, SiblingListen(None), "{alone}");
    }
}

#[test]
fn what_cannot_work_is_refused_at_once() {
    for (args, reason) in [
        (&["--control-plane=b:2"][..], "http"),
        (&["--workers=0"], "1..=1024"),
        (&["--page-size=1001"], "1..=1000"),
        (&["--sibling-listen=here"], "give an IP address or a name, and a port"),
        (&["--sibling-advertise=here"], "HOST:PORT"),
        (&["--edge-id=A"], "must match"),
        (&["--join-token=a", "--join-token-file=b"], "cannot be used with"),
        (&["--log=verbose"], "`verbose` is no level"),
        (&["--log=info,h2=loud"], "'--log <FILTER>'"),
        (&["--frobnicate"], "unexpected argument"),
    ] {
        let error = config(args).expect_err("it cannot work").to_string();
        assert!(error.contains(reason), "{args:?}: {error}");
    }
}

#[test]
fn a_join_token_is_read_from_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    let flag = format!("--join-token-file={}", path.display());
    for text in ["s3cr3t\n", "\u{feff}s3cr3t\r\n"] {
        std::fs::write(&path, text).unwrap();
        assert_eq!(config(&[&flag]).unwrap().join_token().unwrap().unwrap().expose(), "s3cr3t");
    }
    std::fs::remove_file(&path).unwrap();
    let error = config(&[&flag]).unwrap().join_token().expect_err("it is gone").to_string();
    assert!(error.starts_with("--join-token-file"), "{error}");
}

#[test]
fn edge_ids_are_those_of_the_contract() {
    for good in ["a", "e1", "edge-1", "0", &"x".repeat(63)] {
        assert!(edge_id(good).is_ok(), "{good}");
    }
    for bad in ["", "-a", "a-", "A", "a_b", "a.b", &"x".repeat(64)] {
        assert!(edge_id(bad).is_err(), "{bad}");
    }
}

#[test]
fn an_address_that_nobody_may_say_is_refused() {
    let checked =
        |args: &[&str]| config(args).unwrap().check_client_address().map_err(|error| error.to_string());
    for source in ["proxy-protocol", "forwarded", "x-forwarded-for"] {
        let option = format!("--client-address={source}");
        let refused = checked(&[&option]).unwrap_err();
        assert!(
            refused.starts_with(&format!("--client-address {source} requires --balancer-address")),
            "{refused}"
        );
        assert_eq!(checked(&[&option, "--balancer-address=10.0.0.0/8"]), Ok(()));
    }
    assert_eq!(checked(&[]), Ok(()));
    assert!(config(&["--client-address=header"]).is_err());
}
