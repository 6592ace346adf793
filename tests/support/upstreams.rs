//! Real upstreams: `mcp-server-time` and `mcp-server-git` through `mcpctl expose`, `server-everything` over
//! Streamable HTTP. It must not know who calls them.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::process::Process;
use super::{PATIENCE, binary, eventually, free_port, tool};

/// The three, running until dropped.
pub(crate) struct Upstreams {
    /// Name and URL of each.
    pub(crate) urls: Vec<(&'static str, String)>,
    /// The repository that the git server serves.
    pub(crate) repository: PathBuf,
    processes: Vec<Process>,
}

impl Upstreams {
    pub(crate) async fn start(folder: &Path) -> Self {
        let repository = make_repository(&folder.join("repository"));
        let time = tool("python/bin/mcp-server-time").display().to_string();
        let git = tool("python/bin/mcp-server-git").display().to_string();
        let repository_arg = repository.display().to_string();
        let mut upstreams = Self { urls: Vec::new(), repository, processes: Vec::new() };
        upstreams.expose("time", &[&time, "--local-timezone", "UTC"], folder);
        upstreams.expose("git", &[&git, "--repository", &repository_arg], folder);
        upstreams.everything(folder);
        upstreams.ready().await;
        upstreams
    }

    fn expose(&mut self, name: &'static str, command: &[&str], folder: &Path) {
        let address = format!("127.0.0.1:{}", free_port());
        let mut expose = Command::new(binary("mcpctl"));
        expose.args(["expose", "--listen", &address, "--"]).args(command);
        self.processes.push(Process::start(&format!("expose-{name}"), expose, folder));
        self.urls.push((name, format!("http://{address}/mcp")));
    }

    fn everything(&mut self, folder: &Path) {
        let port = free_port();
        let mut node = Command::new("node");
        node.arg(tool("node/node_modules/@modelcontextprotocol/server-everything/dist/index.js"));
        node.arg("streamableHttp").env("PORT", port.to_string());
        self.processes.push(Process::start("everything", node, folder));
        self.urls.push(("everything", format!("http://127.0.0.1:{port}/mcp")));
    }

    async fn ready(&mut self) {
        for (index, (name, url)) in self.urls.iter().enumerate() {
            let address = url.trim_start_matches("http://").trim_end_matches("/mcp");
            let process = &mut self.processes[index];
            eventually(name, PATIENCE, || {
                process.assert_alive();
                async move {
                    tokio::net::TcpStream::connect(address).await.map(drop).map_err(|e| e.to_string())
                }
            })
            .await;
        }
    }
}

fn make_repository(path: &Path) -> PathBuf {
    std::fs::create_dir(path).unwrap();
    std::fs::write(path.join("README"), "A repository.\n").unwrap();
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command.current_dir(path).args(["-c", "user.name=Test", "-c", "user.email=test@example.com"]);
        let output = command.args(arguments).env("GIT_CONFIG_NOSYSTEM", "1").output().unwrap();
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    git(&["init", "--quiet", "--initial-branch", "main"]);
    git(&["add", "README"]);
    git(&["commit", "--quiet", "--message", "First"]);
    path.canonicalize().unwrap()
}
