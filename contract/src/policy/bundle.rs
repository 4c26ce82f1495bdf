//! Bundles on disk: found, read whole, and written so that no reader ever sees half of one.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};
use thiserror::Error;

use super::manifest::{Evaluation, Manifest, ManifestError, check_policy_name};
use crate::feature::Encoder;

/// The model's file name.
pub const MODEL: &str = "model.onnx";
/// The manifest's file name.
pub const MANIFEST: &str = "policy.json";
/// The learner's own state, from which training can go on; the service does not read it.
pub const LEARNER: &str = "learner.safetensors";

/// A bundle read from disk, whole and consistent.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// Where it lies.
    pub folder: PathBuf,
    /// Its manifest.
    pub manifest: Manifest,
    /// The encoder of its feature schema.
    pub encoder: Encoder,
    /// The model.
    pub model: Vec<u8>,
}

/// A bundle that cannot be read or written.
#[derive(Debug, Error)]
pub enum BundleError {
    /// The disk.
    #[error("{path}: {source}")]
    Io {
        /// What was read or written.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The manifest is no manifest.
    #[error("{path}: {source}")]
    Json {
        /// The manifest.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// The manifest cannot be used.
    #[error("{path}: {source}")]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What is wrong.
        source: ManifestError,
    },
    /// The model is not the one the manifest was written for: altered, or copied in part.
    #[error("{path}: its SHA-256 is {found}, the manifest says {expected}; the file is damaged or not fully copied")]
    Hash {
        /// The model.
        path: PathBuf,
        /// The hash of the file.
        found: String,
        /// The hash in the manifest.
        expected: String,
    },
    /// The folder's name and version are not the manifest's.
    #[error("{path}: the manifest is of `{name}` version {version}, which belongs into {name}/{version}")]
    Place {
        /// The manifest.
        path: PathBuf,
        /// The manifest's name.
        name: String,
        /// The manifest's version.
        version: u64,
    },
    /// There is no version of this policy.
    #[error("{folder} holds no version of a policy; expected {folder}/<version>/{MANIFEST}")]
    NoVersion {
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// The version is there already.
    #[error("{folder} exists; a published version is never rewritten")]
    Exists {
        /// The version's folder.
        folder: PathBuf,
    },
}

impl BundleError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_owned(), source }
    }
}

impl Bundle {
    /// Reads `<models>/<name>/<version>/`, the latest version where none is given.
    ///
    /// # Errors
    /// A bundle that is absent, incomplete, altered, or whose manifest cannot be used.
    pub fn open(models: &Path, name: &str, version: Option<u64>) -> Result<Self, BundleError> {
        check_policy_name(name).map_err(|source| BundleError::Manifest { path: models.join(name), source })?;
        let version = match version {
            Some(version) => version,
            None => latest_version(models, name)?,
        };
        Self::read(&models.join(name).join(version.to_string()))
    }

    /// Reads the bundle in `folder`.
    ///
    /// # Errors
    /// As for [`Bundle::open`].
    pub fn read(folder: &Path) -> Result<Self, BundleError> {
        let path = folder.join(MANIFEST);
        let manifest = read_manifest(folder)?;
        let encoder = manifest.check().map_err(|source| BundleError::Manifest { path: path.clone(), source })?;
        let name_of =
            |path: Option<&Path>| path.and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
        let in_place = name_of(Some(folder)) == Some(manifest.version.to_string())
            && name_of(folder.parent()).as_ref() == Some(&manifest.name);
        if !in_place {
            return Err(BundleError::Place { path, name: manifest.name, version: manifest.version });
        }
        let path = folder.join(MODEL);
        let model = fs::read(&path).map_err(BundleError::io(&path))?;
        let found = sha256_hex(&model);
        if found != manifest.model_sha256 {
            return Err(BundleError::Hash { path, found, expected: manifest.model_sha256 });
        }
        Ok(Self { folder: folder.to_owned(), manifest, encoder, model })
    }

    /// The learner's state, where the bundle has one.
    ///
    /// # Errors
    /// The disk.
    pub fn learner(&self) -> Result<Option<Vec<u8>>, BundleError> {
        let path = self.folder.join(LEARNER);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(BundleError::Io { path, source }),
        }
    }
}

/// The versions of a policy, ascending: the folders of `<models>/<name>/` that are named by a number and hold a
/// manifest.
///
/// # Errors
/// The disk; a folder that does not exist, or a file in its place, has no versions.
pub fn versions(models: &Path, name: &str) -> Result<Vec<u64>, BundleError> {
    let folder = models.join(name);
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        // A file among the policies, such as a README, is none.
        Err(error) if [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory].contains(&error.kind()) => {
            return Ok(Vec::new());
        }
        Err(source) => return Err(BundleError::Io { path: folder, source }),
    };
    let mut versions = Vec::new();
    for entry in entries {
        let entry = entry.map_err(BundleError::io(&folder))?;
        let version = entry.file_name().to_str().and_then(|name| name.parse::<u64>().ok());
        if let Some(version) = version.filter(|_| entry.path().join(MANIFEST).is_file()) {
            versions.push(version);
        }
    }
    versions.sort_unstable();
    Ok(versions)
}

/// A file beside the manifest: the version is served where a route names it, and does not go live for being the newest.
pub const HELD: &str = "held";

/// Whether a version waits for a route to name it.
#[must_use]
pub fn is_held(models: &Path, name: &str, version: u64) -> bool {
    models.join(name).join(version.to_string()).join(HELD).exists()
}

/// Lets a version go live for being the newest, or holds it back.
///
/// # Errors
/// The disk.
pub fn hold(folder: &Path, held: bool) -> Result<(), BundleError> {
    let path = folder.join(HELD);
    let done = if held { write_durably(&path, b"") } else { fs::remove_file(&path).map_err(BundleError::io(&path)) };
    match done {
        Err(BundleError::Io { source, .. }) if !held && source.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// The manifest in a bundle's folder, as it stands there: neither checked nor held against its model.
///
/// # Errors
/// The disk, or a file that is no manifest.
pub fn read_manifest(folder: &Path) -> Result<Manifest, BundleError> {
    let path = folder.join(MANIFEST);
    let text = fs::read(&path).map_err(BundleError::io(&path))?;
    serde_json::from_slice(&text).map_err(|source| BundleError::Json { path, source })
}

/// Puts what an evaluation found into a published bundle's manifest, in place of what an earlier one did: nothing that
/// the bundle is served by changes. A reader finds the manifest of before or after, never half of one.
///
/// # Errors
/// The disk, or a bundle whose manifest does not read.
pub fn record_evaluation(folder: &Path, evaluation: Vec<Evaluation>) -> Result<(), BundleError> {
    let manifest = Manifest { evaluation, ..read_manifest(folder)? };
    let path = folder.join(MANIFEST);
    let staged = folder.join(format!(".{MANIFEST}-{}", std::process::id()));
    write_durably(&staged, &manifest_text(&manifest, &path)?)?;
    fs::rename(&staged, &path).map_err(BundleError::io(&path))
}

fn manifest_text(manifest: &Manifest, path: &Path) -> Result<Vec<u8>, BundleError> {
    let mut text =
        serde_json::to_vec_pretty(manifest).map_err(|source| BundleError::Json { path: path.to_owned(), source })?;
    text.push(b'\n');
    Ok(text)
}

/// The latest version of a policy.
///
/// # Errors
/// There is none, or the disk.
pub fn latest_version(models: &Path, name: &str) -> Result<u64, BundleError> {
    versions(models, name)?.pop().ok_or_else(|| BundleError::NoVersion { folder: models.join(name) })
}

/// Numbers the bundles that this process stages.
static STAGED: AtomicU64 = AtomicU64::new(0);

/// Writes one bundle beside its final place and publishes it by one rename: a reader finds all of it or nothing.
#[derive(Debug)]
pub struct BundleWriter {
    staging: PathBuf,
    target: PathBuf,
}

impl BundleWriter {
    /// Stages the bundle of `manifest` with its model, and the learner's state where there is one.
    ///
    /// # Errors
    /// A manifest that cannot be used, a version that exists, or the disk.
    pub fn stage(
        models: &Path,
        manifest: &Manifest,
        model: &[u8],
        learner: Option<&[u8]>,
    ) -> Result<Self, BundleError> {
        let target = models.join(&manifest.name).join(manifest.version.to_string());
        manifest.check().map_err(|source| BundleError::Manifest { path: target.join(MANIFEST), source })?;
        if target.exists() {
            return Err(BundleError::Exists { folder: target });
        }
        // The staging folder holds the same two last path components as the target, so that it reads as a bundle and
        // can be tried before it is published.
        let number = STAGED.fetch_add(1, Ordering::Relaxed);
        let staging = models.join(".staging").join(format!("{}-{number}", std::process::id()));
        let folder = staging.join(&manifest.name).join(manifest.version.to_string());
        let writer = Self { staging, target };
        if writer.staging.exists() {
            fs::remove_dir_all(&writer.staging).map_err(BundleError::io(&writer.staging))?;
        }
        fs::create_dir_all(&folder).map_err(BundleError::io(&folder))?;
        let text = manifest_text(manifest, &folder.join(MANIFEST))?;
        write_durably(&folder.join(MODEL), model)?;
        if let Some(learner) = learner {
            write_durably(&folder.join(LEARNER), learner)?;
        }
        write_durably(&folder.join(MANIFEST), &text)?;
        Ok(writer)
    }

    /// The staged bundle, to be tried before it is published.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        let version = self.target.file_name().unwrap_or_default();
        let name = self.target.parent().and_then(Path::file_name).unwrap_or_default();
        self.staging.join(name).join(version)
    }

    /// Moves the bundle to its place and returns that.
    ///
    /// # Errors
    /// A version that has appeared meanwhile, or the disk.
    pub fn publish(self) -> Result<PathBuf, BundleError> {
        if let Some(parent) = self.target.parent() {
            fs::create_dir_all(parent).map_err(BundleError::io(parent))?;
        }
        fs::rename(self.folder(), &self.target).map_err(|source| match source.kind() {
            io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists => {
                BundleError::Exists { folder: self.target.clone() }
            }
            _ => BundleError::Io { path: self.target.clone(), source },
        })?;
        if let Some(parent) = self.target.parent() {
            fs::File::open(parent).and_then(|folder| folder.sync_all()).map_err(BundleError::io(parent))?;
        }
        Ok(self.target.clone())
    }
}

impl Drop for BundleWriter {
    fn drop(&mut self) {
        // What is left behind is ignored by every reader, so a failure here is no one's concern.
        let _ = fs::remove_dir_all(&self.staging);
        if let Some(parent) = self.staging.parent() {
            let _ = fs::remove_dir(parent);
        }
    }
}

fn write_durably(path: &Path, bytes: &[u8]) -> Result<(), BundleError> {
    fs::File::create(path)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .map_err(BundleError::io(path))
}

/// SHA-256 in lower-case hex.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
