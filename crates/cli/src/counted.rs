//! The counting tables that a run serves, and how they take in what came after the log.

use millstream_data::{Prepared, Split};
use millstream_models::recall::item_cf::{ItemCfConfig, LiveItemCf};
use millstream_models::recall::lists::InvertedLists;
use millstream_models::recall::positives::Changes;
use millstream_models::recall::swing::{LiveSwing, SwingConfig};
use millstream_models::recall::trained::About;
use millstream_models::recall::user_cf::UserCf;
use millstream_pipeline::takers::LiveTakers;
use millstream_pipeline::{Live, Takers};
use millstream_schema::{ItemRow, UserRow};
use std::sync::Arc;

use crate::Failure;
use crate::measure::with_positives;

/// Lists from item to items, as channels hold them.
pub type Lists = Arc<Live<InvertedLists>>;

/// A table with what it was counted from.
#[derive(Clone)]
pub struct Counted {
    /// Its name, for people.
    pub name: String,
    /// The parts of the log that it knows.
    pub parts: Vec<Split>,
    /// The table.
    pub table: Table,
}

/// A table as channels hold it, with the options it is counted by.
#[derive(Clone)]
pub enum Table {
    /// Common users of pairs of items.
    ItemCf(ItemCfConfig, Lists),
    /// Pairs of users of pairs of items.
    Swing(SwingConfig, Lists),
    /// Common items of pairs of users; it has its own positives and options.
    UserCf(Arc<Live<UserCf>>),
    /// Who took what.
    Takers(Arc<Live<Takers>>),
}

impl Counted {
    /// A model of the run, if it is one that follows events; its lists are among `lists`.
    pub fn of_model(name: &str, about: &About, lists: &Lists) -> Result<Option<Self>, Failure> {
        let options = about.model()?;
        let table = match about.kind.as_str() {
            "item_cf" => Table::ItemCf(options.options()?, lists.clone()),
            "swing" => Table::Swing(options.options()?, lists.clone()),
            _ => return Ok(None),
        };
        Ok(Some(Self::new(name, about, table)))
    }

    /// A model of the run that knows users.
    pub fn new(name: &str, about: &About, table: Table) -> Self {
        let known = |s: &Split| about.parts.iter().any(|part| part == s.as_str());
        let parts = Split::ALL.into_iter().filter(known).collect();
        Self { name: name.to_owned(), parts, table }
    }
}

/// A table that follows events, with the positives it is counted from.
pub enum Following {
    ItemCf(LiveItemCf, Lists),
    Swing(LiveSwing, Lists),
    UserCf(Arc<Live<UserCf>>),
    Takers(LiveTakers, Arc<Live<Takers>>),
}

impl Following {
    /// Reads the positives that the table was counted from.
    pub fn new(Counted { parts, table, .. }: &Counted, prepared: &Prepared) -> Result<Self, Failure> {
        Ok(match table {
            Table::ItemCf(config, lists) => {
                let table = lists.get();
                let resumed = with_positives(prepared, parts, |p| LiveItemCf::resume(config, p, table))?;
                Self::ItemCf(resumed, lists.clone())
            }
            Table::Swing(config, lists) => {
                let table = lists.get();
                let resumed = with_positives(prepared, parts, |p| LiveSwing::resume(config, p, table))?;
                Self::Swing(resumed, lists.clone())
            }
            Table::UserCf(model) => Self::UserCf(model.clone()),
            Table::Takers(takers) => {
                let sizes = (prepared.users.len(), prepared.items.len());
                let live = LiveTakers::new(sizes.0, sizes.1, &actions(prepared, parts)?)?;
                Self::Takers(live, takers.clone())
            }
        })
    }

    /// Takes changes in, and puts what comes of them in the served table's place.
    pub fn follow(&mut self, changes: &Changes) -> Result<(), Failure> {
        match self {
            Self::ItemCf(live, lists) => {
                live.follow(changes)?;
                lists.set(live.shared());
            }
            Self::Swing(live, lists) => {
                live.follow(changes)?;
                lists.set(live.shared());
            }
            Self::UserCf(model) => model.set(model.get().following(changes)?),
            Self::Takers(live, takers) => {
                let actions: Vec<_> = changes.events.iter().map(|e| (e.user, e.item, e.time_ms)).collect();
                live.follow(&changes.forgotten, &actions);
                takers.set(live.takers());
            }
        }
        Ok(())
    }
}

/// Who took what in these parts, at what time.
pub fn actions(prepared: &Prepared, parts: &[Split]) -> Result<Vec<(UserRow, ItemRow, i64)>, Failure> {
    let mut actions = Vec::new();
    for &split in parts {
        let x = prepared.interactions(split)?;
        for user in 0..x.users() {
            let span = x.offsets[user] as usize..x.offsets[user + 1] as usize;
            actions.extend(span.map(|at| (user as u32, x.items[at], x.time_ms[at])));
        }
    }
    Ok(actions)
}
