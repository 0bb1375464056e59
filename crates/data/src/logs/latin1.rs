//! Text in ISO 8859-1 as UTF-8: old files, such as those of MovieLens, are written so.

use std::io::Read;

/// Turns each byte from 0x80 on into the two bytes of its character.
pub(super) struct Latin1<R> {
    input: R,
    /// The second byte of a character whose first was handed out.
    second: Option<u8>,
}

impl<R> Latin1<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, second: None }
    }
}

impl<R: Read> Read for Latin1<R> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let Some(first) = out.first_mut() else { return Ok(0) };
        if let Some(second) = self.second.take() {
            *first = second;
            return Ok(1);
        }
        // Half of the room, since every byte may become two.
        let room = out.len().div_ceil(2);
        let mut bytes = vec![0; room];
        let read = self.input.read(&mut bytes)?;
        let mut written = 0;
        for byte in &bytes[..read] {
            let mut two = [0; 2];
            for utf8 in char::from(*byte).encode_utf8(&mut two).bytes() {
                match out.get_mut(written) {
                    Some(place) => *place = utf8,
                    None => self.second = Some(utf8),
                }
                written += 1;
            }
        }
        Ok(written.min(out.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_becomes_its_character_whatever_the_room() {
        let bytes: Vec<u8> = (0..=255).collect();
        let wanted: String = bytes.iter().map(|b| char::from(*b)).collect();
        for room in [1, 2, 3, 7, 1000] {
            let mut input = Latin1::new(&bytes[..]);
            let (mut got, mut part) = (Vec::new(), vec![0; room]);
            loop {
                match input.read(&mut part).unwrap() {
                    0 => break,
                    n => got.extend_from_slice(&part[..n]),
                }
            }
            assert_eq!(String::from_utf8(got).unwrap(), wanted, "room {room}");
        }
    }
}
