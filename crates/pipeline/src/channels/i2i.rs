//! Items like the items the user acted on: every trigger pulls its inverted list, and the lists are snake-merged.
//!
//! Triggers are chosen by action, by time and by scene. By action: `kinds` gives each kind of action its items per
//! round of the merge; with it, kinds that are not named trigger nothing. By time: the latest `short_triggers`
//! distinct items of the last `short` span, and of the time before it the `long_triggers` items with the most weight,
//! each action counting its kind's. By scene: `scene` names a context field; `scenes` are those of its values in which the
//! channel answers, and `scene_field` an item field that triggers must share with the scene.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_models::recall::popularity::Window;
use millstream_schema::examples::Action;
use millstream_schema::{ItemRow, suggest};
use rapidhash::RapidHashMap;
use serde::Deserialize;

use super::actions::by_code;
use crate::Error;
use crate::channel::{Call, Candidate, Channel, ChannelDef, Resources, Setup};
use crate::merge::snake;
use crate::vectors::ItemToItem;

/// Entry of the list of channels.
pub const DEF: ChannelDef = ChannelDef {
    name: "i2i",
    personal: true,
    quota: 200,
    weight: 1.0,
    tail: false,
    by_default: false,
    lacks,
    build,
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Options {
    /// Whose lists: `item_cf`, `vectors`, or another table of the run.
    table: String,
    /// Items per round of the merge by kind of action; empty: 1 for every kind.
    kinds: BTreeMap<String, f32>,
    /// How far back the short term reaches from the request.
    short: Window,
    /// Triggers of the short term at most.
    short_triggers: usize,
    /// Triggers of the long term at most.
    long_triggers: usize,
    /// What a short-term trigger weighs beside a long-term one.
    short_weight: f32,
    /// Items of each trigger's list.
    per_trigger: usize,
    /// Context field that says the scene.
    scene: Option<String>,
    /// Scenes in which the channel answers; empty: in all.
    scenes: Vec<String>,
    /// Item field that must hold the scene in triggers.
    scene_field: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            table: "item_cf".into(),
            kinds: BTreeMap::new(),
            short: Window::DAY,
            short_triggers: 10,
            long_triggers: 10,
            short_weight: 2.0,
            per_trigger: 50,
            scene: None,
            scenes: Vec::new(),
            scene_field: None,
        }
    }
}

struct I2i {
    lists: Arc<dyn ItemToItem>,
    kinds: Vec<(u16, f32)>,
    options: Options,
}

/// A trigger with its items per round.
type Trigger = (ItemRow, f32);

fn lacks(parts: &Resources) -> Option<&'static str> {
    parts.lists().is_empty().then_some("lists from item to item")
}

fn build(setup: &Setup<'_>) -> Result<Arc<dyn Channel>, Error> {
    let options: Options = setup.read()?;
    let all = setup.parts.lists();
    let Some(lists) = all.get(&options.table).cloned() else {
        if all.is_empty() {
            return Err(setup.needs("a table of lists from item to item"));
        }
        return Err(setup.refuse(suggest::unknown("table", &options.table, all.keys().map(String::as_str))));
    };
    let bounds = 0.01..=100.0;
    if !bounds.contains(&options.short_weight) || !options.kinds.values().all(|w| bounds.contains(w)) {
        return Err(setup.refuse("`short_weight` and the weights of `kinds` must be between 0.01 and 100"));
    }
    if options.per_trigger == 0 || options.short_triggers + options.long_triggers == 0 {
        return Err(
            setup.refuse("`per_trigger` and one of `short_triggers` and `long_triggers` must be above 0")
        );
    }
    if options.scene.is_none() && (options.scene_field.is_some() || !options.scenes.is_empty()) {
        return Err(setup.refuse("`scenes` and `scene_field` need the context field that `scene` names"));
    }
    let (scene, field) = (options.scene.as_deref(), options.scene_field.as_deref());
    scene
        .map_or(Ok(()), |name| setup.names.context_field(name))
        .map_err(|e| setup.refuse(format!("key `scene`: {e}")))?;
    field
        .map_or(Ok(()), |name| setup.names.item_field(name))
        .map_err(|e| setup.refuse(format!("key `scene_field`: {e}")))?;
    Ok(Arc::new(I2i { lists, kinds: by_code(setup, &options.kinds)?, options }))
}

impl I2i {
    /// What an action of this kind weighs; none where it is no trigger.
    fn weight(&self, kind: u16) -> Option<f32> {
        match self.kinds.as_slice() {
            [] => Some(1.0),
            kinds => kinds.iter().find(|k| k.0 == kind).map(|k| k.1),
        }
    }

    /// The scene of the request, and whether the channel answers in it.
    fn scene<'a>(&self, call: &'a Call) -> (Option<&'a str>, bool) {
        let Some(field) = &self.options.scene else { return (None, true) };
        let scene = call.request.context.get(field).map(String::as_str);
        let scenes = &self.options.scenes;
        (scene, scenes.is_empty() || scene.is_some_and(|s| scenes.iter().any(|x| x == s)))
    }

    /// Triggers of the short term, latest first, then those of the long term, weightiest first.
    fn triggers(&self, call: &Call, scene: Option<&str>) -> Vec<Trigger> {
        let since = call.request.time_ms.saturating_sub(self.options.short.ms());
        let fits = |a: &Action| match (&self.options.scene_field, scene) {
            (None, _) => true,
            (Some(field), Some(scene)) => {
                call.catalogue.item_record(a.item).is_some_and(|r| r.get(field) == scene)
            }
            (Some(_), None) => false,
        };
        let mut short: Vec<Trigger> = Vec::new();
        let mut long: RapidHashMap<ItemRow, (f32, f32, i64)> = RapidHashMap::default();
        for action in call.request.history.iter().rev() {
            let Some(weight) = self.weight(action.kind).filter(|_| fits(action)) else { continue };
            if action.time_ms >= since {
                let weight = weight * self.options.short_weight;
                match short.iter().position(|t| t.0 == action.item) {
                    Some(at) => short[at].1 = short[at].1.max(weight),
                    None if short.len() < self.options.short_triggers => short.push((action.item, weight)),
                    None => {}
                }
            } else {
                let (sum, most, _) = long.entry(action.item).or_insert((0.0, 0.0, action.time_ms));
                *sum += weight;
                *most = most.max(weight);
            }
        }
        let mut long: Vec<_> = long.into_iter().filter(|x| short.iter().all(|t| t.0 != x.0)).collect();
        long.sort_unstable_by(|a, b| b.1.0.total_cmp(&a.1.0).then(b.1.2.cmp(&a.1.2)).then(a.0.cmp(&b.0)));
        short.extend(long.iter().take(self.options.long_triggers).map(|x| (x.0, x.1.1)));
        short
    }
}

impl Channel for I2i {
    fn recall(&self, call: &Call, k: usize) -> Result<Vec<Candidate>, Error> {
        let (scene, answers) = self.scene(call);
        if !answers {
            return Ok(Vec::new());
        }
        let keep = |item: ItemRow| call.keep(item);
        let mut lists = Vec::new();
        let mut weights = Vec::new();
        for (item, weight) in self.triggers(call, scene) {
            lists.push(super::candidates(self.lists.near(item, self.options.per_trigger, &keep)?));
            weights.push(weight);
        }
        let slices: Vec<&[Candidate]> = lists.iter().map(Vec::as_slice).collect();
        let merged = snake(&slices, &weights);
        let placed = |(place, &item): (usize, &ItemRow)| Candidate { item, score: 1.0 / (place + 1) as f32 };
        Ok(merged.items.iter().enumerate().take(k).map(placed).collect())
    }
}
