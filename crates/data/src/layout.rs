//! Columns as little-endian bytes: whole arrays at a time, each as narrow as its largest value allows.
//!
//! Integers are stored in 1, 2, 4 or 8 bytes each, chosen per array; times as differences from the
//! array's least; floats as one value when all are equal, as bytes when all are whole and below 256,
//! else as they are.

use millstream_schema::{Column, Columns, EventKind, Examples, History};

/// What is wrong with bytes that do not decode.
pub(crate) type Wrong = &'static str;

const SHORT: Wrong = "it ends too early";

const CONSTANT: u8 = 0;
const BYTES: u8 = 1;
const RAW: u8 = 2;
/// A constant array costs no bytes, so that its length needs a bound of its own.
const CONSTANT_MAX: usize = 1 << 24;

/// Appends values to a buffer.
#[derive(Default)]
pub(crate) struct Writer {
    /// The bytes so far.
    pub(crate) bytes: Vec<u8>,
}

impl Writer {
    pub(crate) fn u64(&mut self, x: u64) {
        self.bytes.extend_from_slice(&x.to_le_bytes());
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.u64(text.len() as u64);
        self.bytes.extend_from_slice(text.as_bytes());
    }

    /// Integers from 0.
    pub(crate) fn ints<T: Copy + Into<u64>>(&mut self, values: &[T]) {
        self.u64(values.len() as u64);
        // The or of all values has the width of the largest.
        let bits = values.iter().fold(0u64, |bits, &x| bits | x.into());
        let of = |x: &T| -> u64 { (*x).into() };
        match bits {
            0..=0xFF => {
                self.bytes.push(1);
                self.bytes.extend(values.iter().map(|x| of(x) as u8));
            }
            0x100..=0xFFFF => {
                self.bytes.push(2);
                values.iter().for_each(|x| self.bytes.extend_from_slice(&(of(x) as u16).to_le_bytes()));
            }
            0x1_0000..=0xFFFF_FFFF => {
                self.bytes.push(4);
                values.iter().for_each(|x| self.bytes.extend_from_slice(&(of(x) as u32).to_le_bytes()));
            }
            _ => {
                self.bytes.push(8);
                values.iter().for_each(|x| self.bytes.extend_from_slice(&of(x).to_le_bytes()));
            }
        }
    }

    pub(crate) fn times(&mut self, values: &[i64]) {
        let least = values.iter().copied().min().unwrap_or(0);
        self.u64(least as u64);
        let differences: Vec<u64> = values.iter().map(|&t| t.wrapping_sub(least) as u64).collect();
        self.ints(&differences);
    }

    pub(crate) fn floats(&mut self, values: &[f32]) {
        self.u64(values.len() as u64);
        let first = values.first().copied().unwrap_or(0.0);
        if values.len() <= CONSTANT_MAX && values.iter().all(|x| x.to_bits() == first.to_bits()) {
            self.bytes.push(CONSTANT);
            self.bytes.extend_from_slice(&first.to_le_bytes());
        } else if values.iter().all(|&x| f32::from(x as u8).to_bits() == x.to_bits()) {
            self.bytes.push(BYTES);
            self.bytes.extend(values.iter().map(|&x| x as u8));
        } else {
            self.bytes.push(RAW);
            values.iter().for_each(|x| self.bytes.extend_from_slice(&x.to_le_bytes()));
        }
    }

    fn column(&mut self, column: &Column) {
        match column {
            Column::Key(keys) => {
                self.bytes.push(0);
                self.ints(keys);
            }
            Column::Keys { offsets, keys, weights } => {
                self.bytes.push(if weights.is_some() { 2 } else { 1 });
                self.ints(&lengths(offsets));
                self.ints(keys);
                if let Some(weights) = weights {
                    self.floats(weights);
                }
            }
            Column::Dense { width, values } => {
                self.bytes.push(3);
                self.u64(*width as u64);
                self.floats(values);
            }
        }
    }

    pub(crate) fn columns(&mut self, columns: &Columns) {
        self.u64(columns.rows as u64);
        self.ints(&columns.fields);
        columns.columns.iter().for_each(|c| self.column(c));
    }

    pub(crate) fn history(&mut self, h: &History) {
        self.ints(&lengths(&h.offsets));
        self.ints(&h.item);
        self.times(&h.time_ms);
        self.ints(&h.kind);
        self.floats(&h.value);
    }

    pub(crate) fn examples(&mut self, x: &Examples) {
        self.u64(x.tasks as u64);
        self.ints(&x.request_user);
        self.times(&x.request_time_ms);
        self.history(&x.history);
        self.columns(&x.context);
        self.ints(&x.candidate_request);
        self.ints(&x.candidate_item);
        self.columns(&x.exposure);
        self.floats(&x.labels);
        self.floats(&x.weights);
    }
}

/// Row lengths of rising offsets: small numbers, where the offsets themselves are large.
fn lengths(offsets: &[u32]) -> Vec<u32> {
    offsets.windows(2).map(|w| w[1] - w[0]).collect()
}

fn offsets(lengths: &[u32]) -> Result<Vec<u32>, Wrong> {
    let mut out = Vec::with_capacity(lengths.len() + 1);
    let mut end = 0u32;
    out.push(0);
    for &length in lengths {
        end = end.checked_add(length).ok_or("row lengths do not add up")?;
        out.push(end);
    }
    Ok(out)
}

/// Takes values from bytes in the order they were written; never trusts a length.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Wrong> {
        let (head, tail) = self.bytes.split_at_checked(count).ok_or(SHORT)?;
        self.bytes = tail;
        Ok(head)
    }

    fn byte(&mut self) -> Result<u8, Wrong> {
        Ok(self.take(1)?[0])
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Wrong> {
        Ok(self.take(8)?.first_chunk().map_or(0, |b| u64::from_le_bytes(*b)))
    }

    fn len(&mut self) -> Result<usize, Wrong> {
        usize::try_from(self.u64()?).map_err(|_| SHORT)
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, Wrong> {
        let len = self.len()?;
        std::str::from_utf8(self.take(len)?).map_err(|_| "a name is not UTF-8")
    }

    /// Nothing may be left.
    pub(crate) fn end(&self) -> Result<(), Wrong> {
        if self.bytes.is_empty() { Ok(()) } else { Err("it holds more than it should") }
    }

    fn wide<T>(&mut self, convert: impl Fn(u64) -> T) -> Result<Vec<T>, Wrong> {
        let len = self.len()?;
        let width = self.byte()?;
        let bytes = self.take(len.checked_mul(usize::from(width)).ok_or(SHORT)?)?;
        Ok(match width {
            1 => bytes.iter().map(|&b| convert(b.into())).collect(),
            2 => bytes.as_chunks().0.iter().map(|&b| convert(u16::from_le_bytes(b).into())).collect(),
            4 => bytes.as_chunks().0.iter().map(|&b| convert(u32::from_le_bytes(b).into())).collect(),
            8 => bytes.as_chunks().0.iter().map(|&b| convert(u64::from_le_bytes(b))).collect(),
            _ => return Err("an array has an unknown width"),
        })
    }

    pub(crate) fn u64s(&mut self) -> Result<Vec<u64>, Wrong> {
        self.wide(|x| x)
    }

    /// Values above the type's range were never written; a flipped bit is caught by the checksum.
    pub(crate) fn u32s(&mut self) -> Result<Vec<u32>, Wrong> {
        self.wide(|x| x as u32)
    }

    /// Codes of kinds of event.
    pub(crate) fn kinds(&mut self) -> Result<Vec<u16>, Wrong> {
        let codes = self.wide(|x| x as u16)?;
        let old = |code: &u16| (16..EventKind::CUSTOM).contains(code);
        match codes.iter().any(old) {
            true => Err("its kinds of event have codes of an earlier version; prepare the data again"),
            false => Ok(codes),
        }
    }

    pub(crate) fn u8s(&mut self) -> Result<Vec<u8>, Wrong> {
        self.wide(|x| x as u8)
    }

    pub(crate) fn times(&mut self) -> Result<Vec<i64>, Wrong> {
        let least = self.u64()?;
        self.wide(|x| least.wrapping_add(x) as i64)
    }

    pub(crate) fn floats(&mut self) -> Result<Vec<f32>, Wrong> {
        let len = self.len()?;
        match self.byte()? {
            CONSTANT => {
                let value = self.take(4)?.first_chunk().map_or(0.0, |b| f32::from_le_bytes(*b));
                if len > CONSTANT_MAX {
                    return Err(SHORT);
                }
                Ok(vec![value; len])
            }
            BYTES => Ok(self.take(len)?.iter().map(|&b| f32::from(b)).collect()),
            RAW => {
                let bytes = self.take(len.checked_mul(4).ok_or(SHORT)?)?;
                Ok(bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect())
            }
            _ => Err("an array of numbers has an unknown form"),
        }
    }

    fn column(&mut self) -> Result<Column, Wrong> {
        Ok(match self.byte()? {
            0 => Column::Key(self.u64s()?),
            form @ (1 | 2) => {
                let offsets = offsets(&self.u32s()?)?;
                let keys = self.u64s()?;
                let weights = if form == 2 { Some(self.floats()?) } else { None };
                Column::Keys { offsets, keys, weights }
            }
            3 => Column::Dense { width: self.len()?, values: self.floats()? },
            _ => return Err("a column has an unknown form"),
        })
    }

    pub(crate) fn columns(&mut self) -> Result<Columns, Wrong> {
        let rows = self.len()?;
        let fields = self.u32s()?;
        let columns = fields.iter().map(|_| self.column()).collect::<Result<_, _>>()?;
        Ok(Columns { rows, fields, columns })
    }

    pub(crate) fn history(&mut self) -> Result<History, Wrong> {
        Ok(History {
            offsets: offsets(&self.u32s()?)?,
            item: self.u32s()?,
            time_ms: self.times()?,
            kind: self.kinds()?,
            value: self.floats()?,
        })
    }

    pub(crate) fn examples(&mut self) -> Result<Examples, Wrong> {
        let tasks = self.len()?;
        let x = Examples {
            tasks,
            request_user: self.u32s()?,
            request_time_ms: self.times()?,
            history: self.history()?,
            context: self.columns()?,
            candidate_request: self.u32s()?,
            candidate_item: self.u32s()?,
            exposure: self.columns()?,
            labels: self.floats()?,
            weights: self.floats()?,
        };
        x.check().map_err(|_| "its columns have different lengths")?;
        Ok(x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history() -> History {
        History {
            offsets: vec![0, 2, 2, 3],
            item: vec![7, 70_000, 3],
            time_ms: vec![-5, 1 << 60, 0],
            kind: vec![1, 300, 3],
            value: vec![1.0, 0.25, -0.0],
        }
    }

    fn examples() -> Examples {
        Examples {
            request_user: vec![0, u32::MAX, 5],
            request_time_ms: vec![i64::MIN, i64::MAX, 0],
            history: history(),
            context: Columns {
                rows: 3,
                fields: vec![0, 4],
                columns: vec![
                    Column::Key(vec![u64::MAX, 0, 300]),
                    Column::Dense { width: 2, values: vec![0.5, 1.0, f32::MIN, 3.0, -0.0, 0.0] },
                ],
            },
            candidate_request: vec![0, 0, 2],
            candidate_item: vec![],
            exposure: Columns {
                rows: 3,
                fields: vec![1, 2],
                columns: vec![
                    Column::Keys {
                        offsets: vec![0, 0, 2, 3],
                        keys: vec![9, 8, 7],
                        weights: Some(vec![0.1, 1.0, 2.0]),
                    },
                    Column::Keys { offsets: vec![0, 1, 1, 1], keys: vec![1 << 40], weights: None },
                ],
            },
            labels: vec![0.0, 1.0, 1.0],
            tasks: 1,
            weights: vec![],
        }
    }

    #[test]
    fn examples_read_back_as_they_were() {
        for x in [examples(), Examples::default()] {
            let mut writer = Writer::default();
            writer.examples(&x);
            let mut reader = Reader::new(&writer.bytes);
            assert_eq!(reader.examples().unwrap(), x);
            reader.end().unwrap();
        }
    }

    #[test]
    fn kinds_with_codes_of_an_earlier_version_are_refused() {
        let mut x = examples();
        x.history.kind[1] = 17;
        let mut writer = Writer::default();
        writer.examples(&x);
        let reason = Reader::new(&writer.bytes).examples().unwrap_err();
        assert!(reason.contains("prepare the data again"), "{reason}");
    }

    #[test]
    fn every_width_and_form_reads_back() {
        for top in [0u64, 1, 255, 256, 65_535, 65_536, u64::from(u32::MAX), 1 << 32, u64::MAX] {
            let values = vec![0, top, top / 2];
            let mut writer = Writer::default();
            writer.ints(&values);
            assert_eq!(Reader::new(&writer.bytes).u64s().unwrap(), values);
        }
        for values in [vec![], vec![2.5; 9], vec![0.0, 255.0], vec![0.0, 256.0], vec![1.0, f32::NAN]] {
            let mut writer = Writer::default();
            writer.floats(&values);
            let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&Reader::new(&writer.bytes).floats().unwrap()), bits(&values));
        }
    }

    #[test]
    fn cut_bytes_never_decode_and_never_panic() {
        let mut writer = Writer::default();
        writer.examples(&examples());
        for end in 0..writer.bytes.len() {
            assert!(Reader::new(&writer.bytes[..end]).examples().is_err(), "{end}");
        }
        for at in 0..writer.bytes.len() {
            let mut bytes = writer.bytes.clone();
            bytes[at] ^= 0x81;
            // Most flips are caught by the checksum only; none may panic or ask for all memory.
            let _ = Reader::new(&bytes).examples();
        }
    }
}
