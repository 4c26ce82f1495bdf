//! A Redis of the test's own.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A Redis server on a port of its own that keeps nothing on disk; killed when dropped.
pub struct Redis {
    port: u16,
    folder: TempDir,
    child: Option<Child>,
}

impl Redis {
    /// Starts one.
    pub fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut redis = Self { port, folder: TempDir::new().unwrap(), child: None };
        redis.again();
        redis
    }

    /// Starts it again where it was, with nothing in it.
    pub fn again(&mut self) {
        let program = std::env::var("SLATED_TEST_REDIS")
            .expect("SLATED_TEST_REDIS names a redis-server; scripts/redis.sh fetches one, `make test` calls it");
        let port = self.port.to_string();
        let child = Command::new(program)
            .args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"])
            .arg(self.folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("Redis starts");
        self.child = Some(child);
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < deadline, "Redis does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends it, and all that it holds.
    pub fn stop(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: &str) {
        let pid = self.child.as_ref().expect("it runs").id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // One that has ended cannot be killed again.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
