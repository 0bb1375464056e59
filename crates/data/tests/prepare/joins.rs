use millstream_data::{SourceOptions, Split, Use};
use millstream_schema::{BatchSource, Column};

use super::Case;

const JOINED: &str = r#"
[dataset]
kind = "table"
[dataset.table]
train = ["ratings.csv"]
user = "who"
item = "what"
[dataset.users]
files = ["users.dat.txt"]
delimiter = "::"
header = false
columns = ["user", "gender", "age"]
id = "user"
[dataset.items]
files = ["items.dat.txt"]
delimiter = "::"
header = false
encoding = "latin1"
columns = ["item", "title", "genres"]
id = "item"
[[task]]
name = "label"
[[feature]]
name = "who"
side = "user"
kind = "categorical"
[[feature]]
name = "age"
side = "user"
kind = "numeric"
transform = "raw"
default = -1.0
[[feature]]
name = "title"
side = "item"
kind = "categorical"
[[feature]]
name = "genres"
side = "item"
kind = "multi"
"#;

const RATINGS: &str = "label,who,what\n1,1,20\n0,2,10\n1,3,10\n1,1,30\n0,2,20\n";
const USERS: &str = "1::F::18\n2::M::56\n";

/// Two films, one with a letter that is no UTF-8, in ISO 8859-1.
fn case(config: &str, users: &str) -> Case {
    let case = Case::new(config, &[("ratings.csv", RATINGS), ("users.dat.txt", users)]);
    let films = b"10::Caf\xe9::Drama|Comedy\n20::Heat::Crime\n";
    std::fs::write(case.dir.path().join("items.dat.txt"), films).unwrap();
    case
}

fn columns(case: &Case) -> Vec<Column> {
    let (_, prepared) = case.prepared();
    let options = SourceOptions { batch_size: 16, shuffle: None, skip_batches: 0 };
    let mut source = prepared.source(Split::Train, Use::Rank, options).unwrap();
    let batch = source.next_batch().unwrap().unwrap();
    assert!(source.next_batch().unwrap().is_none());
    batch.columns
}

#[test]
fn attributes_of_users_and_items_stand_beside_a_tables_own_cells() {
    let columns = columns(&case(JOINED, USERS));
    let Column::Dense { values, .. } = &columns[1] else { panic!("age is a number") };
    assert_eq!(values, &[18.0, 56.0, -1.0, 18.0, 56.0], "user 3 is in no file");
    let Column::Key(titles) = &columns[2] else { panic!("title is one key") };
    assert_eq!(titles[1], titles[2]);
    assert_eq!(titles[0], titles[4]);
    assert_eq!(titles[3], 0, "item 30 is in no file: missing");
    assert!(titles[0] > 1 && titles[1] > 1 && titles[0] != titles[1]);
    let Column::Keys { offsets, .. } = &columns[3] else { panic!("genres are several keys") };
    let genres: Vec<u32> = offsets.windows(2).map(|w| w[1] - w[0]).collect();
    assert_eq!(genres, [1, 2, 2, 0, 1]);
}

#[test]
fn side_files_that_cannot_be_joined_say_why() {
    for (from, to, said) in [
        ("user = \"who\"\n", "", "[dataset.users]: a table needs [dataset.table] user"),
        ("who\"\nitem", "whom\"\nitem", "[dataset.table] user: unknown column `whom`"),
        ("id = \"user\"", "id = \"usr\"", "[dataset.users] id: unknown column `usr`; did you mean `user`?"),
        ("\"gender\"", "\"what\"", "[dataset.users]: column `what` is already in"),
        ("encoding = \"latin1\"", "encoding = \"latin2\"", "did you mean `latin1`?"),
        ("encoding = \"latin1\"\n", "", "expected UTF-8 text"),
    ] {
        assert!(JOINED.contains(from), "{from}");
        let message = case(&JOINED.replacen(from, to, 1), USERS).error(false);
        assert!(message.contains(said), "{from}: {message}");
    }
    let message = case(JOINED, "1::F::18\n1::M::20\n").error(false);
    assert!(message.contains("users.dat.txt:2") && message.contains("there twice"), "{message}");
    let message = case(JOINED, "1::F::18\n ::M::20\n").error(false);
    assert!(message.contains("users.dat.txt:2") && message.contains("id is missing"), "{message}");
    let alone = JOINED.replace("[dataset.users]", "[dataset.users_]");
    assert!(case(&alone, USERS).error(false).contains("did you mean `users`?"));
}
