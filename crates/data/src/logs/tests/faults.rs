use super::*;

fn plain(name: &str, bytes: impl AsRef<[u8]>) -> String {
    let folder = Folder::new(&format!("fault-{name}"));
    message(&folder.file(name, bytes), &LogFormat::default())
}

#[test]
fn a_missing_file_is_answered_with_the_nearest_name() {
    let folder = Folder::new("missing");
    folder.file("ratings.csv", "a\n1\n");
    let near = message(&folder.0.join("rating.csv"), &LogFormat::default());
    assert_eq!(near, "rating.csv: no such file; did you mean `ratings.csv`?");
    let far = open(Path::new("nowhere/at/all.csv"), &LogFormat::default()).err().unwrap().to_string();
    assert_eq!(far, "nowhere/at/all.csv: no such file; folder `nowhere/at` does not exist");
}

#[test]
fn a_folder_an_empty_file_and_a_lone_header_are_refused() {
    let folder = Folder::new("folder");
    std::fs::create_dir(folder.0.join("sub")).unwrap();
    assert_eq!(
        message(&folder.0.join("sub"), &LogFormat::default()),
        "sub: this is a folder; expected a file"
    );
    for name in ["a.csv", "a.jsonl", "a.libsvm", "a.inter"] {
        assert_eq!(plain(name, ""), format!("{name}: the file is empty"));
        assert_eq!(plain(name, "\n \n"), format!("{name}: the file is empty"));
        assert_eq!(plain(name, gzip(b"")), format!("{name}: the file is empty"));
    }
    assert_eq!(plain("a.csv", "a,b\n\n"), "a.csv: the file has a header but no rows");
}

#[test]
fn a_wrong_delimiter_is_noticed_in_the_header() {
    let wanted = "a.csv:1: line has 1 column with the delimiter `,`; is the delimiter `\\t`?";
    assert_eq!(plain("a.csv", "user\titem\n1\t2\n"), wanted);
    let message = plain("a.tsv", "user::item\n1::2\n");
    assert!(message.ends_with("is the delimiter `::`?"), "{message}");
    let message = plain("a.txt", "prose of one line\n");
    assert!(message.starts_with("a.txt: the delimiter cannot be told"), "{message}");
}

#[test]
fn a_wrong_delimiter_is_noticed_without_a_header() {
    let folder = Folder::new("headless");
    let path = folder.file("a.csv", "1\t2\n3\t4\n");
    let format = LogFormat { columns: columns(&["u", "i"]), ..LogFormat::default() };
    assert_eq!(message(&path, &format), "a.csv:1: line has 1 column, expected 2; is the delimiter `\\t`?");
}

#[test]
fn one_column_is_fine_when_nothing_else_splits_it() {
    let folder = Folder::new("one");
    let path = folder.file("a.csv", "id\nx y\nz\n");
    assert_eq!(rows(&read_all(&path, &LogFormat::default(), 9).unwrap()), [["x y"], ["z"]]);
}

#[test]
fn ragged_rows_name_their_line() {
    assert_eq!(plain("a.csv", "a,b\n1,2\n1,2,3\n"), "a.csv:3: line has 3 columns, expected 2");
    assert_eq!(plain("b.csv", "a,b\n\"1\"\n"), "b.csv:2: line has 1 column, expected 2");
    let open = plain("c.csv", "a,b\n1,2\n\"1,2\n3,4\n");
    assert_eq!(open, "c.csv:3: a quoted cell is not closed before the end of the file");
}

#[test]
fn damaged_packing_is_told_apart_from_a_truncated_one() {
    let text: String = (0..20_000).map(|i| format!("{i},{}\n", i * i)).collect();
    let whole = gzip(text.as_bytes());
    let cut = plain("a.csv", &whole[..whole.len() / 2]);
    assert_eq!(cut, "a.csv: the gzip data ends early; the file is truncated");
    let mut damaged = whole.clone();
    let middle = damaged.len() / 2;
    damaged[middle..middle + 40].fill(0xA5);
    let message = plain("b.csv", damaged);
    assert!(message.starts_with("b.csv: the gzip data is damaged"), "{message}");
    let whole = zstd::encode_all(text.as_bytes(), 1).unwrap();
    let cut = plain("c.csv", &whole[..whole.len() / 2]);
    assert_eq!(cut, "c.csv: the zstd data ends early; the file is truncated");
    let mut damaged = whole;
    damaged[20..60].fill(0xA5);
    let message = plain("d.csv", damaged);
    assert!(message.starts_with("d.csv: the zstd data is damaged"), "{message}");
}

#[test]
fn binary_junk_names_its_line() {
    assert_eq!(plain("a.csv", b"a,b\n1,\x002\n"), "a.csv:2: binary data (a zero byte); expected UTF-8 text");
    let message = plain("b.csv", b"a,b\n1,2\n1,\xff\n");
    assert_eq!(message, "b.csv:3: binary data (bytes that are no UTF-8 character); expected UTF-8 text");
    let message = plain("c.csv", b"PK\x03\x04zipped");
    assert!(message.contains("zip archive"), "{message}");
}

#[test]
fn an_endless_line_is_refused() {
    let mut text = b"a,b\n1,2\n".to_vec();
    text.resize(text.len() + MAX_LINE + (1 << 20), b'x');
    assert_eq!(plain("a.csv", &text), "a.csv:3: the line is longer than 16 MiB; is this a text file?");
    assert_eq!(
        plain("b.csv.gz", gzip(&text)),
        "b.csv.gz:3: the line is longer than 16 MiB; is this a text file?"
    );
}

#[test]
fn an_unknown_column_is_answered_with_the_nearest() {
    let folder = Folder::new("unknown");
    let format = LogFormat { header: Some(true), columns: columns(&["prise"]), ..LogFormat::default() };
    let path = folder.file("a.csv", "price,city\n1,2\n");
    assert_eq!(message(&path, &format), "a.csv: unknown column `prise`; did you mean `price`?");
    let format = LogFormat { columns: columns(&["prise"]), ..LogFormat::default() };
    let path = folder.file("a.jsonl", "{\"price\": 1}\n");
    assert_eq!(message(&path, &format), "a.jsonl: unknown column `prise`; did you mean `price`?");
}

#[test]
fn headers_with_twins_or_unknown_types_are_refused() {
    assert_eq!(plain("a.csv", "a,a\n1,2\n"), "a.csv:1: column `a` occurs twice");
    let message = plain("a.inter", "user_id:tokn\titem_id:token\n1\t2\n");
    assert_eq!(message, "a.inter:1: header cell `user_id:tokn`: unknown type `tokn`; did you mean `token`?");
    let message = plain("b.inter", "user_id\titem_id\n1\t2\n");
    assert!(message.contains("has no type"), "{message}");
}

#[test]
fn bad_json_names_its_line() {
    let message = plain("a.jsonl", "{\"a\": 1}\n{\"a\": \n");
    assert!(message.starts_with("a.jsonl:2: "), "{message}");
    let message = plain("b.jsonl", "[1, 2]\n");
    assert_eq!(message, "b.jsonl:1: expected one JSON object per line, not a list");
    let deep = "{\"a\":".repeat(100_000) + "1" + &"}".repeat(100_000);
    let message = plain("c.jsonl", deep);
    assert!(message.contains("nested deeper"), "{message}");
}

#[test]
fn a_json_key_that_comes_up_late_is_not_lost_silently() {
    let mut text = "{\"a\": 1}\n".repeat(10_000);
    text.push_str("{\"a\": 1, \"b\": null}\n{\"a\": 1, \"b\": 2}\n");
    let message = plain("a.jsonl", &text);
    assert!(message.starts_with("a.jsonl:10002: key `b` is not in the first lines"), "{message}");
    let folder = Folder::new("late");
    let format = LogFormat { columns: columns(&["b"]), ..LogFormat::default() };
    let frame = read_all(&folder.file("b.jsonl", &text), &format, 5000).unwrap();
    assert_eq!((frame.get(0, 0), frame.get(10_001, 0)), ("", "2"));
}

#[test]
fn bad_libsvm_pairs_name_their_line() {
    assert_eq!(plain("a.svm", "1 1:2\n1 abc\n"), "a.svm:2: `abc` is not `index:value`");
    assert_eq!(plain("b.svm", "yes 1:2\n"), "b.svm:1: the label `yes` is not a number");
}

#[test]
fn keys_that_mean_nothing_for_a_format_are_refused() {
    let folder = Folder::new("odd");
    let path = folder.file("a.jsonl", "{\"a\": 1}\n");
    let format = LogFormat { delimiter: Some(",".into()), ..LogFormat::default() };
    assert_eq!(message(&path, &format), "a.jsonl: `delimiter` means nothing for format Jsonl");
    let format = LogFormat { columns: Some(vec![]), ..LogFormat::default() };
    assert_eq!(message(&path, &format), "a.jsonl: `columns` names no column");
}
