//! Taking files out of manifests and putting them in.

use std::collections::HashSet;
use std::path::Path;

use slated_contract::event::{self, Event, ManifestFile, SegmentError, SegmentManifest, manifests};

use crate::journal::segment::{remove, write_manifest};

/// Makes no manifest list these files; they read unchecked then. A manifest without files goes.
pub fn unlist<E: Event>(journal: &Path, paths: &HashSet<&str>) -> Result<(), SegmentError> {
    for mut manifest in manifests::<E>(journal)? {
        let files = manifest.files.len();
        manifest.files.retain(|file| !paths.contains(file.path.as_str()));
        if manifest.files.is_empty() {
            remove(&journal.join(manifest.path()))?;
        } else if manifest.files.len() < files {
            write_manifest(journal, &manifest)?;
        }
    }
    Ok(())
}

/// Makes the manifest of the segment that a file belongs to list it so.
pub fn list<E: Event>(journal: &Path, file: ManifestFile) -> Result<(), SegmentError> {
    let name = Path::new(&file.path).file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let known = manifests::<E>(journal)?.into_iter().find(|manifest| manifest.name == name);
    let mut manifest = known.unwrap_or_else(|| SegmentManifest { kind: E::KIND.to_owned(), name, files: Vec::new() });
    manifest.files.retain(|known| known.path != file.path);
    manifest.files.push(file);
    manifest.files.sort_by(|a, b| a.path.cmp(&b.path));
    write_manifest(journal, &manifest)
}

/// What a manifest is to say of a file that is there.
pub fn describe(journal: &Path, path: &str) -> Result<ManifestFile, SegmentError> {
    let whole = journal.join(path);
    let (bytes, xxh3) = event::digest(&whole).map_err(|error| SegmentError::at(&whole)(error.to_string()))?;
    Ok(ManifestFile { path: path.to_owned(), events: event::count(&whole)?, bytes, xxh3 })
}

/// A file's path in the journal, with `/` between the parts, as manifests name it.
pub fn relative(journal: &Path, path: &Path) -> String {
    let parts = path.strip_prefix(journal).unwrap_or(path).iter();
    parts.map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/")
}
