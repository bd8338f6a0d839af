//! Writing a model's weights, as its forward pass uses them, for other tools.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use lagar_engine::{Model, TensorSpec};
use lagar_format::os;
use lagar_kernels::Cpu;
use serde_json::json;

use crate::{PressError, Progress};

/// Rows dequantized at once.
const ROWS: usize = 1024;

/// Element type of exported weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportDtype {
    /// 32-bit floats: exactly the weights that the forward pass uses.
    F32,
    /// bfloat16, rounded to nearest even.
    Bf16,
    /// IEEE half precision, rounded to nearest even.
    F16,
}

impl ExportDtype {
    fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 | Self::F16 => 2,
        }
    }

    fn safetensors_name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::Bf16 => "BF16",
            Self::F16 => "F16",
        }
    }

    /// The name in a checkpoint's configuration.
    fn torch_name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::Bf16 => "bfloat16",
            Self::F16 => "float16",
        }
    }

    fn encode(self, values: &[f32], out: &mut Vec<u8>) {
        out.clear();
        match self {
            Self::F32 => out.extend(values.iter().flat_map(|v| v.to_le_bytes())),
            Self::Bf16 => {
                out.extend(
                    values
                        .iter()
                        .flat_map(|&v| half::bf16::from_f32(v).to_le_bytes()),
                );
            }
            Self::F16 => {
                out.extend(
                    values
                        .iter()
                        .flat_map(|&v| half::f16::from_f32(v).to_le_bytes()),
                );
            }
        }
    }
}

/// Writes a Hugging Face checkpoint folder with the model's dequantized weights.
///
/// The folder is built under a temporary name beside `dir` and then renamed; `dir` must not exist
/// or be empty.
///
/// # Errors
///
/// If `dir` holds something, or cannot be written.
pub fn export(
    cpu: &Cpu,
    model: &Model,
    dir: &Path,
    dtype: ExportDtype,
    progress: &dyn Progress,
) -> Result<(), PressError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| PressError::Io { path, source }
    };
    if fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) {
        let source = std::io::Error::from(std::io::ErrorKind::DirectoryNotEmpty);
        return Err(PressError::Io {
            path: dir.to_owned(),
            source,
        });
    }
    // Not the name of a press's work in progress, and of its own for every process.
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(format!(".export-{}", std::process::id()));
    let temporary = dir.with_file_name(name);
    fs::create_dir(&temporary).map_err(io(&temporary))?;
    let written = write_folder(cpu, model, &temporary, dtype, progress).and_then(|()| {
        fs::rename(&temporary, dir).map_err(io(dir))?;
        Ok(())
    });
    if written.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_dir_all(&temporary);
    }
    written
}

fn write_folder(
    cpu: &Cpu,
    model: &Model,
    dir: &Path,
    dtype: ExportDtype,
    progress: &dyn Progress,
) -> Result<(), PressError> {
    for (name, bytes) in model.files() {
        let bytes = if name == "config.json" {
            retyped(bytes, dtype)
        } else {
            bytes.to_vec()
        };
        let path = dir.join(name);
        fs::write(&path, bytes).map_err(|source| PressError::Io { path, source })?;
    }
    let path = dir.join("model.safetensors");
    write_weights(cpu, model, &path, dtype, progress)?;
    os::sync_folder(dir)?;
    Ok(())
}

/// The configuration with the element type that the weights now have.
fn retyped(config: &[u8], dtype: ExportDtype) -> Vec<u8> {
    let mut config: serde_json::Value =
        serde_json::from_slice(config).expect("the model was built from this configuration");
    let key = if config.get("dtype").is_some() {
        "dtype"
    } else {
        "torch_dtype"
    };
    config[key] = json!(dtype.torch_name());
    serde_json::to_vec_pretty(&config).expect("plain data serialises")
}

fn write_weights(
    cpu: &Cpu,
    model: &Model,
    path: &Path,
    dtype: ExportDtype,
    progress: &dyn Progress,
) -> Result<(), PressError> {
    let io = |source| PressError::Io {
        path: path.to_owned(),
        source,
    };
    let tensors = model.spec().tensors();
    progress.phase("Exporting", model.parameters());
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path).map_err(io)?);
    let header = header(&tensors, dtype);
    file.write_all(&(header.len() as u64).to_le_bytes())
        .map_err(io)?;
    file.write_all(&header).map_err(io)?;
    let mut encoded = Vec::new();
    for tensor in &tensors {
        // A vector is one row.
        let width = *tensor.shape.last().expect("every tensor has a dimension");
        let rows = tensor.shape.iter().product::<usize>() / width;
        for first in (0..rows).step_by(ROWS) {
            if progress.cancelled() {
                return Err(PressError::Interrupted);
            }
            let count = ROWS.min(rows - first);
            let values = model.weight_rows(cpu, &tensor.name, first..first + count)?;
            dtype.encode(&values, &mut encoded);
            file.write_all(&encoded).map_err(io)?;
            progress.advance(values.len() as u64);
        }
    }
    file.into_inner()
        .map_err(|e| io(e.into_error()))?
        .sync_all()
        .map_err(io)
}

/// A safetensors header for these tensors, one after the other.
fn header(tensors: &[TensorSpec], dtype: ExportDtype) -> Vec<u8> {
    let mut entries = serde_json::Map::new();
    entries.insert("__metadata__".to_owned(), json!({ "format": "pt" }));
    let mut offset = 0;
    for tensor in tensors {
        let end = offset + tensor.shape.iter().product::<usize>() * dtype.bytes();
        entries.insert(
            tensor.name.clone(),
            json!({
                "dtype": dtype.safetensors_name(),
                "shape": tensor.shape,
                "data_offsets": [offset, end],
            }),
        );
        offset = end;
    }
    let mut header = serde_json::to_vec(&entries).expect("plain data serialises");
    // Data start on a multiple of eight, as the format recommends.
    header.resize(header.len().next_multiple_of(8), b' ');
    header
}
