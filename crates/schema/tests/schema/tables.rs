//! Shared embedding tables.

use super::*;

fn fit(schema: &str) -> Columns {
    let schema: Schema = schema.parse().unwrap();
    let mut frame = Frame::new("x", &["home", "place", "tags"]);
    frame.push_row(1, &["Lyon", "Turin", "Turin : 2|Lyon"]);
    frame.push_row(2, &["Lyon", "Turin", "Bern"]);
    frame.push_row(3, &["Turin", "Turin", "Bern:1"]);
    let mut fitter = Fitter::new(&schema);
    fitter.observe(&[Side::User, Side::Item], &frame).unwrap();
    fitter.finish().unwrap().encode(&[Side::User, Side::Item], &frame, &mut Default::default()).unwrap()
}

#[test]
fn features_of_one_table_give_a_value_one_key() {
    let columns = fit("[[feature]]\nname='home'\nside='user'\nkind='categorical'\ntable='city'\n\
         [[feature]]\nname='place'\nside='item'\nkind='categorical'\ntable='city'\n\
         [[feature]]\nname='tags'\nside='item'\nkind='multi'\ntable='city'\nweight_separator=':'\n");
    // Turin 5 times, Lyon 3, Bern 2.
    assert_eq!(keys(&columns.columns[0]), [3, 3, 2]);
    assert_eq!(keys(&columns.columns[1]), [2, 2, 2]);
    assert_eq!(keys(&columns.columns[2]), [2, 3, 4, 4]);
}

#[test]
fn features_of_one_table_must_number_alike() {
    let error = "[[feature]]\nname='home'\nside='user'\nkind='categorical'\ntable='city'\n\
        [[feature]]\nname='place'\nside='item'\nkind='categorical'\ntable='city'\nencoding='hash'\n"
        .parse::<Schema>()
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("feature `place` shares table `city` with `home`"), "{error}");
}

#[test]
fn a_table_may_be_another_feature_by_name() {
    let columns = fit("[[feature]]\nname='home'\nside='user'\nkind='categorical'\n\
         [[feature]]\nname='place'\nside='item'\nkind='categorical'\ntable='home'\n");
    // Turin 4 times, Lyon 2.
    assert_eq!(keys(&columns.columns[0]), [3, 3, 2]);
    assert_eq!(keys(&columns.columns[1]), [2, 2, 2]);
}

#[test]
fn a_sequence_field_cannot_have_the_name_of_another_feature() {
    let sequence = "[[feature]]\nname='gap'\nside='item'\nkind='categorical'\n\
        [[feature]]\nname='clicks'\nkind='sequence'\nelements=['gap']\ngap=true\n";
    let error = sequence.parse::<Schema>().unwrap_err().to_string();
    assert_eq!(error, "feature `clicks.gap` is declared twice");
}
