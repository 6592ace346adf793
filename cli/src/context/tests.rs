use super::*;
use crate::error::Exit;

/// A file with one context, which is the current one.
fn store() -> (tempfile::TempDir, ContextFile) {
    let folder = tempfile::tempdir().unwrap();
    let store =
        ContextFile { path: folder.path().join("new/mcpctl.yaml"), beneath: None, named: None, given: None };
    let added = store.edit(|contexts| {
        contexts.contexts.insert("dev".to_owned(), Context::default());
        contexts.current_context = Some("dev".to_owned());
        Ok(())
    });
    added.unwrap();
    (folder, store)
}

#[test]
fn nothing_is_saved_where_there_is_no_context() {
    let (folder, store) = store();
    let path = folder.path().join("none.yaml");
    let none = ContextFile { path: path.clone(), beneath: None, named: None, given: None };
    let error = none.save_token("laptop", SavedToken::default()).unwrap_err().to_string();
    let advice = "run `mcpctl config set-context NAME --control URL --edge URL` first";
    assert_eq!(error, format!("no context in {}; {advice}", path.display()));
    assert!(!path.exists());
    let named = ContextFile { named: Some("prod".to_owned()), ..store.clone() };
    let error = named.save_token("laptop", SavedToken::default()).unwrap_err();
    assert_eq!(error.exit, Exit::NotFound);
    assert_eq!(store.read().unwrap().contexts.len(), 1);
    store.edit(|contexts| Ok(contexts.current_context.take())).unwrap();
    let error = store.save_token("laptop", SavedToken::default()).unwrap_err().to_string();
    assert!(error.ends_with("run `mcpctl config use-context NAME` (dev)"), "{error}");
}

#[test]
fn a_symbolic_link_stays_one() {
    let (folder, store) = store();
    let link = folder.path().join("link.yaml");
    std::os::unix::fs::symlink(store.path(), &link).unwrap();
    let linked = ContextFile { path: link.clone(), beneath: None, named: None, given: None };
    linked.save_token("laptop", SavedToken::default()).unwrap();
    assert_eq!(std::fs::read_link(&link).unwrap(), store.path());
    assert!(store.current().unwrap().tokens.contains_key("laptop"));
}

#[test]
fn a_saved_token_is_found_by_name_and_the_file_is_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let (_folder, store) = store();
    let token = SavedToken { bearer: Secret::new("s3cret"), ..SavedToken::default() };
    store.save_token("laptop", token.clone()).unwrap();
    let context = store.current().unwrap();
    assert_eq!(context.saved_token("tokens/laptop", store.path()).unwrap(), ("laptop", &token));
    let error = context.saved_token("laptp", store.path()).unwrap_err();
    assert_eq!(error.exit, Exit::NotFound);
    assert!(error.to_string().contains("did you mean laptop?"), "{error}");
    assert_eq!(std::fs::metadata(store.path()).unwrap().permissions().mode() & 0o777, 0o600);
    store.forget_token("laptop").unwrap();
    assert!(store.current().unwrap().tokens.is_empty());
}

#[test]
fn an_unknown_key_is_refused_without_quoting_the_file() {
    let (_folder, store) = store();
    store.edit(|_| Ok(())).unwrap();
    std::fs::write(store.path(), "contexts: {a: {bearer: s3cret}}\n").unwrap();
    let error = store.read().unwrap_err().to_string();
    let expected = "mcpctl.yaml line 1: there is no key `bearer` in contexts.a; there may be control, ";
    assert!(!error.contains("s3cret") && error.contains(expected), "{error}");
}

#[test]
fn a_bearer_that_was_handed_over_is_kept_beside_a_new_one() {
    let (_folder, store) = store();
    let token = |bearer: &str, created: Option<&str>| SavedToken {
        bearer: Secret::new(bearer),
        created: created.map(str::to_owned),
        ..SavedToken::default()
    };
    store.save_token("gift", token("handed over", None)).unwrap();
    let kept = store.save_new_token("gift", token("made", Some("2026-11-30T00:00:00Z"))).unwrap();
    assert_eq!(kept.as_deref(), Some("gift-2"));
    assert_eq!(store.save_new_token("gift", token("again", Some("2026-11-30T00:00:01Z"))).unwrap(), None);
    let tokens = store.current().unwrap().tokens;
    let bearers: Vec<_> = tokens.iter().map(|(name, saved)| (name.as_str(), saved.bearer.clone())).collect();
    assert_eq!(bearers, [("gift", Secret::new("again")), ("gift-2", Secret::new("handed over"))]);
}

#[test]
fn what_is_no_file_is_not_replaced_by_one() {
    let (folder, _) = store();
    let store =
        ContextFile { path: folder.path().join("mcpctl.yaml"), beneath: None, named: None, given: None };
    let target = store.path().with_file_name("pipe.yaml");
    std::fs::create_dir_all(&target).unwrap();
    std::os::unix::fs::symlink(&target, store.path()).unwrap();
    let error = store.save_token("laptop", SavedToken::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{} is no regular file; name another with --config or MCPCTL_CONFIG", target.display())
    );
    assert!(target.is_dir());
}

#[test]
fn those_who_come_by_different_links_wait_for_each_other() {
    let (folder, store) = store();
    let link = folder.path().join("link.yaml");
    std::os::unix::fs::symlink(store.path(), &link).unwrap();
    let linked = ContextFile { path: link, ..store.clone() };
    let save = |file: &ContextFile, prefix: &str| {
        for n in 0..20 {
            file.save_token(&format!("{prefix}{n}"), SavedToken::default()).unwrap();
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| save(&store, "direct"));
        scope.spawn(|| save(&linked, "linked"));
    });
    assert_eq!(store.current().unwrap().tokens.len(), 40);
}

#[test]
fn files_may_begin_with_a_byte_order_mark() {
    let (folder, store) = store();
    let path = folder.path().join("admin-token");
    std::fs::write(&path, "\u{feff}s3cret\r\n").unwrap();
    let context = Context { admin_token_file: Some(path), ..Context::default() };
    assert_eq!(context.admin_bearer().unwrap(), Some(Secret::new("s3cret")));
    store.edit(|_| Ok(())).unwrap();
    let text = std::fs::read_to_string(store.path()).unwrap();
    std::fs::write(store.path(), format!("\u{feff}{text}")).unwrap();
    store.read().unwrap();
}

#[test]
fn debug_shows_no_secret() {
    assert_eq!(format!("{:?}", Secret::new("s3cret")), "…");
}
