//! Where the ONNX Runtime library is, and the one environment made from it.

use std::env;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use ort::environment::Environment;
use thiserror::Error;

/// ONNX Runtime cannot be had.
#[derive(Debug, Clone, Error)]
pub enum LibraryError {
    /// No library where one is looked for.
    #[error(
        "ONNX Runtime was not found. Run `make setup` in slated's folder, or point ORT_DYLIB_PATH to libonnxruntime.so. \
         Looked at: {0}"
    )]
    NotFound(String),
    /// The library does not load.
    #[error("{path} does not load as ONNX Runtime: {reason}")]
    Load {
        /// The library.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// The process's ONNX Runtime, loaded at the first call.
///
/// # Errors
/// A library that is absent or does not load; the same error each time.
pub fn environment() -> Result<Environment, LibraryError> {
    static ENVIRONMENT: OnceLock<Result<Environment, LibraryError>> = OnceLock::new();
    ENVIRONMENT.get_or_init(load).clone()
}

fn load() -> Result<Environment, LibraryError> {
    let path = find()?;
    let failed = |reason: String| LibraryError::Load { path: path.clone(), reason };
    let environment = ort::init_from(&path)
        .map_err(|error| failed(error.to_string()))?
        .with_name("slated")
        .with_telemetry(false)
        .build()
        .map_err(|error| failed(error.to_string()))?;
    tracing::debug!(path = %path.display(), "ONNX Runtime loaded");
    Ok(environment)
}

/// The library: `ORT_DYLIB_PATH`, else what `make setup` fetched beside the source or the binary, else the system's.
fn find() -> Result<PathBuf, LibraryError> {
    if let Some(path) = env::var_os("ORT_DYLIB_PATH").map(PathBuf::from) {
        return if path.is_file() {
            Ok(path)
        } else {
            Err(LibraryError::NotFound(format!("ORT_DYLIB_PATH={}", path.display())))
        };
    }
    let roots = [env::current_exe().ok(), env::current_dir().ok(), Some(PathBuf::from(env!("CARGO_MANIFEST_DIR")))];
    let mut looked_at = Vec::new();
    for folder in roots.iter().flatten().flat_map(|root| root.ancestors()) {
        // The GPU build runs on the processor as well.
        let builds: &[&str] =
            if cfg!(feature = "cuda") { &["onnxruntime-gpu", "onnxruntime"] } else { &["onnxruntime"] };
        if let Some(path) = builds.iter().find_map(|build| newest_in(&folder.join(".slated").join(build))) {
            return Ok(path);
        }
    }
    looked_at.push(".slated/onnxruntime in the folders above the binary and the current folder".to_owned());
    let installed = env::current_exe().ok().and_then(|binary| beside(&binary));
    let system =
        ["/usr/lib/slated/libonnxruntime.so", "/usr/local/lib/libonnxruntime.so", "/usr/lib/libonnxruntime.so"];
    for path in installed.into_iter().chain(system.map(PathBuf::from)) {
        if path.is_file() {
            return Ok(path);
        }
        looked_at.push(path.display().to_string());
    }
    Err(LibraryError::NotFound(looked_at.join(", ")))
}

/// What the library's file is called.
const NAME: &str = if cfg!(target_os = "macos") { "libonnxruntime.dylib" } else { "libonnxruntime.so" };

/// `<prefix>/lib/slated/libonnxruntime.so` of `<prefix>/bin/slated`, such as `~/.cargo`, where `cargo install` puts the binary.
fn beside(binary: &Path) -> Option<PathBuf> {
    Some(binary.parent()?.parent()?.join("lib/slated").join(NAME))
}

/// `<folder>/<version>/libonnxruntime.so` of the greatest version: 1.31 is newer than 1.9.
fn newest_in(folder: &Path) -> Option<PathBuf> {
    let version = |path: &Path| -> Vec<u64> {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        name.split('.').map(|part| part.parse().unwrap_or(0)).collect()
    };
    let folders = folder.read_dir().ok()?.flatten().map(|entry| entry.path());
    folders.filter(|path| path.join(NAME).is_file()).max_by_key(|path| version(path)).map(|path| path.join(NAME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_installed_binary_has_its_library_in_its_prefix() {
        let found = beside(Path::new("/home/anna/.cargo/bin/slated"));
        assert_eq!(found, Some(Path::new("/home/anna/.cargo/lib/slated").join(NAME)));
    }

    #[test]
    fn the_newest_version_is_the_greatest_number_not_the_last_word() -> std::io::Result<()> {
        let folder = tempfile::tempdir()?;
        for version in ["1.9.0", "1.31.1", "1.4.2"] {
            let version = folder.path().join(version);
            std::fs::create_dir(&version)?;
            std::fs::write(version.join("libonnxruntime.so"), b"")?;
            std::fs::write(version.join("libonnxruntime.dylib"), b"")?;
        }
        let newest = newest_in(folder.path()).ok_or_else(|| std::io::Error::other("none was found"))?;
        assert!(newest.parent().is_some_and(|parent| parent.ends_with("1.31.1")), "{newest:?}");
        Ok(())
    }
}
