//! Bounds of the sizes that options ask for, so that what no machine could hold is refused before it is tried.

use crate::Error;

/// Options that are widths, alone or in lists.
const WIDTHS: [&str; 9] = [
    "embedding",
    "hidden",
    "dim",
    "unit",
    "tower_hidden",
    "second_hidden",
    "gate_hidden",
    "head_dim",
    "rank",
];
/// The widest.
const WIDEST: i64 = 65_536;

/// Options that say how many parts a model has, with the most of each.
const COUNTS: [(&str, i64); 22] = [
    ("cross_layers", 1024),
    ("attention_layers", 1024),
    ("layers", 1024),
    ("blocks", 1024),
    ("steps", 1024),
    ("iterations", 1024),
    ("experts", 1024),
    ("task_experts", 1024),
    ("shared_experts", 1024),
    ("members", 1024),
    ("feed", 1024),
    ("heads", WIDEST),
    ("interests", WIDEST),
    ("clusters", WIDEST),
    ("places", 1 << 20),
    ("longest", 1 << 20),
    ("k", 1 << 20),
    ("trees", 1_000_000),
    ("walks", 1_000_000),
    ("length", 1_000_000),
    ("shards", 256),
    ("negatives", 1_000_000),
];

/// Whether the sizes among a model's options, and in tables among them, are such as a machine may have room for.
///
/// # Errors
/// Names the first option that is not, and what it may be.
pub(crate) fn check(model: &str, options: &toml::Table) -> Result<(), Error> {
    table(model, "", options)
}

fn table(model: &str, within: &str, options: &toml::Table) -> Result<(), Error> {
    options.iter().try_for_each(|(key, value)| one(model, (within, key), value))
}

fn one(model: &str, (within, key): (&str, &str), value: &toml::Value) -> Result<(), Error> {
    let range = match COUNTS.iter().find(|(name, _)| *name == key) {
        _ if WIDTHS.contains(&key) => 1..=WIDEST,
        Some((_, most)) => 0..=*most,
        None => i64::MIN..=i64::MAX,
    };
    match value {
        toml::Value::Integer(n) if !range.contains(n) => {
            let least = if *range.start() > 0 { "above 0, and " } else { "" };
            let most = range.end();
            Err(Error::Config(format!(
                "model `{model}`: `{within}{key}` is {n}; it must be {least}{most} at most"
            )))
        }
        toml::Value::Array(all) => all.iter().try_for_each(|value| one(model, (within, key), value)),
        toml::Value::Table(inner) => table(model, &format!("{within}{key}."), inner),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_no_machine_could_hold_are_refused_wherever_they_stand() {
        let said = |options: &str| check("m", &options.parse().unwrap()).map_err(|e| e.to_string());
        assert_eq!(said("hidden = [400, 65536]\ndim = 1\ncross_layers = 0\nother = 99999999999"), Ok(()));
        for (options, wanted) in [
            ("hidden = [400, 4000000000]", "`hidden` is 4000000000; it must be above 0, and 65536 at most"),
            ("hidden = [0]", "`hidden` is 0; it must be above 0"),
            ("rank = 99999999999", "`rank` is 99999999999"),
            ("trees = 99999999999", "`trees` is 99999999999; it must be 1000000 at most"),
            ("member = { embedding = 99999999 }", "`member.embedding` is 99999999"),
            ("[sequence]\nunit = [0]", "`sequence.unit` is 0"),
            (
                "[[sequence]]\nk = 1\n[[sequence]]\ntransformer = { blocks = 9999 }",
                "`sequence.transformer.blocks`",
            ),
        ] {
            let error = said(options).unwrap_err();
            assert!(error.contains(wanted) && error.contains("model `m`"), "{options}: {error}");
        }
    }
}
