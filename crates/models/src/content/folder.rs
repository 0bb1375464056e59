//! What lies in the folder of a sentence encoder: tensors as `safetensors` files hold them, and settings.

use std::collections::BTreeMap;
use std::path::Path;

use half::{bf16, f16};
use millstream_schema::suggest;
use serde::Deserialize;
use serde_json::Value;

use crate::Error;

/// A file's bytes.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => {
            Error::Config(format!("{}: {}", path.display(), suggest::missing_file(path)))
        }
        _ => Error::Io { path: path.display().to_string(), source },
    })
}

/// What the head of a file says of a tensor.
#[derive(Debug, Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (usize, usize),
}

/// One tensor, whose length fits its shape and type.
struct Tensor<'a> {
    dtype: &'a str,
    shape: &'a [usize],
    data: &'a [u8],
}

/// Bytes of a number of this type; `None` for a type that is not read.
fn width(dtype: &str) -> Option<usize> {
    Some(match dtype {
        "I8" => 1,
        "F16" | "BF16" => 2,
        "F32" | "I32" | "U32" => 4,
        "F64" | "I64" => 8,
        _ => return None,
    })
}

/// The tensors of one file: eight bytes for the length of the head, the head as JSON, then numbers, little-endian. No length in it
/// is trusted.
pub(super) struct Tensors<'a> {
    path: &'a Path,
    held: BTreeMap<String, Entry>,
    data: &'a [u8],
}

impl<'a> Tensors<'a> {
    /// # Errors
    /// The bytes are no such file.
    pub(super) fn of(path: &'a Path, bytes: &'a [u8]) -> Result<Self, Error> {
        let fail = |what: String| Error::Corrupt(format!("{}: no safetensors file: {what}", path.display()));
        let (length, rest) = bytes.split_first_chunk().ok_or_else(|| fail("it is too short".into()))?;
        let length = usize::try_from(u64::from_le_bytes(*length)).ok();
        let parts = length.and_then(|length| rest.split_at_checked(length));
        let (head, data) = parts.ok_or_else(|| fail("its head is longer than the file".into()))?;
        let wrong = |e: serde_json::Error| fail(format!("its head cannot be read: {e}"));
        let mut all: BTreeMap<String, Value> = serde_json::from_slice(head).map_err(wrong)?;
        all.remove("__metadata__");
        let entry = |(name, value)| Ok((name, serde_json::from_value::<Entry>(value)?));
        let held = all.into_iter().map(entry).collect::<Result<_, serde_json::Error>>().map_err(wrong)?;
        Ok(Self { path, held, data })
    }

    /// The tensor of this name, if there is one.
    fn tensor(&self, name: &str) -> Result<Option<Tensor<'_>>, Error> {
        let Some(Entry { dtype, shape, data_offsets: (from, to) }) = self.held.get(name) else {
            return Ok(None);
        };
        let numbers = shape.iter().try_fold(1usize, |product, n| product.checked_mul(*n));
        let Some(width) = width(dtype) else {
            return self.fail(format_args!("tensor `{name}` is of {dtype}, which is not read"));
        };
        let wanted = numbers.and_then(|n| n.checked_mul(width));
        match self.data.get(*from..*to).filter(|data| Some(data.len()) == wanted) {
            Some(data) => Ok(Some(Tensor { dtype, shape, data })),
            None => self.fail(format_args!(
                "tensor `{name}` of {dtype} and shape {shape:?} does not fit bytes {from} to {to} of {}",
                self.data.len()
            )),
        }
    }

    pub(super) fn fail<T>(&self, what: impl std::fmt::Display) -> Result<T, Error> {
        Err(Error::Corrupt(format!("{}: {what}", self.path.display())))
    }

    /// A matrix as (rows, columns, numbers).
    pub(super) fn matrix(&self, names: &[&str]) -> Result<(usize, usize, Vec<f32>), Error> {
        let name = names.iter().find(|name| self.held.contains_key(**name)).unwrap_or(&names[0]);
        let Some(tensor) = self.tensor(name)? else {
            let held: Vec<&str> = self.held.keys().map(String::as_str).collect();
            return self.fail(format_args!("has no tensor `{}`; it holds {}", names[0], held.join(", ")));
        };
        match *tensor.shape {
            [rows, columns] if rows > 0 && columns > 0 => Ok((rows, columns, self.numbers(name, &tensor)?)),
            _ => self.fail(format_args!("tensor `{name}` has shape {:?}, not [tokens, width]", tensor.shape)),
        }
    }

    /// A list of so many numbers, where there is one of this name.
    pub(super) fn list(&self, name: &str, length: usize) -> Result<Option<Vec<f32>>, Error> {
        let Some(tensor) = self.tensor(name)? else { return Ok(None) };
        self.check_length(name, &tensor, length)?;
        self.numbers(name, &tensor).map(Some)
    }

    /// A list of so many places below `below`, where there is one of this name.
    pub(super) fn places(&self, name: &str, length: usize, below: usize) -> Result<Option<Vec<u32>>, Error> {
        let Some(tensor) = self.tensor(name)? else { return Ok(None) };
        self.check_length(name, &tensor, length)?;
        let bytes = tensor.data;
        let all: Vec<i64> = match tensor.dtype {
            "I64" => bytes.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect(),
            "I32" => bytes.as_chunks().0.iter().map(|b| i32::from_le_bytes(*b).into()).collect(),
            "U32" => bytes.as_chunks().0.iter().map(|b| u32::from_le_bytes(*b).into()).collect(),
            other => {
                return self.fail(format_args!("tensor `{name}` is of {other}; I32, I64 or U32 is read"));
            }
        };
        let place = |x: i64| u32::try_from(x).ok().filter(|p| (*p as usize) < below);
        match all.iter().map(|x| place(*x)).collect() {
            Some(places) => Ok(Some(places)),
            None => self.fail(format_args!("tensor `{name}` names a row that is not in 0..{below}")),
        }
    }

    fn check_length(&self, name: &str, tensor: &Tensor<'_>, length: usize) -> Result<(), Error> {
        match *tensor.shape {
            [found] if found == length => Ok(()),
            _ => {
                let shape = tensor.shape;
                self.fail(format_args!("tensor `{name}` has shape {shape:?} where the tokens are {length}"))
            }
        }
    }

    fn numbers(&self, name: &str, tensor: &Tensor<'_>) -> Result<Vec<f32>, Error> {
        let bytes = tensor.data;
        let all: Vec<f32> = match tensor.dtype {
            "F32" => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            "F64" => bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect(),
            "F16" => bytes.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
            "BF16" => bytes.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect(),
            "I8" => bytes.iter().map(|b| f32::from(*b as i8)).collect(),
            other => {
                return self
                    .fail(format_args!("tensor `{name}` is of {other}; F64, F32, F16, BF16 or I8 is read"));
            }
        };
        match all.iter().all(|x| x.is_finite()) {
            true => Ok(all),
            false => self.fail(format_args!("tensor `{name}` holds what is no finite number")),
        }
    }
}
