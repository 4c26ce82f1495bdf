//! One ONNX model in ONNX Runtime, called by the contract's tensor signature.

use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{Session, SessionInputValue};
use ort::value::{Outlet, Tensor, TensorElementType, ValueType};
use slated_contract::policy::Parity;
use slated_contract::tensor::{
    APPEAL, Axis, ElementType, HISTORY, HISTORY_LENGTH, ITEMS, MASK, NOISE, SCORES, STATE, Signature, SignatureError,
    TensorSpec,
};
use std::borrow::Cow;
use thiserror::Error;

use super::device::{Device, DeviceKind};
use super::library::{self, LibraryError};

/// A model ready to run. Running takes `&mut self`: one model belongs to one thread.
#[derive(Debug)]
pub struct Model {
    session: Session,
    signature: Signature,
}

/// A model that cannot be loaded, or a run that failed.
#[derive(Debug, Error)]
pub enum ModelError {
    /// ONNX Runtime itself.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// A device that was asked for by name cannot be had.
    #[error("`runtime.device` is {device}, which cannot be had: {reason}; or choose `cpu` or `auto`")]
    Device {
        /// The device.
        device: Device,
        /// Why.
        reason: String,
    },
    /// ONNX Runtime refuses the model, or a run of it.
    #[error("ONNX Runtime: {0}")]
    Runtime(String),
    /// The graph is not what the manifest says.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// An output has another shape than it must have.
    #[error("the model's output `{name}` has shape {found:?}, expected {expected:?}")]
    Output {
        /// Its name.
        name: &'static str,
        /// Its shape.
        found: Vec<i64>,
        /// The shape by the signature.
        expected: Vec<i64>,
    },
    /// The sample inputs do not give the scores the trainer computed.
    #[error(
        "the model does not reproduce its manifest's sample scores: item {item} scores {found}, expected {expected}"
    )]
    Parity {
        /// Index of the sample item.
        item: usize,
        /// What the model says.
        found: f32,
        /// What the manifest says.
        expected: f32,
    },
}

impl<R> From<ort::Error<R>> for ModelError {
    fn from(error: ort::Error<R>) -> Self {
        Self::Runtime(error.message().to_owned())
    }
}

/// Inputs of one run, row-major; `rows` decisions padded to `candidates` each.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Batch {
    /// How many rows.
    pub rows: usize,
    /// Candidates a row, padding included.
    pub candidates: usize,
    /// `[rows, S]`.
    pub state: Vec<f32>,
    /// `[rows, candidates, D]`.
    pub items: Vec<f32>,
    /// `[rows, candidates]`; read where the model takes a mask.
    pub mask: Vec<bool>,
    /// `[rows, H, F]`; read where the model takes a history.
    pub history: Vec<f32>,
    /// `[rows]`; read where the model takes a history.
    pub history_length: Vec<i64>,
    /// `[rows, Z]`; read where the model takes noise.
    pub noise: Vec<f32>,
}

impl Batch {
    /// The batch in parts of at most `most` rows, in order.
    pub fn parts(self, most: usize) -> impl Iterator<Item = Self> {
        let rows = self.rows;
        (0..rows).step_by(most.max(1)).map(move |first| {
            let own = first..rows.min(first + most.max(1));
            Self {
                rows: own.len(),
                candidates: self.candidates,
                state: part(&self.state, rows, &own),
                items: part(&self.items, rows, &own),
                mask: part(&self.mask, rows, &own),
                history: part(&self.history, rows, &own),
                history_length: part(&self.history_length, rows, &own),
                noise: part(&self.noise, rows, &own),
            }
        })
    }
}

/// Those rows of a tensor of so many; nothing of one that the model does not take.
fn part<T: Copy>(values: &[T], rows: usize, own: &std::ops::Range<usize>) -> Vec<T> {
    let width = values.len() / rows;
    values[own.start * width..own.end * width].to_vec()
}

/// What a run gives, `[rows, candidates]` each.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Output {
    /// The scores.
    pub scores: Vec<f32>,
    /// The choice model's weights; empty where the model gives none.
    pub appeal: Vec<f32>,
}

impl Model {
    /// Loads a model onto a device and checks that its graph is the `signature`.
    ///
    /// # Errors
    /// ONNX Runtime or the device is absent, ONNX Runtime refuses the model, or the graph has other tensors.
    pub fn load(bytes: &[u8], signature: Signature, threads: usize, device: DeviceKind) -> Result<Self, ModelError> {
        Self::commit(builder(threads, device)?, bytes, signature)
    }

    /// The profile that ONNX Runtime writes of one warm-up run on a device, in JSON.
    ///
    /// # Errors
    /// As for [`Model::load`], or the profile cannot be written to the folder for temporary files.
    #[cfg(feature = "cuda")]
    pub fn profile(bundle: &slated_contract::policy::Bundle, device: DeviceKind) -> Result<String, ModelError> {
        let unwritten = |error: std::io::Error| ModelError::Runtime(format!("no profile of the session: {error}"));
        let folder = tempfile::tempdir().map_err(unwritten)?;
        let builder = builder(1, device)?.with_profiling(folder.path().join("session"))?;
        let mut model = Self::commit(builder, &bundle.model, bundle.manifest.signature)?;
        model.warm_up(bundle.manifest.slate.max_size)?;
        let path = model.session.end_profiling()?;
        std::fs::read_to_string(path).map_err(unwritten)
    }

    fn commit(mut builder: SessionBuilder, bytes: &[u8], signature: Signature) -> Result<Self, ModelError> {
        let session = builder.commit_from_memory(bytes)?;
        check_tensors(session.inputs(), &signature.inputs())?;
        check_tensors(session.outputs(), &signature.outputs())?;
        Ok(Self { session, signature })
    }

    /// Runs a batch.
    ///
    /// # Errors
    /// ONNX Runtime refuses it, or an output has another shape than `[rows, candidates]`.
    pub fn run(&mut self, batch: Batch) -> Result<Output, ModelError> {
        let Signature { state_width, item_width, history, noise, .. } = self.signature;
        let (rows, candidates) = (batch.rows, batch.candidates);
        let mut inputs: Vec<(Cow<'_, str>, SessionInputValue<'_>)> = vec![
            (STATE.into(), tensor(&[rows, state_width], batch.state)?),
            (ITEMS.into(), tensor(&[rows, candidates, item_width], batch.items)?),
        ];
        if self.signature.mask {
            inputs.push((MASK.into(), tensor(&[rows, candidates], batch.mask)?));
        }
        if let Some(window) = history {
            let width = slated_contract::session::SessionSettings::history_width(item_width);
            inputs.push((HISTORY.into(), tensor(&[rows, window, width], batch.history)?));
            inputs.push((HISTORY_LENGTH.into(), tensor(&[rows], batch.history_length)?));
        }
        if let Some(draws) = noise {
            inputs.push((NOISE.into(), tensor(&[rows, draws], batch.noise)?));
        }
        let outputs = self.session.run(inputs)?;
        let read = |name: &'static str| {
            let (shape, values) = outputs[name].try_extract_tensor::<f32>()?;
            let expected = vec![rows as i64, candidates as i64];
            if shape[..] == expected[..] {
                Ok(values.to_vec())
            } else {
                Err(ModelError::Output { name, found: shape.to_vec(), expected })
            }
        };
        Ok(Output { scores: read(SCORES)?, appeal: if self.signature.appeal { read(APPEAL)? } else { Vec::new() } })
    }

    /// Runs the manifest's sample inputs and compares the scores.
    ///
    /// # Errors
    /// A run that fails, or a score that differs by more than the sample's tolerance.
    pub fn check_parity(&mut self, parity: &Parity) -> Result<(), ModelError> {
        let output = self.run(self.sample(parity))?;
        for (found, expected) in [(&output.scores, &parity.scores), (&output.appeal, &parity.appeal)] {
            let scale = expected.iter().fold(1.0_f32, |greatest, value| greatest.max(value.abs()));
            for (item, (&found, &expected)) in found.iter().zip(expected).enumerate() {
                let deviation = (found - expected).abs();
                if deviation.is_nan() || deviation > parity.tolerance * scale {
                    return Err(ModelError::Parity { item, found, expected });
                }
            }
        }
        Ok(())
    }

    /// Runs once on zeros, so that the first request does not pay for what the runtime prepares lazily.
    ///
    /// # Errors
    /// A run that fails.
    pub fn warm_up(&mut self, candidates: usize) -> Result<(), ModelError> {
        let signature = self.signature;
        let sample = Parity {
            state: vec![0.0; signature.state_width],
            items: vec![vec![0.0; signature.item_width]; candidates],
            history: Vec::new(),
            noise: vec![0.0; signature.noise.unwrap_or(0)],
            scores: Vec::new(),
            appeal: Vec::new(),
            tolerance: 0.0,
        };
        self.run(self.sample(&sample)).map(drop)
    }

    fn sample(&self, parity: &Parity) -> Batch {
        let row = slated_contract::session::SessionSettings::history_width(self.signature.item_width);
        let mut history = parity.history.clone();
        history.resize(self.signature.history.unwrap_or(0) * row, 0.0);
        Batch {
            rows: 1,
            candidates: parity.items.len(),
            state: parity.state.clone(),
            items: parity.items.concat(),
            mask: vec![true; parity.items.len()],
            history,
            history_length: vec![(parity.history.len() / row) as i64],
            noise: parity.noise.clone(),
        }
    }
}

fn builder(threads: usize, device: DeviceKind) -> Result<SessionBuilder, ModelError> {
    let builder = Session::builder(&library::environment()?)?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_intra_threads(threads)?;
    match device {
        DeviceKind::Cpu => Ok(builder),
        #[cfg(feature = "cuda")]
        DeviceKind::Cuda(number) => {
            // Fail rather than go on with the processor alone, which is what the runtime does unless told.
            let provider = ort::ep::CUDA::default().with_device_id(number.cast_signed()).build().error_on_failure();
            Ok(builder.with_execution_providers([provider])?)
        }
        #[cfg(not(feature = "cuda"))]
        DeviceKind::Cuda(_) => Err(ModelError::Runtime("this slated was built without CUDA".to_owned())),
    }
}

fn tensor<T: ort::value::PrimitiveTensorElementType + std::fmt::Debug + Clone + 'static>(
    shape: &[usize],
    values: Vec<T>,
) -> Result<SessionInputValue<'static>, ModelError> {
    Ok(Tensor::from_array((shape.to_vec(), values))?.into())
}

/// Compares a graph's inputs or outputs with the signature's.
fn check_tensors(found: &[Outlet], expected: &[TensorSpec]) -> Result<(), SignatureError> {
    for spec in expected {
        let outlet = found.iter().find(|outlet| outlet.name() == spec.name);
        let outlet = outlet.ok_or_else(|| SignatureError::Absent(format!("tensor `{}`: {spec}", spec.name)))?;
        if !fits(outlet.dtype(), spec) {
            return Err(SignatureError::Mismatch {
                name: spec.name.to_owned(),
                found: outlet.dtype().to_string(),
                expected: spec.to_string(),
            });
        }
    }
    match found.iter().find(|outlet| expected.iter().all(|spec| spec.name != outlet.name())) {
        Some(extra) => Err(SignatureError::Undeclared(format!("tensor `{}`", extra.name()))),
        None => Ok(()),
    }
}

/// Whether a graph's tensor has the declared type and axes; a dynamic axis must not be fixed in the graph.
fn fits(found: &ValueType, spec: &TensorSpec) -> bool {
    let ValueType::Tensor { ty, shape, .. } = found else { return false };
    let element = match spec.element {
        ElementType::Float32 => TensorElementType::Float32,
        ElementType::Int64 => TensorElementType::Int64,
        ElementType::Bool => TensorElementType::Bool,
    };
    let axis_fits = |(&length, axis): (&i64, &Axis)| match axis {
        Axis::Dynamic(_) => length < 0,
        Axis::Fixed(expected) => length < 0 || usize::try_from(length) == Ok(*expected),
    };
    *ty == element && shape.len() == spec.axes.len() && shape.iter().zip(&spec.axes).all(axis_fits)
}
