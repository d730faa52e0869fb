//! A shared cache: nginx in front of a server.

use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use crate::client::Client;
use crate::demo::Printed;
use crate::files::Directory;

/// An nginx with its own folder and port, which stops when dropped. It caches everything that it may.
pub(crate) struct Cache {
    child: Child,
    address: SocketAddr,
    _directory: Directory,
}

/// nginx runs as one process, so killing that stops it completely. A response without cache headers is
/// cached for a minute, whatever its status. A response that sets a cookie is cached as well, which RFC
/// 9111 allows and nginx does on request. The cache key is the path without the query.
const CONFIGURATION: &str = "
daemon off;
master_process off;
pid pid;
error_log stderr notice;
events {}
http {
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    proxy_cache_path cache keys_zone=pages:1m;
    server {
        listen LISTEN;
        location / {
            proxy_pass http://ORIGIN;
            proxy_set_header Host $http_host;
            proxy_cache pages;
            proxy_cache_key $scheme$host$uri;
            proxy_cache_valid any 1m;
            proxy_ignore_headers Set-Cookie;
            add_header X-Cache $upstream_cache_status always;
        }
    }
}
";

impl Cache {
    /// Starts an nginx in front of the server at this address.
    pub(crate) fn start(origin: SocketAddr) -> Self {
        // nginx can't choose a free port itself, and another process may take the chosen one.
        loop {
            let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
            if let Some(cache) = Self::listen(free.expect("a free port"), origin) {
                return cache;
            }
        }
    }

    /// Starts an nginx on this port, unless the port is taken.
    fn listen(address: SocketAddr, origin: SocketAddr) -> Option<Self> {
        let directory = Directory::new();
        let configuration = CONFIGURATION.replace("LISTEN", &address.to_string());
        let configuration = configuration.replace("ORIGIN", &origin.to_string());
        let file = directory.path().join("nginx.conf");
        std::fs::write(&file, configuration).expect("the directory is there");
        let mut child = Command::new("nginx")
            .args(["-e", "stderr", "-p"])
            .arg(directory.path())
            .arg("-c")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("nginx is installed; scripts/test does it, and looks for it in /usr/sbin");
        let printed = Arc::new(Printed::default());
        printed.collect(child.stderr.take().expect("is piped"));
        let cache = Self { child, address, _directory: directory };
        // nginx's first line says that it listens, or why it can't.
        let line = printed.wait_for(": ");
        if line.contains("Address already in use") {
            return None;
        }
        assert!(line.contains("using the"), "{line}");
        Some(cache)
    }

    /// Returns a visitor who accepts cookies and has none yet.
    pub(crate) fn visitor(&self) -> Client {
        Client::new(self.address)
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
