use super::*;

#[test]
fn csv_reads_quotes_line_ends_and_a_byte_order_mark() {
    let folder = Folder::new("csv");
    let text = "\u{feff}id,title,n\r\n1,\"a, \"\"b\"\"\nc\",2\r\n\r\n2,plain \"x\",\n3,\"\",9";
    let path = folder.file("a.csv", text);
    let frame = read_all(&path, &LogFormat::default(), 1).unwrap();
    assert_eq!(frame.columns(), ["id", "title", "n"]);
    assert_eq!(rows(&frame), [["1", "a, \"b\"\nc", "2"], ["2", "plain \"x\"", ""], ["3", "", "9"]]);
    assert_eq!((0..3).map(|r| frame.line(r)).collect::<Vec<_>>(), [2, 5, 6]);
}

/// The naive twin is the `csv` crate, on random cells long enough to span many blocks.
#[test]
fn csv_agrees_with_the_csv_crate_across_blocks() {
    let folder = Folder::new("twin");
    let mut state = 7u64;
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    let parts = ["a", "bc", ",", "\"", "\n", "é", "", "long text "];
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(["x", "y", "z"]).unwrap();
    for _ in 0..40_000 {
        let mut cell = || {
            (0..next() % 12).map(|_| parts[next() % if next() % 4 == 0 { 8 } else { 2 }]).collect::<String>()
        };
        writer.write_record([cell(), cell(), format!("k{}", cell())]).unwrap();
    }
    let bytes = writer.into_inner().unwrap();
    assert!(bytes.len() > 1 << 20, "{}", bytes.len());
    let path = folder.file("twin.csv", &bytes);
    let frame = read_all(&path, &LogFormat::default(), 999).unwrap();
    let mut twin = csv::Reader::from_reader(bytes.as_slice());
    let mut count = 0;
    for (row, record) in twin.records().enumerate() {
        let record = record.unwrap();
        let cells: Vec<&str> = (0..3).map(|c| frame.get(row, c)).collect();
        assert_eq!(cells, record.iter().collect::<Vec<_>>(), "row {row}");
        count += 1;
    }
    assert_eq!(frame.rows(), count);
}

#[test]
fn a_quoted_cell_may_be_longer_than_a_block() {
    let folder = Folder::new("long");
    let long = "line\n".repeat(500_000);
    let path = folder.file("a.csv", format!("a,b\n1,\"{long}\"\n2,x\n"));
    let frame = read_all(&path, &LogFormat::default(), 10).unwrap();
    assert_eq!(frame.get(0, 1), long);
    assert_eq!((frame.get(1, 1), frame.line(1)), ("x", 500_003));
}

#[test]
fn tsv_takes_quotes_as_they_stand() {
    let folder = Folder::new("tsv");
    let path = folder.file("a.tsv", "a\tb\n\"x\ty\"\n");
    assert_eq!(rows(&read_all(&path, &LogFormat::default(), 9).unwrap()), [["\"x", "y\""]]);
}

#[test]
fn delimiters_of_several_characters_and_named_columns() {
    let folder = Folder::new("multi");
    let path = folder.file("ratings.dat", "1::1193::5::978300760\n1::661::3::978302109\n");
    let format = LogFormat { columns: columns(&["u", "i", "r", "t"]), ..LogFormat::default() };
    let given = LogFormat { delimiter: Some("::".into()), ..format.clone() };
    let wanted = [["1", "1193", "5", "978300760"], ["1", "661", "3", "978302109"]];
    assert_eq!(rows(&read_all(&path, &given, 9).unwrap()), wanted);
    assert_eq!(rows(&read_all(&path, &format, 9).unwrap()), wanted, "guessed");
    let path = folder.file("adult.data", "39, State-gov, 77516\n50, Self emp, 83311\n\n");
    let format = LogFormat { delimiter: Some(", ".into()), header: Some(false), ..LogFormat::default() };
    let frame = read_all(&path, &format, 9).unwrap();
    assert_eq!(frame.columns(), ["c0", "c1", "c2"]);
    assert_eq!(rows(&frame), [["39", "State-gov", "77516"], ["50", "Self emp", "83311"]]);
}

#[test]
fn named_columns_of_a_file_with_a_header_are_a_choice() {
    let folder = Folder::new("choice");
    let path = folder.file("a.csv", "a,b,c\n1,2,3\n4,\"5\",6\n");
    let format = LogFormat { header: Some(true), columns: columns(&["c", "b"]), ..LogFormat::default() };
    let frame = read_all(&path, &format, 9).unwrap();
    assert_eq!(frame.columns(), ["c", "b"]);
    assert_eq!(rows(&frame), [["3", "2"], ["6", "5"]]);
}

#[test]
fn recbole_headers_lose_their_types_and_sequences_keep_spaces() {
    let folder = Folder::new("recbole");
    let text = "item_id:token\ttitle:token_seq\tyear:float\n7\tToy Story\t1995\n";
    let path = folder.file("x.item.gz", gzip(text.as_bytes()));
    let frame = read_all(&path, &LogFormat::default(), 9).unwrap();
    assert_eq!(frame.columns(), ["item_id", "title", "year"]);
    assert_eq!(rows(&frame), [["7", "Toy Story", "1995"]]);
}

#[test]
fn libsvm_pairs_become_one_multi_valued_cell() {
    let folder = Folder::new("libsvm");
    let path = folder.file("a.libsvm", "1 qid:3 1:0.5 7:1 # note\n-1 2:3\n# only a note\n0\n");
    let frame = read_all(&path, &LogFormat::default(), 1).unwrap();
    assert_eq!(frame.columns(), ["label", "qid", "features"]);
    assert_eq!(rows(&frame), [["1", "3", "1:0.5|7:1"], ["-1", "", "2:3"], ["0", "", ""]]);
    let format = LogFormat { columns: columns(&["features", "label"]), ..LogFormat::default() };
    assert_eq!(rows(&read_all(&path, &format, 9).unwrap())[1], ["2:3", "-1"]);
}

#[test]
fn jsonl_is_flattened_without_losing_digits() {
    let folder = Folder::new("jsonl");
    let text = concat!(
        "{\"id\": 12345678901234567890123, \"x\": 0.10, \"user\": {\"name\": \"a\\u00e9\\n\", \"ok\": true}}\n",
        "\n",
        "{\"id\": \"u2\", \"tags\": [\"a\", 1, null, {\"k\": [1]}], \"user\": {\"ok\": false}, \"x\": null}\n",
    );
    let path = folder.file("a.jsonl", text);
    let frame = read_all(&path, &LogFormat::default(), 1).unwrap();
    assert_eq!(frame.columns(), ["id", "x", "user.name", "user.ok", "tags"]);
    assert_eq!(rows(&frame)[0], ["12345678901234567890123", "0.10", "aé\n", "1", ""]);
    assert_eq!(rows(&frame)[1], ["u2", "", "", "0", "a\u{1f}1\u{1f}\u{1f}{\"k\": [1]}"]);
    assert_eq!(frame.line(1), 3);
    let format = LogFormat { columns: columns(&["user.ok", "id"]), ..LogFormat::default() };
    assert_eq!(rows(&read_all(&path, &format, 9).unwrap())[1], ["0", "u2"]);
}

#[test]
fn lines_are_cells() {
    let folder = Folder::new("lines");
    let path = folder.file("train.txt", "0 1 2 3\r\n\n1 5\n");
    let format = LogFormat { format: Some(FileFormat::Lines), ..LogFormat::default() };
    let frame = read_all(&path, &format, 9).unwrap();
    assert_eq!(rows(&frame), [["0 1 2 3"], ["1 5"]]);
    assert_eq!((frame.columns()[0].as_str(), frame.line(1)), ("line", 3));
}

#[test]
fn keyed_lines_are_an_id_and_the_rest() {
    let folder = Folder::new("keyed");
    let path = folder.file("words.txt", "b1 rose water \r\n\n b2\tshea, butter cream\nb3\n");
    let keyed = LogFormat { format: Some(FileFormat::Keyed), ..LogFormat::default() };
    let frame = read_all(&path, &keyed, 2).unwrap();
    assert_eq!(rows(&frame), [["b1", "rose water"], ["b2", "shea, butter cream"], ["b3", ""]]);
    assert_eq!((frame.columns(), frame.line(1)), (&["id".to_owned(), "text".to_owned()][..], 3));
    let format =
        LogFormat { delimiter: Some(", ".into()), columns: columns(&["asin", "words"]), ..keyed.clone() };
    let frame = read_all(&path, &format, 9).unwrap();
    assert_eq!(rows(&frame)[1], ["b2\tshea", "butter cream"]);
    assert_eq!(frame.columns(), ["asin", "words"]);
    let wrong = LogFormat { columns: columns(&["a"]), ..keyed.clone() };
    assert!(read_all(&path, &wrong, 9).unwrap_err().to_string().contains("two columns"));
    let wrong = LogFormat { header: Some(true), ..keyed };
    assert!(read_all(&path, &wrong, 9).unwrap_err().to_string().contains("header"));
}

#[test]
fn packing_is_told_by_content_and_gzip_may_have_members() {
    let folder = Folder::new("packed");
    let text = b"a,b\n1,2\n".as_slice();
    let gz = [gzip(text), gzip(b"3,4\n")].concat();
    let path = folder.file("plain-name.csv", gz);
    assert_eq!(rows(&read_all(&path, &LogFormat::default(), 9).unwrap()), [["1", "2"], ["3", "4"]]);
    let path = folder.file("z.csv.zst", zstd::encode_all(text, 1).unwrap());
    assert_eq!(rows(&read_all(&path, &LogFormat::default(), 9).unwrap()), [["1", "2"]]);
}

#[test]
fn the_step_of_reading_does_not_matter() {
    let folder = Folder::new("step");
    let text: String = (0..200_000).map(|i| format!("{i},{}\n", i * 7)).collect();
    let path = folder.file("a.csv", format!("a,b\n{text}"));
    let whole = read_all(&path, &LogFormat::default(), usize::MAX).unwrap();
    let steps = read_all(&path, &LogFormat::default(), 777).unwrap();
    assert_eq!(whole.rows(), 200_000);
    assert_eq!(rows(&whole), rows(&steps));
    assert_eq!((whole.get(199_999, 1), whole.line(199_999)), ("1399993", 200_001));
}
