//! YoutubeDNN's candidate generation (Covington et al., RecSys 2016): the mean of what was watched and what else is known of a user
//! through a tower of ReLU layers, softmax over all items, learned against a sample of them.
//!
//! u = MLP([mean of history ‖ embeddings of the other request fields]), score = ⟨u, e_item⟩ / τ, with log q taken off drawn and in-batch items'
//! scores (Jean et al. 2015). Items have a second vector as output, unless `shared`. With `example_age` the tower also learns how many days
//! an example is older than the newest, as ln(1 + a) and a/(1 + a); serving asks for a = 0, the end of training, so that what was wanted
//! lately counts and not what was wanted on the average of all the time. Unlike the paper's, vectors may be of unit length (`unit`), as later
//! work found better, with a number per item added (`item_bias`).

use millstream_nn::{Embed, Inputs, Linear, Mlp, MlpConfig, Params, Pass, Pooling, TableId, Tensor, loss};
use serde::Deserialize;

use super::intents::WHOLE_ALONE;
use super::next_item::check_shares;
use super::profile::{Profile, check_temperature, others, sized};
use crate::ranker::Shape;
use crate::retriever::{Retriever, RetrieverDef, Targets};
use crate::{Error, ModelConfig};

/// Entry of the list of retrievers.
pub const DEF: RetrieverDef = RetrieverDef { name: "youtube_dnn", check, build, whole: false, graph: false };

/// Numbers that say how old an example is.
const AGE: usize = 2;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    /// D: width of each embedding, of users and of items.
    embedding: usize,
    /// Layers of the tower below the output.
    hidden: Vec<usize>,
    dropout: f32,
    /// Dropout of what goes into the tower, also of one without layers.
    input_dropout: f32,
    /// τ.
    temperature: f32,
    /// Whether users and items are compared at unit length.
    unit: bool,
    /// Whether what was watched and what is found share one table.
    shared: bool,
    /// Whether each item has a number of its own that is added to its score: how often it is wanted whoever asks, which cosines cannot say.
    item_bias: bool,
    /// Whether the tower learns how old an example is.
    example_age: bool,
    /// Standard deviation of fresh embeddings.
    init_std: f32,
    /// The sequence, where there are several.
    sequence: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            embedding: 64,
            hidden: vec![256, 128],
            dropout: 0.0,
            input_dropout: 0.0,
            temperature: 1.0,
            unit: false,
            shared: false,
            item_bias: false,
            example_age: false,
            init_std: 0.05,
            sequence: None,
        }
    }
}

struct YoutubeDnn {
    profile: Profile,
    watched: TableId,
    found: TableId,
    bias: Option<TableId>,
    others: Option<Embed>,
    tower: Mlp,
    out: Linear,
    config: Config,
}

fn check(cfg: &ModelConfig) -> Result<(), Error> {
    cfg.without("intents", WHOLE_ALONE)?;
    let c: Config = cfg.options()?;
    check_temperature(&cfg.name, c.temperature)?;
    check_shares(&cfg.name, &[("dropout", c.dropout), ("input_dropout", c.input_dropout)])
}

fn build(cfg: &ModelConfig, shape: &Shape<'_>, params: &mut Params) -> Result<Box<dyn Retriever>, Error> {
    check(cfg)?;
    let c: Config = cfg.options()?;
    let d = c.embedding;
    let profile = Profile::new((cfg, shape), c.sequence.as_deref(), (d, c.init_std))?;
    let others = profile.embed_others(shape, params)?;
    let inputs = d * (1 + others.as_ref().map_or(0, Embed::fields)) + if c.example_age { AGE } else { 0 };
    let mlp = MlpConfig { hidden: c.hidden.clone(), dropout: c.dropout, ..MlpConfig::default() };
    let tower = Mlp::new(params, "tower", inputs, &mlp)?;
    Ok(Box::new(YoutubeDnn {
        watched: profile.table(params, "")?,
        found: profile.table(params, if c.shared { "" } else { "found/" })?,
        bias: c.item_bias.then(|| profile.column(params, "bias/")).transpose()?,
        out: Linear::new(params, "out", tower.outputs(), d)?,
        profile,
        others,
        tower,
        config: c,
    }))
}

/// `[R, 2]`: ln(1 + a) and a/(1 + a) of requests that are a days old; 0 where all is of now.
fn age(pass: &Pass, x: &Inputs) -> Tensor {
    let mut out: Vec<f32> = x.ages().iter().flat_map(|&a| [a.ln_1p(), a / (1.0 + a)]).collect();
    out.resize(x.requests() * AGE, 0.0);
    pass.constant(&[x.requests(), AGE], out)
}

impl Retriever for YoutubeDnn {
    fn users(&self, pass: &Pass, x: &Inputs) -> Tensor {
        let mean = x.rows(self.watched).pool(&self.profile.bags(x).pooled_by(Pooling::Mean)); // [R, D]
        let age = self.config.example_age.then(|| age(pass, x));
        let known = [Some(mean), others(self.others.as_ref(), pass, x), age];
        let known = Tensor::join(known.into_iter().flatten()).dropout(pass, self.config.input_dropout);
        let h = self.tower.forward(pass, &known);
        let user = sized(self.out.forward(pass, &h), self.config.unit); // [R, D]
        let one = self.bias.map(|_| pass.constant(&[x.requests(), 1], vec![1.0; x.requests()]));
        Tensor::join([Some(user), one].into_iter().flatten()).reshape(&[x.requests(), 1, self.dim()])
    }

    fn items(&self, _pass: &Pass, x: &Inputs) -> Tensor {
        let item = sized(self.profile.items(x, self.found), self.config.unit);
        let bias = self.bias.map(|bias| self.profile.items(x, bias));
        Tensor::join([Some(item), bias].into_iter().flatten()) // [N, D], and one column more with the bias
    }

    fn loss(&self, users: &Tensor, items: &Tensor, y: &Targets<'_>) -> Tensor {
        loss::in_batch_softmax(&users.flatten(), items, &y.in_batch(self.config.temperature))
    }

    fn ages(&self) -> bool {
        self.config.example_age
    }

    fn dim(&self) -> usize {
        self.config.embedding + usize::from(self.config.item_bias)
    }
}
