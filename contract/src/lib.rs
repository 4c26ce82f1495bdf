//! What the slated service and its trainer agree on, and nothing else.
//!
//! Data flows through the modules in this order:
//!
//! 1. [`feature`]: raw features, the schema a policy declares for them, and the one encoder that turns them into
//!    numbers, called by serving and training alike so that the two cannot disagree.
//! 2. [`session`]: what happened so far, accumulated into features.
//! 3. [`tensor`]: the names and shapes by which a model is called.
//! 4. [`slate`]: how scores become a slate, and with which propensities.
//! 5. [`event`]: what is journalled, and its Parquet columns.
//! 6. [`reward`]: how journalled feedback becomes a reward.
//! 7. [`policy`]: the bundle on disk that ties these together.

pub mod event;
pub mod feature;
pub mod policy;
pub mod reward;
pub mod session;
pub mod slate;
pub mod tensor;
