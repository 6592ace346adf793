//! The hop that we compare with: nginx before the same upstream, with a generated configuration. It must not
//! know what is measured.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::process::Process;
use crate::support::wire::Client;
use crate::support::{PATIENCE, eventually, free_port};

/// The running nginx, workers included.
pub(crate) struct Nginx {
    process: Process,
    address: String,
}

impl Nginx {
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }
}

/// Starts nginx before `upstream`, with the lists of the edge as files.
pub(crate) async fn start(folder: &Path, upstream: &str, edge: &str, bearer: &str) -> Nginx {
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    write_lists(folder, edge, bearer).await;
    let file = folder.join("nginx.conf");
    std::fs::write(&file, configuration(folder, port, upstream)).unwrap();
    let mut command = Command::new(program());
    command.arg("-p").arg(folder).arg("-c").arg(&file).arg("-e").arg(folder.join("nginx-error.log"));
    let mut process = Process::start("nginx", command, folder);
    eventually("nginx listens", PATIENCE, || {
        process.assert_alive();
        async { tokio::net::TcpStream::connect(&address).await.map(drop).map_err(|e| e.to_string()) }
    })
    .await;
    Nginx { process, address }
}

fn program() -> PathBuf {
    let system = PathBuf::from("/usr/sbin/nginx");
    if system.exists() { system } else { "nginx".into() }
}

fn configuration(folder: &Path, port: u16, upstream: &str) -> String {
    let folder = folder.display();
    format!(
        "daemon off;
worker_processes 2;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log error;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
    client_max_body_size 8m;
    client_body_buffer_size 256k;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    sendfile on;
    open_file_cache max=100;
    default_type application/json;
    upstream fast {{ server {upstream}; keepalive 256; keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://fast;
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
            proxy_buffering off;
        }}
        # A POST to a file is answered with the file.
        location /files/ {{ root {folder}; error_page 405 =200 $uri; }}
    }}
}}
"
    )
}

/// What the edge answers to `tools/list`, byte by byte.
async fn write_lists(folder: &Path, edge: &str, bearer: &str) {
    let files = folder.join("files");
    std::fs::create_dir(&files).unwrap();
    for server in ["ten", "thousand"] {
        let url = format!("http://{edge}/servers/{server}/mcp");
        let session = Client::open(&url, bearer).await.unwrap();
        let legacy =
            session.post(r#"{"jsonrpc":"2.0","id":1000000000,"method":"tools/list"}"#, &[]).await.unwrap();
        let modern = Client::new(&url, bearer).modern("tools/list", "", None).await.unwrap();
        for (era, answer) in [("legacy", legacy), ("modern", modern)] {
            let list = answer.json();
            assert!(list["result"]["nextCursor"].is_null(), "the list of {server} has several pages");
            std::fs::write(files.join(format!("{server}-{era}.json")), answer.body).unwrap();
        }
    }
    // nginx's workers run as another user when it is started by root.
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
}
