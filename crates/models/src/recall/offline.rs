//! Models that learn from the lists of positives at once, by name: no batches, no tape, no checkpoints between.

use millstream_schema::{ItemRow, UserRow};

use crate::recall::als::AlsConfig;
use crate::recall::bpr::BprConfig;
use crate::recall::bspm::{self, Bspm, BspmConfig};
use crate::recall::factors::{FactorModel, Factors};
use crate::recall::item_cf::ItemCfConfig;
use crate::recall::item2vec::Item2VecConfig;
use crate::recall::lists::InvertedLists;
use crate::recall::positives::Positives;
use crate::recall::swing::SwingConfig;
use crate::recall::user_cf::{UserCf, UserCfConfig};
use crate::{Error, ModelConfig};

/// Entry of [`OFFLINE`].
#[derive(Debug)]
pub struct OfflineDef {
    /// Name in `[model]`.
    pub name: &'static str,
    /// Whether it draws random numbers: another seed gives another model.
    pub draws: bool,
    check: fn(&ModelConfig) -> Result<(), Error>,
    fit: fn(&ModelConfig, &Positives<'_>, u64) -> Result<OfflineModel, Error>,
}

/// All models of this kind.
pub const OFFLINE: &[OfflineDef] = &[
    OfflineDef {
        name: "item_cf",
        draws: false,
        check: |m| m.options::<ItemCfConfig>()?.check(),
        fit: |m, p, _| Ok(OfflineModel::Lists(m.options::<ItemCfConfig>()?.build(p)?)),
    },
    OfflineDef {
        name: "user_cf",
        draws: false,
        check: |m| m.options::<UserCfConfig>()?.check(),
        fit: |m, p, _| Ok(OfflineModel::Users(Box::new(UserCf::build(&m.options()?, p)?))),
    },
    OfflineDef {
        name: "swing",
        draws: false,
        check: |m| m.options::<SwingConfig>()?.check(),
        fit: |m, p, _| Ok(OfflineModel::Lists(m.options::<SwingConfig>()?.build(p)?)),
    },
    OfflineDef {
        name: "als",
        draws: true,
        check: |m| m.options::<AlsConfig>()?.check(),
        fit: |m, p, seed| Ok(OfflineModel::Factors(m.options::<AlsConfig>()?.fit(p, seed, &mut |_| {})?)),
    },
    OfflineDef {
        name: "bpr",
        draws: true,
        check: |m| m.options::<BprConfig>()?.check(),
        fit: |m, p, seed| {
            Ok(OfflineModel::Factors(m.options::<BprConfig>()?.fit(p, seed, &mut |_, _| {})?))
        },
    },
    OfflineDef {
        name: "bspm",
        draws: true,
        check: |m| m.options::<BspmConfig>()?.check(),
        fit: |m, p, seed| Ok(OfflineModel::Filter(Box::new(m.options::<BspmConfig>()?.fit(p, seed)?))),
    },
    OfflineDef {
        name: "item2vec",
        draws: true,
        check: |m| m.options::<Item2VecConfig>()?.check(),
        fit: |m, p, seed| {
            Ok(OfflineModel::Factors(m.options::<Item2VecConfig>()?.fit(p, seed, &mut |_| {})?))
        },
    },
];

impl OfflineDef {
    /// The entry of this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        OFFLINE.iter().find(|d| d.name == name)
    }

    /// Checks the model's options.
    ///
    /// # Errors
    /// An unknown key, or an option out of range.
    pub fn check(&self, model: &ModelConfig) -> Result<(), Error> {
        (self.check)(model)
    }

    /// Learns from all positives.
    ///
    /// # Errors
    /// As [`OfflineDef::check`], lists that do not hold together, a budget of memory that is too small, or vectors that are
    /// no numbers any more.
    pub fn fit(
        &self,
        model: &ModelConfig,
        positives: &Positives<'_>,
        seed: u64,
    ) -> Result<OfflineModel, Error> {
        (self.fit)(model, positives, seed)
    }
}

/// What was learned.
#[derive(Debug, Clone)]
pub enum OfflineModel {
    /// Item → items.
    Lists(InvertedLists),
    /// User → users → items.
    Users(Box<UserCf>),
    /// Vectors.
    Factors(FactorModel),
    /// A filter over the graph of users and items.
    Filter(Box<Bspm>),
}

/// A user of the training data, and their weighted history.
pub type Known<'a> = (UserRow, &'a [(ItemRow, f32)]);

impl OfflineModel {
    /// Scores of all items for a user of the training data with this weighted history; `out` is `[items]`. An item that the model
    /// says nothing about is −∞.
    pub fn score_into(&self, user: UserRow, history: &[(ItemRow, f32)], out: &mut [f32]) {
        match self {
            Self::Lists(lists) => lists.score_into(history, out),
            Self::Users(cf) => cf.score_into(cf.similar().neighbours(user), out),
            Self::Filter(filter) => filter.score_into(history, out),
            Self::Factors(factors) => match factors.user(user) {
                Some(vector) => factors.score_into(vector, out),
                None => factors.score_into(&factors.user_vector(history), out),
            },
        }
        bar_unknown(out);
    }

    /// As [`OfflineModel::score_into`] for several users, at most [`OfflineModel::together`]; `out` is `[users, items]`.
    pub fn score_together(&self, users: &[Known<'_>], out: &mut [f32]) {
        let width = out.len() / users.len().max(1);
        if let Self::Filter(filter) = self {
            let histories: Vec<&[(ItemRow, f32)]> = users.iter().map(|user| user.1).collect();
            filter.score_together(&histories, width, out);
            return bar_unknown(out);
        }
        let rows = users.iter().zip(out.chunks_exact_mut(width.max(1)));
        rows.for_each(|((user, history), out)| self.score_into(*user, history, out));
    }

    /// Users that are best scored together.
    pub fn together(&self) -> usize {
        if let Self::Filter(_) = self { bspm::TOGETHER } else { 1 }
    }
}

/// Sums are not zero where anything was added, and a product with a row that was never learned is.
fn bar_unknown(scores: &mut [f32]) {
    scores.iter_mut().filter(|s| **s == 0.0).for_each(|s| *s = f32::NEG_INFINITY);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_model_learns_from_lists_and_prefers_what_goes_together() {
        let (mut offsets, mut item) = (vec![0u64], Vec::new());
        for user in 0..60u32 {
            item.extend((0..6).map(|n| user % 2 * 10 + (user / 2 * 3 + n) % 10));
            offsets.push(item.len() as u64);
        }
        let p = Positives { items: 21, offsets: &offsets, item: &item, time_ms: &[] };
        for def in OFFLINE {
            let mut text = format!("name = {:?}\n", def.name);
            text += match def.name {
                "als" => "dim = 8\nl2 = 0.1",
                "bspm" => "directions = 4",
                "bpr" => "dim = 8\nepochs = 100\nblocks = 2",
                "item2vec" => "dim = 8\nepochs = 60\nsample = 0.0\nshards = 1",
                _ => "",
            };
            let model: ModelConfig = toml::from_str(&text).unwrap();
            def.check(&model).unwrap();
            let fitted = def.fit(&model, &p, 1).unwrap();
            let history: Vec<(u32, f32)> = item[..6].iter().map(|&i| (i, 1.0)).collect();
            let mut scores = vec![0.0; 21];
            fitted.score_into(0, &history, &mut scores);
            let mut order: Vec<usize> = (0..21).collect();
            order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
            assert!(order[..8].iter().all(|i| *i < 10), "{}: {scores:?}", def.name);
            assert_eq!(scores[20], f32::NEG_INFINITY, "{}", def.name);
            let wrong: ModelConfig = toml::from_str(&format!("name = {:?}\nmemmory = 3", def.name)).unwrap();
            assert!(def.check(&wrong).unwrap_err().to_string().contains("memmory"));
        }
        assert!(OfflineDef::find("item_cg").is_none());
    }
}
