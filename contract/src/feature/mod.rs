//! Raw features, their declared schema, and the encoder between features and tensors.

mod block;
mod builder;
mod encoder;
mod features;
mod free_json;
mod schema;
mod shape;
pub mod stored;
mod value;

pub use builder::FeaturesBuilder;
pub use encoder::{EncodeError, EncodeErrorKind, Encoder};
pub use features::{Features, Shapes};
pub use free_json::{FreeJsonError, Reserved, flatten, is_reserved, nest};
pub use schema::{
    Extra, Feature, FeatureKind, FeatureSchema, Group, Missing, Normalisation, OutOfRange, Range, SchemaError, Unknown,
};
pub(crate) use shape::Column;
pub use value::{FeatureRef, FeatureValue};
