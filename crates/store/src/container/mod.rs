//! A small file of named, checksummed sections, used for checkpoints and snapshots.
//!
//! ```text
//! header     magic "MILLSTRM", layout u32, kind [u8; 4], version u32
//! sections   raw bytes, one after the other
//! directory  count u32, then per section: name length u16, name, offset u64, length u64, xxh3 u64
//! trailer    directory offset u64, directory length u64, xxh3 of header + directory u64, "MILLEND\n"
//! ```
//!
//! All numbers are little-endian. `kind` says what the file is for and `version` which shape of that
//! kind it has; both belong to the caller. A file appears under its name only when it is complete and
//! on disk, so a killed writer never leaves half a file there.

mod read;
mod temp;
mod write;

pub use read::{Container, SectionReader};
pub use write::ContainerWriter;

const MAGIC: [u8; 8] = *b"MILLSTRM";
const END: [u8; 8] = *b"MILLEND\n";
const LAYOUT: u32 = 1;
const HEADER_LEN: usize = 20;
const TRAILER_LEN: usize = 32;

/// Where a section lies and what it must hash to.
#[derive(Debug, Clone)]
struct Entry {
    name: String,
    offset: u64,
    len: u64,
    checksum: u64,
}

fn header(kind: [u8; 4], version: u32) -> [u8; HEADER_LEN] {
    let mut bytes = [0; HEADER_LEN];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&LAYOUT.to_le_bytes());
    bytes[12..16].copy_from_slice(&kind);
    bytes[16..].copy_from_slice(&version.to_le_bytes());
    bytes
}

fn directory(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = (entries.len() as u32).to_le_bytes().to_vec();
    for entry in entries {
        bytes.extend_from_slice(&(entry.name.len() as u16).to_le_bytes());
        bytes.extend_from_slice(entry.name.as_bytes());
        for number in [entry.offset, entry.len, entry.checksum] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
    }
    bytes
}

/// The hash that protects header and directory.
fn seal(header: &[u8], directory: &[u8]) -> u64 {
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    hash.update(header);
    hash.update(directory);
    hash.digest()
}
