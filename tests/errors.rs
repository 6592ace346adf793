//! What people see where something is wrong, in one file that is read as one text: what was typed, what came, and the exit
//! code. A narrow terminal, a wide one and a pipe say the same. `UPDATE_MESSAGES=1 cargo test --test product errors::`
//! writes the file.

use std::fmt::Write as _;
use std::path::Path;

use crate::secure::{Authority, behind_tls};
use crate::support::fake::{Fake, json, tool, write};
use crate::support::gateway::{Gateway, Store};
use crate::support::root;
use crate::support::snapshot_file::compare;
use crate::support::terminal::Size;

/// High enough for all that is said at once.
const NARROW: Size = Size(300, 40);
const WIDE: Size = Size(300, 200);
const SECRET: &str = "hunter2-is-a-secret";

/// What is typed, by subject. `|` before it: only where nobody can be asked.
const LINES: &[(&str, &[&str])] = &[
    (
        "Commands and options",
        &[
            "gte upstreams",
            "config us-context x",
            "get upstrems",
            "get upstreams --selektor a=b",
            "get upstreams --timeout soon",
            "get upstreams --timeout 0s",
            "get upstreams -o tabel",
            "get upstreams -o jsonpath={.name",
            "get upstreams --filter state=ready",
            "get upstreams --filter status.state=redy",
            "get upstreams --sort-by .nope",
            "create upstream x -- npx y",
            "create upstream x",
            "create upstream Bad_Name --url https://a.example/mcp",
            "create upstream x --url ftp://a.example/mcp",
            "create upstream x --url https://user:pw@a.example/mcp",
            "create upstream x --url https://a.example/mcp --bearer-file empty",
            "create upstream x --url https://a.example/mcp --bearer-from github",
            "create upstream x --url https://a.example/mcp --bearer-from env:TRUNKLINE_MASTER_KEY",
            "keys rotate master",
            "create token x",
            "create token x --server dev --expires 0s",
            "create token x --server dev --expires soon",
            "create token x --server dev --from 10.1.2.3/8",
            "create token x --server dev --rate 0/s",
            "create token x --server dev --not-before soon",
            "access check --server dev",
            "access check --server dev --tool dev_x --args {path:1}",
            "access who-can call dev/",
            "access who-can list dev/now",
            "approvals show nothing",
            "approvals approve 4cb41c",
            "approvals list --state open",
            "audit --since soon",
            "audit --kind changes",
            "audit show 1000000",
            "create server x --tool time/*=now",
            "create user ann",
            "create user eve@example.org --role develper",
            "create user ann@example.org --dry-run",
            "create service-account x --role nobody",
            "create api-key nobody",
            "disable user nobody@example.org",
            "delete service-account nobody",
            "login",
            "logout",
            "change-password",
            "config set-context test --clear edge --edge http://a.example",
            "create role nothing",
            "create user a@example.org b@example.org --title Both",
            "delete api-key ci/4cb4",
            "update upstream time",
            "update upstream time --clear credentials",
            "update token laptop --clear conditions.windos",
            "update upstream time --disabled false",
            "update server dev other --title x",
            "create server x --unprefixed true",
            "wait upstreams --for state=ready",
            "wait upstream time --for state=redy",
            "client-config --for emacs dev",
            "explain upstream.credentail",
            "completion tcsh",
            "get upstreams -A",
            "label upstream time team=core",
            "logs time",
            "rollout status server dev",
            "config set-credentials x",
            "create server ../x",
            "help nope",
        ],
    ),
    (
        "Names",
        &[
            "get upstream tme",
            "get upstream zoo",
            "get tools tme",
            "get tool echo",
            "describe server dve",
            "describe token lapto",
            "get upstreams time nope -o name",
            "delete upstream times",
            "update server dve --tool time/*",
            "update server/dve --title x",
            "update server dev upstreams/time --disabled",
            "revoke token laptpo",
            "get members",
            "create team core",
            "create team lost --owner nobody@example.org",
            "create role odd --permission servers.wirte",
            "create role viewer --permission servers.call",
            "update role viewer --title x",
            "add member core ann@example.org",
            "add member coer ann@example.org",
            "remove member core ann@example.org",
            "unbind role viewer ann@example.org",
            "refresh upstream tme",
            "usage --server nope",
            "create upstream time --url https://a.example/mcp --no-wait",
            "create server other --tool tme/now",
            "create token x --server dve",
        ],
    ),
    (
        "What would be lost",
        &[
            "delete upstream time",
            "|delete upstreams --all",
            "|delete edge e0",
            "|apply -f empty.yaml --prune",
            "|apply -f nothing --prune",
            "apply -f server.yaml --set ",
        ],
    ),
    (
        "Files",
        &[
            "apply -f nope.yaml",
            "apply -f broken.yaml",
            "apply -f broken.json",
            "apply -f unknown-kind.yaml",
            "apply -f unknown-field.yaml",
            "apply -f labels.yaml",
            "apply -f kubernetes.yaml",
            "apply -f wrong-type.yaml",
            "apply -f texts.yaml",
            "apply -f duration.yaml",
            "apply -f wrong-enum.yaml",
            "apply -f variable.yaml",
            "apply -f from-env.yaml",
            "apply -f missing-reference.yaml",
            "apply -f twice.yaml",
            "apply -f stale.yaml",
            "apply -f gone.yaml",
            "apply -f binary.yaml",
            "diff -f broken.yaml",
            "import broken.json",
            "import twice.json --only a --as b",
            "import empty",
        ],
    ),
    (
        "Gateways",
        &[
            "get upstreams --context tset",
            "config use-context tset",
            "config set-context test",
            "|config set-context new --control not-a-url",
            "|config set-context new --edge http://EDGE/servers/dev/mcp",
            "|config set-context new --ca-file server.yaml",
            "|config set-context new --admin-token-file nope",
            "config get-bearer nope",
            "config set-bearer x --file wrong",
            "config set-bearer x --file half",
            "config set-bearer x --file admin",
            "get upstreams --config list.yaml",
            "get upstreams --config unknown-key.yaml",
            "|expose --register far --connect http://EDGE -- true",
            "|expose --register time -- true",
            "get upstreams --config nope/nope.yaml",
            "get upstreams --config broken.yaml",
            "get upstreams --context nobody",
            "get upstreams --context edge",
            "get upstreams --context operations",
            "get upstreams --context web",
            "get upstreams --context moved",
            "get upstreams --context plain-for-tls",
            "get upstreams --context tls-for-plain",
            "get upstreams --context private-authority",
            "get upstreams --context wrong-token",
            "get upstreams --context no-token",
        ],
    ),
    (
        "Calls",
        &[
            "call",
            "call dve echo --bearer-file bearer",
            "call dev ech --bearer-file bearer",
            "call dev fake_echo tex=a --bearer-file bearer",
            "call dev fake_echo text --bearer-file bearer",
            "call dev fake_echo text:={ --bearer-file bearer",
            "call dev fake_echo --args [] --bearer-file bearer",
            "call dev fake_fails text=a --bearer-file bearer",
            "call dev fake_breaks text=a --bearer-file bearer",
            "call dev fake_closes text=a --bearer-file bearer",
            "call dev echo --bearer-file wrong",
            "call dev echo --bearer-file empty",
            "call dev echo --bearer-file revoked",
            "call other echo --bearer-file bearer",
            "call dev echo --bearer-file bearer --context nobody",
            "call dev echo --bearer-file bearer --context control",
            "call dev echo --bearer-file bearer --context operations",
            "call dev echo --bearer-file bearer --context web",
            "call dev echo --bearer-file bearer --context moved",
            "call dev echo --bearer-file bearer --context bad-gateway",
            "call dev echo --bearer-file bearer --context plain-for-tls",
            "call dev echo --bearer-file bearer --context tls-for-plain",
            "call dev echo --bearer-file bearer --context private-authority",
            "read dev file:///nope --bearer-file bearer",
            "prompt dev nope --bearer-file bearer",
            "ping dve --bearer-file bearer",
        ],
    ),
    (
        "Upstreams",
        &[
            "probe http://NOBODY/mcp",
            "probe https://CONTROL/mcp",
            "probe http://WEB/mcp",
            "probe http://MOVED/mcp",
            "probe http://BAD-GATEWAY/mcp",
            "probe http://TLS/mcp",
            "probe https://TLS/mcp",
            "probe http://REFUSING/mcp",
            "create upstream there --url http://NOBODY/mcp --dry-run",
        ],
    ),
];

/// Files that are wrong, each in its own way.
const FILES: &[(&str, &str)] = &[
    ("empty", ""),
    ("empty.yaml", "# nothing\n---\n"),
    ("wrong", "no-bearer"),
    ("half", "e30.e30"),
    ("list.yaml", "currentContext: a\ncontexts: [{name: a}]\n"),
    ("unknown-key.yaml", "current_context: a\ncontexts: {a: {edge: http://a.example}}\n"),
    ("broken.yaml", "kind: Upstream\nname: [a\n"),
    ("broken.json", "{\"mcpServers\": {\"a\": {\"url\": \"https://a.example/mcp\"}}"),
    (
        "twice.json",
        "{\"mcpServers\": {\"a\": {\"command\": \"x\"}}, \"projects\": {\"/p\": {\"mcpServers\": {\"a\": {\"command\": \"y\"}}}}}",
    ),
    ("unknown-kind.yaml", "kind: Upstraem\nname: a\nhttp: {url: https://a.example/mcp}\n"),
    ("unknown-field.yaml", "kind: Upstream\nname: a\nhttp:\n  url: https://a.example/mcp\n  tiemout: 3s\n"),
    (
        "kubernetes.yaml",
        "apiVersion: trunkline/v1\nkind: Upstream\nmetadata: {name: a}\nspec: {url: https://a.example/mcp}\n",
    ),
    ("labels.yaml", "kind: Upstream\nname: a\nlabels: {team: core}\nhttp: {url: https://a.example/mcp}\n"),
    ("wrong-type.yaml", "kind: Upstream\nname: a\nhttp:\n  url: [https://a.example/mcp]\n"),
    (
        "wrong-enum.yaml",
        "kind: Upstream\nname: a\nhttp: {url: https://a.example/mcp}\nmcp: {eraPolicy: moderm}\n",
    ),
    (
        "variable.yaml",
        "kind: Upstream\nname: a\nhttp: {url: https://a.example/mcp}\ncredential: {bearer: {token: \"${TOKEN}\"}}\n",
    ),
    (
        "from-env.yaml",
        "kind: Upstream\nname: a\nhttp: {url: https://a.example/mcp}\ncredential: {bearer: {token: {fromEnv: NOT_SET}}}\n",
    ),
    ("texts.yaml", "kind: Server\nname: a\ntitle: 5\nmeta:\n  labels:\n    b: true\n"),
    ("duration.yaml", "kind: Upstream\nname: a\nrequestTimeout: 30\nhttp: {url: https://a.example/mcp}\n"),
    ("missing-reference.yaml", "kind: Token\nname: a\nscope: {servers: [servers/nope]}\n"),
    (
        "twice.yaml",
        "kind: Upstream\nname: a\nhttp: {url: https://a.example/mcp}\n---\nkind: Upstream\nname: a\nhttp: {url: https://b.example/mcp}\n",
    ),
    (
        "stale.yaml",
        "kind: Upstream\nname: time\nmeta: {etag: \"stale\"}\nhttp: {url: https://a.example/mcp}\n",
    ),
    (
        "gone.yaml",
        "kind: Upstream\nname: gone\nmeta: {etag: \"stale\"}\nhttp: {url: https://a.example/mcp}\n",
    ),
    ("server.yaml", "kind: Server\nname: dev\ntools: [{match: fake/*}]\n"),
];

/// A gateway, and what is beside it: addresses by name.
struct Place {
    gateway: Gateway,
    addresses: Vec<(&'static str, String)>,
    _fakes: Vec<Fake>,
}

impl Place {
    async fn start() -> Self {
        let gateway = Gateway::start(Store::Sqlite, 1).await;
        let authority = Authority::new(gateway.folder(), "ours");
        let tls = behind_tls(&authority, gateway.control_address().to_owned()).await;
        let tls_edge = behind_tls(&authority, gateway.edge_address(0).to_owned()).await;
        let fakes = [
            "HTTP/1.1 404 Not Found\r\ncontent-type: text/html\r\ncontent-length: 6\r\n\r\n<html>",
            "HTTP/1.1 308 Permanent Redirect\r\nlocation: https://gateway.example/\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/html\r\ncontent-length: 6\r\n\r\n<html>",
            "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Bearer\r\ncontent-length: 0\r\n\r\n",
        ]
        .map(|page| Fake::scripted("[]", move |_| Some(vec![write(page)])));
        let mut fakes = futures_util::future::join_all(fakes).await;
        let mut addresses = vec![
            ("CONTROL", gateway.control_address().to_owned()),
            ("EDGE", gateway.edge_address(0).to_owned()),
            ("OPERATIONS", gateway.operations_address(0).to_owned()),
            ("TLS", format!("127.0.0.1:{tls}")),
            ("TLS-EDGE", format!("127.0.0.1:{tls_edge}")),
            ("NOBODY", "127.0.0.1:1".to_owned()),
        ];
        for (name, fake) in ["WEB", "MOVED", "BAD-GATEWAY", "REFUSING"].into_iter().zip(&fakes) {
            addresses.push((name, host(&fake.url())));
        }
        let upstream = upstream().await;
        addresses.push(("UPSTREAM", host(&upstream.url())));
        fakes.push(upstream);
        let place = Self { gateway, addresses, _fakes: fakes };
        place.fill().await;
        place
    }

    /// Puts into the registry and beside it what is needed.
    async fn fill(&self) {
        let Self { gateway, .. } = self;
        for (name, text) in FILES {
            std::fs::write(gateway.folder().join(name), text).unwrap();
        }
        std::fs::write(gateway.folder().join("binary.yaml"), [0xff, 0xfe, 0, 1]).unwrap();
        std::fs::write(gateway.folder().join("admin"), gateway.admin_token()).unwrap();
        std::fs::create_dir(gateway.folder().join("nothing")).unwrap();
        gateway.admin.create_upstream("fake", &self.written("http://UPSTREAM/mcp")).await;
        gateway.admin.imported("fake").await;
        for line in [
            "create upstream time --url http://127.0.0.1:1/mcp --no-wait",
            "create server dev --tool fake/* --tool time/*",
            "create server other --tool time/*",
            "create token laptop --server dev",
            "create token ended --server dev",
        ] {
            gateway.ctl(line).await;
        }
        for (token, file) in [("laptop", "bearer"), ("ended", "revoked")] {
            let bearer = gateway.ctl(&format!("config get-bearer {token}")).await;
            std::fs::write(gateway.folder().join(file), bearer).unwrap();
        }
        gateway.ctl("revoke token ended --wait").await;
        gateway.ctl("create team core").await;
        self.write_contexts();
    }

    fn write_contexts(&self) {
        let admin = format!("adminToken: {}", self.gateway.admin_token());
        let mut text = std::fs::read_to_string(self.gateway.context()).unwrap();
        for (name, control, edge, rest) in [
            ("nobody", "http://NOBODY", "http://NOBODY", &*admin),
            ("edge", "http://EDGE", "http://EDGE", &admin),
            ("control", "http://CONTROL", "http://CONTROL", &admin),
            ("operations", "http://OPERATIONS", "http://OPERATIONS", &admin),
            ("web", "http://WEB", "http://WEB", &admin),
            ("moved", "http://MOVED", "http://MOVED", &admin),
            ("bad-gateway", "http://BAD-GATEWAY", "http://BAD-GATEWAY", &admin),
            ("plain-for-tls", "http://TLS", "http://TLS-EDGE", &admin),
            ("tls-for-plain", "https://CONTROL", "https://EDGE", &admin),
            ("private-authority", "https://TLS", "https://TLS-EDGE", &admin),
            ("wrong-token", "http://CONTROL", "http://EDGE", &format!("adminToken: {SECRET}")),
            ("no-token", "http://CONTROL", "http://EDGE", ""),
        ] {
            let [control, edge] = [control, edge].map(|url| self.written(url));
            writeln!(text, "  {name}:\n    control: {control}\n    edge: {edge}\n    {rest}").unwrap();
        }
        std::fs::write(self.gateway.context(), text).unwrap();
    }

    /// With addresses for their names.
    fn written(&self, line: &str) -> String {
        self.addresses.iter().fold(line.to_owned(), |line, (name, address)| {
            ["http://", "https://"].iter().fold(line, |line, scheme| {
                let (named, meant) = (format!("{scheme}{name}"), format!("{scheme}{address}"));
                let ends = |rest: &str| rest.is_empty() || rest.starts_with(['/', ' ']);
                match line.split_once(&named) {
                    Some((before, rest)) if ends(rest) => format!("{before}{meant}{rest}"),
                    _ => line,
                }
            })
        })
    }

    /// With names for addresses and folders.
    fn read(&self, text: &str) -> String {
        let folder = self.gateway.folder();
        let real = folder.canonicalize().unwrap();
        let text = text.replace(path(&real), "~").replace(path(folder), "~");
        self.addresses.iter().fold(text, |text, (name, address)| text.replace(address, name))
    }

    /// What comes of a line, and the exit code: in a pipe, and on two terminals, where it must be the same.
    async fn said(&self, line: &str) -> String {
        let (line, is_asked) = line.strip_prefix('|').map_or((line, true), |line| (line, false));
        let line = self.written(line);
        let arguments: Vec<&str> = if line.is_empty() { Vec::new() } else { line.split(' ').collect() };
        let output = self.gateway.try_ctl(&arguments).await;
        let code = output.status.code().unwrap_or(-1);
        let said =
            [&output.stdout, &output.stderr].map(|text| String::from_utf8(text.clone()).unwrap()).concat();
        assert!(!said.contains(SECRET) && !said.contains(self.gateway.admin_token()), "{line}: {said}");
        if is_asked {
            for size in [WIDE, NARROW] {
                let mut terminal = self.gateway.terminal(&arguments, size, &[("NO_COLOR", "1")]);
                assert_eq!(
                    (terminal.ended().await, words(&terminal.screen())),
                    (code, words(&said)),
                    "{line} {size:?}"
                );
            }
        }
        format!("{}(exit {code})\n", self.read(&said))
    }
}

/// Four tools: one answers, one reports an error, one answers nonsense, and one hangs up.
async fn upstream() -> Fake {
    const SCHEMA: &str = r#""inputSchema":{"type":"object","properties":{"text":{"type":"string"}},"required":["text"],"additionalProperties":false}"#;
    let tools = ["echo", "fails", "breaks", "closes"]
        .map(|name| tool(name).replace(r#""inputSchema":{"type":"object"}"#, SCHEMA));
    Fake::start(&format!("[{}]", tools.join(",")), |name, request| {
        let id = crate::support::fake::id(request);
        let result = |text: &str, is_error: bool| {
            json(
                200,
                &format!(
                    r#"{{"jsonrpc":"2.0","id":{id},"result":{{"resultType":"complete","content":[{{"type":"text","text":"{text}"}}],"isError":{is_error}}}}}"#
                ),
            )
        };
        match name {
            "echo" => vec![result("hello", false)],
            "fails" => vec![result("the disk is full", true)],
            "breaks" => vec![json(500, "<html>")],
            _ => vec![crate::support::fake::Step::Close],
        }
    })
    .await
}

fn host(url: &str) -> String {
    url.trim_start_matches("http://").trim_end_matches("/mcp").to_owned()
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A terminal breaks lines where it must.
fn words(text: &str) -> String {
    text.split_whitespace().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_error_is_in_the_file() {
    let place = Place::start().await;
    let mut text = String::new();
    for (subject, lines) in LINES {
        writeln!(text, "==== {subject}\n").unwrap();
        for line in *lines {
            writeln!(text, "$ mcpctl {}\n{}", line.trim_start_matches('|'), place.said(line).await).unwrap();
        }
    }
    compare(&root().join("tests/errors.txt"), &text, "cargo test --test product errors::");
}
