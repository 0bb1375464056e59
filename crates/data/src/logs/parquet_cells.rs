//! Arrow arrays to text cells.

use std::fmt::{Display, Write};

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use arrow_array::{Array, ArrowPrimitiveType, OffsetSizeTrait};
use arrow_cast::cast;
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::{DataType, TimeUnit};
use millstream_schema::record::LIST_SEPARATOR;

const DAY_MS: i64 = 86_400_000;

/// Cells of one column, in one arena.
#[derive(Debug, Default)]
pub(super) struct Text {
    text: String,
    ends: Vec<usize>,
}

impl Text {
    /// Drops the cells and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
    }

    /// The cell of a row.
    pub(super) fn get(&self, row: usize) -> &str {
        let start = if row == 0 { 0 } else { self.ends[row - 1] };
        &self.text[start..self.ends[row]]
    }

    /// Empties the cells of the rows that `empty` picks.
    pub(super) fn blank(&mut self, empty: impl Fn(usize) -> bool) {
        let mut kept = Text::default();
        for row in 0..self.ends.len() {
            kept.push(if empty(row) { "" } else { self.get(row) });
        }
        *self = kept;
    }

    fn push(&mut self, cell: &str) {
        self.text.push_str(cell);
        self.end();
    }

    fn end(&mut self) {
        self.ends.push(self.text.len());
    }

    fn all<T: Display>(&mut self, values: impl Iterator<Item = Option<T>>) -> Result<(), String> {
        for value in values {
            if let Some(value) = value {
                write!(self.text, "{value}").map_err(|e| e.to_string())?;
            }
            self.end();
        }
        Ok(())
    }

    fn strings<'a>(&mut self, values: impl Iterator<Item = Option<&'a str>>) -> Result<(), String> {
        values.for_each(|value| self.push(value.unwrap_or("")));
        Ok(())
    }

    /// Binary cells that are text, as some writers store strings.
    fn bytes<'a>(&mut self, values: impl Iterator<Item = Option<&'a [u8]>>) -> Result<(), String> {
        for value in values {
            let text = std::str::from_utf8(value.unwrap_or(b""))
                .map_err(|_| "binary values that are not UTF-8 text")?;
            self.push(text);
        }
        Ok(())
    }
}

/// Appends the cells of an array; a null is an empty cell.
pub(super) fn append(array: &dyn Array, out: &mut Text) -> Result<(), String> {
    match array.data_type() {
        DataType::Null => out.strings((0..array.len()).map(|_| None)),
        DataType::Boolean => out.all(array.as_boolean().iter().map(|b| b.map(u8::from))),
        DataType::Int8 => numbers::<Int8Type>(array, out),
        DataType::Int16 => numbers::<Int16Type>(array, out),
        DataType::Int32 => numbers::<Int32Type>(array, out),
        DataType::Int64 => numbers::<Int64Type>(array, out),
        DataType::UInt8 => numbers::<UInt8Type>(array, out),
        DataType::UInt16 => numbers::<UInt16Type>(array, out),
        DataType::UInt32 => numbers::<UInt32Type>(array, out),
        DataType::UInt64 => numbers::<UInt64Type>(array, out),
        DataType::Float16 => recast(array, &DataType::Float32, out),
        DataType::Float32 => numbers::<Float32Type>(array, out),
        DataType::Float64 => numbers::<Float64Type>(array, out),
        DataType::Utf8 => out.strings(array.as_string::<i32>().iter()),
        DataType::LargeUtf8 => out.strings(array.as_string::<i64>().iter()),
        DataType::Utf8View => out.strings(array.as_string_view().iter()),
        DataType::Binary => out.bytes(array.as_binary::<i32>().iter()),
        DataType::LargeBinary => out.bytes(array.as_binary::<i64>().iter()),
        DataType::BinaryView => out.bytes(array.as_binary_view().iter()),

        DataType::Timestamp(unit, _) => times(array, |t| to_ms(t, *unit), out),
        DataType::Date32 => times(array, |days| days.saturating_mul(DAY_MS), out),
        DataType::Date64 => times(array, |ms| ms, out),
        DataType::Dictionary(_, value) => recast(array, value, out),
        DataType::List(_) => lists::<i32>(array, out),
        DataType::LargeList(_) => lists::<i64>(array, out),
        DataType::FixedSizeList(item, _) => recast(array, &DataType::List(item.clone()), out),
        _ => formatted(array, out),
    }
}

fn numbers<T: ArrowPrimitiveType<Native: Display>>(array: &dyn Array, out: &mut Text) -> Result<(), String> {
    out.all(array.as_primitive::<T>().iter())
}

fn recast(array: &dyn Array, to: &DataType, out: &mut Text) -> Result<(), String> {
    append(cast(array, to).map_err(|e| e.to_string())?.as_ref(), out)
}

/// Times by their stored count: no zone is applied.
fn times(array: &dyn Array, to_ms: impl Fn(i64) -> i64, out: &mut Text) -> Result<(), String> {
    let narrow = *array.data_type() == DataType::Date32;
    let counts = if narrow {
        cast(array, &DataType::Int32).and_then(|a| cast(&a, &DataType::Int64))
    } else {
        cast(array, &DataType::Int64)
    };
    let counts = counts.map_err(|e| e.to_string())?;
    out.all(counts.as_primitive::<Int64Type>().iter().map(|t| t.map(&to_ms)))
}

fn to_ms(t: i64, unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => t.saturating_mul(1000),
        TimeUnit::Millisecond => t,
        TimeUnit::Microsecond => t.div_euclid(1000),
        TimeUnit::Nanosecond => t.div_euclid(1_000_000),
    }
}

fn lists<O: OffsetSizeTrait>(array: &dyn Array, out: &mut Text) -> Result<(), String> {
    let lists = array.as_list::<O>();
    let mut elements = Text::default();
    append(lists.values().as_ref(), &mut elements)?;
    for (row, ends) in lists.value_offsets().windows(2).enumerate() {
        if lists.is_valid(row) {
            for (i, element) in (ends[0].as_usize()..ends[1].as_usize()).enumerate() {
                if i > 0 {
                    out.text.push(LIST_SEPARATOR);
                }
                out.text.push_str(elements.get(element));
            }
        }
        out.end();
    }
    Ok(())
}

/// Decimals, times of day and rarer types, as arrow writes them.
fn formatted(array: &dyn Array, out: &mut Text) -> Result<(), String> {
    let options = FormatOptions::default().with_null("");
    let formatter = ArrayFormatter::try_new(array, &options).map_err(|e| e.to_string())?;
    for row in 0..array.len() {
        formatter.value(row).write(&mut out.text).map_err(|e| e.to_string())?;
        out.end();
    }
    Ok(())
}
