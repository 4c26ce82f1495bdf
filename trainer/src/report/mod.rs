//! What a run leaves behind for people to look at: its progress as CSV and TensorBoard events, plots, and a page.
//!
//! A [`RunFolder`] holds all of it. Times on the clock are kept here and nowhere else: nothing that must be
//! reproducible to the byte, such as a policy bundle, takes anything from a report.

mod event_file;
mod event_proto;
mod memory;
mod page;
mod plot;
mod progress_log;
mod run_folder;
mod run_report;

use std::path::{Path, PathBuf};

use thiserror::Error;

pub use event_file::EventFile;
pub use memory::peak_memory;
pub use page::{Page, Tile};
pub use plot::{
    Axis, Curve, CurvePlot, CurvePoint, CurveStyle, Estimate, Line, Plot, PlotError, PointPlot, Scale, Series,
    significant,
};
pub use progress_log::{ProgressLog, ProgressRow};
pub use run_folder::RunFolder;
pub use run_report::{Evaluation, RunReport, RunSteps};

/// A report that cannot be written.
#[derive(Debug, Error)]
pub enum ReportError {
    /// A file.
    #[error("{}: {source}", path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// What went wrong.
        source: std::io::Error,
    },
    /// A new run where another one is.
    #[error("{} already holds a run; name another folder, or resume that run", .0.display())]
    Taken(PathBuf),
    /// A progress file that this version cannot go on with.
    #[error("{}: {problem}", path.display())]
    Progress {
        /// Its path.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A plot.
    #[error(transparent)]
    Plot(#[from] PlotError),
}

impl ReportError {
    /// Names the file that an operation failed on.
    pub(crate) fn at(path: &Path) -> impl Fn(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { path: path.clone(), source }
    }
}
