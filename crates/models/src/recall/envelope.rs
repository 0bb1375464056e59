//! Magic, version and checksum around the bytes of a counting model.

use serde::Serialize;
use serde::de::DeserializeOwned;
use xxhash_rust::xxh3::xxh3_64;

use crate::Error;

/// Magic (8), version (4), xxh3 of the payload (8).
const HEAD: usize = 20;

/// `value` as bytes that [`open`] reads back.
pub(crate) fn seal<T: Serialize>(magic: &[u8; 8], version: u32, value: &T) -> Result<Vec<u8>, Error> {
    let mut out = vec![0u8; HEAD];
    out[..8].copy_from_slice(magic);
    out[8..12].copy_from_slice(&version.to_le_bytes());
    let mut out =
        postcard::to_extend(value, out).map_err(|e| Error::Corrupt(format!("cannot be saved: {e}")))?;
    let sum = xxh3_64(&out[HEAD..]);
    out[12..HEAD].copy_from_slice(&sum.to_le_bytes());
    Ok(out)
}

/// The value in `bytes`; `what` names it in errors.
pub(crate) fn open<T: DeserializeOwned>(
    magic: &[u8; 8],
    version: u32,
    what: &str,
    bytes: &[u8],
) -> Result<T, Error> {
    let corrupt = |reason: &str| Error::Corrupt(format!("not {what}: {reason}"));
    let (head, payload) = bytes.split_at_checked(HEAD).ok_or_else(|| corrupt("it is too short"))?;
    if &head[..8] != magic {
        return Err(corrupt("the first bytes are another file's"));
    }
    if head[8..12] != version.to_le_bytes() {
        return Err(corrupt(&format!("it is not of version {version}")));
    }
    if head[12..] != xxh3_64(payload).to_le_bytes() {
        return Err(corrupt("the checksum does not match"));
    }
    postcard::from_bytes(payload).map_err(|_| corrupt("the content cannot be read"))
}
