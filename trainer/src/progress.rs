//! How far a run has come, told to whoever draws it.

/// How a run that learns by interaction stands, for whoever watches it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Figures {
    /// Mean return of the latest episodes.
    pub mean_return: Option<f64>,
    /// Mean loss of the latest gradient updates.
    pub loss: Option<f64>,
    /// Steps a second of late.
    pub steps_per_second: Option<f64>,
}

/// Receives the progress of a run. The trainer knows no terminal.
pub trait Progress {
    /// A stage begins, of `total` steps where that is known.
    fn stage(&mut self, name: &str, total: Option<u64>);

    /// So many more steps of the stage are done.
    fn advance(&mut self, steps: u64);

    /// How the run stands now.
    fn figures(&mut self, _: &Figures) {}
}

/// Progress that no one watches.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn stage(&mut self, _: &str, _: Option<u64>) {}

    fn advance(&mut self, _: u64) {}
}
