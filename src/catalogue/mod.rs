//! Items and users known by id, so that requests may send ids alone: in memory, on disk, and versioned.

mod file;
mod filter;
mod store;
mod table;

pub use filter::{Condition, Filter};

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use slated_contract::feature::Features;
use thiserror::Error;

use crate::files::sha256;
use store::Store;
use table::Table;

/// Where the catalogue is kept, and what it begins with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CatalogueSettings {
    /// The folder in which changes are kept; made at the first change.
    pub folder: PathBuf,
    /// Items to read at start: CSV, JSON lines or Parquet.
    pub items: Option<PathBuf>,
    /// Users to read at start, likewise.
    pub users: Option<PathBuf>,
}

impl Default for CatalogueSettings {
    fn default() -> Self {
        Self { folder: "catalogue".into(), items: None, users: None }
    }
}

/// A catalogue that cannot be read or written.
#[derive(Debug, Error)]
pub enum CatalogueError {
    /// A file.
    #[error("catalogue {path}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A row that is no entity.
    #[error("catalogue {path}, row {row}: {reason}")]
    Row {
        /// The file.
        path: PathBuf,
        /// The row, from 1.
        row: usize,
        /// What is wrong.
        reason: String,
    },
    /// Another process has it open.
    #[error("catalogue {0}: another process has it open; give each service its own `catalogue.folder`")]
    Locked(PathBuf),
    /// The store on disk.
    #[error("catalogue {folder}: {reason}")]
    Store {
        /// Its folder.
        folder: PathBuf,
        /// Why.
        reason: String,
    },
    /// The store could not be opened before.
    #[error("catalogue {0}: it is not open")]
    Closed(PathBuf),
}

/// Rows of a file in one commit.
const CHUNK: usize = 10_000;

/// What an entity is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Something that may be shown.
    Items,
    /// Someone it is shown to.
    Users,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Items => "items",
            Self::Users => "users",
        }
    }
}

/// One change of an entity.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Sets its features, replacing those it had.
    Put(String, Features),
    /// Removes it.
    Delete(String),
}

/// Items and users by id. Every change makes a new version of the whole, which decisions name.
pub struct Catalogue {
    tables: RwLock<Tables>,
    /// Locked before the tables by whoever changes them, so that versions on disk and in memory come in one order.
    store: Mutex<Store>,
}

/// What the catalogue lends to one request.
#[derive(Debug, Default)]
pub struct Lent {
    /// The user's features, if the user is known.
    pub user: Option<Features>,
    /// Those of the items, in the order of their ids; of those that are not known, none.
    pub items: Vec<Option<Features>>,
    /// The version of the whole in which they are so.
    pub version: u64,
}

#[derive(Debug, Default)]
struct Tables {
    items: Table,
    users: Table,
    version: u64,
}

impl Tables {
    const fn of(&mut self, kind: Kind) -> &mut Table {
        match kind {
            Kind::Items => &mut self.items,
            Kind::Users => &mut self.users,
        }
    }

    fn lend(&self, user: Option<&str>) -> Lent {
        let user = user.and_then(|id| self.users.get(id)).map(|(_, features)| features);
        Lent { user, items: Vec::new(), version: self.version }
    }

    const fn table(&self, kind: Kind) -> &Table {
        match kind {
            Kind::Items => &self.items,
            Kind::Users => &self.users,
        }
    }
}

impl Catalogue {
    /// Opens what is kept, then reads the settings' files. A file that was read before, by its digest, is not read
    /// again, so that later changes through the API are not undone by a restart; a new one is laid over what is kept.
    ///
    /// # Errors
    /// A store or a file that does not read.
    pub fn open(settings: &CatalogueSettings) -> Result<Self, CatalogueError> {
        let store = Store::find(&settings.folder)?;
        let mut tables = Tables { version: store.version()?, ..Tables::default() };
        for kind in [Kind::Items, Kind::Users] {
            store.read(kind, |id, version, features| tables.of(kind).put(id, version, features))?;
        }
        let catalogue = Self { tables: RwLock::new(tables), store: Mutex::new(store) };
        for (kind, file) in [(Kind::Items, &settings.items), (Kind::Users, &settings.users)] {
            if let Some(path) = file {
                catalogue.import(kind, path)?;
            }
        }
        Ok(catalogue)
    }

    fn import(&self, kind: Kind, path: &Path) -> Result<(), CatalogueError> {
        let failed = |error: std::io::Error| CatalogueError::File { path: path.to_owned(), reason: error.to_string() };
        let digest = sha256(path).map_err(failed)?;
        let mut store = self.lock();
        if store.imported(kind)?.as_ref() == Some(&digest) {
            return Ok(());
        }
        // Once to the end before anything is changed: a bad row changes nothing.
        let mut rows = 0;
        file::read(path, |_, _| {
            rows += 1;
            Ok(())
        })?;
        let version = self.version() + 1;
        let mut waiting = Vec::new();
        file::read(path, |id, features| {
            waiting.push(Change::Put(id, features));
            if waiting.len() == CHUNK {
                self.change(&mut store, kind, version, &std::mem::take(&mut waiting), None)?;
            }
            Ok(())
        })?;
        // The digest comes last: an import that is cut short is made again.
        self.change(&mut store, kind, version, &waiting, Some(&digest))?;
        tracing::info!(path = %path.display(), kind = kind.name(), rows, version, "catalogue read");
        Ok(())
    }

    /// Makes changes, all or none; blocking. They are kept once this returns; the new version.
    ///
    /// # Errors
    /// A store that cannot be written; nothing was changed then.
    pub fn apply(&self, kind: Kind, changes: &[Change]) -> Result<u64, CatalogueError> {
        let mut store = self.lock();
        let version = self.version() + 1;
        self.change(&mut store, kind, version, changes, None)?;
        Ok(version)
    }

    fn change(
        &self,
        store: &mut Store,
        kind: Kind,
        version: u64,
        changes: &[Change],
        imported: Option<&str>,
    ) -> Result<(), CatalogueError> {
        store.write(kind, version, changes, imported)?;
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            match change {
                Change::Put(id, features) => tables.of(kind).put(id, version, features),
                Change::Delete(id) => drop(tables.of(kind).remove(id)),
            }
        }
        tables.version = version;
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read<T>(&self, read: impl FnOnce(&Tables) -> T) -> T {
        read(&self.tables.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The version of the whole, 0 while nothing was ever in it.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.read(|tables| tables.version)
    }

    /// The version at which an entity was last set, and its features.
    #[must_use]
    pub fn get(&self, kind: Kind, id: &str) -> Option<(u64, Features)> {
        self.read(|tables| tables.table(kind).get(id))
    }

    /// What is known of a user and of items, by id.
    #[must_use]
    pub fn lend<'a>(&self, user: Option<&str>, items: impl Iterator<Item = &'a str>) -> Lent {
        self.read(|tables| Lent {
            items: items.map(|id| tables.items.get(id).map(|(_, features)| features)).collect(),
            ..tables.lend(user)
        })
    }

    /// The ids of the items that pass a filter, ascending, and what is known of them and of a user; looks at every item.
    #[must_use]
    pub fn matching(&self, user: Option<&str>, filter: &Filter) -> (Vec<String>, Lent) {
        self.read(|tables| {
            let passing = tables.items.matching(filter).into_iter();
            let (ids, items) = passing.map(|(id, features)| (id, Some(features))).unzip();
            (ids, Lent { items, ..tables.lend(user) })
        })
    }

    /// How many entities of a kind there are.
    #[must_use]
    pub fn count(&self, kind: Kind) -> usize {
        self.read(|tables| tables.table(kind).len())
    }

    /// Sets the gauges that only make sense at the moment they are read.
    pub fn report_metrics(&self) {
        let (items, users, version) = self.read(|tables| (tables.items.len(), tables.users.len(), tables.version));
        metrics::gauge!("slated_catalogue_entities", "kind" => "items").set(items as f64);
        metrics::gauge!("slated_catalogue_entities", "kind" => "users").set(users as f64);
        metrics::gauge!("slated_catalogue_version").set(version as f64);
    }
}

impl std::fmt::Debug for Catalogue {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        formatter.debug_struct("Catalogue").field("version", &self.version()).finish_non_exhaustive()
    }
}
