//! What recommenders of the next item share: the sequence they read, the item table that is their input and their output,
//! and their losses.

use millstream_nn::loss::{Against, ChoiceItems, ChoiceLoss, choice, gbce_beta, in_batch_softmax};
use millstream_nn::{
    Bags, FieldInput, Init, Inputs, ParamId, Params, Pass, Ragged, RowInit, TableId, Tensor,
};
use millstream_schema::Field;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

use super::intents::{IntentOptions, Intents};
use super::sequence::item_sequence;
use crate::ranker::Shape;
use crate::retriever::{NextItems, NextTargets, Retriever, Scope, Targets};
use crate::{Error, ModelConfig};

/// What the next item is learned by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NextLoss {
    /// Binary cross-entropy of the next item and of each negative (Kang & McAuley 2018).
    #[default]
    Bce,
    /// The same with the next item's part calibrated for how few negatives are drawn (Petrov & Macdonald 2023); negatives
    /// are to be drawn uniformly.
    Gbce,
    /// Softmax cross-entropy, with log q taken off drawn items' scores.
    Softmax,
    /// BPR-max (Hidasi & Karatzoglou 2018).
    BprMax,
    /// TOP1-max (the same).
    Top1Max,
}

impl NextLoss {
    /// Its name in a configuration.
    fn name(self) -> &'static str {
        match self {
            Self::Bce => "bce",
            Self::Gbce => "gbce",
            Self::Softmax => "softmax",
            Self::BprMax => "bpr_max",
            Self::Top1Max => "top1_max",
        }
    }
}

/// Declares the `Config` of a recommender of the next item: the options that all of them have, with the defaults of a [`Next`],
/// and its own.
macro_rules! options {
    ($all:expr; $($(#[$meta:meta])* $field:ident: $type:ty = $default:expr,)*) => {
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields, default)]
        struct Config {
            embedding: usize,
            init_std: f32,
            sequence: Option<String>,
            loss: crate::recall::next_item::NextLoss,
            calibration: f32,
            penalty: f32,
            in_batch: bool,
            bias: Option<f32>,
            intents: Option<crate::recall::intents::IntentOptions>,
            $($(#[$meta])* $field: $type,)*
        }

        impl Default for Config {
            fn default() -> Self {
                let all: crate::recall::next_item::Next = $all;
                Self {
                    embedding: all.embedding,
                    init_std: all.init_std,
                    sequence: all.sequence,
                    loss: all.loss,
                    calibration: all.calibration,
                    penalty: all.penalty,
                    in_batch: all.in_batch,
                    bias: all.bias,
                    intents: all.intents,
                    $($field: $default,)*
                }
            }
        }

        impl Config {
            /// The options that all recommenders of the next item have.
            fn next(&self) -> crate::recall::next_item::Next {
                crate::recall::next_item::Next {
                    embedding: self.embedding,
                    init_std: self.init_std,
                    sequence: self.sequence.clone(),
                    loss: self.loss,
                    calibration: self.calibration,
                    penalty: self.penalty,
                    in_batch: self.in_batch,
                    bias: self.bias,
                    intents: self.intents,
                }
            }
        }
    };
}
pub(crate) use options;

/// Options that all recommenders of the next item have.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Next {
    /// D: width of the items.
    pub(crate) embedding: usize,
    /// Standard deviation of fresh embeddings.
    pub(crate) init_std: f32,
    /// The sequence, where there are several.
    pub(crate) sequence: Option<String>,
    pub(crate) loss: NextLoss,
    /// t of gBCE.
    pub(crate) calibration: f32,
    /// λ of BPR-max.
    pub(crate) penalty: f32,
    /// Whether the next items of all elements of the batch are negatives too.
    pub(crate) in_batch: bool,
    /// First value of a number that is added to all scores of the binary losses and learned with them; none when absent. Ranking does not
    /// see it. With many negatives nearly all scores are to be low, and without it states and items first turn to opposite sides to
    /// make them so, whereby they lose what tells one from another.
    pub(crate) bias: Option<f32>,
    /// The long-tail intent constraint, where it is wanted.
    pub(crate) intents: Option<IntentOptions>,
}

impl Default for Next {
    fn default() -> Self {
        Self {
            embedding: 100,
            init_std: 0.05,
            sequence: None,
            loss: NextLoss::Softmax,
            calibration: 0.75,
            penalty: 1.0,
            in_batch: false,
            bias: None,
            intents: None,
        }
    }
}

/// Whether the options named are shares, in [0, 1).
///
/// # Errors
/// Names the first that is not.
pub(crate) fn check_shares(model: &str, shares: &[(&str, f32)]) -> Result<(), Error> {
    match shares.iter().find(|(_, p)| !(0.0..1.0).contains(p)) {
        Some((key, p)) => Err(Error::Config(format!("model `{model}`: {key} must be in [0, 1), not {p}"))),
        None => Ok(()),
    }
}

impl Next {
    /// # Errors
    /// An option out of its range.
    pub(crate) fn check(self, model: &str) -> Result<Self, Error> {
        let fail = |text: String| Err(Error::Config(format!("model `{model}`: {text}")));
        if self.embedding == 0 || !(self.init_std.is_finite() && self.init_std > 0.0) {
            return fail("`embedding` and `init_std` must be above 0".into());
        }
        if let Some(intents) = &self.intents {
            intents.check(model)?;
        }
        if !(0.0..=1.0).contains(&self.calibration) {
            return fail(format!("calibration must be in [0, 1], not {}", self.calibration));
        }
        if !(self.penalty >= 0.0 && self.penalty.is_finite()) {
            return fail(format!("penalty must be 0 or more, not {}", self.penalty));
        }
        if let Some(bias) = self.bias {
            if !bias.is_finite() {
                return fail(format!("bias must be a finite number, not {bias}"));
            }
            if !matches!(self.loss, NextLoss::Bce | NextLoss::Gbce) {
                return fail("bias is for the losses \"bce\" and \"gbce\": the others do not see what all scores share".into());
            }
        }
        if self.in_batch && self.loss == NextLoss::Gbce {
            return fail("in_batch = true draws by popularity; gBCE is for uniform negatives".into());
        }
        Ok(self)
    }
}

impl Next {
    /// Refuses options of other losses than the one that is learned by, see [`ModelConfig::idle`].
    ///
    /// # Errors
    /// Names the option and the loss.
    pub(crate) fn idle(&self, cfg: &ModelConfig) -> Result<(), Error> {
        let beside = format!("loss = \"{}\"", self.loss.name());
        let own: &[&str] = match self.loss {
            NextLoss::Gbce => &["penalty"],
            NextLoss::BprMax => &["calibration"],
            NextLoss::Bce | NextLoss::Softmax | NextLoss::Top1Max => &["calibration", "penalty"],
        };
        cfg.idle(&beside, own)?;
        self.intents.as_ref().map_or(Ok(()), |intents| intents.idle(cfg))
    }
}

/// What tells one recommender of the next item from another: the states it makes of a sequence.
pub(crate) trait States: Send + Sync {
    /// What it reads and recommends.
    fn catalogue(&self) -> &Catalogue;
    /// The state after each element, as wide as an item's vector.
    fn states(&self, pass: &Pass, x: &Inputs) -> Ragged;
    /// The state after each history's last element `[R, D]`, where that alone is wanted; anything finite for an empty one.
    fn last(&self, pass: &Pass, x: &Inputs) -> Tensor {
        self.states(pass, x).last()
    }
    /// The states, and what is to be learned besides the next items; a scalar.
    fn states_and_loss(&self, pass: &Pass, x: &Inputs) -> (Ragged, Option<Tensor>) {
        (self.states(pass, x), None)
    }
}

/// A retriever of the next item by its states: a user is the last one, and every one learns the item after it.
pub(crate) struct NextItem<M>(pub(crate) M);

impl<M: States> Retriever for NextItem<M> {
    fn users(&self, pass: &Pass, x: &Inputs) -> Tensor {
        let catalogue = self.0.catalogue();
        let last = (!catalogue.bags(x).index().is_empty()).then(|| self.0.last(pass, x));
        catalogue.users(pass, x, last) // [R, 1, D]
    }

    fn items(&self, _pass: &Pass, x: &Inputs) -> Tensor {
        self.0.catalogue().items(x) // [N, D]
    }

    fn loss(&self, users: &Tensor, items: &Tensor, y: &Targets<'_>) -> Tensor {
        Catalogue::loss_of_last(users, items, y)
    }

    fn dim(&self) -> usize {
        self.0.catalogue().dim()
    }

    fn next_items(&self) -> Option<&dyn NextItems> {
        Some(self)
    }
}

impl<M: States> NextItems for NextItem<M> {
    fn in_batch(&self) -> bool {
        self.0.catalogue().in_batch()
    }

    fn corrects(&self) -> bool {
        self.0.catalogue().options.loss == NextLoss::Softmax
    }

    fn loss(&self, pass: &Pass, x: &Inputs, y: &NextTargets<'_>) -> Result<Tensor, Error> {
        let catalogue = self.0.catalogue();
        catalogue.check(x, y)?;
        let (states, besides) = self.0.states_and_loss(pass, x);
        let constraint = catalogue.intents.as_ref().map(|intents| intents.loss(pass, x, catalogue, &states));
        let loss = catalogue.loss_of_all(pass, &states, (x, y));
        Ok(besides.into_iter().chain(constraint).fold(loss, |sum, more| sum.add(&more)))
    }
}

/// The sequence a model reads and the table of its items.
#[derive(Debug, Clone)]
pub(crate) struct Catalogue {
    /// Place of the sequence of item keys.
    sequence: usize,
    /// Place of the candidates' item key.
    item: usize,
    table: TableId,
    dim: usize,
    /// The user vector of an empty history; zero until something is learned of it.
    stranger: ParamId,
    /// See [`Next::bias`].
    bias: Option<ParamId>,
    options: Next,
    intents: Option<Intents>,
}

impl Catalogue {
    /// Finds the sequence whose elements are the keys of an item feature, or of several the one that the options name, and asks
    /// for the table of its rows.
    ///
    /// # Errors
    /// As [`item_sequence`], or an option out of its range.
    pub(crate) fn new(
        options: Next,
        (cfg, shape): (&ModelConfig, &Shape<'_>),
        params: &mut Params,
    ) -> Result<Self, Error> {
        let options = options.check(&cfg.name)?;
        let (dim, std) = (options.embedding, options.init_std);
        let (sequence, item) = item_sequence((cfg, shape), options.sequence.as_deref())?;
        let space = shape.fields[item].space.clone().unwrap_or_default();
        let table = params.table(&format!("{space}/d{dim}"), &space, dim, RowInit::Normal(std))?;
        let stranger = params.dense("stranger", &[dim], Init::Zeros)?;
        let bias = options.bias.map(|first| params.dense("bias", &[1], Init::Constant(first))).transpose()?;
        let intents = options.intents.map(|intents| Intents::new(intents, dim, params)).transpose()?;
        Ok(Self { sequence, item, table, dim, stranger, bias, options, intents })
    }

    pub(crate) fn dim(&self) -> usize {
        self.dim
    }

    pub(crate) fn in_batch(&self) -> bool {
        self.options.in_batch
    }

    /// Place of the field beside the sequence that is called `sequence.part`.
    pub(crate) fn beside(&self, part: &str, fields: &[Field]) -> Option<usize> {
        let name = fields[self.sequence].name.split('.').next()?;
        fields.iter().position(|f| f.name == format!("{name}.{part}"))
    }

    /// The rows of [`Catalogue::rows`] that each request's history names, oldest first.
    pub(crate) fn bags<'a>(&self, x: &'a Inputs) -> &'a Bags {
        let FieldInput::Keys(bags) = x.field(self.sequence) else {
            unreachable!("the field was a sequence when the model was built");
        };
        bags
    }

    /// The vectors of all items of the batch `[U, D]`.
    pub(crate) fn rows<'a>(&self, x: &'a Inputs) -> &'a Tensor {
        x.rows(self.table)
    }

    /// The vectors of each request's history, oldest first.
    pub(crate) fn history(&self, x: &Inputs) -> Ragged {
        Ragged::of_bags(self.bags(x), self.rows(x))
    }

    /// The rows `[N]` of [`Catalogue::rows`] that candidates are.
    pub(crate) fn candidates<'a>(&self, x: &'a Inputs) -> &'a [u32] {
        let FieldInput::Key(places) = x.field(self.item) else {
            unreachable!("the field was a key when the model was built");
        };
        places
    }

    /// Candidates' vectors `[N, D]`: rows of the table that the histories are read from.
    pub(crate) fn items(&self, x: &Inputs) -> Tensor {
        self.rows_of(x, 0, x.candidates())
    }

    fn rows_of(&self, x: &Inputs, from: usize, count: usize) -> Tensor {
        self.rows(x).gather(&Arc::new(self.candidates(x)[from..from + count].to_vec()))
    }

    /// Users `[R, 1, D]` from the states after their last elements `[R, D]`, absent if no user has one: who has no history is
    /// a stranger.
    fn users(&self, pass: &Pass, x: &Inputs, last: Option<Tensor>) -> Tensor {
        let (bags, d) = (self.bags(x), self.dim);
        let rows = bags.len();
        let there: Vec<f32> = (0..rows).map(|b| f32::from(!bags.range(b).is_empty())).collect();
        let none: Vec<f32> = there.iter().map(|t| 1.0 - t).collect();
        let known = last.map(|last| match none.iter().all(|n| *n == 0.0) {
            true => last,
            false => last.mul_column(&pass.constant(&[rows, 1], there)),
        });
        if let Some(known) = known.as_ref().filter(|_| none.iter().all(|n| *n == 0.0)) {
            return known.reshape(&[rows, 1, d]);
        }
        let ones = pass.constant(&[rows, d], vec![1.0; rows * d]);
        let strangers = ones.mul_row(&pass.param(self.stranger)).mul_column(&pass.constant(&[rows, 1], none));
        known.map_or(strangers.clone(), |known| known.add(&strangers)).reshape(&[rows, 1, d])
    }

    /// Loss of one state a request against the batch's columns, column r being right for request r: softmax, whatever the
    /// loss of whole sequences is.
    pub(crate) fn loss_of_last(users: &Tensor, items: &Tensor, y: &Targets<'_>) -> Tensor {
        let known = y.in_batch(1.0);
        in_batch_softmax(&users.flatten(), items, &known)
    }

    /// How many negatives each of P elements is compared with, where those of its scope are its own.
    fn each(x: &Bags, y: &NextTargets<'_>) -> usize {
        let (p, n) = (x.index().len(), y.items.len());
        match y.scope {
            Scope::Sequence => (n - p) / x.len(),
            Scope::Element => (n - p) / p,
            Scope::Batch | Scope::Catalogue => n - p,
        }
    }

    /// # Errors
    /// The candidates do not fit the histories.
    fn check(&self, x: &Inputs, y: &NextTargets<'_>) -> Result<(), Error> {
        let (p, n) = (self.bags(x).index().len(), y.items.len());
        let wrong = |what: &str| {
            Err(Error::Config(format!("a batch of whole sequences has {p} elements and {n} items: {what}")))
        };
        if p == 0 || n < p || n != x.candidates() {
            return wrong(
                "each element needs the item that comes next; histories may be cut shorter than sequences",
            );
        }
        if self.options.in_batch && y.scope != Scope::Batch {
            return wrong("in_batch = true goes with training.negatives_for = \"batch\"");
        }
        if Self::each(self.bags(x), y) == 0 && !self.options.in_batch {
            return wrong("there is no negative; set training.negatives above 0");
        }
        Ok(())
    }

    /// Loss of the state after each element, see [`crate::retriever::NextItems::loss`].
    fn loss_of_all(&self, pass: &Pass, states: &Ragged, (x, y): (&Inputs, &NextTargets<'_>)) -> Tensor {
        let (p, n, each) = (states.elements(), y.items.len(), Self::each(self.bags(x), y));
        let (right, others) = (&y.items[..p], &y.items[p..]);
        let softmax = self.options.loss == NextLoss::Softmax && y.scope != Scope::Catalogue;
        let shifts = if softmax { y.log_q } else { &[] };
        // The bias is one coordinate more, in which all items are 1.
        let with = |vectors: Tensor, of: &dyn Fn(Tensor) -> Tensor| match self.bias {
            None => vectors,
            Some(_) => {
                let ones = pass.constant(&[vectors.rows(), 1], vec![1.0; vectors.rows()]);
                Tensor::concat(&[&vectors, &of(ones)])
            }
        };
        let items = |vectors: Tensor| with(vectors, &|ones| ones);
        let values = &with(states.values().clone(), &|ones| match self.bias {
            Some(bias) => ones.mul_row(&pass.param(bias)),
            None => ones,
        });
        if self.options.in_batch {
            let targets: Vec<u32> = (0..p as u32).collect();
            let known = ChoiceItems { right, columns: y.items, column_shift: shifts, right_shift: &[] };
            let against = Against::Columns { targets: &targets };
            return choice(values, &items(self.items(x)), against, known, self.choice_loss(n - 1, n));
        }
        if y.scope == Scope::Catalogue {
            let against = Against::Columns { targets: right };
            let columns = items(self.rows_of(x, p, n - p));
            let loss = self.choice_loss(n - p - 1, y.catalogue);
            return choice(values, &columns, against, ChoiceItems::default(), loss);
        }
        let own = items(self.rows_of(x, 0, p));
        let columns = items(self.rows_of(x, p, n - p));
        let elements: Vec<u32>;
        let against = match y.scope {
            Scope::Sequence => Against::PerSequence { own: &own, offsets: states.offsets(), each },
            Scope::Element => {
                elements = (0..=p as u32).collect();
                Against::PerSequence { own: &own, offsets: &elements, each }
            }
            Scope::Batch | Scope::Catalogue => Against::Shared { own: &own },
        };
        let cut = |from: usize, to: usize| shifts.get(from..to).unwrap_or(&[]);
        let known = ChoiceItems { right, columns: others, column_shift: cut(p, n), right_shift: cut(0, p) };
        choice(values, &columns, against, known, self.choice_loss(each, y.catalogue))
    }

    fn choice_loss(&self, negatives: usize, catalogue: usize) -> ChoiceLoss {
        match self.options.loss {
            NextLoss::Bce => ChoiceLoss::Binary { beta: 1.0 },
            NextLoss::Gbce => {
                ChoiceLoss::Binary { beta: gbce_beta(negatives.max(1), catalogue, self.options.calibration) }
            }
            NextLoss::Softmax => ChoiceLoss::Softmax,
            NextLoss::BprMax => ChoiceLoss::BprMax { penalty: self.options.penalty },
            NextLoss::Top1Max => ChoiceLoss::Top1Max,
        }
    }
}
