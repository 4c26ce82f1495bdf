//! The one encoder between raw features and tensors.

use thiserror::Error;

use super::block::{Block, Prepared};
use super::shape::Column;
use super::{FeatureSchema, Features, Group, SchemaError};

/// Turns raw features into the rows of the `state` and `items` tensors.
///
/// Encoding is total on valid input and its result is always finite: a value that would not encode to a finite
/// number does what the schema declares, or is an error that names the feature.
#[derive(Debug, Clone)]
pub struct Encoder {
    user: Block,
    context: Block,
    session: Block,
    item: Block,
    item_id: Option<Prepared>,
}

/// A value that the schema does not accept.
#[derive(Debug, Clone, PartialEq, Error)]
#[error("{group} feature `{feature}`: {kind}")]
pub struct EncodeError {
    /// The group of the feature.
    pub group: Group,
    /// Its name.
    pub feature: String,
    /// What is wrong.
    pub kind: EncodeErrorKind,
}

/// What is wrong with a value.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum EncodeErrorKind {
    /// The request lacks a feature that has no default.
    #[error("is missing, and the policy declares no default for it")]
    Missing,
    /// The request has a feature that the schema does not name, and the schema is strict.
    #[error("is not in the policy's feature schema")]
    Extra,
    /// The category is not in the vocabulary.
    #[error("`{category}` is not one of its {known} known categories")]
    UnknownCategory {
        /// What was sent.
        category: String,
        /// How many categories the vocabulary has.
        known: usize,
    },
    /// The number is outside the declared range, or does not fit a 32-bit float once normalised.
    #[error("{value} is outside its range {min} to {max}")]
    OutOfRange {
        /// What was sent.
        value: f64,
        /// The least allowed value.
        min: f64,
        /// The greatest allowed value.
        max: f64,
    },
    /// A number or an embedding's element is NaN or infinite.
    #[error("must be finite")]
    NotFinite,
    /// The embedding has another length.
    #[error("has {given} elements, expected {expected}")]
    WrongLength {
        /// The length that was sent.
        given: usize,
        /// The declared one.
        expected: usize,
    },
    /// The value is of another kind.
    #[error("is {given}, expected {expected}")]
    WrongKind {
        /// The kind that was sent.
        given: &'static str,
        /// The declared one.
        expected: &'static str,
    },
}

impl Encoder {
    /// Prepares the encoder of a schema.
    ///
    /// # Errors
    /// A schema that fails [`FeatureSchema::check`], or a declared default that its own feature refuses.
    pub fn new(schema: &FeatureSchema) -> Result<Self, SchemaError> {
        schema.check()?;
        let block = |group| Block::new(group, schema.group(group), schema.extra);
        Ok(Self {
            user: block(Group::User)?,
            context: block(Group::Context)?,
            session: block(Group::Session)?,
            item: block(Group::Item)?,
            item_id: schema.item_id.clone().map(Prepared::of_item_id).transpose()?,
        })
    }

    /// S, the width of a `state` row.
    #[must_use]
    pub fn state_width(&self) -> usize {
        self.user.width + self.context.width + self.session.width
    }

    /// D, the width of an `items` row.
    #[must_use]
    pub fn item_width(&self) -> usize {
        self.item.width + self.item_id.as_ref().map_or(0, |id| id.width())
    }

    /// Whether the id of an item is part of its row.
    #[must_use]
    pub const fn reads_item_id(&self) -> bool {
        self.item_id.is_some()
    }

    /// Appends one `state` row, [`Encoder::state_width`] numbers, to `row`.
    ///
    /// # Errors
    /// The first feature that the schema refuses; `row` is then as long as before.
    pub fn encode_state(
        &self,
        user: &Features,
        context: &Features,
        session: &Features,
        row: &mut Vec<f32>,
    ) -> Result<(), EncodeError> {
        let start = row.len();
        self.user
            .find(user, row)
            .and_then(|()| self.context.find(context, row))
            .and_then(|()| self.session.find(session, row))
            .inspect_err(|_| row.truncate(start))
    }

    /// Appends one `items` row, [`Encoder::item_width`] numbers, to `row`. `id` does not matter where
    /// [`Encoder::reads_item_id`] says no.
    ///
    /// # Errors
    /// The first feature that the schema refuses; `row` is then as long as before.
    pub fn encode_item(&self, id: &str, item: &Features, row: &mut Vec<f32>) -> Result<(), EncodeError> {
        let start = row.len();
        self.item.find(item, row).and_then(|()| self.encode_id(id, row)).inspect_err(|_| row.truncate(start))
    }

    /// Appends an `items` row for each of `items`, ids and features. As [`Encoder::encode_item`] of each, and faster where many
    /// have the same names in the same order.
    ///
    /// # Errors
    /// The first item that the schema refuses, by its index, and why; `rows` is then as long as before.
    pub fn encode_items<'a>(
        &self,
        items: impl ExactSizeIterator<Item = (&'a str, &'a Features)>,
        rows: &mut Vec<f32>,
    ) -> Result<(), (usize, EncodeError)> {
        let start = rows.len();
        rows.reserve(items.len() * self.item_width());
        let mut names: &[Column] = &[];
        let mut plan = self.item.plan(names);
        for (index, (id, features)) in items.enumerate() {
            if !std::ptr::eq(names, features.columns()) {
                names = features.columns();
                plan = self.item.plan(names);
            }
            self.item.encode_as(&plan, features, rows).and_then(|()| self.encode_id(id, rows)).map_err(|error| {
                rows.truncate(start);
                (index, error)
            })?;
        }
        Ok(())
    }

    fn encode_id(&self, id: &str, row: &mut Vec<f32>) -> Result<(), EncodeError> {
        self.item_id.as_ref().map_or(Ok(()), |prepared| prepared.encode_id(id, row))
    }

    /// What each number of a `state` row means, such as `user.age` or `context.device=phone`.
    #[must_use]
    pub fn state_columns(&self) -> Vec<String> {
        [&self.user, &self.context, &self.session].into_iter().flat_map(Block::columns).collect()
    }

    /// What each number of an `items` row means.
    #[must_use]
    pub fn item_columns(&self) -> Vec<String> {
        self.item.columns().chain(self.item_id.iter().flat_map(|id| id.columns(Group::Item))).collect()
    }
}
