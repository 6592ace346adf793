//! What servers ask before they answer: on the stream of a request, and in the modern era by a result that requires input.

use mcp::client::{Answering, ClientError, Hearer, Session, Transport};
use mcp::revision::Revision;

use crate::scripted_server::{Asked, ScriptedServer, events, info, json};

const QUESTION: &str = r#"{"method":"elicitation/create","params":{"message":"Who?"}}"#;
const ANSWER: &str = r#"{"action":"accept","content":{"name":"Ada"}}"#;

/// Answers elicitations alone, and remembers what it heard.
#[derive(Default)]
struct Person(Vec<String>);

impl Hearer for Person {
    fn hear(&mut self, method: &str, _params: Option<&str>) {
        self.0.push(method.to_owned());
    }

    fn answer<'a>(&'a mut self, method: &'a str, params: Option<&'a str>) -> Answering<'a> {
        self.0.push(format!("{method} {}", params.unwrap_or_default()));
        Box::pin(async move { (method == "elicitation/create").then(|| ANSWER.to_owned()) })
    }
}

async fn called(server: &ScriptedServer, revision: Revision) -> (Result<String, ClientError>, Person) {
    let (transport, capabilities) = (Transport::StreamableHttp, r#"{"elicitation":{}}"#);
    let session =
        Session::open_with(&server.endpoint, transport, revision, info(), capabilities).await.unwrap();
    let mut person = Person::default();
    let result = session.request_with_input("tools/call", r#"{"name":"x"}"#, &[], &mut person).await;
    (result, person)
}

fn bodies(server: &ScriptedServer, part: &str) -> Vec<String> {
    server.asked().into_iter().map(|asked| asked.body).filter(|body| body.contains(part)).collect()
}

#[tokio::test]
async fn a_question_on_the_stream_is_answered_with_a_message() {
    let server = ScriptedServer::start(|asked: &Asked| {
        if !asked.is("tools/call") {
            return asked.handshake().unwrap_or_else(|| json(202, ""));
        }
        let question = QUESTION.replacen('{', r#"{"jsonrpc":"2.0","id":"q","#, 1);
        let other = r#"{"jsonrpc":"2.0","id":"r","method":"roots/list"}"#;
        let result = asked.result(r#"{"content":[]}"#);
        events(format!("data: {question}\n\ndata: {other}\n\ndata: {result}\n\n"))
    })
    .await;
    let (result, person) = called(&server, Revision::LATEST_LEGACY).await;
    assert_eq!(result.unwrap(), r#"{"content":[]}"#);
    assert_eq!(person.0, [r#"elicitation/create {"message":"Who?"}"#, "roots/list "]);
    assert_eq!(
        bodies(&server, r#""id":"q""#),
        [format!(r#"{{"jsonrpc":"2.0","id":"q","result":{ANSWER}}}"#)]
    );
    assert!(bodies(&server, r#""id":"r""#)[0].contains("-32601"));
    assert!(bodies(&server, "initialize")[0].contains(r#""capabilities":{"elicitation":{}}"#));
}

#[tokio::test]
async fn input_that_a_result_requires_is_sent_with_the_request_again() {
    let server = ScriptedServer::start(|asked: &Asked| {
        if asked.is("server/discover") {
            return json(200, asked.result(r#"{"supportedVersions":["2026-07-28"],"capabilities":{}}"#));
        }
        json(200, match asked.body.contains("inputResponses") {
            true => asked.result(r#"{"resultType":"complete","content":[]}"#),
            false => asked.result(&format!(
                r#"{{"resultType":"input_required","inputRequests":{{"k":{QUESTION}}},"requestState":"s"}}"#
            )),
        })
    })
    .await;
    let (result, person) = called(&server, Revision::LATEST).await;
    assert_eq!(result.unwrap(), r#"{"resultType":"complete","content":[]}"#);
    assert_eq!(person.0, [r#"elicitation/create {"message":"Who?"}"#]);
    let again = format!(r#""inputResponses":{{"k":{ANSWER}}},"requestState":"s""#);
    assert_eq!(bodies(&server, &again).len(), 1, "{:?}", bodies(&server, "tools/call"));
    assert!(bodies(&server, "tools/call")[0].contains(r#"clientCapabilities":{"elicitation":{}}"#));
}

#[tokio::test]
async fn a_server_that_never_has_enough_is_left() {
    let server = ScriptedServer::start(|asked: &Asked| {
        if asked.is("server/discover") {
            return json(200, asked.result(r#"{"supportedVersions":["2026-07-28"],"capabilities":{}}"#));
        }
        json(200, asked.result(r#"{"resultType":"input_required","requestState":"s"}"#))
    })
    .await;
    let (result, _) = called(&server, Revision::LATEST).await;
    assert_eq!(
        result.unwrap_err().to_string(),
        "violates the protocol: requires input 10 times for one request"
    );
}
