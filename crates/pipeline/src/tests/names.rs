//! Names that there are not are refused with the nearest; what goes by a default name may be missing.

use std::sync::Arc;

use millstream_schema::{EventKind, Fitter, Schema};

use super::world::*;
use crate::{Catalogue, CatalogueConfig, Error, Item, Pipeline, PipelineConfig, Resources};

/// What is said of a `[catalogue]` over the usual users and items.
fn fault(text: &str) -> String {
    let config = PipelineConfig::parse(&format!("[catalogue]\n{text}"), "a.toml").unwrap();
    let (users, items) = ((0..USERS).map(user).collect(), (0..ITEMS).map(item).collect());
    let made = Catalogue::new(config.catalogue, encoder(), users, items);
    made.err().map(|e| e.to_string()).unwrap_or_default()
}

#[test]
fn a_catalogue_of_fields_that_there_are_not_is_refused() {
    for (text, parts) in [
        ("category = \"categry\"", ["`category`", "unknown item field `categry`; did you mean `category`?"]),
        ("author = \"autor\"", ["`author`", "did you mean `author`?"]),
        ("kind = \"kin\"", ["`kind`", "did you mean `kind`?"]),
        ("segment = \"lieks\"", ["`segment`", "unknown user field `lieks`; did you mean `likes`?"]),
        ("tags = [\"mood\", \"modo\"]", ["`tags`", "did you mean `mood`?"]),
        ("keywords = [\"tilte\"]", ["`keywords`", "did you mean `title`?"]),
    ] {
        let error = fault(text);
        assert!(error.starts_with("[catalogue]: key") && parts.iter().all(|p| error.contains(p)), "{error}");
    }
    // What the schema reads may be named although no record has it, and an empty separator leaves cells whole.
    assert_eq!(fault("tags = [\"price\"]\nsegment = \"user_id\"\nseparator = \"\""), "");
    let schemaless = || Arc::new(Fitter::new(&Schema::default()).finish().unwrap());
    let bare = |text: &str| {
        let config: CatalogueConfig = toml::from_str(text).unwrap();
        Catalogue::new(config, schemaless(), vec![], vec![])
    };
    assert!(bare("").is_ok());
    let error = bare("author = \"x\"").err().unwrap().to_string();
    assert_eq!(error, "[catalogue]: key `author`: no item has a field `x`, or any other");
}

#[test]
fn options_of_channels_name_what_there_is() {
    let made = |kind: &str, options: &str| built(crate::channel::find(kind).unwrap(), options, &resources());
    let refused = |kind: &str, options: &str, part: &str| {
        let error = made(kind, options).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(error.contains(&format!("channel `{kind}`")) && error.contains(part), "{options}: {error}");
    };
    for kind in ["item_cf", "user_cf", "tag", "keyword", "content", "i2i"] {
        refused(
            kind,
            "kinds = { clik = 1 }",
            "key `kinds`: unknown kind of action `clik`; did you mean `click`?",
        );
        refused(kind, "kinds = { play = 1 }", "unknown kind of action `play`; expected one of click, cart");
        assert!(made(kind, "kinds = { click = 1, search = 2 }").is_ok(), "{kind}");
    }
    refused(
        "i2i",
        "scene = \"devise\"",
        "key `scene`: unknown context field `devise`; did you mean `device`?",
    );
    let scene = |field: &str| format!("scene = \"device\"\nscene_field = \"{field}\"");
    refused("i2i", &scene("nofield"), "key `scene_field`: unknown item field `nofield`");
    assert!(made("i2i", &scene("kind")).is_ok());
    for kind in ["tag", "keyword"] {
        refused(
            kind,
            "user_fields = [\"about\", \"abuot\"]",
            "key `user_fields`: unknown user field `abuot`; did you mean `about`?",
        );
    }
    // Where nothing is known of kinds, any may be named.
    let any = Resources { event_kinds: Vec::<EventKind>::new(), ..resources() };
    assert!(built(crate::channel::find("i2i").unwrap(), "kinds = { pay = 2 }", &any).is_ok());
}

/// A pipeline over items that have a price and nothing else.
fn plain(text: &str) -> Result<Pipeline, Error> {
    let config = PipelineConfig::parse(text, "a.toml").unwrap();
    let mut items: Vec<Item> = (0..ITEMS).map(item).collect();
    items.iter_mut().for_each(|item| item.record.fields.retain(|name, _| name == "price"));
    let users = (0..USERS).map(user).collect();
    Pipeline::new(
        config.clone(),
        Arc::new(Catalogue::new(config.catalogue, encoder(), users, items)?),
        resources(),
    )
}

#[test]
fn what_goes_by_a_default_name_may_be_missing_and_a_rule_that_needs_it_is_told_of() {
    assert!(plain("").unwrap().notes().is_empty());
    let rules = "[[rule]]\nname = \"mmr\"\n[[rule]]\nname = \"per_author\"";
    let notes = plain(rules).unwrap().notes();
    assert!(
        matches!(&notes[..], [one] if one.contains("`per_author`") && one.contains("`author`")),
        "{notes:?}"
    );
    assert!(pipeline(rules, resources()).notes().is_empty());
    let order = "[[channel]]\nname = \"new_items\"\noptions = { order = \"own_authors\" }";
    let error = plain(order).err().unwrap().to_string();
    assert!(error.contains("`new_items` needs") && error.contains("`[catalogue] author`"), "{error}");
}
