//! How far the journal has acknowledged, beside the store: what the store lacks of it was lost.
//!
//! `<journal>/.acknowledged` is overwritten after each commit, before its acknowledgements. It survives the process and is
//! not synced: after a loss of power it may say less than was acknowledged, never more than was written.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use xxhash_rust::xxh3::xxh3_64;

use super::store::NextSequence;

const MAGIC: &[u8; 8] = b"slated-1";
const LENGTH: usize = 8 + 3 * 8 + 8;

/// The file.
pub struct Acknowledged(File);

impl Acknowledged {
    /// Opens or makes it.
    pub fn open(journal: &Path) -> io::Result<Self> {
        let path = journal.join(".acknowledged");
        File::options().read(true).write(true).create(true).truncate(false).open(path).map(Self)
    }

    /// The numbers that the next events were to get; `None` where that was never noted, or does not read.
    pub fn read(&self) -> Option<NextSequence> {
        let mut bytes = [0; LENGTH];
        self.0.read_exact_at(&mut bytes, 0).ok()?;
        let number = |index: usize| Some(u64::from_le_bytes(bytes[8 + 8 * index..][..8].try_into().ok()?));
        let sound = bytes.starts_with(MAGIC) && number(3)? == xxh3_64(&bytes[..LENGTH - 8]);
        sound.then_some(NextSequence([number(0)?, number(1)?, number(2)?]))
    }

    /// Notes the numbers that the next events get.
    pub fn write(&self, next: &NextSequence) -> io::Result<()> {
        let mut bytes = [0; LENGTH];
        bytes[..8].copy_from_slice(MAGIC);
        for (index, number) in next.0.into_iter().enumerate() {
            bytes[8 + 8 * index..][..8].copy_from_slice(&number.to_le_bytes());
        }
        let checksum = xxh3_64(&bytes[..LENGTH - 8]);
        bytes[LENGTH - 8..].copy_from_slice(&checksum.to_le_bytes());
        self.0.write_all_at(&bytes, 0)
    }
}
