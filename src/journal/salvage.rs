//! Cutting what is damaged out of the index's log before the index is opened.
//!
//! fjall (3.1) writes every commit to `<number>.jnl` as one batch: a start, items, and an end with the XXH3 of the items.
//! Opened, it cuts the log at the first batch that does not read, whatever follows, or refuses to open where a checksum
//! does not match. Batches that follow a damaged one are whole commits of ours, so they are kept; what was cut out is put
//! aside.
//!
//! The checksum does not cover a batch's number, by which the store orders writes. Numbers ascend through the logs, so one
//! that does not fit is written anew between those around it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::segment::sync_folder;

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
const TRAILER: &[u8] = b"FJL\x03";
/// Where a batch's number stands: behind its tag and the count of its items.
const NUMBER: Range<usize> = 5..13;
/// No store counts that far; it takes no number from 2^63 on, nor may it begin close below.
const NUMBERS: u64 = 1 << 56;
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

/// What was done to the logs.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Salvaged {
    /// What was cut out.
    pub cuts: Vec<Cut>,
    /// How many batches got their number anew.
    pub renumbered: usize,
}

/// Cuts damaged batches out of the logs in `store`, keeps the bytes in `aside`, and sets damaged numbers right. Nobody may have
/// the store open.
pub fn salvage(store: &Path, aside: &Path) -> io::Result<Salvaged> {
    let read = |path: PathBuf| Ok((scan(&fs::read(&path)?), path));
    let mut logs = logs(store)?.into_iter().map(read).collect::<io::Result<Vec<(Log, PathBuf)>>>()?;
    if !renumber(&mut logs.iter_mut().flat_map(|(log, _)| &mut log.batches).collect::<Vec<_>>()) {
        // Nothing says where these belong among what the store has in its tables.
        logs.iter_mut().for_each(|(log, _)| log.damaged.extend(log.batches.drain(..).map(|batch| batch.at)));
    }
    let mut salvaged = Salvaged::default();
    for (log, path) in &logs {
        salvaged.renumbered += log.batches.iter().filter(|batch| batch.renumbered.is_some()).count();
        if !log.is_sound() {
            let bytes = fs::read(path)?;
            let end = log.batches.last().map_or(0, |batch| batch.at.end);
            salvaged.cuts.extend(rewrite(path, aside, &bytes, &log.damaged, &log.kept(&bytes), end)?);
        }
    }
    Ok(salvaged)
}

/// The logs in `store`, in the order in which they were written, which is that of their numbers and not of their names.
fn logs(store: &Path) -> io::Result<Vec<PathBuf>> {
    let paths = store.read_dir()?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    let mut logs: Vec<PathBuf> =
        paths.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "jnl")).collect();
    logs.sort_by_key(|path| path.file_stem().and_then(|name| name.to_str()?.parse::<u64>().ok()));
    Ok(logs)
}

/// Puts what is damaged of a log with these bytes aside, and writes the log anew with what is kept of it, the last of which
/// ended at `end`; what was cut out.
pub fn rewrite(
    path: &Path,
    aside: &Path,
    bytes: &[u8],
    damaged: &[Range<usize>],
    kept: &[u8],
    end: usize,
) -> io::Result<Vec<Cut>> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    put_aside(aside, &name, bytes, damaged)?;
    let part = path.with_extension("part");
    let mut file = File::create(&part)?;
    file.write_all(kept)?;
    file.sync_all()?;
    fs::rename(&part, path)?;
    sync_folder(path.parent().unwrap_or(path))?;
    let cut = |bytes: &Range<usize>| Cut { log: name.to_string(), at_end: bytes.start >= end, bytes: bytes.clone() };
    Ok(damaged.iter().map(cut).collect())
}

/// Keeps what is damaged of a log of this name and content in `aside`.
fn put_aside(aside: &Path, name: &str, bytes: &[u8], damaged: &[Range<usize>]) -> io::Result<()> {
    if damaged.is_empty() {
        return Ok(());
    }
    fs::create_dir_all(aside)?;
    for range in damaged {
        let cut = &bytes[range.clone()];
        // Named by its content, so that being interrupted here leaves no second copy.
        let kept = aside.join(format!("{name}-{:016x}-{:032x}", range.start, xxh3_128(cut)));
        let mut file = File::create(kept)?;
        file.write_all(cut)?;
        file.sync_all()?;
    }
    sync_folder(aside)
}

/// What is in a log.
#[derive(Debug)]
struct Log {
    /// Its whole batches.
    batches: Vec<Batch>,
    /// What is between them.
    damaged: Vec<Range<usize>>,
}

/// A whole batch.
#[derive(Debug)]
struct Batch {
    at: Range<usize>,
    number: u64,
    /// Its number, where the one it has does not fit.
    renumbered: Option<u64>,
}

impl Log {
    /// Its whole batches, under the numbers that fit.
    fn kept(&self, bytes: &[u8]) -> Vec<u8> {
        let mut kept = Vec::with_capacity(bytes.len());
        for Batch { at, number, renumbered } in &self.batches {
            kept.extend_from_slice(&bytes[at.start..at.start + NUMBER.start]);
            kept.extend_from_slice(&renumbered.unwrap_or(*number).to_le_bytes());
            kept.extend_from_slice(&bytes[at.start + NUMBER.end..at.end]);
        }
        kept
    }

    fn is_sound(&self) -> bool {
        self.damaged.is_empty() && self.batches.iter().all(|batch| batch.renumbered.is_none())
    }
}

/// Reads a log. It is made long and filled later, so zeros at its end are neither batches nor damage.
fn scan(bytes: &[u8]) -> Log {
    let length = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let bytes = &bytes[..length];
    let (mut batches, mut damaged) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < length {
        if let Some(end) = batch_end(bytes, at) {
            let number = bytes[at..][NUMBER].try_into().map_or(NUMBERS, u64::from_le_bytes);
            batches.push(Batch { at: at..end, number, renumbered: None });
            at = end;
        } else {
            let next = (at + 1..length).find(|&next| bytes[next] == START && batch_end(bytes, next).is_some());
            damaged.push(at..next.unwrap_or(length));
            at = next.unwrap_or(length);
        }
    }
    Log { batches, damaged }
}

/// Numbers batches anew whose number breaks the order: all but the longest ascending sequence of them, of several that of the
/// least numbers. What was between two of it has room between them. False where no number is one.
fn renumber(batches: &mut [&mut Batch]) -> bool {
    // For each length, the batch by which a sequence of that length ends with the least number; and what is before each.
    let (mut ends, mut before): (Vec<usize>, Vec<Option<usize>>) = (Vec::new(), vec![None; batches.len()]);
    for place in 0..batches.len() {
        let number = batches[place].number;
        if number < NUMBERS {
            let length = ends.partition_point(|&end| batches[end].number < number);
            before[place] = length.checked_sub(1).map(|shorter| ends[shorter]);
            match ends.get_mut(length) {
                Some(end) => *end = place,
                None => ends.push(place),
            }
        }
    }
    let mut fits = vec![false; batches.len()];
    let mut last = ends.last().copied();
    while let Some(place) = last {
        fits[place] = true;
        last = before[place];
    }
    let Some(first) = fits.iter().position(|&fits| fits) else { return batches.is_empty() };
    let mut next = batches[first].number.saturating_sub(first as u64);
    for (batch, fits) in batches.iter_mut().zip(fits) {
        if !fits {
            batch.renumbered = Some(next);
        }
        next = batch.renumbered.unwrap_or(batch.number) + 1;
    }
    true
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_do_not_fit_are_set_between_those_around_them() {
        let renumbered = |numbers: &[u64]| {
            let batch = |&number: &u64| Batch { at: 0..0, number, renumbered: None };
            let mut batches: Vec<Batch> = numbers.iter().map(batch).collect();
            assert!(renumber(&mut batches.iter_mut().collect::<Vec<_>>()));
            batches.iter().map(|batch| batch.renumbered.unwrap_or(batch.number)).collect::<Vec<_>>()
        };
        assert_eq!(renumbered(&[]), Vec::<u64>::new());
        assert_eq!(renumbered(&[3, 7, 8, 20]), [3, 7, 8, 20]);
        assert_eq!(renumbered(&[3, 1 << 40, 8, 20]), [3, 4, 8, 20]);
        assert_eq!(renumbered(&[3, 7, 0, 20]), [3, 7, 8, 20]);
        assert_eq!(renumbered(&[u64::MAX, 7, 1 << 63, 20, 5]), [6, 7, 8, 20, 21]);
        assert_eq!(renumbered(&[1 << 40, 11]), [10, 11]);
        assert_eq!(renumbered(&[7, (1 << 63) - 1]), [7, 8]);
        assert_eq!(renumbered(&[4, 4, 5]), [3, 4, 5]);
        assert!(!renumber(&mut [&mut Batch { at: 0..0, number: 1 << 63, renumbered: None }]));
    }
}
