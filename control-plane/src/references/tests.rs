//! Which references lead anywhere, and whose secrets they lead to.

use std::path::Path;

use trunkline::registry::v1::credential::Kind;
use trunkline::registry::v1::secret_reference::Source as Written;
use trunkline::registry::v1::{
    BearerCredential, EnvironmentSource, FileSource, KubernetesSource, VaultSource,
};

use super::document::Document;
use super::*;
use crate::config::SecretOptions;

fn env(name: &str) -> SecretReference {
    SecretReference { source: Some(Written::Env(EnvironmentSource { name: name.to_owned() })) }
}

fn file(path: &str) -> SecretReference {
    SecretReference { source: Some(Written::File(FileSource { path: path.to_owned(), key: String::new() })) }
}

fn vault(mount: &str, path: &str) -> SecretReference {
    let (mount, path, key) = (mount.to_owned(), path.to_owned(), "k".to_owned());
    SecretReference { source: Some(Written::Vault(VaultSource { path, key, mount })) }
}

fn kubernetes(name: &str, namespace: &str) -> SecretReference {
    let (name, namespace, key) = (name.to_owned(), namespace.to_owned(), "k".to_owned());
    SecretReference { source: Some(Written::Kubernetes(KubernetesSource { name, key, namespace })) }
}

fn bearer(from: SecretReference) -> Credential {
    let bearer = BearerCredential { token: String::new(), token_from: Some(from) };
    Credential { kind: Some(Kind::Bearer(bearer)), version: String::new() }
}

/// All stores, of which none is there.
fn open(folder: &Path) -> Stores {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    std::fs::write(folder.join("namespace"), "ns\n").unwrap();
    let nobody: url::Url = "http://127.0.0.1:1".parse().unwrap();
    let options = SecretOptions {
        secret_dir: Some(folder.join("secrets")),
        secret_vault_address: Some(nobody.clone()),
        secret_vault_token_file: Some(folder.join("token")),
        secret_vault_prefix: Some("secret/trunkline".to_owned()),
        secret_kubernetes: true,
        secret_kubernetes_api: Some(nobody),
        secret_kubernetes_account: folder.to_owned(),
        ..SecretOptions::default()
    };
    Stores::open(&options).unwrap()
}

#[test]
fn nothing_is_open_but_what_the_operator_opened() {
    let closed = Stores::open(&SecretOptions::default()).unwrap();
    for (reference, option) in [
        (file("a"), "--secret-dir"),
        (vault("", "a"), "--secret-vault-address"),
        (kubernetes("trunkline-secret-a", ""), "--secret-kubernetes"),
    ] {
        assert!(closed.refusal(&reference).unwrap().contains(option), "{reference:?}");
    }
    let folder = tempfile::tempdir().unwrap();
    let open = open(folder.path());
    for good in [
        env("TRUNKLINE_SECRET_A"),
        file("a/b"),
        vault("", "trunkline/a"),
        vault("secret", "trunkline/a"),
        kubernetes("trunkline-secret-a", ""),
        kubernetes("trunkline-secret-a", "ns"),
    ] {
        assert_eq!(open.refusal(&good), None, "{good:?}");
    }
    for bad in [
        env("PATH"),
        env("TRUNKLINE_MASTER_KEY"),
        env("TRUNKLINE_ADMIN_TOKEN"),
        env("TRUNKLINE_SECRET_"),
        // An option, although it begins so.
        env("TRUNKLINE_SECRET_VAULT_TOKEN_FILE"),
        env(""),
        file("/etc/passwd"),
        file("../a"),
        file("a/../../b"),
        file(""),
        vault("", "a"),
        vault("", "trunkline"),
        vault("", "trunkline2/a"),
        vault("", "trunkline/../a"),
        vault("kv", "trunkline/a"),
        vault("secret/trunkline/x", "../../a"),
        kubernetes("other", ""),
        kubernetes("trunkline-secret-", ""),
        kubernetes("trunkline-secret-a", "kube-system"),
        kubernetes("trunkline-secret-a/../b", ""),
        SecretReference::default(),
    ] {
        assert!(open.refusal(&bad).is_some(), "{bad:?}");
    }
}

#[test]
fn the_master_key_is_out_of_reach_under_any_prefix() {
    let options = SecretOptions { secret_env_prefix: "TRUNKLINE_".to_owned(), ..SecretOptions::default() };
    let stores = Stores::open(&options).unwrap();
    let refusal = stores.refusal(&env("TRUNKLINE_MASTER_KEY")).unwrap();
    assert_eq!(refusal, "names an option of the control plane, to which nobody refers");
}

#[test]
fn a_team_has_what_is_under_its_name_and_nothing_of_another() {
    let folder = tempfile::tempdir().unwrap();
    let open = open(folder.path());
    for (team, theirs) in [
        ("core", env("TRUNKLINE_SECRET_TEAMS_CORE_GITHUB_TOKEN")),
        ("core-a", env("TRUNKLINE_SECRET_TEAMS_CORE__A_TOKEN")),
        ("core", file("teams/core/a/b")),
        ("core", vault("", "trunkline/teams/core/a")),
        ("core", kubernetes("trunkline-secret-teams.core.a", "")),
    ] {
        assert!(open.is_of_team(&theirs, team), "{team}: {theirs:?}");
        assert!(!open.is_of_team(&theirs, "cor") && !open.is_of_team(&theirs, "b"), "{theirs:?}");
    }
    for (team, other) in [
        ("core", env("TRUNKLINE_SECRET_TEAMS_CORE__A_TOKEN")),
        ("core", env("TRUNKLINE_SECRET_TEAMS_CORE_")),
        ("core-a", env("TRUNKLINE_SECRET_TEAMS_CORE_A_TOKEN")),
        ("core", env("TRUNKLINE_SECRET_CORE_TOKEN")),
        ("core", file("teams/core")),
        ("core", file("teams/core2/a")),
        ("core", file("a/teams/core/b")),
        ("core", vault("", "trunkline/teams/core")),
        ("core", vault("", "trunkline/teams/core-a/x")),
        ("core", vault("", "teams/core/x")),
        ("core", kubernetes("trunkline-secret-teams.core-a.x", "")),
        ("core", kubernetes("trunkline-secret-teams.core.", "")),
    ] {
        assert!(!open.is_of_team(&other, team), "{team}: {other:?}");
    }
}

#[tokio::test]
async fn what_was_read_takes_the_place_of_its_reference() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("secrets")).unwrap();
    std::fs::write(folder.path().join("secrets/good"), "s3cret\n").unwrap();
    std::fs::write(folder.path().join("secrets/bad"), "s3cret with spaces").unwrap();
    let references = References::new(open(folder.path()), Duration::from_secs(30));
    let credential = bearer(file("good"));
    let not_yet = references.look(&credential).unwrap_err().to_string();
    assert_eq!(not_yet, "credential.bearer.token_from: it was not read yet");
    let Some(Kind::Bearer(filled)) = references.resolve(&credential).await.unwrap().kind else { panic!() };
    assert_eq!((filled.token.as_str(), filled.token_from), ("s3cret", None));
    for (reference, why) in [
        (file("bad"), "what was read contains characters that are not allowed in a header"),
        (file("gone"), "gone: the file does not exist"),
        (vault("", "trunkline/a"), "vault: its token cannot be read: entity not found"),
    ] {
        let error = references.resolve(&bearer(reference)).await.unwrap_err().to_string();
        assert_eq!(error, format!("credential.bearer.token_from: {why}"));
    }
}

#[tokio::test]
async fn what_was_read_and_cannot_be_sent_replaces_nothing() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("secrets")).unwrap();
    std::fs::write(folder.path().join("secrets/token"), "s3cret\n").unwrap();
    let references = References::new(open(folder.path()), Duration::from_secs(30));
    let credential = bearer(file("token"));
    let sent = |references: &References| {
        let Some(Kind::Bearer(filled)) = references.look(&credential).unwrap().kind else { panic!() };
        filled.token
    };
    references.resolve(&credential).await.unwrap();
    let read = |text: &str| {
        let found = Document::Text(zeroize::Zeroizing::new(text.to_owned()));
        for entry in references.lock().entries.values_mut() {
            entry.put(Ok(found.clone()), Instant::now(), 5_000_000, None);
        }
    };
    read("two words");
    assert_eq!(sent(&references), "s3cret");
    assert_eq!(
        references.trouble(&credential).unwrap(),
        "credential.bearer.token_from: what was read contains characters that are not allowed in a header (since \
         1970-01-01T00:00:05Z); what was read before is used"
    );
    read("another");
    assert_eq!(sent(&references), "another");
    assert_eq!(references.trouble(&credential), None);
}
