//! What the control plane refuses of files, named by its place in them. Pure.

use crate::error::{Error, Refusal};
use crate::kinds::{Kind, short_name};
use crate::manifest::Resource;

/// What the control plane says of a secret that it was never given.
const NO_SECRET: &str = "no secret is stored yet";
/// What to do about that.
const SECRET_ADVICE: &str =
    "; write {fromEnv: NAME} or {fromFile: PATH} there, as `mcpctl export --secrets-from-env` does";

/// Names the places in the files that an error is about.
pub(super) fn in_files(error: Error, resources: &[Resource]) -> Error {
    let Some(refusal) = error.refusal.as_deref() else { return error };
    let mut lines: Vec<String> =
        refusal.violations.iter().map(|(field, why)| violation(field, why, resources)).collect();
    if let Some(used) = Kind::of_resource(&refusal.name).filter(|_| refusal.reason == "RESOURCE_REFERENCED") {
        let id = short_name(&refusal.name);
        lines.push(format!("{error}, or run `mcpctl delete {} {id} --force`", used.singular));
    }
    let stale = resources.iter().find(|resource| resource.name == refusal.name);
    if let Some(resource) = stale.filter(|_| refusal.reason == "ETAG_MISMATCH") {
        lines.push(stale_etag(resource, refusal));
    }
    if lines.is_empty() {
        return error;
    }
    let mut told = Error::new(error.exit, lines.join("\n"));
    told.refusal = error.refusal;
    told
}

fn stale_etag(resource: &Resource, refusal: &Refusal) -> String {
    let (place, name) = (resource.place.of("meta.etag"), &resource.name);
    let what = match (refusal.etag.is_empty(), refusal.uid.is_empty()) {
        (true, _) => format!("{name} does not exist any more; take its `meta.etag` out to create it anew"),
        (_, false) => format!(
            "{name} exists already, and this file was fetched from another resource; take its `meta.etag` out to write over {name}, \
             or give another name"
        ),
        _ => format!(
            "{name} was changed since this file was fetched; fetch it again with `mcpctl get {} {} -o yaml`, or remove its \
             `meta.etag` to apply it all the same",
            resource.kind.singular,
            short_name(name)
        ),
    };
    format!("{place}: {what}")
}

fn violation(field: &str, why: &str, resources: &[Resource]) -> String {
    let found = manifest_field(field).and_then(|(index, path)| Some((resources.get(index)?, path)));
    let Some((resource, path)) = found else { return format!("{field} {why}") };
    let kind = resource.kind;
    match path {
        // The resource as a whole is known by its name.
        "" => format!("{}: {kind} {why}", resource.place.of("name")),
        path => {
            let advice = if why.ends_with(NO_SECRET) { SECRET_ADVICE } else { "" };
            format!("{}: {kind}: {} {why}{advice}", resource.place.of(path), in_json(path))
        }
    }
}

/// Parts `manifests[2].server.tools[0].match` into the number of the resource and the path in it.
fn manifest_field(field: &str) -> Option<(usize, &str)> {
    let (index, rest) = field.strip_prefix("manifests[")?.split_once(']')?;
    let path = rest.strip_prefix('.').and_then(|rest| rest.split_once('.')).map_or("", |(_, path)| path);
    Some((index.parse().ok()?, path))
}

/// A path as it is written in files: `request_timeout` is `requestTimeout`. What is in brackets is a key of somebody's own.
fn in_json(path: &str) -> String {
    let (mut text, mut is_quoted, mut after_line) = (String::new(), false, false);
    for c in path.chars() {
        is_quoted ^= c == '"';
        match c {
            '_' if !is_quoted => after_line = true,
            c if after_line => {
                text.push(c.to_ascii_uppercase());
                after_line = false;
            }
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use tonic::{Code, Status};
    use tonic_types::{ErrorDetails, StatusExt as _};

    use super::*;
    use crate::manifest;

    fn refused(details: ErrorDetails) -> String {
        let text = "kind: Upstream\nname: a\nrequestTimeout: 0s\nmeta: {etag: x}\n---\nkind: Server\nname: dev\ntools:\n- match: b/c\n";
        let resources = manifest::parse("f.yaml", text).unwrap();
        let status =
            Status::with_error_details(Code::Aborted, "upstreams/a was changed in the meantime", details);
        in_files(Error::from_status(&status, "URL"), &resources).to_string()
    }

    #[test]
    fn violations_are_named_by_their_places() {
        let mut details = ErrorDetails::new();
        for (field, why) in [
            (
                "manifests[1].server.tools[0].match",
                "refers to upstreams/b, which does not exist; create it first",
            ),
            ("manifests[0].upstream.request_timeout", "is 0 s"),
            ("manifests[0].upstream.meta.labels[\"a_b\"]", "is odd"),
            ("manifests[1]", "repeats servers/dev"),
            ("apply_set", "is too long"),
        ] {
            details.add_bad_request_violation(field, why);
        }
        assert_eq!(
            refused(details),
            "f.yaml:9: document 2: Server: tools[0].match refers to upstreams/b, which does not exist; create it first\n\
             f.yaml:3: document 1: Upstream: requestTimeout is 0 s\n\
             f.yaml:4: document 1: Upstream: meta.labels[\"a_b\"] is odd\n\
             f.yaml:7: document 2: Server repeats servers/dev\n\
             apply_set is too long"
        );
    }

    #[test]
    fn a_stale_etag_says_what_to_do() {
        let mismatch = |etag: &str, uid: &str| {
            let metadata = [("name", "upstreams/a"), ("etag", etag), ("uid", uid)]
                .map(|(key, value)| (key.to_owned(), value.to_owned()));
            refused(ErrorDetails::with_error_info("ETAG_MISMATCH", "trunkline.dev", metadata))
        };
        assert_eq!(
            mismatch("other", ""),
            "f.yaml:4: document 1: upstreams/a was changed since this file was fetched; fetch it again with `mcpctl get upstream a -o yaml`, \
             or remove its `meta.etag` to apply it all the same"
        );
        assert_eq!(
            mismatch("", ""),
            "f.yaml:4: document 1: upstreams/a does not exist any more; take its `meta.etag` out to create it anew"
        );
        assert_eq!(
            mismatch("other", "1"),
            "f.yaml:4: document 1: upstreams/a exists already, and this file was fetched from another resource; take its `meta.etag` out to \
             write over upstreams/a, or give another name"
        );
        let other = ErrorDetails::with_error_info("OTHER", "trunkline.dev", []);
        assert_eq!(refused(other), "upstreams/a was changed in the meantime");
    }
}
