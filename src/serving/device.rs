//! What models run on: the processor, or a CUDA device that was proven to run them.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use slated_contract::policy::Bundle;

use super::model::ModelError;

/// What the settings ask for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum Device {
    /// A CUDA device where this build, the library and the machine have one, else the processor; says which.
    Auto,
    /// The processor.
    #[default]
    Cpu,
    /// The CUDA device of this number, or an error at start.
    Cuda(u32),
}

/// Where a model may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// The processor.
    Cpu,
    /// The CUDA device of this number.
    Cuda(u32),
}

/// What a model runs on, and why it is not what might have been.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveDevice {
    /// Where it runs.
    pub kind: DeviceKind,
    /// Why `auto` took the processor.
    pub fallback: Option<String>,
}

impl fmt::Display for Device {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Auto => formatter.write_str("auto"),
            Self::Cpu => formatter.write_str("cpu"),
            Self::Cuda(number) => write!(formatter, "cuda:{number}"),
        }
    }
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Cpu => formatter.write_str("cpu"),
            Self::Cuda(number) => write!(formatter, "cuda:{number}"),
        }
    }
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|number| number.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| format!("`{text}` is no device; allowed are cpu, cuda, cuda:N and auto")),
        }
    }
}

impl TryFrom<String> for Device {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Device> for String {
    fn from(device: Device) -> Self {
        device.to_string()
    }
}

impl Device {
    /// Decides where a bundle's model runs. A CUDA device counts only once a session on it has run nodes of this very
    /// model.
    ///
    /// # Errors
    /// A CUDA device was asked for by name and cannot be had.
    pub fn choose(self, bundle: &Bundle) -> Result<ActiveDevice, ModelError> {
        let on = |kind| ActiveDevice { kind, fallback: None };
        match self {
            Self::Cpu => Ok(on(DeviceKind::Cpu)),
            Self::Cuda(number) => match cuda::prove(bundle, number) {
                Ok(()) => Ok(on(DeviceKind::Cuda(number))),
                Err(reason) => Err(ModelError::Device { device: self, reason }),
            },
            Self::Auto => match cuda::prove(bundle, 0) {
                Ok(()) => Ok(on(DeviceKind::Cuda(0))),
                Err(reason) => {
                    tracing::warn!(reason, "no CUDA device; the model runs on the processor");
                    Ok(ActiveDevice { kind: DeviceKind::Cpu, fallback: Some(reason) })
                }
            },
        }
    }
}

/// The execution providers that ran a node, by the profile that ONNX Runtime writes of a session; in order, each once.
///
/// Whether a provider was registered says nothing of whether the session uses it: what it cannot run goes to the
/// processor without a word. Only the profile names the provider of each node that was run.
#[cfg(any(feature = "cuda", test))]
fn providers(profile: &str) -> Result<Vec<String>, String> {
    #[derive(Deserialize)]
    struct Event {
        #[serde(default)]
        args: serde_json::Map<String, serde_json::Value>,
    }

    let events: Vec<Event> =
        serde_json::from_str(profile).map_err(|error| format!("the session's profile does not read: {error}"))?;
    let names = events.iter().filter_map(|event| Some(event.args.get("provider")?.as_str()?.to_owned()));
    Ok(names.collect::<std::collections::BTreeSet<_>>().into_iter().collect())
}

#[cfg(feature = "cuda")]
mod cuda {
    use slated_contract::policy::Bundle;

    use super::super::model::Model;
    use super::{DeviceKind, providers};

    /// Proves that the CUDA device runs nodes of the bundle's model.
    pub fn prove(bundle: &Bundle, number: u32) -> Result<(), String> {
        let profile = Model::profile(bundle, DeviceKind::Cuda(number)).map_err(|error| {
            format!(
                "{error}; needed are the GPU build of ONNX Runtime (`scripts/onnxruntime.sh --cuda`, or ORT_DYLIB_PATH), \
                 an NVIDIA driver, and CUDA with cuDNN where the system looks for libraries"
            )
        })?;
        let used = providers(&profile)?;
        if used.iter().any(|name| name == "CUDAExecutionProvider") {
            Ok(())
        } else {
            Err(format!("the session ran no node of the model on it, but all on {}", used.join(", ")))
        }
    }
}

#[cfg(not(feature = "cuda"))]
mod cuda {
    use slated_contract::policy::Bundle;

    /// This build has no CUDA.
    pub fn prove(_: &Bundle, _: u32) -> Result<(), String> {
        Err("this slated was built without CUDA; build it with `cargo build --release --features cuda`".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_written_as_they_are_read() -> Result<(), String> {
        for (text, device, written) in [
            ("auto", Device::Auto, "auto"),
            ("cpu", Device::Cpu, "cpu"),
            ("cuda", Device::Cuda(0), "cuda:0"),
            ("cuda:3", Device::Cuda(3), "cuda:3"),
        ] {
            assert_eq!(text.parse::<Device>()?, device);
            assert_eq!(device.to_string(), written);
        }
        for text in ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "CPU"] {
            assert!(text.parse::<Device>().is_err(), "{text}");
        }
        Ok(())
    }

    #[test]
    fn a_profile_names_the_provider_of_each_node() {
        let profile = r#"[
            {"cat": "Session", "name": "session_initialization", "args": {}},
            {"cat": "Node", "name": "a_kernel_time", "args": {"op_name": "MatMul", "provider": "CUDAExecutionProvider"}},
            {"cat": "Node", "name": "b_kernel_time", "args": {"op_name": "Shape", "provider": "CPUExecutionProvider"}},
            {"cat": "Node", "name": "c_kernel_time", "args": {"op_name": "Add", "provider": "CUDAExecutionProvider"}}
        ]"#;
        let expected = Ok(vec!["CPUExecutionProvider".to_owned(), "CUDAExecutionProvider".to_owned()]);
        assert_eq!(providers(profile), expected);
        assert!(providers("[{").is_err());
    }
}
