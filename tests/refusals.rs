//! Refusals of the control plane arrive, whatever was sent and however much: `curl` throws answers away that come before it has
//! written everything.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::gateway::{Gateway, Store};

/// How often each is asked: what arrives only sometimes is not told from once.
const TIMES: usize = 4;

/// A request by `curl`.
pub(crate) struct Asked<'a> {
    pub(crate) path: &'a str,
    pub(crate) options: &'a [&'a str],
    pub(crate) bearer: &'a str,
    pub(crate) body: usize,
}

/// The status, and the code and reason in the body.
pub(crate) fn ask(
    control: &str,
    folder: &Path,
    version: &str,
    asked: &Asked<'_>,
) -> (String, String, String) {
    let Asked { path, options, bearer, body } = asked;
    let file = folder.join(format!("body{body}"));
    std::fs::write(&file, "x".repeat(*body)).unwrap();
    let mut command = Command::new("curl");
    command.args(["-sS", version, "--max-time", "60", "-w", "\n%{http_code}"]).args(*options);
    command.args(["-H", &format!("authorization: Bearer {bearer}")]);
    if *body > 0 {
        command.arg("--data-binary").arg(format!("@{}", file.display()));
    }
    let output = command.arg(format!("{control}{path}")).output().unwrap();
    let (text, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{version} {path} {body}: {error}");
    let (answer, status) = text.rsplit_once('\n').unwrap();
    let answer: Value =
        serde_json::from_str(answer).unwrap_or_else(|e| panic!("{version} {path}: {e}: {answer:?}"));
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (status.to_owned(), word(&answer["code"]), word(&answer["details"][0]["reason"]))
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_arrive_whatever_was_sent() {
    const LIST: &str = "/trunkline.registry.v1.UpstreamService/ListUpstreams";
    const JSON: [&str; 2] = ["-H", "content-type: application/json"];
    const EXPECT: [&str; 4] = ["-H", JSON[1], "-H", "expect: 100-continue"];
    const GZIP: [&str; 4] = ["-H", JSON[1], "-H", "content-encoding: gzip"];
    // `curl` asks by itself whether to send as much over HTTP/1.
    const UNASKED: [&str; 4] = ["-H", JSON[1], "-H", "expect:"];
    // Far less than is read of it in the time there is: of what is longer, `curl` throws away one answer in many.
    const LONG: usize = 4_000_000;
    let gateway = Gateway::start(Store::Sqlite, 0).await;
    let (admin, control) = (gateway.admin_token(), format!("http://{}", gateway.control_address()));
    let request = |path, options, bearer, body| Asked { path, options, bearer, body };
    for (asked, status, code, reason) in [
        (request(LIST, &JSON[..], "wrong", 2), "401", "UNAUTHENTICATED", "ADMIN_INVALID"),
        (request(LIST, &JSON, "wrong", 300_000), "401", "UNAUTHENTICATED", "ADMIN_INVALID"),
        (request(LIST, &JSON, "wrong", LONG), "401", "UNAUTHENTICATED", "ADMIN_INVALID"),
        (request(LIST, &UNASKED, "wrong", 300_000), "401", "UNAUTHENTICATED", "ADMIN_INVALID"),
        (request(LIST, &UNASKED, "wrong", LONG), "401", "UNAUTHENTICATED", "ADMIN_INVALID"),
        (request(LIST, &EXPECT, "wrong", 300_000), "401", "UNAUTHENTICATED", "ADMIN_INVALID"),
        (request(LIST, &EXPECT, "wrong", LONG), "401", "UNAUTHENTICATED", "ADMIN_INVALID"),
        (request("/nowhere", &JSON, admin, LONG), "404", "NOT_FOUND", "UNKNOWN_PATH"),
        (request(LIST, &GZIP, admin, 2), "415", "INVALID_ARGUMENT", "CONTENT_CODING"),
        (request(LIST, &GZIP, admin, 300_000), "415", "INVALID_ARGUMENT", "CONTENT_CODING"),
        (request(LIST, &[], "wrong", 300_000), "401", "UNAUTHENTICATED", "ADMIN_INVALID"),
        (request("/nowhere", &JSON, admin, 300_000), "404", "NOT_FOUND", "UNKNOWN_PATH"),
        (request(LIST, &[], admin, 300_000), "415", "INVALID_ARGUMENT", "CONTENT_TYPE"),
        (request(LIST, &["-H", "content-type:"], admin, 2), "415", "INVALID_ARGUMENT", "CONTENT_TYPE"),
        (request(LIST, &[], admin, 0), "405", "INVALID_ARGUMENT", "METHOD_NOT_ALLOWED"),
        (
            request(LIST, &["-H", "host: elsewhere.example"], admin, 300_000),
            "403",
            "PERMISSION_DENIED",
            "NAME_NOT_ALLOWED",
        ),
        (
            request("/trunkline.discovery.v1.EnrollmentService/EnrollEdge", &JSON, "", 300_000),
            "429",
            "RESOURCE_EXHAUSTED",
            "BODY_TOO_LARGE",
        ),
    ] {
        // Over HTTP/1.1 the body of who asks too much is not waited for.
        let versions = ["--http2-prior-knowledge", "--http1.1"];
        for version in &versions[..if status == "429" { 1 } else { 2 }] {
            for _ in 0..TIMES {
                let answer = ask(&control, gateway.folder(), version, &asked);
                let expected = (status.to_owned(), code.to_owned(), reason.to_owned());
                assert_eq!(answer, expected, "{version} {} {}", asked.path, asked.body);
            }
        }
    }
}
