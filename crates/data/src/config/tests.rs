use super::*;

const LOG: &str = r#"
[dataset]
kind = "log"
[dataset.events]
files = ["e.csv"]
user = "u"
item = "i"
time = { column = "t", unit = "s" }
"#;
const TABLE: &str = r#"
[dataset]
kind = "table"
[dataset.table]
train = ["a.csv"]
[[feature]]
name = "city"
side = "user"
kind = "categorical"
"#;
const SEQUENCES: &str = r#"
[dataset]
kind = "sequences"
[dataset.sequences]
train = ["a.txt"]
"#;

fn error(parts: &[&str]) -> String {
    DatasetConfig::parse(&parts.concat(), "d.toml").unwrap_err().to_string()
}

#[test]
fn a_minimal_log_has_ids_a_history_and_a_click() {
    let config = DatasetConfig::parse(LOG, "d.toml").unwrap();
    let names: Vec<_> = config.schema.features.iter().map(|f| (f.name.as_str(), f.column.as_str())).collect();
    assert_eq!(names, [("user_id", "u"), ("item_id", "i"), ("history", "history")]);
    assert_eq!(config.split_by(), SplitBy::Time);
    assert!(matches!(&config.tasks[0], Task::Event { name, .. } if name == "click"));
}

#[test]
fn the_split_follows_from_what_is_given() {
    let by = |parts: &[&str]| DatasetConfig::parse(&parts.concat(), "d.toml").unwrap().split_by();
    assert_eq!(by(&[TABLE]), SplitBy::Files);
    assert_eq!(by(&[&TABLE.replace("train", "all")]), SplitBy::Ratio);
    let timed = TABLE.replace("train = [\"a.csv\"]", "all = [\"a.csv\"]\ntime = { column = \"t\" }");
    assert_eq!(by(&[&timed]), SplitBy::Time);
    assert_eq!(by(&[SEQUENCES]), SplitBy::User);
    assert_eq!(by(&[SEQUENCES, "test = [\"b.txt\"]\n"]), SplitBy::Files);
    assert_eq!(by(&[LOG, "[split]\nby = \"user\"\n"]), SplitBy::User);
}

#[test]
fn unknown_keys_name_file_line_and_the_nearest() {
    let message = error(&[LOG, "reqest = \"r\"\n"]);
    assert_eq!(message, "d.toml:9: unknown key `reqest`; did you mean `request`?");
    let message = error(&[LOG, "[splt]\nvalid = 0.1\n"]);
    assert!(message.starts_with("d.toml:9: unknown key `splt`; did you mean `split`?"), "{message}");
    let message = error(&[&LOG.replace("\"log\"", "\"logg\"")]);
    assert_eq!(message, "d.toml:3: unknown value `logg`; did you mean `log`?");
}

#[test]
fn contradictions_name_the_key() {
    for (text, expected) in [
        ("[dataset]\nkind = \"log\"\n".to_owned(), "needs a section [dataset.events]"),
        (format!("{LOG}[dataset.table]\ntrain=['x']\n"), "[dataset.table] means nothing for kind = \"log\""),
        (format!("{LOG}[split]\nvalid = 0.6\ntest = 0.5\n"), "leave nothing to train on"),
        (format!("{LOG}[split]\nvalid = 1.5\n"), "key `valid` must be a share"),
        (format!("{LOG}[split]\nby = 'files'\n"), "by = \"files\" needs"),
        (format!("{TABLE}[split]\nby = 'ratio'\n"), "already split the rows"),
        (format!("{SEQUENCES}[split]\nby = 'time'\n"), "sequences have no times"),
        (format!("{TABLE}[[task]]\nname='a'\nevent='click'\n"), "key `event` means nothing"),
        (format!("{TABLE}[[task]]\nname='a'\n[[task]]\nname='a'\n"), "declared twice"),
        (format!("{TABLE}[[task]]\nname='a'\nmin=1\npositive=[2]\n"), "exclude each other"),
        (format!("{LOG}[[task]]\nname='a'\nevent='impression'\n"), "unknown action `impression`"),
        (format!("{TABLE}[[task]]\nname='y'\ncolumn='city'\n"), "reads the label column of task `y`"),
        (format!("{LOG}[examples]\nnegative_power = -1\n"), "`negative_power` must be 0 or more"),
        (format!("{LOG}[examples]\nhistory_events = ['impression']\n"), "`impression` is no action"),
        (
            format!(
                "{LOG}[[feature]]\nname='i'\nside='item'\nkind='categorical'\n[[feature]]\nname='h'\nkind='sequence'\nelements=['i']\nmax_len=80\n"
            ),
            "max_len = 80 is beyond [examples] max_history = 50",
        ),
        (
            format!("{LOG}[examples]\nhistory_where = {{ column = 'c', min = 1 }}\n"),
            "goes with [dataset.table] order",
        ),
        (
            TABLE.replace("[dataset.table]\n", "[dataset.table]\norder = 'seq'\n"),
            "`order` needs `item` and `user`",
        ),
        (
            TABLE.replace("[dataset.table]\n", "[dataset.table]\nstrength = 'seq'\n"),
            "`strength` goes with `order`",
        ),
        (
            format!(
                "{TABLE}[[feature]]\nname='i'\nside='item'\nkind='categorical'\n[[feature]]\nname='h'\nkind='sequence'\nelements=['i']\n"
            ),
            "without [dataset.table] order",
        ),
        (format!("{}event = {{}}\n", LOG), "needs `column` or `constant`"),
        (format!("{}event = {{ constant = 'impression' }}\n", LOG), "impressions alone"),
        (TABLE.split("[[feature]]").next().unwrap().to_owned(), "[[feature]] is missing"),
    ] {
        let message = error(&[&text]);
        assert!(message.starts_with("d.toml: ") && message.contains(expected), "{message}\n{text}");
    }
}

#[test]
fn a_task_takes_its_event_from_its_name() {
    let config = DatasetConfig::parse(&format!("{LOG}[[task]]\nname = 'order'\n"), "d.toml").unwrap();
    assert!(matches!(&config.tasks[0], Task::Event { event: EventKind::Order, .. }));
}

#[test]
fn the_fingerprint_follows_the_configuration() {
    let of = |text: &str| DatasetConfig::parse(text, "d.toml").unwrap().fingerprint();
    assert_eq!(of(LOG), of(LOG));
    assert_ne!(of(LOG), of(&LOG.replace("\"s\"", "\"ms\"")));
}
