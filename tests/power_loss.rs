//! A power cut under load: with `durability = "power"`, all that was acknowledged is on the disk at that moment.
//!
//! The journal is on a file system in a file, mounted through a loop device. What the kernel has not written to the device
//! yet is not in that file, so a copy of the file, taken while the service stands still, is what a power cut would leave.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::ledger::{Compared, Ledger, send};
use common::{Service, Workplace};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A mounted image of a file system.
struct Image {
    file: PathBuf,
    mount: PathBuf,
}

fn done(program: &str, args: &[&Path]) -> bool {
    Command::new(program).args(args).output().is_ok_and(|output| output.status.success())
}

impl Image {
    /// A new one; `None` where this machine does not let us.
    fn new(folder: &Path) -> Option<Self> {
        let file = folder.join("disk");
        fs::File::create(&file).unwrap().set_len(96 << 20).unwrap();
        done("mkfs.ext4", &[Path::new("-q"), &file]).then_some(())?;
        Self::mount(file, folder.join("mounted"))
    }

    fn mount(file: PathBuf, mount: PathBuf) -> Option<Self> {
        fs::create_dir_all(&mount).unwrap();
        done("mount", &[Path::new("-o"), Path::new("loop"), &file, &mount]).then_some(Self { file, mount })
    }

    /// What would be left of it if the power went now.
    fn cut(&self, folder: &Path) -> Self {
        let file = folder.join("disk-after-cut");
        fs::copy(&self.file, &file).unwrap();
        Self::mount(file, folder.join("mounted-after-cut")).expect("the file system is repaired when it is mounted")
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        done("umount", &[&self.mount]);
    }
}

/// Load for a random time, a power cut, and what the journal holds of what was acknowledged until then; `None` where images
/// cannot be mounted.
async fn cut(durability: &str, random: &mut ChaCha8Rng, round: u32) -> Option<(Ledger, Compared)> {
    let place = Workplace::new();
    let disk = Image::new(place.path())?;
    let settings = |journal: &Path| {
        let journal = journal.display();
        let settings =
            format!("[journal]\nfolder = \"{journal}\"\ndurability = \"{durability}\"\nseal_after_events = 150\n");
        fs::write(place.path().join("slated.toml"), settings).unwrap();
    };
    settings(&disk.mount.join("journal"));
    let service = Service::start(place.path(), &[]);
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let senders: Vec<_> = (0..4)
        .map(|sender| {
            let prefix = format!("cut-{round}");
            tokio::spawn(send(service.url.clone(), sender, random.random(), prefix, Arc::clone(&ledger)))
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(random.random_range(200..1500))).await;
    let acknowledged = ledger.lock().unwrap().clone();
    let pid = service.pid().to_string();
    assert!(done("kill", &[Path::new("-STOP"), Path::new(&pid)]));
    let after = disk.cut(place.path());
    service.kill();
    for sender in senders {
        sender.await.unwrap();
    }
    settings(&after.mount.join("journal"));
    Service::start(place.path(), &[]).stop();
    // What was sent after the acknowledgements were counted may be there too.
    let Ledger { asked, told, .. } = ledger.lock().unwrap().clone();
    let acknowledged = Ledger { asked, told, ..acknowledged };
    let compared = acknowledged.compare(&after.mount.join("journal"));
    Some((acknowledged, compared))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_a_power_cut() {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let (mut acknowledged, mut readable) = (0, 0);
    for round in 0..4 {
        let Some((ledger, compared)) = cut("power", &mut random, round).await else {
            eprintln!("left out: mounting a file system through a loop device is not allowed here");
            return;
        };
        assert!(compared.lost.is_empty() && compared.invented.is_empty(), "round {round}: {compared:?}");
        acknowledged += ledger.decided.len() + ledger.kept.len();
        readable += compared.decisions + compared.feedback;
    }
    println!("4 power cuts: acknowledged {acknowledged}, readable {readable}, lost 0, invented 0");
    assert!(acknowledged > 40, "there was hardly any load");

    // That such a cut does lose what is not synced, or the rounds above would prove nothing.
    let Some((ledger, compared)) = cut("process", &mut random, 4).await else { return };
    assert!(!compared.lost.is_empty(), "nothing was lost of {}", ledger.decided.len());
}
