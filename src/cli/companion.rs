//! The autopilot as a child of the service.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::settings::Settings;

/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// How long it stays down when it has ended by itself.
const DOWN: Duration = Duration::from_secs(10);

/// An autopilot beside this service, started again where it ends; asked to end, and waited for, when dropped.
pub struct Companion {
    stop: Arc<AtomicBool>,
    keeper: Option<JoinHandle<()>>,
}

impl Companion {
    /// Starts `slated autopilot` with these settings for the service that listens at `address`.
    pub fn start(autopilot: &Path, address: SocketAddr, settings: &Settings) -> Self {
        let mut reachable = address;
        if address.ip().is_unspecified() {
            reachable.set_ip(match address.ip() {
                IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
        }
        let arguments: Vec<String> = vec![
            "autopilot".to_owned(),
            "--settings".to_owned(),
            autopilot.display().to_string(),
            "--service".to_owned(),
            format!("{}://{reachable}", settings.server.scheme()),
            "--journal".to_owned(),
            settings.journal.folder.display().to_string(),
            "--models".to_owned(),
            settings.models.folder.display().to_string(),
            "--log-level".to_owned(),
            settings.log.level.clone(),
        ];
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&stop);
        Self { stop, keeper: Some(thread::spawn(move || keep(&arguments, &asked))) }
    }
}

impl Drop for Companion {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(keeper) = self.keeper.take() {
            // A panic there has nothing to tell here.
            let _ = keeper.join();
        }
    }
}

fn keep(arguments: &[String], stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        match spawn(arguments) {
            Ok(mut child) => match watch(&mut child, stop) {
                Some(status) => tracing::error!(status, "the autopilot has ended; it is started again in {DOWN:?}"),
                None => return,
            },
            Err(error) => tracing::error!(%error, "the autopilot cannot be started; trying again in {DOWN:?}"),
        }
        let mut down = Duration::ZERO;
        while down < DOWN && !stop.load(Ordering::Relaxed) {
            thread::sleep(LOOK);
            down += LOOK;
        }
    }
}

fn spawn(arguments: &[String]) -> std::io::Result<Child> {
    let itself = std::env::current_exe()?;
    Command::new(itself).args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).spawn()
}

/// How it ended by itself; `None` where it was asked to.
fn watch(child: &mut Child, stop: &AtomicBool) -> Option<String> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status.to_string()),
            Err(error) => return Some(error.to_string()),
            Ok(None) if stop.load(Ordering::Relaxed) => {
                let asked = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
                if !asked.is_ok_and(|status| status.success()) {
                    // It goes on where it was at the next start, whatever it is killed in.
                    let _ = child.kill();
                }
                let _ = child.wait();
                return None;
            }
            Ok(None) => thread::sleep(LOOK),
        }
    }
}
