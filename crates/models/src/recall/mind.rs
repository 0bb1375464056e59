//! MIND (Li et al., CIKM 2019): interests by dynamic routing, each with what else is known of the user through a tower.
//!
//! v_j = MLP([u_j ‖ embeddings of the other request fields]). A positive item is learned by the interest that fits it: label-aware attention
//! softmax_j(⟨v_j, e⟩^p), p → ∞ (`power` absent) being the best one alone. At serving every interest searches, and an item counts with
//! its best score. Unlike in the paper negative products are not raised to a power (they count as 0), and vectors may be of unit length.

use millstream_nn::{
    CapsuleConfig, Capsules, Embed, Inputs, Linear, Mlp, MlpConfig, Params, Pass, TableId, Tensor,
};
use serde::Deserialize;

use super::intents::WHOLE_ALONE;
use super::interest::{self, check_power};
use super::next_item::check_shares;
use super::profile::{Profile, check_temperature, others, sized};
use crate::ranker::Shape;
use crate::retriever::{Retriever, RetrieverDef, Targets};
use crate::{Error, ModelConfig};

/// Entry of the list of retrievers.
pub const DEF: RetrieverDef = RetrieverDef { name: "mind", check, build, whole: false, graph: false };

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    /// D: width of each embedding, of users and of items.
    embedding: usize,
    /// K.
    interests: usize,
    /// Rounds of routing.
    iterations: usize,
    /// Standard deviation of the first routing logits.
    logit_std: f32,
    /// Whether short histories have fewer interests.
    dynamic: bool,
    /// Layers of the tower below the output.
    hidden: Vec<usize>,
    dropout: f32,
    /// p.
    power: Option<f32>,
    /// τ.
    temperature: f32,
    /// Whether users and items are compared at unit length.
    unit: bool,
    /// Standard deviation of fresh embeddings.
    init_std: f32,
    /// The sequence, where there are several.
    sequence: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        let capsules = CapsuleConfig::default();
        Self {
            embedding: 64,
            interests: capsules.interests,
            iterations: capsules.iterations,
            logit_std: capsules.logit_std,
            dynamic: capsules.dynamic,
            hidden: vec![128],
            dropout: 0.0,
            power: None,
            temperature: 1.0,
            unit: false,
            init_std: 0.05,
            sequence: None,
        }
    }
}

struct Mind {
    profile: Profile,
    table: TableId,
    capsules: Capsules,
    others: Option<Embed>,
    tower: Mlp,
    out: Linear,
    config: Config,
}

fn check(cfg: &ModelConfig) -> Result<(), Error> {
    cfg.without("intents", WHOLE_ALONE)?;
    let c: Config = cfg.options()?;
    check_temperature(&cfg.name, c.temperature)?;
    check_power(&cfg.name, c.power)?;
    check_shares(&cfg.name, &[("dropout", c.dropout)])
}

fn build(cfg: &ModelConfig, shape: &Shape<'_>, params: &mut Params) -> Result<Box<dyn Retriever>, Error> {
    check(cfg)?;
    let c: Config = cfg.options()?;
    let d = c.embedding;
    let profile = Profile::new((cfg, shape), c.sequence.as_deref(), (d, c.init_std))?;
    let routing = CapsuleConfig {
        interests: c.interests,
        iterations: c.iterations,
        logit_std: c.logit_std,
        dynamic: c.dynamic,
        ..CapsuleConfig::default()
    };
    let others = profile.embed_others(shape, params)?;
    let inputs = d * (1 + others.as_ref().map_or(0, Embed::fields));
    let mlp = MlpConfig { hidden: c.hidden.clone(), dropout: c.dropout, ..MlpConfig::default() };
    let tower = Mlp::new(params, "tower", inputs, &mlp)?;
    Ok(Box::new(Mind {
        table: profile.table(params, "")?,
        capsules: Capsules::new(params, "capsules", d, routing)?,
        out: Linear::new(params, "out", tower.outputs(), d)?,
        profile,
        others,
        tower,
        config: c,
    }))
}

impl Retriever for Mind {
    fn users(&self, pass: &Pass, x: &Inputs) -> Tensor {
        let (r, k, d) = (x.requests(), self.config.interests, self.config.embedding);
        let interests = self.capsules.forward(pass, &self.profile.history(x, self.table)); // [R, K, D]
        let mut parts = vec![interests.reshape(&[r * k, d])];
        if let Some(known) = others(self.others.as_ref(), pass, x) {
            let each = (0..r as u32).flat_map(|request| vec![request; k]).collect();
            parts.push(known.gather(&std::sync::Arc::new(each)));
        }
        let h = self.tower.forward(pass, &Tensor::join(parts));
        sized(self.out.forward(pass, &h), self.config.unit).reshape(&[r, k, d])
    }

    fn items(&self, _pass: &Pass, x: &Inputs) -> Tensor {
        sized(self.profile.items(x, self.table), self.config.unit) // [N, D]
    }

    fn loss(&self, users: &Tensor, items: &Tensor, y: &Targets<'_>) -> Tensor {
        interest::loss(users, items, (self.config.power, self.config.temperature), y)
    }

    fn dim(&self) -> usize {
        self.config.embedding
    }

    fn interests(&self) -> usize {
        self.config.interests
    }
}
