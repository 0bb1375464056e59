use std::sync::Arc;

use ::parquet::arrow::ArrowWriter;
use arrow_array::builder::{ListBuilder, StringBuilder};
use arrow_array::types::Int32Type;
use arrow_array::*;
use arrow_schema::{DataType, Field};

use super::*;

fn batch() -> RecordBatch {
    let mut tags = ListBuilder::new(StringBuilder::new());
    tags.append_value([Some("a"), Some("b")]);
    tags.append_null();
    tags.append_value([Some("c")]);
    let words: DictionaryArray<Int32Type> = vec![Some("x"), None, Some("x")].into_iter().collect();
    let inner: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), Some(2), None]));
    let outer = StructArray::new(
        vec![Field::new("n", DataType::Int64, true)].into(),
        vec![inner],
        Some(vec![true, false, true].into()),
    );
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int64Array::from(vec![1, 2, i64::MAX]))),
        ("small", Arc::new(UInt8Array::from(vec![Some(255), None, Some(0)]))),
        ("x", Arc::new(Float32Array::from(vec![0.1, -2.5, 1e-9]))),
        ("y", Arc::new(Float64Array::from(vec![0.1, 1e300, 2.0]))),
        ("ok", Arc::new(BooleanArray::from(vec![Some(true), Some(false), None]))),
        ("name", Arc::new(StringArray::from(vec![Some("é"), Some(""), None]))),
        ("raw", Arc::new(BinaryArray::from(vec![b"ab".as_slice(), b"", b"c"]))),
        ("word", Arc::new(words)),
        ("at", Arc::new(TimestampMicrosecondArray::from(vec![1_500, -1, 0]).with_timezone("+02:00"))),
        ("sec", Arc::new(TimestampSecondArray::from(vec![7, 8, 9]))),
        ("day", Arc::new(Date32Array::from(vec![1, 0, -1]))),
        (
            "price",
            Arc::new(Decimal128Array::from(vec![12_345, -5, 0]).with_precision_and_scale(10, 2).unwrap()),
        ),
        ("tags", Arc::new(tags.finish())),
        ("s", Arc::new(outer)),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).unwrap()
}

fn write(batch: &RecordBatch) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    bytes
}

#[test]
fn every_type_becomes_text() {
    let folder = Folder::new("parquet");
    let path = folder.file("a.parquet", write(&batch()));
    let frame = read_all(&path, &LogFormat::default(), 2).unwrap();
    let huge = 1e300.to_string();
    let wanted = [
        vec![
            "1", "255", "0.1", "0.1", "1", "é", "ab", "x", "1", "7000", "86400000", "123.45", "a\u{1f}b", "1",
        ],
        vec!["2", "", "-2.5", &huge, "0", "", "", "", "-1", "8000", "0", "-0.05", "", ""],
        vec![
            "9223372036854775807",
            "0",
            "0.000000001",
            "2",
            "",
            "",
            "c",
            "x",
            "0",
            "9000",
            "-86400000",
            "0.00",
            "c",
            "",
        ],
    ];
    assert_eq!(frame.columns().last().unwrap(), "s.n");
    assert_eq!(rows(&frame), wanted);
    assert_eq!(frame.line(2), 3);
}

#[test]
fn columns_are_projected_and_the_name_does_not_matter() {
    let folder = Folder::new("projected");
    let path = folder.file("a.bin", write(&batch()));
    let format = LogFormat { columns: columns(&["s.n", "ok", "id"]), ..LogFormat::default() };
    let frame = read_all(&path, &format, 9).unwrap();
    assert_eq!(rows(&frame)[0], ["1", "1", "1"]);
    let format = LogFormat { columns: columns(&["nam"]), ..LogFormat::default() };
    assert_eq!(message(&path, &format), "a.bin: unknown column `nam`; did you mean `name`?");
}

#[test]
fn faults_are_told() {
    let folder = Folder::new("parquet-faults");
    let bytes = write(&batch());
    let text = folder.file("a.parquet", "a,b\n1,2\n");
    assert_eq!(
        message(&text, &LogFormat::default()),
        "a.parquet: not a Parquet file (it does not begin with `PAR1`)"
    );
    let cut = folder.file("b.parquet", &bytes[..bytes.len() / 2]);
    assert!(message(&cut, &LogFormat::default()).starts_with("b.parquet: the Parquet file cannot be read"));
    let csv = LogFormat { format: Some(FileFormat::Csv), ..LogFormat::default() };
    assert!(message(&folder.file("c.csv", &bytes), &csv).contains("this is a Parquet file"));
    let none = folder.file("d.parquet", write(&batch().slice(0, 0)));
    assert_eq!(message(&none, &LogFormat::default()), "d.parquet: the file has columns but no rows");
}
