use millstream_data::{Split, Use};
use millstream_schema::ids::NO_ROW;

use super::Case;

const CONFIG: &str = r#"
[dataset]
kind = "sequences"
[dataset.sequences]
train = ["a.txt"]
"#;

#[test]
fn the_last_items_of_a_line_test_and_validate() {
    let case = Case::new(CONFIG, &[("a.txt", "ann p q r s\nbo q p\ncy s r q\n")]);
    let (_, prepared) = case.prepared();
    let names = |rows: &[u32]| rows.iter().map(|&i| prepared.items.name(i).to_owned()).collect::<Vec<_>>();
    let train = prepared.interactions(Split::Train).unwrap();
    assert_eq!(names(&train.items), ["p", "q", "q", "p", "s"]);
    assert_eq!(train.offsets, [0, 2, 4, 5]);
    let eval = prepared.eval_users(Split::Test, None, 1).unwrap();
    assert_eq!(eval.users, [0, 2]);
    assert_eq!(names(&eval.history.item), ["p", "q", "r", "s", "r"]);
    assert_eq!(names(&eval.truth.values), ["s", "q"]);
    let valid = prepared.eval_users(Split::Valid, None, 1).unwrap();
    assert_eq!(names(&valid.history.item), ["p", "q", "s"]);
    assert_eq!(names(&valid.truth.values), ["r", "r"]);
    assert_eq!(names(valid.seen.row(0)), ["p", "q"]);
}

#[test]
fn retrieval_examples_know_only_what_came_before() {
    let case = Case::new(CONFIG, &[("a.txt", "ann p q r s t\n")]);
    let (_, prepared) = case.prepared();
    let train = case.examples(Split::Train, Use::Recall);
    let seen = |r: usize| {
        train.history.span(r).map(|at| prepared.items.name(train.history.item[at])).collect::<Vec<_>>()
    };
    assert_eq!(train.requests(), 3);
    assert_eq!([seen(0), seen(1), seen(2)], [vec![], vec!["p"], vec!["p", "q"]]);
    assert_eq!(train.labels, [1.0; 3]);
    let test = case.examples(Split::Test, Use::Recall);
    assert_eq!(test.history.item.len(), 4);
    assert_eq!(prepared.items.name(test.candidate_item[0]), "t");
}

#[test]
fn given_files_continue_the_same_users() {
    let config = format!("{CONFIG}test = [\"b.txt\"]\n");
    let case = Case::new(&config, &[("a.txt", "0 1 2 3\n1 2 9\n"), ("b.txt", "0 4 5 3 77\n1 1\n2 1\n")]);
    let (report, prepared) = case.prepared();
    assert_eq!((report.users, report.items), (3, 7));
    assert_eq!(prepared.interactions(Split::Test).unwrap().offsets, [0, 4, 5, 6]);
    let eval = prepared.eval_users(Split::Test, None, 1).unwrap();
    // User 2 has no past; item 3 is seen; an item met only in the test part stays in the truth.
    assert_eq!(eval.users, [0, 1]);
    let truth = |row| eval.truth.row(row).iter().map(|&i| prepared.items.name(i)).collect::<Vec<_>>();
    assert_eq!([truth(0), truth(1)], [vec!["4", "5", "77"], vec!["1"]]);
    // A test line is a set: its items do not enter each other's histories.
    let test = case.examples(Split::Test, Use::Recall);
    assert_eq!(test.history.span(3).len(), 3);
    assert_eq!(prepared.item_positives.iter().sum::<u32>(), 5);
}

#[test]
fn lines_without_users_are_users_of_their_own() {
    let config = format!("{CONFIG}test = [\"b.txt\"]\ndelimiter = \",\"\nuser = false\n");
    let case = Case::new(&config, &[("a.txt", "p,q, r\nq,p\n"), ("b.txt", "p,r,q\n")]);
    let (report, prepared) = case.prepared();
    assert_eq!(report.users, 3);
    // What precedes the item to be found is history, and no positive of any part.
    let eval = prepared.eval_users(Split::Test, None, 1).unwrap();
    assert_eq!(eval.users, [2]);
    assert_eq!(eval.history.item.len(), 2);
    assert_eq!(prepared.items.name(eval.truth.values[0]), "q");
    assert_eq!(prepared.interactions(Split::Train).unwrap().items.len(), 5);
}

#[test]
fn negatives_are_items_the_user_has_not_met_yet() {
    let lines: String = (0..30)
        .map(|u| format!("u{u} {} {} {} {}\n", u % 10, (u + 3) % 10, (u + 5) % 10, (u + 7) % 10))
        .collect();
    let case = Case::new(CONFIG, &[("a.txt", &lines)]);
    case.run(false).unwrap();
    let train = case.examples(Split::Train, Use::Rank);
    let mut negatives = 0;
    for (at, &r) in train.candidate_request.iter().enumerate() {
        let past = &train.history.item[train.history.span(r as usize)];
        if train.labels[at] == 0.0 {
            negatives += 1;
            assert!(!past.contains(&train.candidate_item[at]));
        }
        assert!(train.request_user[r as usize] != NO_ROW);
    }
    // Four per positive, two positives per training user.
    assert_eq!(negatives, 30 * 2 * 4);
}

#[test]
fn a_user_with_two_lines_is_refused_with_both() {
    let case = Case::new(CONFIG, &[("a.txt", "ann p q r\nbo q\nann s\n")]);
    let message = case.error(false);
    assert!(
        message.contains("a.txt:3: user `ann` already has a line at") && message.contains("a.txt:1"),
        "{message}"
    );
}

#[test]
fn items_may_have_attributes() {
    let config = format!(
        "{CONFIG}[dataset.items]\nfiles = [\"i.csv\"]\nid = \"item\"\n[[feature]]\nname = \"kind\"\nside = \"item\"\nkind = \"categorical\"\n"
    );
    let case = Case::new(&config, &[("a.txt", "ann p q r x\n"), ("i.csv", "item,kind\nq,k1\np,k2\nr,k1\n")]);
    let (report, prepared) = case.prepared();
    assert_eq!(prepared.items.iter().collect::<Vec<_>>(), ["q", "p", "r", "x"]);
    assert_eq!(report.notes["items that only events name"], 1);
}

#[test]
fn a_users_lines_may_go_on_from_each_other() {
    let config = format!("{CONFIG}continued = true\n");
    let case = Case::new(&config, &[("a.txt", "ann p\nbo q\nann q\nann r\nbo p\nann s\n")]);
    let (report, prepared) = case.prepared();
    assert_eq!((report.users, report.items, report.rows_read), (2, 4, 6));
    let eval = prepared.eval_users(Split::Test, None, 1).unwrap();
    assert_eq!(eval.users, [0]);
    assert_eq!(prepared.items.name(eval.truth.values[0]), "s");
    let names: Vec<&str> = eval.history.item.iter().map(|&i| prepared.items.name(i)).collect();
    assert_eq!(names, ["p", "q", "r"]);
}

#[test]
fn the_last_training_sessions_can_validate_and_seen_items_come_again() {
    let config = format!(
        "{CONFIG}test = [\"b.txt\"]\nuser = false\nvalid_of_train = 0.5\n[examples]\nwhole = true\nrepeats = true\n"
    );
    let case = Case::new(&config, &[("a.txt", "p q\nq r\nr p r\np q q\n"), ("b.txt", "p q\tp\nq\tr\n")]);
    let (_, prepared) = case.prepared();
    let names = |rows: &[u32]| rows.iter().map(|&i| prepared.items.name(i)).collect::<Vec<_>>().concat();
    assert_eq!(names(&prepared.interactions(Split::Train).unwrap().items), "pqqr");
    let eval = |split| prepared.eval_users(split, None, 1).unwrap();
    let (valid, test) = (eval(Split::Valid), eval(Split::Test));
    assert_eq!((names(&valid.history.item), names(&valid.truth.values)), ("rppq".into(), "rq".into()));
    assert_eq!((names(&test.history.item), names(&test.truth.values)), ("pqq".into(), "pr".into()));
    assert!(test.seen.values.is_empty() && prepared.repeats());
}

#[test]
fn whole_sequences_are_counted_without_examples() {
    let case =
        Case::new(&format!("{CONFIG}[examples]\nwhole = true\n"), &[("a.txt", "ann p q r s\nbo q p\n")]);
    let (_, prepared) = case.prepared();
    let parts = Split::ALL.map(|split| prepared.part(split, Use::Recall));
    assert_eq!(parts.clone().map(|p| p.candidates), [4, 1, 1]);
    assert_eq!(parts[0].positives, [4]);
    let options = millstream_data::SourceOptions { batch_size: 4, shuffle: None, skip_batches: 0 };
    let message = prepared.source(Split::Train, Use::Recall, options).unwrap_err().to_string();
    assert!(message.contains("whole = true"), "{message}");
}

#[test]
fn keys_of_sequences_that_contradict_each_other_are_told() {
    for (keys, said) in [
        ("continued = true\nuser = false", "`continued` goes with `user = true`"),
        ("valid_of_train = 0.1", "goes with `user = false`"),
        ("valid_of_train = 1.5\nuser = false", "must be a share in (0, 1), not 1.5"),
        ("valid_last = true", "`valid_last` goes with `user = true` and `test`"),
        ("event = 'impression'", "`impression` is no action"),
        ("before = [{ event = 'cart', files = [] }]", "`cart` names no file"),
        ("before = [{ event = 'click', files = ['b.txt'] }]", "another one than the lines' own"),
        (
            "user = false\nbefore = [{ event = 'cart', files = ['b.txt'] }]",
            "`before` goes with `user = true`",
        ),
        ("before = [{ evnt = 'cart', files = ['b.txt'] }]", "did you mean `event`?"),
        ("[examples]\nrepeats = true\nseen_events = ['click']", "leave out seen_events"),
        ("[examples]\nseen_events = ['impression']", "`impression` is no action"),
    ] {
        let case = Case::new(&format!("{CONFIG}{keys}\n"), &[("a.txt", "p q\n")]);
        let message = case.error(false);
        assert!(message.contains(said), "{message}");
    }
}

/// Lines of 60 users who take some of 40 items.
fn takings() -> Vec<String> {
    let mut draw = super::Draw(99);
    let line = |user: u64| {
        let items: Vec<String> = (0..8).map(|_| format!("i{}", draw.below(40))).collect();
        format!("u{user} {}\n", items.join(" "))
    };
    (0..60).map(line).collect()
}

#[test]
fn cold_items_are_in_no_training_row_and_are_to_be_found_after_what_was_taken_before() {
    let config =
        |seed: u64| format!("{CONFIG}[split]\nby = \"cold_items\"\nvalid = 0.2\ntest = 0.3\nseed = {seed}\n");
    let lines = takings();
    let part = |config: &str, lines: &[String]| {
        let case = Case::new(config, &[("a.txt", &lines.concat())]);
        let (report, prepared) = case.prepared();
        let of = |split| {
            let x = prepared.interactions(split).unwrap();
            x.items
                .iter()
                .map(|&i| prepared.items.name(i).to_owned())
                .collect::<std::collections::BTreeSet<_>>()
        };
        let parts = Split::ALL.map(of);
        (case, (report, prepared), parts)
    };
    let (_case, (report, prepared), parts) = part(&config(1), &lines);
    assert!(parts.iter().all(|items| items.len() > 3), "{parts:?}");
    for (a, b) in [(0, 1), (0, 2), (1, 2)] {
        assert!(parts[a].is_disjoint(&parts[b]));
    }
    assert_eq!(report.notes["items that no training row holds, for test"], parts[2].len() as u64);
    let mut counted = prepared.items.iter().zip(&prepared.item_positives);
    assert!(counted.all(|(item, &n)| (n > 0) == parts[0].contains(item)));
    for split in [Split::Valid, Split::Test] {
        let eval = prepared.eval_users(split, None, 1).unwrap();
        assert!(eval.users.len() > 10);
        for (place, &user) in eval.users.iter().enumerate() {
            let taken: Vec<&str> = lines[user as usize].split_whitespace().skip(1).collect();
            let cold = |item: &&str| parts[split as usize].contains(*item);
            let first = taken.iter().position(&cold).unwrap();
            let names = |rows: &[u32]| rows.iter().map(|&i| prepared.items.name(i)).collect::<Vec<_>>();
            let known = |item: &&&str| !parts[split as usize..].iter().any(|later| later.contains(**item));
            let before: Vec<&str> = taken[..first].iter().filter(known).copied().collect();
            assert_eq!(names(&eval.history.item[eval.history.span(place)]), before);
            let mut wanted: Vec<&str> = taken.iter().copied().filter(cold).collect();
            wanted.sort_unstable();
            wanted.dedup();
            let mut truth = names(eval.truth.row(place));
            truth.sort_unstable();
            assert_eq!(truth, wanted);
        }
    }
    // The draw is the item's own: neither the order of the lines nor who else is there matters.
    let (.., fewer) = part(&config(1), &lines.iter().rev().take(40).cloned().collect::<Vec<_>>());
    assert!((0..3).all(|split| fewer[split].is_subset(&parts[split])));
    assert_ne!(part(&config(2), &lines).2, parts);
}

#[test]
fn cold_items_are_cut_from_whole_sequences_alone() {
    for (keys, said) in [
        ("test = [\"b.txt\"]\n[split]\nby = \"cold_items\"", "excludes [dataset.sequences] valid and test"),
        ("[split]\nby = \"cold_items\"\nvalid = 0.0\ntest = 0.0", "holds nothing out"),
        ("[split]\nby = \"cold_item\"", "did you mean `cold_items`?"),
    ] {
        let message = Case::new(&format!("{CONFIG}{keys}\n"), &[("a.txt", "ann p q\n")]).error(false);
        assert!(message.contains(said), "{message}");
    }
}

const BEHAVIOURS: &str = r#"
[dataset]
kind = "sequences"
[dataset.sequences]
train = ["buy.txt"]
test = ["test.txt"]
event = "order"
sets = true
valid_last = true
[[dataset.sequences.before]]
event = "click"
files = ["view.txt"]
[[dataset.sequences.before]]
event = "cart"
files = ["cart.txt"]
[examples]
seen_events = ["order"]
"#;

fn behaviours(buys: &'static str) -> Case {
    let files = [
        ("buy.txt", buys),
        ("test.txt", "ann t\nbo u\n"),
        ("view.txt", "ann a b t\nbo u v\ncy a\n"),
        ("cart.txt", "ann b\n"),
    ];
    Case::new(BEHAVIOURS, &files)
}

#[test]
fn views_and_carts_come_before_purchases_and_bar_nothing() {
    let case = behaviours("ann p q r s\nbo p\n");
    let (report, prepared) = case.prepared();
    assert_eq!(report.users, 3);
    let names = |rows: &[u32]| rows.iter().map(|&i| prepared.items.name(i).to_owned()).collect::<Vec<_>>();
    let sorted = |rows: &[u32]| {
        let mut names = names(rows);
        names.sort();
        names
    };
    // Only purchases are to be found: three of ann's train, one validates; bo's only one trains.
    let parts = Split::ALL.map(|split| prepared.interactions(split).unwrap());
    assert_eq!(parts.clone().map(|p| p.items.len()), [4, 1, 2]);
    assert_eq!(parts[0].kind, [3; 4]);
    let test = prepared.eval_users(Split::Test, None, 1).unwrap();
    assert_eq!(test.users.len(), 2);
    let ann = (0..2).find(|&at| names(test.truth.row(at)) == ["t"]).unwrap();
    let history = &test.history.item[test.history.span(ann)];
    let kinds = &test.history.kind[test.history.span(ann)];
    assert_eq!(kinds, [1, 1, 1, 2, 3, 3, 3, 3]);
    assert_eq!(sorted(&history[..3]), ["a", "b", "t"]);
    assert_eq!(names(&history[3..4]), ["b"]);
    assert_eq!(sorted(&history[4..]), ["p", "q", "r", "s"]);
    // What was viewed may be right; what was bought is barred.
    assert_eq!(sorted(test.seen.row(ann)), ["p", "q", "r", "s"]);
    let valid = prepared.eval_users(Split::Valid, None, 1).unwrap();
    assert_eq!((valid.users.len(), valid.seen.row(0).len(), valid.truth.row(0).len()), (1, 3, 1));
    // A purchase is learned from all views and carts and the purchases before it.
    let train = case.examples(Split::Train, Use::Recall);
    let mut lengths: Vec<usize> = (0..train.requests()).map(|r| train.history.span(r).len()).collect();
    lengths.sort_unstable();
    assert_eq!(lengths, [2, 4, 5, 6]);
}

#[test]
fn the_order_of_a_set_is_drawn_and_not_the_files() {
    let order = |buys| {
        let case = behaviours(buys);
        let (_, prepared) = case.prepared();
        let all = Split::ALL.map(|split| prepared.interactions(split).unwrap());
        let of = |part: &millstream_data::Interactions| {
            part.items.iter().map(|&i| prepared.items.name(i).to_owned()).collect::<Vec<_>>()
        };
        [of(&all[0]), of(&all[1])].concat()
    };
    let long = "ann c d e f g h i j k l m n\n";
    let found = order(long);
    assert_eq!(found.len(), 12);
    assert_ne!(found.concat(), "cdefghijklmn");
    assert_eq!(found, order(long));
}
