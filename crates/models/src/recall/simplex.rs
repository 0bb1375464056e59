//! SimpleX (Mao et al., CIKM 2021): matrix factorisation with what the user did added to who they are, learned by a loss that looks at hard
//! negatives alone.
//!
//! u = g e_u + (1 − g) V p, p the history's items as a mean or by attention; scores are cosines; loss (1 − cos⁺) + w mean max(0, cos⁻ − m) over
//! negatives drawn for the batch (`loss = "contrastive"`), or the softmax of cosines over τ (`"softmax"`; Wu et al., TOIS 2024). With `history =
//! false` it is matrix factorisation with either loss.

use millstream_nn::{
    AttentionPool, FieldInput, Init, Inputs, Linear, Params, Pass, Pooling, RowInit, TableId, Tensor, loss,
};
use millstream_schema::{Rows, Shape as Kind, Side};
use serde::Deserialize;

use super::intents::WHOLE_ALONE;
use super::next_item::check_shares;
use super::profile::{Profile, check_temperature, is_item};
use crate::ranker::Shape;
use crate::retriever::{Retriever, RetrieverDef, Targets};
use crate::{Error, ModelConfig};

/// Entry of the list of retrievers.
pub const DEF: RetrieverDef = RetrieverDef { name: "simplex", check, build, whole: false, graph: false };

/// What it is learned by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Loss {
    Contrastive,
    Softmax,
}

/// How a history becomes one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Pool {
    Mean,
    /// By learned attention, whoever asks.
    Attention,
    /// By the user's attention.
    User,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    /// D.
    embedding: usize,
    /// Whether there is a part of the history.
    history: bool,
    pool: Pool,
    /// g: what the user's own vector counts beside the history.
    share: f32,
    /// Drops whole numbers of the users' vectors.
    dropout: f32,
    loss: Loss,
    /// m of the contrastive loss.
    margin: f32,
    /// w of the contrastive loss.
    negative_weight: f32,
    /// τ of the softmax.
    temperature: f32,
    /// Standard deviation of fresh embeddings.
    init_std: f32,
    /// The sequence, where there are several.
    sequence: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            embedding: 64,
            history: true,
            pool: Pool::Mean,
            share: 0.5,
            dropout: 0.0,
            loss: Loss::Contrastive,
            margin: 0.9,
            negative_weight: 150.0,
            temperature: 0.1,
            init_std: 1e-2,
            sequence: None,
        }
    }
}

fn read(cfg: &ModelConfig) -> Result<Config, Error> {
    cfg.without("intents", WHOLE_ALONE)?;
    let c: Config = cfg.options()?;
    let fail = |text: String| Err(Error::Config(format!("model `{}`: {text}", cfg.name)));
    check_temperature(&cfg.name, c.temperature)?;
    if !(-1.0..1.0).contains(&c.margin) {
        return fail(format!("margin must be in [-1, 1), not {}", c.margin));
    }
    if !(c.negative_weight.is_finite() && c.negative_weight >= 0.0) {
        return fail(format!("negative_weight must be 0 or more, not {}", c.negative_weight));
    }
    if !(0.0..=1.0).contains(&c.share) {
        return fail(format!("share must be in [0, 1], not {}", c.share));
    }
    check_shares(&cfg.name, &[("dropout", c.dropout)])?;
    Ok(c)
}

fn check(cfg: &ModelConfig) -> Result<(), Error> {
    let c = read(cfg)?;
    if !c.history {
        cfg.idle("history = false", &["pool", "share", "sequence"])?;
    }
    match c.loss {
        Loss::Contrastive => cfg.idle("loss = \"contrastive\"", &["temperature"]),
        Loss::Softmax => cfg.idle("loss = \"softmax\"", &["margin", "negative_weight"]),
    }
}

/// The part of the history.
struct Past {
    profile: Profile,
    pool: Option<AttentionPool>,
    out: Linear,
}

struct SimpleX {
    user: (usize, TableId),
    item: (usize, TableId),
    past: Option<Past>,
    config: Config,
}

fn build(cfg: &ModelConfig, shape: &Shape<'_>, params: &mut Params) -> Result<Box<dyn Retriever>, Error> {
    let c = read(cfg)?;
    let (item, user) = pair(cfg, shape)?;
    let past = match c.history {
        true => Some(past(&c, (cfg, shape), params)?),
        false => None,
    };
    let item = past.as_ref().map_or(item, |past| past.profile.item);
    let mut table = |place: usize| {
        let space = shape.fields[place].space.clone().unwrap_or_default();
        let d = c.embedding;
        params.table(&format!("{space}/d{d}"), &space, d, RowInit::Normal(c.init_std)).map(|id| (place, id))
    };
    Ok(Box::new(SimpleX { user: table(user)?, item: table(item)?, past, config: c }))
}

/// The first item feature and the first user feature with one key.
pub(super) fn pair(cfg: &ModelConfig, shape: &Shape<'_>) -> Result<(usize, usize), Error> {
    let chosen = cfg.chosen(shape.fields)?;
    let is_user = |&&f: &&usize| {
        let field = &shape.fields[f];
        field.rows == Rows::Request && field.shape == Kind::Key && shape.sides[f] == Side::User
    };
    let missing = |side: &str| {
        Error::Config(format!(
            "model `{}`: there is no {side} feature with one key, such as its id",
            cfg.name
        ))
    };
    let item = chosen.iter().find(|f| is_item(shape, **f)).ok_or_else(|| missing("item"))?;
    let user = chosen.iter().find(is_user).ok_or_else(|| missing("user"))?;
    Ok((*item, *user))
}

fn past(c: &Config, (cfg, shape): (&ModelConfig, &Shape<'_>), params: &mut Params) -> Result<Past, Error> {
    let d = c.embedding;
    let profile = Profile::new((cfg, shape), c.sequence.as_deref(), (d, c.init_std))?;
    let pool = match c.pool {
        Pool::Mean => None,
        Pool::Attention => Some(AttentionPool::new(params, "past.pool", d)?),
        Pool::User => Some(AttentionPool::asked(params, "past.pool", d)?),
    };
    let out = Linear::without_bias(params, "past.out", (d, d), Init::XavierUniform)?;
    Ok(Past { profile, pool, out })
}

impl SimpleX {
    /// p `[R, D]`.
    fn pooled(&self, pass: &Pass, x: &Inputs, (past, user): (&Past, &Tensor)) -> Tensor {
        let history = || past.profile.history(x, self.item.1);
        match (&past.pool, self.config.pool) {
            (Some(pool), Pool::User) => pool.forward_for(pass, user, &history()),
            (Some(pool), _) => pool.forward(pass, &history()),
            (None, _) => x.rows(self.item.1).pool(&past.profile.bags(x).pooled_by(Pooling::Mean)),
        }
    }
}

/// The rows of a field with one key.
pub(super) fn rows(x: &Inputs, (place, table): (usize, TableId)) -> Tensor {
    let FieldInput::Key(places) = x.field(place) else {
        unreachable!("the field was a key when the model was built");
    };
    x.rows(table).gather(places)
}

impl Retriever for SimpleX {
    fn users(&self, pass: &Pass, x: &Inputs) -> Tensor {
        let own = rows(x, self.user); // [R, D]
        let user = match &self.past {
            Some(past) => {
                let g = self.config.share;
                let seen = past.out.forward(pass, &self.pooled(pass, x, (past, &own)));
                own.scale(g).add(&seen.scale(1.0 - g))
            }
            None => own,
        };
        let user = user.dropout(pass, self.config.dropout).l2_normalise();
        user.reshape(&[x.requests(), 1, self.config.embedding])
    }

    fn items(&self, _pass: &Pass, x: &Inputs) -> Tensor {
        rows(x, self.item).l2_normalise() // [N, D]
    }

    fn loss(&self, users: &Tensor, items: &Tensor, y: &Targets<'_>) -> Tensor {
        let users = users.flatten();
        match self.config.loss {
            Loss::Softmax => loss::in_batch_softmax(&users, items, &y.in_batch(self.config.temperature)),
            Loss::Contrastive => loss::cosine_contrastive(
                &users,
                items,
                &loss::CosineContrastive {
                    margin: self.config.margin,
                    negative_weight: self.config.negative_weight,
                    items: y.items,
                    weights: y.weights,
                },
            ),
        }
    }

    fn draws_alone(&self) -> Option<&'static str> {
        (self.config.loss == Loss::Contrastive).then_some("loss = \"contrastive\"")
    }

    fn dim(&self) -> usize {
        self.config.embedding
    }
}
