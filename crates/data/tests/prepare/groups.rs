use millstream_data::{SourceOptions, Split, Use};
use millstream_schema::{BatchSource, Column};

use super::Case;

/// Rows of libsvm with graded labels, five requests of 3, 1, 4, 2 and 2 rows.
const ROWS: &str = "\
0 0:1 3:0.5
2 1:2
1 0:3 1:4
4 2:5
0 0:6
0 0:7 # a comment
3 0:8
1 0:9
2 0:10
0 0:11
1 0:12
1 0:13
";

const SIZES: &str = "3\n1\n4\n2\n2\n";

const QUERIES: &str = r#"
[dataset]
kind = "table"
[dataset.table]
train = ["a.svm"]
queries = { train = ["a.query"] }
[[task]]
name = "relevance"
column = "label"
graded = true
[[feature]]
name = "features"
side = "item"
kind = "dense"
width = 4
separator = "|"
"#;

fn case(sizes: &str) -> Case {
    Case::new(QUERIES, &[("a.svm", ROWS), ("a.query", sizes)])
}

#[test]
fn rows_of_a_query_are_one_request_with_grades_and_dense_features() {
    let (report, prepared) = case(SIZES).prepared();
    assert_eq!(prepared.graded(), [true]);
    assert_eq!((report.users, report.parts.part(Split::Train, Use::Rank).requests), (5, 5));
    let x = case(SIZES);
    x.run(false).unwrap();
    let x = x.examples(Split::Train, Use::Rank);
    assert_eq!(x.candidate_request, [0, 0, 0, 1, 2, 2, 2, 2, 3, 3, 4, 4]);
    assert_eq!(x.labels, [0.0, 2.0, 1.0, 4.0, 0.0, 0.0, 3.0, 1.0, 2.0, 0.0, 1.0, 1.0]);
    assert_eq!(x.request_user, [0, 1, 2, 3, 4]);
    let Column::Dense { width: 4, values } = &x.exposure.columns[0] else { panic!("not dense") };
    assert_eq!(values[..8], [1.0, 0.0, 0.0, 0.5, 0.0, 2.0, 0.0, 0.0]);
}

#[test]
fn batches_keep_requests_whole_in_any_order() {
    let case = case(SIZES);
    let (_, prepared) = case.prepared();
    for seed in 0..8 {
        let options = SourceOptions { batch_size: 5, shuffle: Some(seed), skip_batches: 0 };
        let mut source = prepared.source(Split::Train, Use::Rank, options).unwrap();
        let mut sizes = Vec::new();
        while let Some(batch) = source.next_batch().unwrap() {
            for request in 0..batch.requests as u32 {
                sizes.push(batch.candidate_request.iter().filter(|&&r| r == request).count());
            }
        }
        sizes.sort_unstable();
        assert_eq!(sizes, [1, 2, 2, 3, 4]);
    }
}

#[test]
fn a_column_of_request_ids_gives_the_same_requests() {
    let ids = [7, 7, 7, 8, 3, 3, 3, 3, 9, 9, 4, 4];
    let rows: String =
        ROWS.lines().zip(ids).map(|(row, id)| row.replacen(' ', &format!(" qid:{id} "), 1) + "\n").collect();
    let config = QUERIES.replace("queries = { train = [\"a.query\"] }", "request = \"qid\"");
    let case = Case::new(&config, &[("a.svm", &rows)]);
    let (_, prepared) = case.prepared();
    assert_eq!(prepared.users.iter().collect::<Vec<_>>(), ["7", "8", "3", "9", "4"]);
    let x = case.examples(Split::Train, Use::Rank);
    assert_eq!(x.candidate_request, [0, 0, 0, 1, 2, 2, 2, 2, 3, 3, 4, 4]);
}

#[test]
fn a_validation_part_is_cut_from_the_training_requests_and_cuts_none() {
    let rows: String = (0..3000).map(|i| format!("{} 0:{i}\n", i % 3)).collect();
    let sizes: String = (0..600).map(|_| "5\n").collect();
    let config = format!("{QUERIES}\n[split]\nvalid_of_train = 0.25\nseed = 3");
    let case = Case::new(&config, &[("a.svm", &rows), ("a.query", &sizes)]);
    case.run(false).unwrap();
    let (train, valid) = (case.examples(Split::Train, Use::Rank), case.examples(Split::Valid, Use::Rank));
    assert_eq!(train.requests() + valid.requests(), 600);
    assert_eq!((train.candidates(), valid.candidates()), (5 * train.requests(), 5 * valid.requests()));
    assert!((110..190).contains(&valid.requests()), "{} of 600 validate", valid.requests());
}

#[test]
fn requests_longer_than_a_frame_and_cut_by_none_stay_whole() {
    let sizes = [4000, 200, 9000, 1, 50];
    let rows: String = (0..sizes.iter().sum::<usize>()).map(|i| format!("1 0:{}\n", i % 7)).collect();
    let text: String = sizes.iter().map(|n| format!("{n}\n")).collect();
    let case = Case::new(QUERIES, &[("a.svm", &rows), ("a.query", &text)]);
    case.run(false).unwrap();
    let x = case.examples(Split::Train, Use::Rank);
    let mut counts = vec![0; x.requests()];
    x.candidate_request.iter().for_each(|&r| counts[r as usize] += 1);
    assert_eq!(counts, sizes);
}

#[test]
fn group_sizes_that_do_not_fit_the_rows_are_refused_by_name() {
    for (sizes, said) in [
        ("3\n1\n4\n2\n", "the sizes sum to 10, but"),
        ("3\n1\n4\n2\n5\n", "the sizes sum to 15, but"),
        ("3\nfour\n", "a.query:2: `four` is no group size; expected a whole number above 0"),
        ("3\n0\n", "a.query:2: `0` is no group size"),
    ] {
        let message = case(sizes).error(false);
        assert!(message.contains(said) && message.contains("a.query"), "{message}");
    }
    assert!(case("3\n1\n4\n2\n5\n").error(false).contains("has 12 rows"));
    assert!(case("3\n1\n").error(false).contains("has 12 rows"));
}

#[test]
fn grades_and_pairs_that_are_none_are_refused() {
    let label = ROWS.replacen("4 2:5", "40 2:5", 1);
    let message = Case::new(QUERIES, &[("a.svm", &label), ("a.query", SIZES)]).error(false);
    assert!(
        message.contains("a.svm:4") && message.contains("is no grade; expected a number from 0 to 31"),
        "{message}"
    );
    let wide = ROWS.replacen("4 2:5", "4 4:5", 1);
    let message = Case::new(QUERIES, &[("a.svm", &wide), ("a.query", SIZES)]).error(true);
    assert!(message.contains("index 4 is beyond the width 4"), "{message}");
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let with =
        |from: &str, to: &str| Case::new(&QUERIES.replace(from, to), &[("a.svm", ROWS), ("a.query", SIZES)]);
    for (from, to, said) in [
        ("graded = true", "graded = true\nmin = 2", "it excludes `positive` and `min`"),
        (
            "{ train = [\"a.query\"] }",
            "{ train = [] }",
            "`train` names 0 files of group sizes for 1 files of rows",
        ),
        ("queries =", "request = \"qid\"\nqueries =", "exclude each other"),
        ("[[task]]", "[split]\nvalid_of_train = 1.5\n[[task]]", "must be a share in (0, 1)"),
        ("[[task]]", "[split]\nby = \"time\"\n[[task]]", "[split]:"),
    ] {
        let message = with(from, to).error(false);
        assert!(message.contains(said), "{message}");
    }
}
