//! Worlds with known truth: users, items and a log whose true click probabilities can be asked.
//!
//! A [`World`] is made from a [`WorldConfig`] alone; the same configuration gives the same world and
//! the same log, whatever the number of threads. Users hold a few interests (topics of categories)
//! that change at known times; items have a category, topic, author, kind, region, language, price,
//! birth and death. The log comes from a mixed policy (popularity, interest, random), with position
//! bias and delayed actions. [`World::best`] is the oracle: no recommender can do better.
//!
//! Not for: claims about real people. It exists so that a chain's score can be set against the best
//! possible one.
//!
//! ```
//! use millstream_data::synth::{World, WorldConfig};
//! let config = WorldConfig { users: 50, items: 300, exposures: 1_000, ..WorldConfig::default() };
//! let world = World::new(&config)?;
//! let clicks = world.exposures().filter(|e| e.outcome.click_ms.is_some()).count();
//! assert!(clicks > 0);
//! let (item, p) = world.best(7, world.end_ms() - 1, 1, |_| true)[0];
//! assert_eq!(f64::from(p), world.click_probability(7, item, world.end_ms() - 1));
//! # Ok::<(), millstream_data::Error>(())
//! ```

mod config;
mod items;
mod log;
mod outcome;
mod policy;
mod rng;
mod schedule;
mod space;
#[cfg(test)]
mod tests;
mod truth;
mod users;
mod vocab;
mod write;

pub use config::{DAY_MS, Effects, KindShares, PolicyMix, WorldConfig};
pub use items::{Item, ShareKind};
pub use log::{Action, Events, Exposure, Exposures, LogEvent};
pub use millstream_schema::ids::{ItemRow, UserRow};
pub use outcome::Outcome;
pub use policy::LogChannel;
pub use users::{Interest, User};
pub use write::{FileFormat, Written, write_world};

use crate::Error;
use items::Items;
use space::Space;
use truth::Weights;
use users::Users;
use vocab::request_id;

/// A world: its users, its items and the truth about them.
pub struct World {
    config: WorldConfig,
    items: Items,
    users: Users,
    weights: Weights,
}

impl World {
    /// Makes the world of a configuration. Takes well under a second for the default one.
    ///
    /// # Errors
    /// [`Error::Config`] naming the first key whose value no world can have.
    pub fn new(config: &WorldConfig) -> Result<Self, Error> {
        config.validate()?;
        let space = Space::new(config);
        let mut world = Self {
            config: config.clone(),
            items: Items::new(config, &space),
            users: Users::new(config, &space),
            weights: Weights::new(&config.truth),
        };
        world.calibrate();
        Ok(world)
    }

    /// The configuration the world was made from.
    pub fn config(&self) -> &WorldConfig {
        &self.config
    }

    /// First moment of the run, epoch milliseconds.
    pub fn start_ms(&self) -> i64 {
        self.config.start_ms
    }

    /// End of the run (exclusive), epoch milliseconds.
    pub fn end_ms(&self) -> i64 {
        self.config.end_ms()
    }

    /// All items, by row.
    pub fn items(&self) -> &[Item] {
        &self.items.facts
    }

    /// All users, by row.
    pub fn users(&self) -> &[User] {
        &self.users.facts
    }

    /// Interests of a user at a time.
    ///
    /// # Panics
    /// When the user is outside this world.
    pub fn interests(&self, user: UserRow, time_ms: i64) -> &[Interest] {
        self.users.mind(user as usize, time_ms).0
    }

    /// Moments at which a user swaps an interest for another, ascending.
    ///
    /// # Panics
    /// When the user is outside this world.
    pub fn switches(&self, user: UserRow) -> impl Iterator<Item = i64> + '_ {
        self.users.switches(user as usize)
    }

    /// Id of a user in files, as in `u000123`.
    pub fn user_id(&self, user: UserRow) -> String {
        vocab::user_id(user)
    }

    /// Id of an item in files, as in `i0004567`.
    pub fn item_id(&self, item: ItemRow) -> String {
        vocab::item_id(item)
    }

    /// Row of a user's id, if it is of this world.
    pub fn user_row(&self, id: &str) -> Option<UserRow> {
        vocab::row_of(id, self.users.facts.len(), vocab::user_id)
    }

    /// Row of an item's id, if it is of this world.
    pub fn item_row(&self, id: &str) -> Option<ItemRow> {
        vocab::row_of(id, self.items.facts.len(), vocab::item_id)
    }

    /// Title of an item: words that tell its topic and category.
    ///
    /// # Panics
    /// When the item is outside this world.
    pub fn title(&self, item: ItemRow) -> String {
        vocab::title(self.config.seed, item, &self.items.facts[item as usize])
    }
}
