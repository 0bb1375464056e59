use std::collections::BTreeMap;
use std::fmt::Write;

use millstream_data::{Prepared, Split, Use};
use millstream_schema::ids::NO_ROW;
use millstream_schema::{Column, EventKind, Examples};

use super::{Case, Draw};

pub(crate) const MINIMAL: &str = r#"
[dataset]
kind = "log"
[dataset.events]
files = ["e.csv"]
user = "user"
item = "item"
time = { column = "t", unit = "s" }
[split]
valid = 0.2
test = 0.2
"#;

pub(crate) const FEW: &str = "\
user,item,t
ann,p,1600000010
bo,q,1600000020
ann,q,1600000030
cy,r,1600000040
bo,p,1600000050
ann,s,1600000060
cy,p,1600000070
bo,s,1600000080
ann,r,1600000090
cy,s,1600000095
";

const SHOWN: &str = r#"
[dataset]
kind = "log"
[dataset.events]
files = ["e1.csv", "e2.csv"]
user = "user"
item = "item"
time = { column = "t", unit = "s" }
event = { column = "what", map = { view = "impression", tap = "click" } }
value = "value"
request = "req"
position = "pos"
[dataset.items]
files = ["items.csv"]
id = "id"
[[task]]
name = "click"
window_hours = 1
[[task]]
name = "finish"
event = "play"
min_value = 0.8
[[feature]]
name = "user_id"
column = "user"
side = "user"
kind = "categorical"
[[feature]]
name = "item_id"
column = "id"
side = "item"
kind = "categorical"
[[feature]]
name = "category"
side = "item"
kind = "categorical"
[[feature]]
name = "device"
side = "context"
kind = "categorical"
[[feature]]
name = "pos"
side = "exposure"
kind = "numeric"
transform = "raw"
[[feature]]
name = "history"
kind = "sequence"
elements = ["item_id"]
max_len = 5
[split]
valid = 0.15
test = 0.15
[examples]
max_history = 5
history_events = ["click", "like"]
"#;

const DAY: i64 = 1_600_000_000;

#[derive(Clone, Debug)]
struct Row {
    user: u64,
    item: u64,
    t: i64,
    what: &'static str,
    value: f32,
    req: String,
    pos: u64,
    device: u64,
}

/// Requests of some items each, answered by actions, some of which name their request.
fn world(draw: &mut Draw) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let mut user = 0;
    for r in 0..600u64 {
        // The same request id may serve two users: they are two requests.
        user = (user + 1 + draw.below(11)) % 12;
        let (t, device) = (DAY + r as i64 * 97 * 5, draw.below(3));
        let req = format!("r{}", r / 2);
        let first = draw.below(60);
        for pos in 0..draw.below(5) + 1 {
            let item = (first + pos * 3) % 60;
            let row = Row {
                user,
                item,
                t: t + pos as i64,
                what: "view",
                value: 1.0,
                req: req.clone(),
                pos,
                device,
            };
            rows.push(row.clone());
            let act = |what, delay: u64, value, named: bool| Row {
                t: row.t + delay as i64,
                what,
                value,
                req: if named { req.clone() } else { String::new() },
                ..row.clone()
            };
            if draw.below(3) == 0 {
                let named = draw.below(2) == 0;
                rows.push(act("tap", draw.below(7200), 1.0, named));
            }
            if draw.below(5) == 0 {
                rows.push(act("play", draw.below(3000), draw.below(11) as f32 / 10.0, true));
            }
            if draw.below(6) == 0 {
                rows.push(act("like", 1 + draw.below(5000), 1.0, true));
            }
        }
    }
    rows
}

fn shown_case(config: &str, rows: &[Row]) -> Case {
    let mut files = [String::new(), String::new()];
    for (at, file) in files.iter_mut().enumerate() {
        // Not in the order of time.
        let header = "what,user,item,t,value,req,pos,device\n";
        file.push_str(header);
        for r in rows.iter().rev().skip(at).step_by(2) {
            let Row { user, item, t, what, value, req, pos, device } = r;
            writeln!(file, "{what},u{user},i{item},{t},{value},{req},{pos},d{device}").unwrap();
        }
    }
    let items: String = (0..20).map(|i| format!("i{i},c{}\n", i % 4)).collect();
    Case::new(
        config,
        &[("e1.csv", &files[0]), ("e2.csv", &files[1]), ("items.csv", &format!("id,category\n{items}"))],
    )
}

/// The impression an action answers, found the slow way.
fn answered<'a>(rows: &'a [Row], action: &Row) -> Option<&'a Row> {
    let fits = |r: &&Row| {
        r.what == "view"
            && (r.user, r.item) == (action.user, action.item)
            && r.t <= action.t
            && (action.req.is_empty() || action.req == r.req)
    };
    let shown = rows.iter().filter(fits).max_by_key(|r| r.t)?;
    let hours = if action.what == "tap" { 1 } else { 24 };
    (!action.req.is_empty() || action.t - shown.t <= hours * 3600).then_some(shown)
}

type Labels = BTreeMap<(String, String, i64), [f32; 2]>;

/// (user, item, time) of each impression, with its labels.
fn naive_labels(rows: &[Row]) -> Labels {
    let key = |r: &Row| (format!("u{}", r.user), format!("i{}", r.item), r.t * 1000);
    let mut out: Labels = rows.iter().filter(|r| r.what == "view").map(|r| (key(r), [0.0; 2])).collect();
    for action in rows.iter().filter(|r| r.what == "tap" || (r.what == "play" && r.value >= 0.8)) {
        if let Some(shown) = answered(rows, action) {
            out.get_mut(&key(shown)).unwrap()[usize::from(action.what == "play")] = 1.0;
        }
    }
    out
}

/// The last actions of a user strictly before a moment, as (item, time).
fn naive_history(rows: &[Row], user: &str, time_ms: i64, most: usize) -> Vec<(String, i64)> {
    let known =
        |r: &&Row| format!("u{}", r.user) == user && matches!(r.what, "tap" | "like") && r.t * 1000 < time_ms;
    let mut out: Vec<(String, i64)> =
        rows.iter().filter(known).map(|r| (format!("i{}", r.item), r.t * 1000)).collect();
    out.sort_by_key(|(_, t)| *t);
    out.split_off(out.len().saturating_sub(most))
}

fn check_histories(prepared: &Prepared, x: &Examples, rows: &[Row]) {
    for r in 0..x.requests() {
        let user = prepared.users.name(x.request_user[r]);
        let got: Vec<(String, i64)> = x
            .history
            .span(r)
            .map(|at| (prepared.items.name(x.history.item[at]).to_owned(), x.history.time_ms[at]))
            .collect();
        let times = |h: &[(String, i64)]| h.iter().map(|(_, t)| *t).collect::<Vec<_>>();
        let expected = naive_history(rows, user, x.request_time_ms[r], 5);
        assert_eq!(times(&got), times(&expected));
        // Actions of one moment may stand in either order.
        let sorted = |mut h: Vec<(String, i64)>| {
            h.sort_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
            h
        };
        if expected.windows(2).all(|w| w[0].1 != w[1].1) {
            assert_eq!(sorted(got), sorted(expected));
        }
    }
}

#[test]
fn requests_labels_and_histories_are_those_of_the_slow_way() {
    let rows = world(&mut Draw(11));
    let case = shown_case(SHOWN, &rows);
    let (report, prepared) = case.prepared();
    let mut expected = naive_labels(&rows);
    let cut = report.time_split.unwrap();
    assert!(report.notes["items that only events name"] == 40);
    let device = prepared.encoder.field("device").unwrap() as u32;
    let mut positives = 0.0;
    for split in Split::ALL {
        let x = case.examples(split, Use::Rank);
        assert!(x.requests() > 20);
        check_histories(&prepared, &x, &rows);
        let Some(Column::Dense { values: positions, .. }) =
            x.exposure.get(prepared.encoder.field("pos").unwrap() as u32)
        else {
            panic!("pos is a number")
        };
        assert!(matches!(x.context.get(device), Some(Column::Key(keys)) if keys.iter().all(|&k| k >= 2)));
        for (at, &r) in x.candidate_request.iter().enumerate() {
            let (request_ms, user) =
                (x.request_time_ms[r as usize], prepared.users.name(x.request_user[r as usize]));
            assert_eq!(cut.part(request_ms), split);
            // A slate's rows are a second apart, in the order of their positions.
            let key = (
                user.to_owned(),
                prepared.items.name(x.candidate_item[at]).to_owned(),
                request_ms + positions[at] as i64 * 1000,
            );
            let labels = expected.remove(&key).unwrap();
            assert_eq!(x.labels[at * 2..][..2], labels, "{key:?}");
            positives += labels[0];
        }
    }
    assert!(expected.is_empty(), "{} impressions are in no part", expected.len());
    assert!(positives > 100.0);
}

#[test]
fn a_list_of_few_actions_is_not_pushed_out_by_many_others() {
    let likes = "[[feature]]\nname = \"likes\"\nkind = \"sequence\"\nelements = [\"item_id\"]\nevents = [\"like\"]\nmax_len = 3\n";
    let rows = world(&mut Draw(11));
    let case = shown_case(&SHOWN.replace("[split]", &format!("{likes}[split]")), &rows);
    let (_, prepared) = case.prepared();
    let like = EventKind::Like.code();
    let mut earlier = 0;
    for split in Split::ALL {
        let x = case.examples(split, Use::Rank);
        for r in 0..x.requests() {
            let (user, before) = (prepared.users.name(x.request_user[r]), x.request_time_ms[r]);
            let own = |what: &[&str], most: usize| -> Vec<i64> {
                let known = rows.iter().filter(|row| format!("u{}", row.user) == user);
                let mut times: Vec<i64> =
                    known.filter(|row| what.contains(&row.what)).map(|row| row.t * 1000).collect();
                times.retain(|&t| t < before);
                times.sort_unstable();
                times.split_off(times.len().saturating_sub(most))
            };
            let span = x.history.span(r);
            let of_kind = |kind: u16| span.clone().filter(|&at| x.history.kind[at] == kind).count();
            let (all, likes) = (own(&["tap", "like"], 5), own(&["like"], 3));
            let first = all.first().copied().unwrap_or(i64::MAX);
            let expected = all.len() + likes.iter().filter(|&&t| t < first).count();
            assert_eq!(span.len(), expected);
            assert!(of_kind(like) >= likes.len());
            earlier += expected - all.len();
        }
    }
    assert!(earlier > 100, "{earlier}");
}

#[test]
fn retrieval_examples_are_the_positives_with_their_pasts() {
    let rows = world(&mut Draw(12));
    let case = shown_case(SHOWN, &rows);
    let (report, prepared) = case.prepared();
    let mut taps: Vec<i64> = rows.iter().filter(|r| r.what == "tap").map(|r| r.t * 1000).collect();
    let mut got = Vec::new();
    for split in Split::ALL {
        let x = case.examples(split, Use::Recall);
        assert_eq!(x.requests(), x.candidates());
        assert!(x.labels.chunks(2).all(|l| l[0] == 1.0));
        check_histories(&prepared, &x, &rows);
        assert!(x.request_time_ms.iter().all(|&t| report.time_split.unwrap().part(t) == split));
        let Some(Column::Dense { values, .. }) =
            x.exposure.get(prepared.encoder.field("pos").unwrap() as u32)
        else {
            panic!("pos is a number")
        };
        assert!(values.iter().all(|&p| p == 0.0), "retrieval must not see positions");
        got.extend(x.request_time_ms);
    }
    got.sort_unstable();
    taps.sort_unstable();
    assert_eq!(got, taps);
}

#[test]
fn an_action_in_the_space_of_another_has_labels_where_that_one_happened() {
    let rows = world(&mut Draw(11));
    let plain = shown_case(SHOWN, &rows);
    let spaced =
        shown_case(&SHOWN.replace("name = \"finish\"", "name = \"finish\"\nspace = \"click\""), &rows);
    plain.prepared();
    spaced.prepared();
    let mut outside = 0;
    for split in Split::ALL {
        let (all, some) = (plain.examples(split, Use::Rank), spaced.examples(split, Use::Rank));
        assert_eq!(all.candidate_item, some.candidate_item);
        for (all, some) in all.labels.chunks(2).zip(some.labels.chunks(2)) {
            assert_eq!(all[0], some[0]);
            match all[0] > 0.0 {
                true => assert_eq!(all[1], some[1]),
                false => assert!(some[1].is_nan()),
            }
            outside += usize::from(some[1].is_nan());
        }
    }
    assert!(outside > 100);
}

#[test]
fn a_planted_future_never_reaches_a_history() {
    // The item `future` is tapped at the very moment of each request, and right after it.
    let mut rows = Vec::new();
    for r in 0..200i64 {
        let row = |what, t, item| Row {
            user: r as u64 % 4,
            item,
            t,
            what,
            value: 1.0,
            req: format!("q{r}"),
            pos: 0,
            device: 0,
        };
        rows.push(row("view", DAY + r * 100, r as u64 % 7));
        rows.push(row("tap", DAY + r * 100, 99));
        rows.push(row("tap", DAY + r * 100 + 1, r as u64 % 7));
    }
    let play = SHOWN.find("[[task]]\nname = \"finish\"").unwrap();
    let features = SHOWN.find("[[feature]]").unwrap();
    let case = shown_case(&format!("{}{}", &SHOWN[..play], &SHOWN[features..]), &rows);
    case.run(false).unwrap();
    for split in Split::ALL {
        for for_use in Use::ALL {
            let x = case.examples(split, for_use);
            for r in 0..x.requests() {
                let times = &x.history.time_ms[x.history.span(r)];
                assert!(times.iter().all(|&t| t < x.request_time_ms[r]));
                assert!(times.is_sorted());
            }
        }
    }
}

#[test]
fn evaluation_users_have_a_past_before_the_cut_and_a_future_after_it() {
    let rows = world(&mut Draw(13));
    let case = shown_case(SHOWN, &rows);
    let (report, prepared) = case.prepared();
    let cut = report.time_split.unwrap();
    for (split, from, to) in [(Split::Valid, cut.valid_ms, cut.test_ms), (Split::Test, cut.test_ms, i64::MAX)]
    {
        let eval = prepared.eval_users(split, None, 5).unwrap();
        assert!(eval.users.len() > 5);
        for (row, &user) in eval.users.iter().enumerate() {
            let name = prepared.users.name(user);
            let of_user = |r: &&Row| format!("u{}", r.user) == name && r.what != "view";
            let mut seen: Vec<u32> = rows
                .iter()
                .filter(of_user)
                .filter(|r| r.t * 1000 < from)
                .map(|r| prepared.items.get(&format!("i{}", r.item)).unwrap())
                .collect();
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(eval.seen.row(row), seen);
            let mut truth: Vec<u32> = rows
                .iter()
                .filter(of_user)
                .filter(|r| r.what == "tap" && r.t * 1000 >= from && r.t * 1000 < to)
                .map(|r| prepared.items.get(&format!("i{}", r.item)).unwrap())
                .filter(|i| !seen.contains(i))
                .collect();
            truth.sort_unstable();
            truth.dedup();
            assert_eq!(eval.truth.row(row), truth);
            assert_eq!(eval.time_ms[row], from);
            assert!(eval.history.time_ms[eval.history.span(row)].iter().all(|&t| t < from));
        }
        let few = prepared.eval_users(split, Some(3), 5).unwrap();
        assert_eq!(few, prepared.eval_users(split, Some(3), 5).unwrap());
        assert!(few.users.len() == 3 && few.users.iter().all(|u| eval.users.contains(u)));
    }
}

#[test]
fn leave_last_out_tests_the_last_positive_of_each_user() {
    let case = Case::new(&format!("{}\nby = \"user\"\n", MINIMAL), &[("e.csv", FEW)]);
    let (_, prepared) = case.prepared();
    let part = |split| {
        let all = prepared.interactions(split).unwrap();
        all.items.iter().map(|&i| prepared.items.name(i).to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(part(Split::Test), ["r", "s", "s"]);
    assert_eq!(part(Split::Valid), ["s", "p", "p"]);
    assert_eq!(part(Split::Train), ["p", "q", "q", "r"]);
    let test = prepared.eval_users(Split::Test, None, 1).unwrap();
    assert_eq!(test.users, [0, 1, 2]);
    assert_eq!(test.history.offsets, [0, 3, 5, 7]);
}

#[test]
fn leave_last_out_keeps_a_shown_request_with_the_positive_it_led_to() {
    let rows = world(&mut Draw(14));
    let case = shown_case(&SHOWN.replace("[split]", "[split]\nby = \"user\""), &rows);
    let (_, prepared) = case.prepared();
    for split in [Split::Valid, Split::Test] {
        let parts = prepared.interactions(split).unwrap();
        assert!(parts.offsets.windows(2).all(|w| w[1] - w[0] <= 1) && parts.items.len() > 8);
        check_histories(&prepared, &case.examples(split, Use::Rank), &rows);
    }
    let (train, test) = (case.examples(Split::Train, Use::Rank), case.examples(Split::Test, Use::Rank));
    let times = |x: &Examples, user: u32| -> Vec<i64> {
        (0..x.requests()).filter(|&r| x.request_user[r] == user).map(|r| x.request_time_ms[r]).collect()
    };
    for user in 0..prepared.users.len() as u32 {
        let (train, test) = (times(&train, user), times(&test, user));
        assert!(!test.is_empty());
        assert!(train.iter().max().unwrap() < test.iter().min().unwrap());
    }
}

#[test]
fn a_ratio_split_hides_later_parts_from_training_histories() {
    let mut draw = Draw(5);
    let mut text = String::from("user,item,t\n");
    for t in 0..2000 {
        writeln!(text, "u{},i{},{}", draw.below(20), draw.below(40), DAY + t).unwrap();
    }
    let case = Case::new(&format!("{MINIMAL}\nby = \"ratio\"\n"), &[("e.csv", &text)]);
    let (_, prepared) = case.prepared();
    let test = prepared.interactions(Split::Test).unwrap();
    let in_test = |user: u32, item: u32| test.items_of(user).contains(&item);
    let train = case.examples(Split::Train, Use::Rank);
    for r in 0..train.requests() {
        for at in train.history.span(r) {
            assert!(!in_test(train.request_user[r], train.history.item[at]));
        }
    }
    let eval = prepared.eval_users(Split::Test, None, 1).unwrap();
    assert!(eval.users.len() > 15);
    for (row, &user) in eval.users.iter().enumerate() {
        assert!(eval.truth.row(row).iter().all(|&i| in_test(user, i)));
        assert!(eval.seen.row(row).iter().all(|&i| !in_test(user, i)));
    }
}

#[test]
fn without_impressions_positives_stand_among_items_alive_and_not_met() {
    let mut text = String::from("user,item,t\n");
    let mut draw = Draw(3);
    for t in 0..900i64 {
        // Item i is born at 20 i.
        writeln!(text, "u{},i{},{}", draw.below(15), draw.below(t as u64 / 20 + 1), DAY + t).unwrap();
    }
    let items: String = (0..45).map(|i| format!("i{i},{},\n", DAY + i * 20)).collect();
    let config = MINIMAL.replace(
        "[split]",
        "[dataset.items]\nfiles=['i.csv']\nid='item'\ncreated={column='from',unit='s'}\nretired={column='to',unit='s'}\n[split]",
    );
    let case = Case::new(&config, &[("e.csv", &text), ("i.csv", &format!("item,from,to\n{items}"))]);
    let (_, prepared) = case.prepared();
    let mut negatives = 0;
    for split in Split::ALL {
        let x = case.examples(split, Use::Rank);
        for (at, &r) in x.candidate_request.iter().enumerate() {
            let item = x.candidate_item[at];
            let time = x.request_time_ms[r as usize];
            assert!(prepared.item_created_ms[item as usize] <= time);
            if x.labels[at] == 0.0 {
                negatives += 1;
                assert!(prepared.item_positives[item as usize] > 0);
                let met = (0..x.requests()).any(|other| {
                    x.request_user[other] == x.request_user[r as usize]
                        && x.request_time_ms[other] <= time
                        && x.candidate_request
                            .iter()
                            .zip(&x.candidate_item)
                            .zip(&x.labels)
                            .any(|((&o, &i), &y)| o as usize == other && i == item && y == 1.0)
                });
                assert!(!met);
            }
        }
    }
    assert!(negatives > 2000);
    let eval = prepared.eval_users(Split::Test, None, 1).unwrap();
    for (row, &time) in eval.time_ms.iter().enumerate() {
        assert!(eval.truth.row(row).iter().all(|&i| prepared.item_created_ms[i as usize] <= time));
    }
}

#[test]
fn duplicate_ids_are_refused_with_both_lines() {
    let config = MINIMAL.replace("[split]", "[dataset.users]\nfiles=['u.csv']\nid='uid'\n[split]");
    let case = Case::new(&config, &[("e.csv", FEW), ("u.csv", "uid\nann\nbo\nann\n")]);
    let message = case.error(false);
    assert!(
        message.contains("u.csv:4: user id `ann` is already at ") && message.ends_with("u.csv:2"),
        "{message}"
    );
}

#[test]
fn a_wrong_time_unit_is_named_with_the_right_one() {
    let case = Case::new(&MINIMAL.replace("\"s\"", "\"ms\""), &[("e.csv", FEW)]);
    let message = case.error(false);
    assert!(
        message.contains(
            "e.csv:2: timestamp `1600000010` read as ms is 1970-01-19; unit = \"s\" would give 2020-09-13"
        ),
        "{message}"
    );
}

#[test]
fn events_that_cannot_be_used_are_counted_or_refused() {
    let mut text = FEW.to_owned();
    text.push_str(",p,1600000100\n");
    let strict = Case::new(MINIMAL, &[("e.csv", &text)]).error(true);
    assert!(strict.contains("e.csv:12 column `user`: the id is missing"), "{strict}");
    (0..1000).for_each(|t| writeln!(text, "ann,p,{}", 1_600_000_200 + t).unwrap());
    text.push_str("bo,q,soon\n");
    let case = Case::new(MINIMAL, &[("e.csv", &text)]);
    assert!(case.error(true).contains("not a usable time"));
    let report = case.run(false).unwrap();
    assert_eq!(report.bad.total(), 2);
    assert_eq!(report.rows_read, 1012);
    assert!(report.to_string().contains("t: not a usable time"), "{report}");
}

#[test]
fn an_event_name_that_is_no_kind_says_how_to_map_it() {
    let config = MINIMAL.replace("[split]", "event = { column = \"what\" }\n[split]");
    let case = Case::new(
        &config,
        &[("e.csv", "user,item,t,what\na,b,1600000000,click\na,b,1600000000,Add To Cart\n")],
    );
    let message = case.error(false);
    assert!(message.contains("e.csv:3: event `Add To Cart` is no kind"), "{message}");
    assert!(message.contains("map = { \"Add To Cart\" = \"click\" }"), "{message}");
    let case = Case::new(&config, &[("e.csv", "user,item,t,what\na,b,1600000000,order\n")]);
    assert!(case.error(false).contains("no event is a `click`; the log holds order"));
}

#[test]
fn strangers_and_the_assembler_agree_on_histories() {
    let case = Case::new(MINIMAL, &[("e.csv", FEW)]);
    let (_, prepared) = case.prepared();
    let mut x = case.examples(Split::Test, Use::Rank);
    let batch = prepared.assembler.batch(&x).unwrap();
    let history = prepared.encoder.field("history.item_id").unwrap();
    let Column::Keys { offsets, .. } = &batch.columns[history] else { panic!("a sequence has keys") };
    assert_eq!(offsets, &x.history.offsets);
    x.request_user.fill(NO_ROW);
    assert!(prepared.assembler.batch(&x).is_ok());
}
