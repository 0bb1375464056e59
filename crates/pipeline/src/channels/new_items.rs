//! Items born lately, in pools by age that are dealt out in turns, so that an hour's items do not crowd out a
//! day's. Within a pool the newest come first, or those of the authors with the best record, or of the user's own.

use std::sync::{Arc, PoisonError, RwLock};

use millstream_models::recall::popularity::{Popularity, Window};
use millstream_schema::ItemRow;
use rapidhash::RapidHashMap;
use serde::Deserialize;

use super::actions::Weighing;
use crate::Error;
use crate::channel::{Call, Candidate, Channel, ChannelDef, Setup};

/// Entry of the list of channels.
pub const DEF: ChannelDef = ChannelDef {
    name: "new_items",
    personal: false,
    quota: 50,
    weight: 0.5,
    tail: false,
    by_default: true,
    lacks: |_| None,
    build,
};

const DAY_MS: f64 = 86_400_000.0;
/// Over which the record of an author is counted.
const RECORD: Window = Window::MONTH;

/// What comes first within a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Order {
    /// The newest.
    #[default]
    Newest,
    /// Those whose author's items are acted on the most, on average, decayed over 30 days; then the newest.
    AuthorRecord,
    /// Those of the authors that the user acted on, by weight of those actions; then the newest.
    OwnAuthors,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Options {
    /// Greatest age of each pool's items, rising: `["1h", "6h", "24h"]`.
    pools: Vec<Window>,
    /// How long an item is new, for a single pool.
    max_age_days: Option<f64>,
    order: Order,
}

struct NewItems {
    /// Greatest ages in milliseconds, rising.
    pools: Vec<f64>,
    order: Order,
    weighing: Weighing,
    popularity: Arc<RwLock<Popularity>>,
}

fn build(setup: &Setup<'_>) -> Result<Arc<dyn Channel>, Error> {
    let options: Options = setup.read()?;
    let pools = match (options.max_age_days, options.pools.as_slice()) {
        (Some(_), [_, ..]) => return Err(setup.refuse("give `max_age_days` or `pools`, not both")),
        (days, []) => vec![days.unwrap_or(7.0) * DAY_MS],
        (None, pools) if pools.is_sorted_by(|a, b| a < b) => pools.iter().map(|p| p.half_life_ms()).collect(),
        _ => return Err(setup.refuse("the ages of `pools` must rise")),
    };
    if !pools.iter().all(|ms| ms.is_finite() && *ms >= 1.0) {
        return Err(setup.refuse("key `max_age_days` must be above 0"));
    }
    if options.order != Order::Newest && !setup.names.has_item_field(&setup.catalogue.author) {
        return Err(setup.needs("an item field that `[catalogue] author` names, for its `order`"));
    }
    let weighing = Weighing::new(setup, 100, 30.0, &Default::default())?;
    let popularity = setup.parts.popularity.clone();
    Ok(Arc::new(NewItems { pools, order: options.order, weighing, popularity }))
}

impl NewItems {
    /// What each author counts in this order.
    fn standing(&self, call: &Call) -> impl FnMut(ItemRow) -> f64 {
        let catalogue = call.catalogue.clone();
        let now = call.request.time_ms;
        let mut authors: RapidHashMap<u32, f64> = RapidHashMap::default();
        if self.order == Order::OwnAuthors {
            for (item, weight) in self.weighing.of(&call.request) {
                *authors.entry(catalogue.author(item)).or_default() += f64::from(weight);
            }
            // Items without an author share none.
            authors.remove(&0);
        }
        let (order, popularity) = (self.order, self.popularity.clone());
        move |item| {
            let author = catalogue.author(item);
            match order {
                _ if author == 0 => 0.0,
                Order::Newest => 0.0,
                Order::OwnAuthors => authors.get(&author).copied().unwrap_or(0.0),
                Order::AuthorRecord => *authors.entry(author).or_insert_with(|| {
                    let popularity = popularity.read().unwrap_or_else(PoisonError::into_inner);
                    let own = catalogue.items_of_author(author);
                    let count = |item: &ItemRow| popularity.count(*item, RECORD, now);
                    own.iter().map(count).sum::<f64>() / own.len().max(1) as f64
                }),
            }
        }
    }
}

impl Channel for NewItems {
    fn recall(&self, call: &Call, k: usize) -> Result<Vec<Candidate>, Error> {
        let now = call.request.time_ms;
        let oldest = self.pools.last().copied().unwrap_or(1.0);
        let share = |created: i64| (1.0 - (now - created) as f64 / oldest) as f32;
        let mut standing = self.standing(call);
        let mut lists = Vec::with_capacity(self.pools.len());
        let mut until = now;
        for &age in &self.pools {
            let since = now.saturating_sub(age as i64);
            let born = call.catalogue.created_within(since, until).filter(|x| call.keep(x.1));
            until = since;
            lists.push(match self.order {
                Order::Newest => born.take(k).map(|(created, item)| (item, share(created))).collect(),
                _ => {
                    let mut all: Vec<(f64, i64, ItemRow)> =
                        born.map(|(created, item)| (standing(item), created, item)).collect();
                    all.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then((b.1, b.2).cmp(&(a.1, a.2))));
                    all.iter().take(k).map(|x| (x.2, share(x.1))).collect::<Vec<_>>()
                }
            });
        }
        Ok(super::dealt(&lists, k))
    }
}
