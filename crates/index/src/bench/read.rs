use crate::error::{Error, Result};
use crate::rows::check_dim;
use std::fs;
use std::path::Path;

const NPY: &[u8] = b"\x93NUMPY";

/// Vectors of a `.npy` file (little-endian float32, two axes, row-major) or a `.fvecs` file (each vector: its
/// length as an i32, its numbers). Gives D and `[rows, D]`.
///
/// # Errors
/// [`Error::Io`] when it cannot be read, [`Error::Vectors`] when it is not such a file.
pub fn read_vectors(path: impl AsRef<Path>) -> Result<(usize, Vec<f32>)> {
    let path = path.as_ref();
    let bytes = fs::read(path).map_err(|e| Error::io(path, "open", e))?;
    let read = match path.extension().and_then(|ext| ext.to_str()) {
        Some("npy") => npy(&bytes),
        Some("fvecs") => fvecs(&bytes),
        _ => Err("its name ends neither in .npy nor in .fvecs".to_owned()),
    };
    let (dim, vectors) = read.map_err(|what| unfit(path, what))?;
    check_dim(dim).map_err(|e| unfit(path, e.to_string()))?;
    match vectors.iter().position(|x| !x.is_finite()) {
        Some(at) => Err(unfit(path, format!("row {} has a {} at place {}", at / dim, vectors[at], at % dim))),
        None => Ok((dim, vectors)),
    }
}

fn unfit(path: &Path, what: String) -> Error {
    Error::Vectors { path: path.to_owned(), what }
}

type Read = std::result::Result<(usize, Vec<f32>), String>;

fn npy(bytes: &[u8]) -> Read {
    let short = || "it is cut short".to_owned();
    let rest = bytes.strip_prefix(NPY).ok_or("it does not start as .npy files do")?;
    let (&[major, _], rest) = rest.split_first_chunk::<2>().ok_or_else(short)?;
    let (len, rest) = match major {
        1 => rest.split_first_chunk::<2>().map(|(len, rest)| (usize::from(u16::from_le_bytes(*len)), rest)),
        _ => rest.split_first_chunk::<4>().map(|(len, rest)| (u32::from_le_bytes(*len) as usize, rest)),
    }
    .ok_or_else(short)?;
    let (header, data) = rest.split_at_checked(len).ok_or_else(short)?;
    let header = String::from_utf8_lossy(header);
    let kind = after(&header, "'descr':").and_then(|text| text.split('\'').nth(1)).unwrap_or("nothing");
    if kind != "<f4" {
        return Err(format!("it holds `{kind}`, expected `<f4` (little-endian float32)"));
    }
    if after(&header, "'fortran_order':").is_none_or(|text| !text.trim_start().starts_with("False")) {
        return Err("it is column-major, expected row-major".to_owned());
    }
    let shape = after(&header, "'shape':").and_then(|text| text.split(['(', ')']).nth(1)).unwrap_or("");
    let axes: Option<Vec<usize>> = shape
        .split(',')
        .map(str::trim)
        .filter(|axis| !axis.is_empty())
        .map(|axis| axis.parse().ok())
        .collect();
    let Some(&[rows, dim]) = axes.as_deref() else {
        return Err(format!("its shape is ({shape}), expected two axes"));
    };
    if rows.checked_mul(dim).and_then(|numbers| numbers.checked_mul(4)) != Some(data.len()) {
        return Err(format!("{} bytes are no {rows} vectors of {dim} numbers", data.len()));
    }
    Ok((dim, floats(data)))
}

fn after<'a>(header: &'a str, key: &str) -> Option<&'a str> {
    header.split_once(key).map(|(_, rest)| rest)
}

fn fvecs(bytes: &[u8]) -> Read {
    let own = bytes.first_chunk::<4>().ok_or("it is cut short")?;
    let dim = usize::try_from(i32::from_le_bytes(*own)).unwrap_or(0);
    if check_dim(dim).is_err() {
        let own = i32::from_le_bytes(*own);
        return Err(format!("its header is not sound: its first vector is said to have {own} numbers"));
    }
    let stride = dim.saturating_mul(4).saturating_add(4);
    if !bytes.len().is_multiple_of(stride) {
        return Err(format!("{} bytes are no whole vectors of {dim} numbers", bytes.len()));
    }
    let mut vectors = Vec::with_capacity(bytes.len() / 4);
    for (row, vector) in bytes.chunks_exact(stride).enumerate() {
        let (own, numbers) = vector.split_at(4);
        if own != &bytes[..4] {
            return Err(format!("row {row} has another length than {dim}"));
        }
        vectors.extend(floats(numbers));
    }
    Ok((dim, vectors))
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|&x| f32::from_le_bytes(x)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `numpy.save` writes it.
    fn npy_file(header: &str, data: &[f32]) -> Vec<u8> {
        let mut bytes = [NPY, &[1, 0], &(header.len() as u16).to_le_bytes(), header.as_bytes()].concat();
        bytes.extend(data.iter().flat_map(|x| x.to_le_bytes()));
        bytes
    }

    #[test]
    fn both_formats_give_their_rows_and_damage_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let read = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            fs::write(&path, bytes).unwrap();
            read_vectors(&path).map_err(|e| e.to_string())
        };
        let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n";
        let data = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let good = npy_file(header, &data);
        assert_eq!(read("a.npy", &good), Ok((3, data.to_vec())));
        let says = |bytes: &[u8], what: &str| {
            let said = read("a.npy", bytes).unwrap_err();
            assert!(said.contains(what) && said.contains("a.npy"), "{said}");
        };
        (0..good.len()).for_each(|len| says(&good[..len], ""));
        says(&npy_file(&header.replace("<f4", "<f8"), &data), "holds `<f8`");
        says(&npy_file(&header.replace("False", "True"), &data), "column-major");
        says(&npy_file(&header.replace("(2, 3)", "(6,)"), &data), "its shape is (6,)");
        says(&npy_file(header, &[f32::NAN; 6]), "row 0 has a NaN at place 0");
        let row = |dim: i32, x: f32| [dim.to_le_bytes().to_vec(), x.to_le_bytes().repeat(2)].concat();
        let both = [row(2, 1.5), row(2, -1.0)].concat();
        assert_eq!(read("a.fvecs", &both), Ok((2, vec![1.5, 1.5, -1.0, -1.0])));
        assert!(read("a.fvecs", &both[..20]).unwrap_err().contains("no whole vectors of 2"));
        assert!(read("a.fvecs", &[row(2, 1.5), row(3, -1.0)].concat()).unwrap_err().contains("row 1"));
        for dim in [-3, 0, i32::MAX] {
            let said = read("a.fvecs", &row(dim, 1.0)).unwrap_err();
            assert!(
                said.contains(&format!(
                    "header is not sound: its first vector is said to have {dim} numbers"
                ))
            );
        }
        assert!(
            read("a.fvecs", &[]).is_err() && read("a.txt", &both).unwrap_err().contains("ends neither in")
        );
    }
}
