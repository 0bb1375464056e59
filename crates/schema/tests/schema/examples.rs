use super::*;

#[test]
fn gathering_all_requests_changes_nothing() {
    let mut x = examples();
    x.weights = vec![1.0, 2.0, 3.0, 4.0, 5.0];
    assert_eq!(x.gather(&[0, 1, 2]), x);
}

#[test]
fn gathering_takes_requests_with_their_candidates_in_the_order_named() {
    let x = examples().gather(&[2, 0, 2]);
    x.check().unwrap();
    assert_eq!(x.request_user, [u32::MAX, 0, u32::MAX]);
    assert_eq!(x.candidate_request, [0, 0, 1, 1, 2, 2]);
    assert_eq!(x.candidate_item, [3, 99, 0, 2, 3, 99]);
    assert_eq!(x.labels, [1.0, 0.0, 1.0, 0.0, 1.0, 0.0]);
    assert_eq!(x.history.span(1), 1..6);
    assert_eq!(x.context.rows, 3);
}

#[test]
fn appending_the_parts_gives_the_whole() {
    let x = examples();
    let mut parts = Examples::default();
    for request in 0..3 {
        parts.append(&x.gather(&[request])).unwrap();
    }
    parts.check().unwrap();
    assert_eq!(parts, x);
}

#[test]
fn examples_of_other_tasks_are_not_appended() {
    let mut x = examples();
    let other = Examples { tasks: 2, labels: vec![0.0; 10], ..examples() };
    assert!(x.append(&other).is_err());
    let other = Examples { candidate_item: vec![], ..examples() };
    assert!(x.append(&other).is_err());
}

#[test]
fn broken_lengths_are_found() {
    let breaks: [fn(&mut Examples); 9] = [
        |x| x.request_time_ms.truncate(1),
        |x| x.candidate_request[4] = 3,
        |x| x.candidate_request.swap(0, 4),
        |x| x.candidate_item.truncate(2),
        |x| x.labels.push(0.0),
        |x| x.weights = vec![1.0],
        |x| x.history.offsets[1] = 99,
        |x| x.history.kind.truncate(1),
        |x| x.context.rows = 2,
    ];
    examples().check().unwrap();
    for (i, broken) in breaks.iter().enumerate() {
        let mut x = examples();
        broken(&mut x);
        assert!(x.check().is_err(), "break {i}");
    }
}

#[test]
fn columns_gather_and_append_like_rows() {
    let ragged =
        Column::Keys { offsets: vec![0, 2, 2, 3], keys: vec![7, 8, 9], weights: Some(vec![1.0, 2.0, 3.0]) };
    let dense = Column::Dense { width: 2, values: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0] };
    for column in [ragged, dense, Column::Key(vec![4, 5, 6])] {
        column.check(3).unwrap();
        assert!(column.check(2).is_err());
        let mut parts = column.empty_like();
        for row in 0..3 {
            parts.append(&column.gather(&[row])).unwrap();
        }
        assert_eq!(parts, column);
        assert_eq!(column.gather(&[2, 2]).rows(), 2);
    }
    assert!(Column::Key(vec![]).append(&Column::Dense { width: 1, values: vec![] }).is_err());
}
