//! Cutting what is damaged out of the store's log before the store is opened.
//!
//! fjall (3.1) writes every commit to `<number>.jnl` as one batch: a start, items, and an end with the XXH3 of the items.
//! Opened, it cuts the log at the first batch that does not read, whatever follows, or refuses to open where a checksum
//! does not match. Batches that follow a damaged one are whole commits of ours, so they are kept; what was cut out is put
//! aside.

use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::Range;
use std::path::Path;

use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::segment::sync_folder;

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
const TRAILER: &[u8] = b"FJL\x03";
/// Tag, type, compression, keyspace, length of the key, lengths of the value unpacked and as it is stored.
const ITEM_HEAD: usize = 1 + 1 + 1 + 8 + 2 + 4 + 4;

/// What was cut out of one log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The log's name.
    pub log: String,
    /// The bytes.
    pub bytes: Range<usize>,
    /// Whether they were at its end, where a write that a crash tore leaves them as well.
    pub at_end: bool,
}

/// Cuts damaged batches out of the logs in `store`, and keeps the bytes in `aside`. Nobody may have the store open.
pub fn salvage(store: &Path, aside: &Path) -> io::Result<Vec<Cut>> {
    let mut cuts = Vec::new();
    for entry in store.read_dir()? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "jnl") {
            continue;
        }
        let log = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let bytes = fs::read(&path)?;
        let (sound, damaged) = scan(&bytes);
        if damaged.is_empty() {
            continue;
        }
        fs::create_dir_all(aside)?;
        for range in &damaged {
            let cut = &bytes[range.clone()];
            // Named by its content, so that being interrupted here leaves no second copy.
            let kept = aside.join(format!("{log}-{:016x}-{:032x}", range.start, xxh3_128(cut)));
            let mut file = File::create(kept)?;
            file.write_all(cut)?;
            file.sync_all()?;
        }
        sync_folder(aside)?;
        let part = path.with_extension("part");
        let mut file = File::create(&part)?;
        sound.iter().try_for_each(|range| file.write_all(&bytes[range.clone()]))?;
        file.sync_all()?;
        fs::rename(&part, &path)?;
        sync_folder(store)?;
        let end = sound.last().map_or(0, |range| range.end);
        cuts.extend(damaged.into_iter().map(|bytes| Cut { log: log.clone(), at_end: bytes.start >= end, bytes }));
    }
    cuts.sort_by(|a, b| (&a.log, a.bytes.start).cmp(&(&b.log, b.bytes.start)));
    Ok(cuts)
}

/// The whole batches of a log, and what is between them. A log is made long and filled later, so zeros at its end are
/// neither.
fn scan(bytes: &[u8]) -> (Vec<Range<usize>>, Vec<Range<usize>>) {
    let length = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let bytes = &bytes[..length];
    let (mut sound, mut damaged): (Vec<Range<usize>>, Vec<Range<usize>>) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < length {
        if let Some(end) = batch_end(bytes, at) {
            match sound.last_mut() {
                Some(last) if last.end == at => last.end = end,
                _ => sound.push(at..end),
            }
            at = end;
        } else {
            let next = (at + 1..length).find(|&next| bytes[next] == START && batch_end(bytes, next).is_some());
            damaged.push(at..next.unwrap_or(length));
            at = next.unwrap_or(length);
        }
    }
    (sound, damaged)
}

/// Where the batch that begins here ends; `None` where none does, or it is not as it was written.
fn batch_end(bytes: &[u8], start: usize) -> Option<usize> {
    let field = |at: usize, length: usize| bytes.get(at..at.checked_add(length)?);
    let byte = |at: usize| bytes.get(at).copied();
    let number = |at: usize| Some(u32::from_le_bytes(field(at, 4)?.try_into().ok()?));
    if byte(start)? != START {
        return None;
    }
    let items = number(start + 1)?;
    let first = start + 1 + 4 + 8;
    let mut at = first;
    for _ in 0..items {
        at = match byte(at)? {
            ITEM => {
                let key = u16::from_le_bytes(field(at + 11, 2)?.try_into().ok()?);
                at.checked_add(ITEM_HEAD + usize::from(key))?.checked_add(number(at + 17)? as usize)?
            }
            CLEAR => at + 1 + 8,
            _ => return None,
        };
    }
    let checksum = u64::from_le_bytes(field(at + 1, 8)?.try_into().ok()?);
    let whole =
        byte(at)? == END && field(at + 9, TRAILER.len())? == TRAILER && xxh3_64(field(first, at - first)?) == checksum;
    whole.then_some(at + 9 + TRAILER.len())
}
