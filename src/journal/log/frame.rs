//! A commit as it lies in a file of the log.
//!
//! | bytes | what, numbers little-endian |
//! |---|---|
//! | 4 | `SLC1` |
//! | 8 | length of what follows the checksum |
//! | 8 | XXH3 (64 bits) of that length and of what follows the checksum |
//! | 1, of each event | its kind: the index in [`KINDS`](super::KINDS) |
//! | 8 | its sequence number |
//! | 8 | its length |
//! | as many | the event, MessagePack with field names |
//!
//! The checksum covers everything, so a commit reads as it was written or not at all, and numbers can be trusted.

use std::ops::Range;

use xxhash_rust::xxh3::Xxh3;

const MAGIC: &[u8; 4] = b"SLC1";
/// Of the length and of what is behind the checksum.
const LENGTH: Range<usize> = 4..12;
const CHECKSUM: Range<usize> = 12..20;
const EVENT_HEAD: usize = 1 + 8 + 8;

/// A commit that is put together.
#[derive(Debug, Default)]
pub struct Frame(Vec<u8>);

impl Frame {
    /// Begins the next commit, in the memory of the last one.
    pub fn begin(&mut self) {
        self.0.clear();
        self.0.extend_from_slice(MAGIC);
        self.0.resize(CHECKSUM.end, 0);
    }

    /// Adds an event of the kind with this index; says where in the commit it begins.
    pub fn push(&mut self, kind: usize, sequence: u64, event: &[u8]) -> usize {
        self.0.push(kind as u8);
        self.0.extend_from_slice(&sequence.to_le_bytes());
        self.0.extend_from_slice(&(event.len() as u64).to_le_bytes());
        let at = self.0.len();
        self.0.extend_from_slice(event);
        at
    }

    /// Ends the commit; its bytes.
    pub fn end(&mut self) -> &[u8] {
        let length = (self.0.len() - CHECKSUM.end) as u64;
        self.0[LENGTH].copy_from_slice(&length.to_le_bytes());
        let checksum = checksum(&self.0);
        self.0[CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
        &self.0
    }
}

fn checksum(commit: &[u8]) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(&commit[LENGTH]);
    hash.update(&commit[CHECKSUM.end..]);
    hash.digest()
}

/// An event in a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The index of its kind.
    pub kind: usize,
    /// Its number.
    pub sequence: u64,
    /// Its bytes in the file.
    pub at: Range<usize>,
}

/// A whole commit in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Its bytes.
    pub at: Range<usize>,
    /// Its events.
    pub records: Vec<Record>,
}

impl Commit {
    /// The commit that begins here; `None` where none does, or it is not as it was written.
    fn read(bytes: &[u8], start: usize) -> Option<Self> {
        let head = bytes.get(start..start.checked_add(CHECKSUM.end)?)?;
        let end = start.checked_add(CHECKSUM.end)?.checked_add(usize::try_from(number(&head[LENGTH])?).ok()?)?;
        let commit = head.starts_with(MAGIC).then(|| bytes.get(start..end)).flatten()?;
        if checksum(commit) != number(&head[CHECKSUM])? {
            return None;
        }
        let mut records = Vec::new();
        let mut at = start + CHECKSUM.end;
        while at < end {
            let head = bytes.get(at..at.checked_add(EVENT_HEAD)?)?;
            let event = at + EVENT_HEAD;
            at = event.checked_add(usize::try_from(number(&head[9..])?).ok()?)?;
            records.push(Record { kind: head[0].into(), sequence: number(&head[1..9])?, at: event..at });
        }
        (at == end).then_some(Self { at: start..end, records })
    }
}

fn number(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

/// What is in a file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Scanned {
    /// Its whole commits, in order.
    pub commits: Vec<Commit>,
    /// What is between and behind them.
    pub damaged: Vec<Range<usize>>,
}

/// Reads a file, those commits that are whole and `sound`. Zeros at its end are no damage: a loss of power leaves a file long
/// and what was to be in it unwritten.
pub fn scan(bytes: &[u8], sound: impl Fn(&Commit) -> bool) -> Scanned {
    let read = |at| Commit::read(bytes, at).filter(&sound);
    let mut scanned = Scanned::default();
    let mut at = 0;
    while at < bytes.len() {
        if let Some(commit) = read(at) {
            at = commit.at.end;
            scanned.commits.push(commit);
        } else {
            let behind = bytes[at + 1..].windows(MAGIC.len()).enumerate().filter(|(_, four)| four == MAGIC);
            let next = behind.map(|(skipped, _)| at + 1 + skipped).find(|&next| read(next).is_some());
            let end = next.unwrap_or(bytes.len());
            if bytes[at..end].iter().any(|&byte| byte != 0) {
                scanned.damaged.push(at..end);
            }
            at = end;
        }
    }
    scanned
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commits() -> (Vec<u8>, Vec<usize>) {
        let mut frame = Frame::default();
        let (mut file, mut ends) = (Vec::new(), Vec::new());
        for sequence in 1..5 {
            frame.begin();
            frame.push(0, sequence, b"SLC1 is no commit");
            frame.push(1, sequence, &[0; 3]);
            file.extend_from_slice(frame.end());
            ends.push(file.len());
        }
        (file, ends)
    }

    #[test]
    fn commits_read_as_they_were_written() {
        let (file, ends) = commits();
        let scanned = scan(&file, |_| true);
        assert!(scanned.damaged.is_empty());
        assert_eq!(scanned.commits.iter().map(|commit| commit.at.end).collect::<Vec<_>>(), ends);
        let [first, second] = &scanned.commits[2].records[..] else { panic!("{scanned:?}") };
        assert_eq!((first.kind, first.sequence, &file[first.at.clone()]), (0, 3, &b"SLC1 is no commit"[..]));
        assert_eq!((second.kind, second.sequence, &file[second.at.clone()]), (1, 3, &[0; 3][..]));
        assert_eq!(scan(&[], |_| true), Scanned::default());
        let mut long = file;
        long.resize(long.len() + 100, 0);
        assert_eq!(scan(&long, |_| true), scanned);
    }

    #[test]
    fn any_changed_bit_costs_its_commit_and_no_other() {
        let (file, ends) = commits();
        let sound = scan(&file, |_| true).commits;
        for bit in 0..8 * ends[1] {
            let mut damaged = file.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let hit = usize::from(bit / 8 >= ends[0]);
            let scanned = scan(&damaged, |_| true);
            let kept: Vec<Commit> =
                sound.iter().enumerate().filter(|(index, _)| *index != hit).map(|(_, commit)| commit.clone()).collect();
            assert_eq!(scanned, Scanned { commits: kept, damaged: vec![sound[hit].at.clone()] }, "bit {bit}");
        }
    }

    #[test]
    fn a_torn_end_is_cut() {
        let (file, ends) = commits();
        for length in ends[2] + 1..ends[3] {
            let scanned = scan(&file[..length], |_| true);
            let torn = ends[2]..length;
            assert_eq!((scanned.commits.len(), &scanned.damaged[..]), (3, std::slice::from_ref(&torn)));
        }
    }
}
