//! Any table by a mapping file.

mod cells;
mod convert;
mod items;
mod mapping;

use std::path::Path;

use sha2::{Digest, Sha256};

use self::convert::Converter;
use self::items::Items;
pub use self::mapping::{
    CandidateColumns, DecisionColumns, FeatureColumns, Mapping, PropensityOf, Rows, ShownColumns, TimeFormat,
};
use super::rows::{Row, TABLES, for_each_row};
use super::{FileReport, ImportError, ImportReport, LogWriter};
use crate::files;

/// Imports a table, or every table of a folder and those below it, by a mapping. The same files by the same mapping give the
/// same segments, so importing them again changes nothing; a service may have the journal open meanwhile.
///
/// Rows that cannot be used are refused with their line and reason, and the rest imported; `advance` is told of every
/// decision.
///
/// # Errors
/// No such file, a table that does not read, a journal that cannot be written.
pub fn import_mapped(
    path: &Path,
    mapping_file: &Path,
    journal: &Path,
    advance: &mut dyn FnMut(),
) -> Result<ImportReport, ImportError> {
    let mapping = Mapping::read(mapping_file)?;
    let items = mapping.candidates.items.as_deref().map(|path| Items::read(path, &mapping.candidates)).transpose()?;
    let mut found = files::find(path, &TABLES)?;
    // What lies beside the log to describe it is no log.
    found.retain(|file| mapping.candidates.items.as_deref().is_none_or(|items| !same(file, items)));
    if found.is_empty() {
        return Err(ImportError::NoFiles {
            path: path.to_owned(),
            format: "`.csv`, `.tsv`, `.jsonl`, `.ndjson`, `.json` or `.parquet`",
        });
    }
    let mut report = ImportReport::default();
    for file in &found {
        let name = files::name_within(path, file);
        report.files.push(import_file(file, name, mapping_file, &mapping, items.as_ref(), journal, advance)?);
    }
    Ok(report)
}

fn same(a: &Path, b: &Path) -> bool {
    a.canonicalize().is_ok_and(|a| b.canonicalize().is_ok_and(|b| a == b))
}

fn import_file(
    path: &Path,
    name: String,
    mapping_file: &Path,
    mapping: &Mapping,
    items: Option<&Items>,
    journal: &Path,
    advance: &mut dyn FnMut(),
) -> Result<FileReport, ImportError> {
    let digest_of =
        |path: &Path| files::sha256(path).map_err(|source| ImportError::Io { path: path.to_owned(), source });
    // Another mapping, or other items, make other events of the same rows.
    let mut digest = Sha256::new();
    for part in [Some(path), Some(mapping_file), mapping.candidates.items.as_deref()].into_iter().flatten() {
        digest.update(digest_of(part)?.as_bytes());
    }
    let digest: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let mut converter = Converter::new(mapping, items, &digest);
    let mut writer = LogWriter::new(journal, name, &digest, advance);
    let mut group = Group::default();
    for_each_row(path, &mut |line, row| {
        let row = match row {
            Ok(row) => row,
            Err(problem) => return Ok(writer.add(line, Err(problem))?),
        };
        if mapping.rows == Rows::Decision {
            return Ok(writer.add(line, converter.decision(&row).map(Some))?);
        }
        match converter.id(&row) {
            Ok(Some(id)) => {
                if let Some((line, rows)) = group.add(id, line, row) {
                    writer.add(line, converter.items(&rows).map(Some))?;
                }
                Ok(())
            }
            Ok(None) => Ok(writer.add(line, Err("the decision's id is missing".to_owned()))?),
            Err(problem) => Ok(writer.add(line, Err(problem))?),
        }
    })?;
    if let Some((line, rows)) = group.take() {
        writer.add(line, converter.items(&rows).map(Some))?;
    }
    Ok(writer.finish()?)
}

/// Rows that are of one decision.
#[derive(Default)]
struct Group {
    id: String,
    line: u64,
    rows: Vec<Row>,
}

impl Group {
    /// Adds a row; the rows before it, where it is of another decision, with the line of the first.
    fn add(&mut self, id: String, line: u64, row: Row) -> Option<(u64, Vec<Row>)> {
        let before = if self.id == id { None } else { self.take() };
        if self.rows.is_empty() {
            (self.id, self.line) = (id, line);
        }
        self.rows.push(row);
        before
    }

    fn take(&mut self) -> Option<(u64, Vec<Row>)> {
        (!self.rows.is_empty()).then(|| (self.line, std::mem::take(&mut self.rows)))
    }
}
