//! What makes an action a positive of the first task, for actions that came after the log was prepared.

use millstream_schema::EventKind;

/// The rule of [`Prepared::interactions`](crate::Prepared::interactions).
#[derive(Debug, Clone, PartialEq)]
pub struct PositiveRule {
    /// The action.
    pub kind: EventKind,
    /// The least value with which it counts; any value where there is none.
    pub min_value: Option<f32>,
}

impl PositiveRule {
    /// Whether an action of this kind and value is a positive.
    ///
    /// ```
    /// use millstream_data::PositiveRule;
    /// use millstream_schema::EventKind;
    /// let rule = PositiveRule { kind: EventKind::Play, min_value: Some(0.5) };
    /// assert!(rule.holds(&EventKind::Play, 0.5));
    /// assert!(!rule.holds(&EventKind::Play, 0.4) && !rule.holds(&EventKind::Click, 1.0));
    /// ```
    pub fn holds(&self, kind: &EventKind, value: f32) -> bool {
        *kind == self.kind && self.min_value.is_none_or(|least| value >= least)
    }

    /// As the configuration in a manifest says it: that of the first task, or the kind of action that sequences tell of.
    pub(crate) fn of(config: &serde_json::Value) -> Option<Self> {
        let kind = |value: &serde_json::Value| value.as_str()?.parse().ok();
        if let Some(sequences) = config.pointer("/dataset/sequences").filter(|s| !s.is_null()) {
            let kind = sequences.get("event").map_or(Some(EventKind::Click), kind)?;
            return Some(Self { kind, min_value: None });
        }
        let task = config.pointer("/tasks/0")?;
        let min_value = task.get("min_value").and_then(serde_json::Value::as_f64).map(|x| x as f32);
        Some(Self { kind: kind(task.get("event")?)?, min_value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DatasetConfig;

    #[test]
    fn the_rule_is_read_from_what_a_manifest_keeps_of_the_configuration() {
        let rule = |text: &str| {
            let config = DatasetConfig::parse(text, "dataset.toml").unwrap();
            PositiveRule::of(&serde_json::to_value(config).unwrap())
        };
        let log = "[dataset]\nkind = \"log\"\n[dataset.events]\nfiles = [\"e.csv\"]\nuser = \"u\"\nitem = \"i\"\n\
            time = { column = \"t\" }\nvalue = \"v\"\n";
        let of = |kind, min_value| Some(PositiveRule { kind, min_value });
        assert_eq!(rule(log), of(EventKind::Click, None));
        let task = "[[task]]\nname = \"play\"\nmin_value = 0.7\n[[task]]\nname = \"click\"";
        assert_eq!(rule(&format!("{log}{task}")), of(EventKind::Play, Some(0.7)));
        let own = "[[task]]\nname = \"watched\"\nevent = \"quick_skip\"";
        assert_eq!(rule(&format!("{log}{own}")), of(EventKind::Custom("quick_skip".into()), None));
        let lines = "[dataset]\nkind = \"sequences\"\n[dataset.sequences]\ntrain = [\"a.txt\"]\n";
        assert_eq!(rule(lines), of(EventKind::Click, None));
        assert_eq!(rule(&format!("{lines}event = \"order\"")), of(EventKind::Order, None));
        assert_eq!(PositiveRule::of(&serde_json::Value::Null), None);
    }
}
