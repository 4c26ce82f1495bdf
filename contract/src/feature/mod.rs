//! Raw features, their declared schema, and the encoder between features and tensors.

mod encoder;
mod free_json;
mod schema;
mod value;

pub use encoder::{EncodeError, EncodeErrorKind, Encoder};
pub use free_json::{FreeJsonError, Reserved, flatten, is_reserved, nest};
pub use schema::{
    Extra, Feature, FeatureKind, FeatureSchema, Group, Missing, Normalisation, OutOfRange, Range, SchemaError, Unknown,
};
pub use value::{FeatureValue, Features, stored};
