//! Raw features, their declared schema, and the encoder between features and tensors.

mod encoder;
mod schema;
mod value;

pub use encoder::{EncodeError, EncodeErrorKind, Encoder};
pub use schema::{
    Extra, Feature, FeatureKind, FeatureSchema, Group, Missing, Normalisation, OutOfRange, Range, SchemaError, Unknown,
};
pub use value::{FeatureValue, Features, columnar};
