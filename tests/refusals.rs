//! Refusals of the control plane arrive, whatever was sent and however much: `curl` over HTTP/2 throws answers away that come
//! before it has written everything.

use std::process::Command;

use serde_json::Value;

use crate::support::gateway::{Gateway, Store};

/// How often each is asked: what arrives only sometimes is not told from once.
const TIMES: usize = 4;

/// A request by `curl`.
struct Asked<'a> {
    path: &'a str,
    options: &'a [&'a str],
    bearer: &'a str,
    body: usize,
}

/// The status, and the code and reason in the body.
fn ask(gateway: &Gateway, version: &str, asked: &Asked<'_>) -> (String, String, String) {
    let Asked { path, options, bearer, body } = asked;
    let file = gateway.folder().join(format!("body{body}"));
    std::fs::write(&file, "x".repeat(*body)).unwrap();
    let mut command = Command::new("curl");
    command.args(["-sS", version, "--max-time", "60", "-w", "\n%{http_code}"]).args(*options);
    command.args(["-H", &format!("authorization: Bearer {bearer}")]);
    if *body > 0 {
        command.arg("--data-binary").arg(format!("@{}", file.display()));
    }
    let output = command.arg(format!("http://{}{path}", gateway.control_address())).output().unwrap();
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
    // Far less than is read of it in the time there is: of what is longer, `curl` throws away one answer in many.
    const LONG: usize = 1_000_000;
    let gateway = Gateway::start(Store::Sqlite, 0).await;
    let admin = gateway.admin_token();
    let request = |path, options, bearer, body| Asked { path, options, bearer, body };
    for (asked, status, code, reason) in [
        (request(LIST, &JSON[..], "wrong", 2), "401", "UNAUTHENTICATED", "ADMIN_REQUIRED"),
        (request(LIST, &JSON, "wrong", 300_000), "401", "UNAUTHENTICATED", "ADMIN_REQUIRED"),
        (request(LIST, &JSON, "wrong", LONG), "401", "UNAUTHENTICATED", "ADMIN_REQUIRED"),
        (request(LIST, &EXPECT, "wrong", 300_000), "401", "UNAUTHENTICATED", "ADMIN_REQUIRED"),
        (request(LIST, &EXPECT, "wrong", LONG), "401", "UNAUTHENTICATED", "ADMIN_REQUIRED"),
        (request("/nowhere", &JSON, admin, LONG), "404", "NOT_FOUND", ""),
        (request(LIST, &GZIP, admin, 2), "415", "INVALID_ARGUMENT", "CONTENT_CODING"),
        (request(LIST, &GZIP, admin, 300_000), "415", "INVALID_ARGUMENT", "CONTENT_CODING"),
        (request(LIST, &[], "wrong", 300_000), "401", "UNAUTHENTICATED", "ADMIN_REQUIRED"),
        (request("/nowhere", &JSON, admin, 300_000), "404", "NOT_FOUND", ""),
        (request(LIST, &[], admin, 300_000), "415", "INVALID_ARGUMENT", "CONTENT_TYPE"),
        (request(LIST, &["-H", "content-type:"], admin, 2), "415", "INVALID_ARGUMENT", "CONTENT_TYPE"),
        (request(LIST, &[], admin, 0), "405", "INVALID_ARGUMENT", "METHOD_NOT_ALLOWED"),
        (request(LIST, &["-H", "host: elsewhere.example"], admin, 300_000), "403", "PERMISSION_DENIED", ""),
        (
            request("/trunkline.discovery.v1.EnrollmentService/EnrollEdge", &JSON, "", 300_000),
            "429",
            "RESOURCE_EXHAUSTED",
            "BODY_TOO_LARGE",
        ),
    ] {
        // Over HTTP/1.1 the connection ends with a refusal that did not wait for the body, as ever.
        let versions = ["--http2-prior-knowledge", "--http1.1"];
        for version in &versions[..if asked.body > 2 { 1 } else { 2 }] {
            for _ in 0..TIMES {
                let answer = ask(&gateway, version, &asked);
                let expected = (status.to_owned(), code.to_owned(), reason.to_owned());
                assert_eq!(answer, expected, "{version} {} {}", asked.path, asked.body);
            }
        }
    }
}
