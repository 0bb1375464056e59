//! Changes while requests go on.

use millstream_schema::Record;

use super::world::*;
use crate::{Catalogue, Item, PipelineConfig, Request};

#[test]
fn an_item_added_is_visible_to_the_very_next_request_and_a_removed_one_to_none() {
    let pipeline = pipeline("", resources());
    let mut added = item(500);
    added.record.id = "fresh".into();
    added.created_ms = None;
    let rows = pipeline.catalogue().upsert_items(&[added], NOW).unwrap();
    assert_eq!(rows, [ITEMS]);
    let feed = pipeline.recommend(&request(1, 150)).unwrap();
    let trace = feed.trace.items.iter().find(|t| t.item == "fresh").unwrap();
    assert_eq!(trace.first_hit(), Some("new_items"));
    assert!(trace.score.is_some());
    assert!(pipeline.catalogue().remove_item("fresh").unwrap());
    assert!(!pipeline.catalogue().remove_item("fresh").unwrap());
    let feed = pipeline.recommend(&request(1, 150)).unwrap();
    assert!(feed.items.iter().all(|i| i.item != "fresh"));
}

#[test]
fn an_item_put_again_keeps_its_row_and_changes_its_facts_and_features() {
    let catalogue = catalogue();
    let before = catalogue.snapshot();
    let mut changed = item(8);
    changed.record.fields.insert("author".into(), "someone".into());
    changed.record.fields.insert("price".into(), "77".into());
    changed.created_ms = None;
    let mut new = item(900);
    new.record.id = "i900".into();
    let again = Item { record: Record { id: "i900".into(), ..Default::default() }, ..Default::default() };
    assert_eq!(catalogue.upsert_items(&[changed, new, again], NOW).unwrap(), [8, ITEMS, ITEMS]);
    let after = catalogue.snapshot();
    assert_ne!(before.author(8), after.author(8));
    assert_eq!(before.author(9), after.author(9));
    assert_eq!(after.created_ms(8), before.created_ms(8));
    assert_eq!(after.item_record(8).unwrap().get("price"), "77");
    assert_eq!(after.item_record(ITEMS).unwrap().get("price"), "");
    assert_eq!(after.kind(8), "video");

    let price = |snapshot: &crate::Snapshot, rows: &[u32]| {
        let x = millstream_schema::Examples {
            request_user: vec![0],
            request_time_ms: vec![NOW],
            history: {
                let mut h = millstream_schema::History::default();
                h.push([]);
                h
            },
            context: call(request(1, 1)).context,
            candidate_request: vec![0; rows.len()],
            candidate_item: rows.to_vec(),
            exposure: snapshot.assembler().encoder().exposure_defaults(rows.len()).unwrap(),
            ..Default::default()
        };
        match &snapshot.assembler().batch(&x).unwrap().columns[2] {
            millstream_schema::Column::Dense { values, .. } => values.clone(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(price(&before, &[7, 8, 9]), [7.0, 8.0, 9.0]);
    assert_eq!(price(&after, &[7, 8, 9, ITEMS, 199]), [7.0, 77.0, 9.0, 0.0, 4.0]);
    // The state a request holds does not change under it.
    assert_eq!(before.items(), ITEMS as usize);
}

#[test]
fn an_item_removed_and_put_again_is_back_and_new() {
    let catalogue = catalogue();
    assert!(catalogue.snapshot().item_record(17).is_none());
    assert_eq!(catalogue.upsert_items(&[item(17)], NOW).unwrap(), [17]);
    let now = catalogue.snapshot();
    assert!(now.is_alive(17, NOW) && !now.is_alive(17, NOW - 1));
    assert!(now.item_record(17).is_some());
}

#[test]
fn users_come_and_go() {
    let pipeline = pipeline("", resources());
    let catalogue = pipeline.catalogue();
    assert_eq!(catalogue.snapshot().user("newcomer"), None);
    let record = Record { id: "newcomer".into(), ..Default::default() };
    let row = catalogue.upsert_users(&[record]).unwrap()[0];
    assert_eq!(row, USERS);
    assert_eq!(catalogue.snapshot().user("newcomer"), Some(row));
    let feed = pipeline.recommend(&Request::new("newcomer", row, NOW, 10)).unwrap();
    assert!(feed.personal && feed.trace.ranked);
    assert!(catalogue.remove_user("newcomer").unwrap());
    assert!(catalogue.snapshot().user("newcomer").is_none());
    assert!(catalogue.snapshot().user_record(row).is_none());
    assert_eq!(catalogue.snapshot().user_id(3), "u3");
}

#[test]
fn bad_records_are_refused_with_a_sentence_and_change_nothing() {
    let catalogue = catalogue();
    let mut bad = item(300);
    bad.record.fields.insert("price".into(), "cheap".into());
    let err = catalogue.upsert_items(&[item(301), bad], NOW).unwrap_err().to_string();
    assert!(err.contains("price") && err.contains("cheap"), "{err}");
    let err = catalogue.upsert_items(&[Item::default()], NOW).unwrap_err().to_string();
    assert!(err.contains("empty id"), "{err}");
    assert_eq!(catalogue.snapshot().items(), ITEMS as usize);
    let twice = vec![item(1), item(1)];
    let made = Catalogue::new(PipelineConfig::default().catalogue, encoder(), vec![], twice);
    assert!(made.err().unwrap().to_string().contains("`i1` is given twice"));
}
