//! The catalogue on disk: what was set through the API survives the process.
//!
//! | keyspace | key | value |
//! |---|---|---|
//! | `items`, `users` | id | version at which it was set, and features, MessagePack |
//! | `state` | `version` | the catalogue's version, big-endian |
//! | `state` | `imported/items`, `imported/users` | SHA-256 of the file that was read last |

use std::path::{Path, PathBuf};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use slated_contract::feature::Features;

use super::{CatalogueError, Change, Kind};

/// The store, made when something is first written.
pub struct Store {
    folder: PathBuf,
    open: Option<Open>,
}

struct Open {
    database: Database,
    items: Keyspace,
    users: Keyspace,
    state: Keyspace,
}

impl Store {
    /// The store in `folder`, opened if it is there.
    pub fn find(folder: &Path) -> Result<Self, CatalogueError> {
        let mut store = Self { folder: folder.to_owned(), open: None };
        if folder.is_dir() {
            store.open()?;
        }
        Ok(store)
    }

    fn open(&mut self) -> Result<&Open, CatalogueError> {
        if self.open.is_none() {
            let failed = |error: fjall::Error| self.failed(&error);
            std::fs::create_dir_all(&self.folder).map_err(|error| failed(error.into()))?;
            let database = Database::builder(&self.folder).cache_size(16 * 1024 * 1024).open().map_err(failed)?;
            let keyspace = |name: &str| {
                let options = || KeyspaceCreateOptions::default().max_memtable_size(16 * 1024 * 1024);
                database.keyspace(name, options).map_err(failed)
            };
            let (items, users, state) = (keyspace("items")?, keyspace("users")?, keyspace("state")?);
            self.open = Some(Open { database, items, users, state });
        }
        self.open.as_ref().ok_or_else(|| CatalogueError::Closed(self.folder.clone()))
    }

    fn failed(&self, error: &fjall::Error) -> CatalogueError {
        match error {
            fjall::Error::Locked => CatalogueError::Locked(self.folder.clone()),
            error => CatalogueError::Store { folder: self.folder.clone(), reason: error.to_string() },
        }
    }

    fn broken(&self, reason: impl ToString) -> CatalogueError {
        CatalogueError::Store { folder: self.folder.clone(), reason: reason.to_string() }
    }

    /// The catalogue's version, 0 before the first change.
    pub fn version(&self) -> Result<u64, CatalogueError> {
        let Some(open) = &self.open else { return Ok(0) };
        let value = open.state.get("version").map_err(|error| self.failed(&error))?;
        Ok(value.and_then(|bytes| bytes.as_ref().try_into().ok()).map_or(0, u64::from_be_bytes))
    }

    /// Hands every entity of a kind to `take`: id, version, features.
    pub fn read(&self, kind: Kind, mut take: impl FnMut(&str, u64, &Features)) -> Result<(), CatalogueError> {
        let Some(open) = &self.open else { return Ok(()) };
        for guard in open.of(kind).iter() {
            let (id, value) = guard.into_inner().map_err(|error| self.failed(&error))?;
            let (version, features): (u64, Features) =
                rmp_serde::from_slice(&value).map_err(|error| self.broken(error))?;
            take(&String::from_utf8_lossy(&id), version, &features);
        }
        Ok(())
    }

    /// The digest of the file of this kind that was read last.
    pub fn imported(&self, kind: Kind) -> Result<Option<String>, CatalogueError> {
        let Some(open) = &self.open else { return Ok(None) };
        let value = open.state.get(format!("imported/{}", kind.name())).map_err(|error| self.failed(&error))?;
        Ok(value.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Writes changes in one commit, as `version`; with the digest of the file they come from, if any.
    pub fn write(
        &mut self,
        kind: Kind,
        version: u64,
        changes: &[Change],
        imported: Option<&str>,
    ) -> Result<(), CatalogueError> {
        self.open()?;
        let Some(open) = &self.open else { return Ok(()) };
        let mut batch = open.database.batch().durability(Some(PersistMode::Buffer));
        for change in changes {
            match change {
                Change::Put(id, features) => {
                    let value = rmp_serde::to_vec(&(version, features)).map_err(|error| self.broken(error))?;
                    batch.insert(open.of(kind), id.as_str(), value);
                }
                Change::Delete(id) => batch.remove(open.of(kind), id.as_str()),
            }
        }
        batch.insert(&open.state, "version", version.to_be_bytes());
        if let Some(digest) = imported {
            batch.insert(&open.state, format!("imported/{}", kind.name()), digest);
        }
        batch.commit().map_err(|error| self.failed(&error))
    }
}

impl Open {
    const fn of(&self, kind: Kind) -> &Keyspace {
        match kind {
            Kind::Items => &self.items,
            Kind::Users => &self.users,
        }
    }
}
