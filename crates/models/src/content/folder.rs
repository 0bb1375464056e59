//! What lies in the folder of a sentence encoder: tensors as `safetensors` files hold them, and settings.

use std::path::Path;

use half::{bf16, f16};
use millstream_schema::suggest;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

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

/// The tensors of one file.
pub(super) struct Tensors<'a> {
    path: &'a Path,
    held: SafeTensors<'a>,
}

impl<'a> Tensors<'a> {
    /// # Errors
    /// The bytes are no such file, or its lengths do not fit them.
    pub(super) fn of(path: &'a Path, bytes: &'a [u8]) -> Result<Self, Error> {
        let held = SafeTensors::deserialize(bytes)
            .map_err(|e| Error::Corrupt(format!("{}: no safetensors file: {e}", path.display())))?;
        Ok(Self { path, held })
    }

    /// The first of these names that there is.
    pub(super) fn find(&self, names: &[&str]) -> Option<(String, TensorView<'_>)> {
        names.iter().find_map(|name| self.held.tensor(name).ok().map(|t| ((*name).to_owned(), t)))
    }

    pub(super) fn fail<T>(&self, what: impl std::fmt::Display) -> Result<T, Error> {
        Err(Error::Corrupt(format!("{}: {what}", self.path.display())))
    }

    /// A matrix as (rows, columns, numbers).
    pub(super) fn matrix(&self, names: &[&str]) -> Result<(usize, usize, Vec<f32>), Error> {
        let Some((name, tensor)) = self.find(names) else {
            let held: Vec<&str> = self.held.names();
            return self.fail(format_args!("has no tensor `{}`; it holds {}", names[0], held.join(", ")));
        };
        match *tensor.shape() {
            [rows, columns] if rows > 0 && columns > 0 => Ok((rows, columns, self.numbers(&name, &tensor)?)),
            _ => {
                self.fail(format_args!("tensor `{name}` has shape {:?}, not [tokens, width]", tensor.shape()))
            }
        }
    }

    /// A list of so many numbers, where there is one of this name.
    pub(super) fn list(&self, name: &str, length: usize) -> Result<Option<Vec<f32>>, Error> {
        let Some((_, tensor)) = self.find(&[name]) else { return Ok(None) };
        self.check_length(name, &tensor, length)?;
        self.numbers(name, &tensor).map(Some)
    }

    /// A list of so many places below `below`, where there is one of this name.
    pub(super) fn places(&self, name: &str, length: usize, below: usize) -> Result<Option<Vec<u32>>, Error> {
        let Some((_, tensor)) = self.find(&[name]) else { return Ok(None) };
        self.check_length(name, &tensor, length)?;
        let bytes = tensor.data();
        let all: Vec<i64> = match tensor.dtype() {
            Dtype::I64 => bytes.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect(),
            Dtype::I32 => bytes.as_chunks().0.iter().map(|b| i32::from_le_bytes(*b).into()).collect(),
            Dtype::U32 => bytes.as_chunks().0.iter().map(|b| u32::from_le_bytes(*b).into()).collect(),
            other => {
                return self.fail(format_args!("tensor `{name}` is of {other:?}; I32, I64 or U32 is read"));
            }
        };
        let place = |x: i64| u32::try_from(x).ok().filter(|p| (*p as usize) < below);
        match all.iter().map(|x| place(*x)).collect() {
            Some(places) => Ok(Some(places)),
            None => self.fail(format_args!("tensor `{name}` names a row that is not in 0..{below}")),
        }
    }

    fn check_length(&self, name: &str, tensor: &TensorView<'_>, length: usize) -> Result<(), Error> {
        match *tensor.shape() {
            [found] if found == length => Ok(()),
            _ => {
                let shape = tensor.shape();
                self.fail(format_args!("tensor `{name}` has shape {shape:?} where the tokens are {length}"))
            }
        }
    }

    fn numbers(&self, name: &str, tensor: &TensorView<'_>) -> Result<Vec<f32>, Error> {
        let bytes = tensor.data();
        let all: Vec<f32> = match tensor.dtype() {
            Dtype::F32 => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            Dtype::F64 => bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect(),
            Dtype::F16 => bytes.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
            Dtype::BF16 => bytes.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect(),
            Dtype::I8 => bytes.iter().map(|b| f32::from(*b as i8)).collect(),
            other => {
                return self.fail(format_args!(
                    "tensor `{name}` is of {other:?}; F64, F32, F16, BF16 or I8 is read"
                ));
            }
        };
        match all.iter().all(|x| x.is_finite()) {
            true => Ok(all),
            false => self.fail(format_args!("tensor `{name}` holds what is no finite number")),
        }
    }
}
