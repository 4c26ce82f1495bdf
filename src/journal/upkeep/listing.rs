//! Taking files out of manifests and putting them in.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

use slated_contract::event::{Event, ManifestFile, SegmentError, SegmentManifest, manifests};

use crate::journal::segment::appear;

/// Makes no manifest list these files; they read unchecked then. A manifest without files goes.
pub fn unlist<E: Event>(journal: &Path, paths: &HashSet<&str>) -> Result<(), SegmentError> {
    for mut manifest in manifests::<E>(journal)? {
        let files = manifest.files.len();
        manifest.files.retain(|file| !paths.contains(file.path.as_str()));
        if manifest.files.is_empty() {
            remove(&journal.join(manifest.path()))?;
        } else if manifest.files.len() < files {
            write(journal, &manifest)?;
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
    write(journal, &manifest)
}

fn write(journal: &Path, manifest: &SegmentManifest) -> Result<(), SegmentError> {
    let path = journal.join(manifest.path());
    let failed = SegmentError::at(&path);
    let bytes = manifest.to_bytes().map_err(|error| failed(error.to_string()))?;
    appear(&path, |file| file.write_all(&bytes).map_err(|error| failed(error.to_string())))
}

/// Removes a file that may have gone already.
pub fn remove(path: &Path) -> Result<(), SegmentError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(SegmentError::at(path)(error.to_string())),
        _ => Ok(()),
    }
}
