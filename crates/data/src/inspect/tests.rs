use super::*;

fn look(name: &str, text: &str) -> Inspection {
    let path = std::env::temp_dir().join(format!("millstream-inspect-{name}-{}.csv", std::process::id()));
    std::fs::write(&path, text).unwrap();
    let mut heard = 0;
    let found = inspect(&path, &LogFormat::default(), None, &mut |rows| heard = rows).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(heard, found.rows);
    found
}

fn sample() -> String {
    let mut text = String::from("user_id,price,when,day,tags,title,label,same,mixed,none\n");
    for i in 0..1000 {
        let tags = if i % 2 == 0 { "a:0.5|b:1" } else { "c:2" };
        let mixed = if i % 10 == 0 { "oops" } else { "3" };
        let (when, day) = (1_700_000_000 + i * 86_400, 1 + i % 28);
        let price = f64::from(i) / 4.0;
        text += &format!(
            "u{i},{price},{when},2024-02-{day:02},{tags},a film of {i} words,{},k,{mixed},\n",
            i % 2
        );
    }
    text
}

#[test]
fn types_are_guessed_and_counted() {
    let found = look("types", &sample());
    assert_eq!((found.rows, found.complete, found.duplicate_rows), (1000, true, 0));
    let guess = |name: &str| found.columns.iter().find(|c| c.name == name).unwrap().guess.clone();
    assert_eq!(guess("user_id"), Guess::Category);
    assert_eq!(guess("price"), Guess::Number);
    let (from, to) = ("2023-11-14".into(), "2026-08-09".into());
    assert_eq!(guess("when"), Guess::Timestamp { unit: "s", from, to });
    let (from, to) = ("2024-02-01".into(), "2024-02-28".into());
    assert_eq!(guess("day"), Guess::Timestamp { unit: "iso", from, to });
    assert_eq!(guess("tags"), Guess::List { separator: '|', weighted: true });
    assert_eq!(guess("title"), Guess::Text);
    assert_eq!(guess("label"), Guess::Integer);
    assert_eq!(guess("none"), Guess::Empty);
    let price = &found.columns[1];
    assert_eq!(price.numbers, Some(Numbers { min: 0.0, mean: 124.875, max: 249.75 }));
    assert_eq!((price.distinct, price.distinct_exact), (1000, true));
    assert_eq!(found.columns[6].top, [("0".to_owned(), 500), ("1".to_owned(), 500)]);
}

#[test]
fn what_is_odd_is_said() {
    let found = look("odd", &sample());
    let all = found.suspicious.join("\n");
    assert!(all.contains("column `same` is constant"), "{all}");
    assert!(all.contains("column `none` is empty"), "{all}");
    assert!(all.contains("column `user_id` has another value in every row"), "{all}");
    assert!(all.contains("column `mixed` has mixed types: 100 of 1000 cells are not a number"), "{all}");
    let found = look("twins", "a,b\n1,2\n1,2\n3,4\n");
    assert_eq!(found.duplicate_rows, 1);
    assert!(found.suspicious[0].contains("1 of 3 rows repeat"), "{:?}", found.suspicious);
}

#[test]
fn the_suggested_schema_is_a_schema() {
    let found = look("schema", &sample());
    let schema: millstream_schema::Schema = found.suggestion.parse().unwrap();
    let names: Vec<&str> = schema.features.iter().map(|f| f.name.as_str()).collect();
    assert_eq!(names, ["user_id", "price", "tags", "title", "mixed"]);
    assert!(found.suggestion.contains("unit = \"s\""), "{}", found.suggestion);
    let shown = found.to_string();
    assert!(shown.contains("weighted list by `|`") && shown.contains("1000 rows"), "{shown}");
}

#[test]
fn the_first_rows_are_enough_when_asked() {
    let path = std::env::temp_dir().join(format!("millstream-inspect-first-{}.csv", std::process::id()));
    std::fs::write(&path, sample()).unwrap();
    let found = inspect(&path, &LogFormat::default(), Some(10), &mut |_| {}).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!((found.rows, found.complete), (10, false));
}
