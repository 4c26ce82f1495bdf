//! How far a run has come, told to whoever draws it.

/// Receives the progress of a run. The trainer knows no terminal.
pub trait Progress {
    /// A stage begins, of `total` steps where that is known.
    fn stage(&mut self, name: &str, total: Option<u64>);

    /// So many more steps of the stage are done.
    fn advance(&mut self, steps: u64);
}

/// Progress that no one watches.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn stage(&mut self, _: &str, _: Option<u64>) {}

    fn advance(&mut self, _: u64) {}
}
