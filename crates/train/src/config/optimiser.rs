//! `dense = { … }` and `rows = { … }`: optimisers by name with their constants.

use millstream_nn::{AdaGrad, Adam, AdamW, DenseOptim, Ftrl, RAdam, RmsProp, Sgd};
use millstream_store::{Admission, DefaultRow, Expiry, RowOptim, RowType, TableConfig};
use serde::{Deserialize, Serialize};

use super::key_error;
use crate::Error;

/// Declares a section that also takes the constants of optimisers: serde cannot both flatten and refuse unknown
/// keys.
macro_rules! section {
    ($(#[$meta:meta])* $name:ident { $($(#[$inner:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name {
            $($(#[$inner])* pub $field: $type,)*
            /// L1 penalty (λ₁ of FTRL, which makes weights exactly zero).
            #[serde(skip_serializing_if = "Option::is_none")]
            pub l1: Option<f32>,
            /// Adam: decay of the mean of gradients.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub beta1: Option<f32>,
            /// Adam: decay of the mean of squares.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub beta2: Option<f32>,
            /// Added to the root.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub eps: Option<f32>,
            /// AdamW: decoupled decay; another name of its `l2`, 0 when absent.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub decay: Option<f32>,
            /// Share of the last step that goes on.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub momentum: Option<f32>,
            /// SGD with momentum: look ahead along the velocity.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub nesterov: Option<bool>,
            /// RMSProp: decay of the mean of squares.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub alpha: Option<f32>,
            /// FTRL: keeps the first steps small.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub beta: Option<f32>,
            /// AdaGrad: first sum of squares.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub initial_accumulator: Option<f32>,
        }

        impl $name {
            /// The constants that were written, by name.
            fn written(&self) -> impl Iterator<Item = &'static str> {
                [
                    ("l1", self.l1.is_some()),
                    ("beta1", self.beta1.is_some()),
                    ("beta2", self.beta2.is_some()),
                    ("eps", self.eps.is_some()),
                    ("decay", self.decay.is_some()),
                    ("momentum", self.momentum.is_some()),
                    ("nesterov", self.nesterov.is_some()),
                    ("alpha", self.alpha.is_some()),
                    ("beta", self.beta.is_some()),
                    ("initial_accumulator", self.initial_accumulator.is_some()),
                ]
                .into_iter()
                .filter_map(|(name, there)| there.then_some(name))
            }

            /// Ranges that all optimisers share, and constants that `optimizer` does not have.
            fn check_against(&self, place: &str, optimizer: &str, takes: &[&str]) -> Result<(), Error> {
                if !(self.learning_rate.is_finite() && self.learning_rate > 0.0) {
                    let key = format!("{place}.learning_rate");
                    return Err(key_error(&key, "a number above 0", self.learning_rate));
                }
                if !(self.l2.is_finite() && self.l2 >= 0.0) {
                    return Err(key_error(&format!("{place}.l2"), "a number of at least 0", self.l2));
                }
                if let Some(key) = self.written().find(|key| !takes.contains(key)) {
                    return Err(Error::Config(format!(
                        "training.{place}.{key} means nothing for `{optimizer}`; it takes learning_rate, l2{}{}",
                        if takes.is_empty() { "" } else { ", " },
                        takes.join(", ")
                    )));
                }
                if self.decay.is_some() && self.l2 != 0.0 {
                    let keys = format!("training.{place}: `l2` and `decay` name the same thing");
                    return Err(Error::Config(format!("{keys}; give one of them")));
                }
                Ok(())
            }

            /// Decoupled decay of AdamW.
            fn decoupled(&self) -> f32 {
                self.decay.unwrap_or(self.l2)
            }
        }
    };
}

section! {
    /// Optimiser of the dense weights. A constant that is left out has PyTorch's default (but `decay` of `adamw`, which is
    /// 0 where PyTorch has 0.01); one that the optimiser does not have is an error.
    DenseConfig {
        /// Which rule.
        optimizer: DenseOptimizer,
        /// Step size; α of FTRL.
        learning_rate: f32,
        /// L2 penalty (decoupled decay for `adamw`, λ₂ of FTRL).
        l2: f32,
    }
}

section! {
    /// Optimiser of the embedding rows, how they are kept, and when keys get rows and lose them.
    RowsConfig {
        /// Which rule.
        optimizer: RowOptimizer,
        /// Step size; α of FTRL.
        learning_rate: f32,
        /// L2 penalty on the rows that a batch touches (decoupled decay for `adamw`, λ₂ of FTRL).
        l2: f32,
        /// Whether every row of a table takes part in every step, as in dense optimisers, so that L2 and the decay of
        /// moments reach rows that the batch lacks. Each step then costs as much as the tables are large.
        #[serde(skip_serializing_if = "is_default")]
        every_step: bool,
        /// How weights lie in memory and on disk.
        #[serde(skip_serializing_if = "is_default")]
        dtype: RowType,
        /// What a key without a row counts as.
        #[serde(skip_serializing_if = "is_default")]
        default_row: DefaultRow,
        /// When a key gets a row; at first sight when absent.
        #[serde(skip_serializing_if = "Option::is_none")]
        admission: Option<AdmissionConfig>,
        /// Which rows are dropped; none when absent.
        #[serde(skip_serializing_if = "Option::is_none")]
        expiry: Option<ExpiryConfig>,
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Optimisers of dense weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DenseOptimizer {
    /// Kingma & Ba 2015.
    Adam,
    /// Loshchilov & Hutter 2019.
    AdamW,
    /// Liu et al. 2020.
    RAdam,
    /// Duchi et al. 2011.
    AdaGrad,
    /// Tieleman & Hinton 2012.
    RmsProp,
    /// Gradient descent, plain unless `momentum` is given.
    Sgd,
    /// Gradient descent with momentum 0.9 unless given.
    Momentum,
    /// As `momentum`, looking ahead.
    Nesterov,
    /// McMahan et al. 2013.
    Ftrl,
}

/// Optimisers of embedding rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RowOptimizer {
    /// Row-wise AdaGrad: one accumulator per row.
    AdaGrad,
    /// AdaGrad with an accumulator per weight.
    #[serde(rename = "adagrad_elementwise")]
    AdaGradElementwise,
    /// Lazy Adam: moments move only when the row is touched.
    Adam,
    /// Lazy Adam with decoupled decay.
    AdamW,
    /// Mean of squares per weight.
    RmsProp,
    /// Plain gradient descent.
    Sgd,
    /// Gradient descent with momentum 0.9 unless given.
    Momentum,
    /// As `momentum`, looking ahead.
    Nesterov,
    /// FTRL-Proximal per weight.
    Ftrl,
}

/// When a key gets a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdmissionConfig {
    /// At this sighting, 1 or more.
    pub sightings: u32,
    /// Counts in a sketch of so many counters instead of exactly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counters: Option<u32>,
}

/// Which rows are dropped, looked for at every `every`-th step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExpiryConfig {
    /// Those untouched for more than so many steps.
    pub max_age: Option<u64>,
    /// Those of zeros untouched for at least so many steps.
    pub zero_after: Option<u64>,
    /// Steps between two searches.
    pub every: u64,
}

impl Default for ExpiryConfig {
    fn default() -> Self {
        Self { max_age: None, zero_after: None, every: 1000 }
    }
}

impl Default for DenseConfig {
    fn default() -> Self {
        Self {
            optimizer: DenseOptimizer::Adam,
            learning_rate: 1e-3,
            l2: 0.0,
            l1: None,
            beta1: None,
            beta2: None,
            eps: None,
            decay: None,
            momentum: None,
            nesterov: None,
            alpha: None,
            beta: None,
            initial_accumulator: None,
        }
    }
}

impl Default for RowsConfig {
    fn default() -> Self {
        Self {
            optimizer: RowOptimizer::Adam,
            learning_rate: 1e-3,
            l2: 0.0,
            every_step: false,
            dtype: RowType::F32,
            default_row: DefaultRow::Zeros,
            admission: None,
            expiry: None,
            l1: None,
            beta1: None,
            beta2: None,
            eps: None,
            decay: None,
            momentum: None,
            nesterov: None,
            alpha: None,
            beta: None,
            initial_accumulator: None,
        }
    }
}

impl DenseConfig {
    /// Checks ranges, and that every constant written is one that the optimiser has.
    pub(super) fn check(&self, place: &str) -> Result<(), Error> {
        let (name, takes): (_, &[&str]) = match self.optimizer {
            DenseOptimizer::Adam => ("adam", &["beta1", "beta2", "eps", "l1"]),
            DenseOptimizer::AdamW => ("adamw", &["beta1", "beta2", "eps", "decay", "l1"]),
            DenseOptimizer::RAdam => ("radam", &["beta1", "beta2", "eps", "l1"]),
            DenseOptimizer::AdaGrad => ("adagrad", &["eps", "initial_accumulator", "l1"]),
            DenseOptimizer::RmsProp => ("rmsprop", &["alpha", "eps", "momentum", "l1"]),
            DenseOptimizer::Sgd => ("sgd", &["momentum", "nesterov", "l1"]),
            DenseOptimizer::Momentum => ("momentum", &["momentum", "l1"]),
            DenseOptimizer::Nesterov => ("nesterov", &["momentum", "l1"]),
            DenseOptimizer::Ftrl => ("ftrl", &["beta", "l1"]),
        };
        self.check_against(place, name, takes)?;
        self.rule().check().map_err(|e| Error::Config(format!("training.{place}: {e}")))
    }

    /// The optimiser.
    pub fn rule(&self) -> DenseOptim {
        let (lr, l2, l1) = (self.learning_rate, self.l2, self.l1.unwrap_or(0.0));
        let adam = Adam::default();
        let beta1 = self.beta1.unwrap_or(adam.beta1);
        let beta2 = self.beta2.unwrap_or(adam.beta2);
        let eps = |default: f32| self.eps.unwrap_or(default);
        let sgd = |momentum, nesterov| DenseOptim::Sgd(Sgd { lr, l1, l2, momentum, nesterov });
        match self.optimizer {
            DenseOptimizer::Adam => DenseOptim::Adam(Adam { lr, beta1, beta2, eps: eps(adam.eps), l1, l2 }),
            DenseOptimizer::AdamW => {
                let decay = self.decoupled();
                DenseOptim::AdamW(AdamW { lr, beta1, beta2, eps: eps(AdamW::default().eps), decay, l1 })
            }
            DenseOptimizer::RAdam => {
                DenseOptim::RAdam(RAdam { lr, beta1, beta2, eps: eps(RAdam::default().eps), l1, l2 })
            }
            DenseOptimizer::AdaGrad => {
                let usual = AdaGrad::default();
                let initial_accumulator = self.initial_accumulator.unwrap_or(usual.initial_accumulator);
                DenseOptim::AdaGrad(AdaGrad { lr, eps: eps(usual.eps), initial_accumulator, l1, l2 })
            }
            DenseOptimizer::RmsProp => {
                let usual = RmsProp::default();
                let alpha = self.alpha.unwrap_or(usual.alpha);
                let momentum = self.momentum.unwrap_or(usual.momentum);
                DenseOptim::RmsProp(RmsProp { lr, alpha, eps: eps(usual.eps), momentum, l1, l2 })
            }
            DenseOptimizer::Sgd => sgd(self.momentum.unwrap_or(0.0), self.nesterov.unwrap_or(false)),
            DenseOptimizer::Momentum => sgd(self.momentum.unwrap_or(0.9), false),
            DenseOptimizer::Nesterov => sgd(self.momentum.unwrap_or(0.9), true),
            DenseOptimizer::Ftrl => {
                let beta = self.beta.unwrap_or(Ftrl::default().beta);
                DenseOptim::Ftrl(Ftrl { lr, beta, l1, l2 })
            }
        }
    }
}

impl RowsConfig {
    /// Whether rows are f32 and are never dropped.
    pub(super) fn stays_f32(&self) -> bool {
        self.expiry.is_none() && self.dtype == RowType::F32
    }

    /// Checks ranges, and that every constant written is one that the optimiser has.
    pub(super) fn check(&self, place: &str) -> Result<(), Error> {
        let (name, takes): (_, &[&str]) = match self.optimizer {
            RowOptimizer::AdaGrad => ("adagrad", &["eps", "initial_accumulator"]),
            RowOptimizer::AdaGradElementwise => ("adagrad_elementwise", &["eps", "initial_accumulator"]),
            RowOptimizer::Adam => ("adam", &["beta1", "beta2", "eps"]),
            RowOptimizer::AdamW => ("adamw", &["beta1", "beta2", "eps", "decay"]),
            RowOptimizer::RmsProp => ("rmsprop", &["alpha", "eps"]),
            RowOptimizer::Sgd => ("sgd", &[]),
            RowOptimizer::Momentum => ("momentum", &["momentum"]),
            RowOptimizer::Nesterov => ("nesterov", &["momentum"]),
            RowOptimizer::Ftrl => ("ftrl", &["beta", "l1"]),
        };
        self.check_against(place, name, takes)?;
        if let Some(expiry) = self.expiry {
            if self.every_step {
                return Err(Error::Config(format!(
                    "training.{place}.expiry drops rows that are not touched, but every_step = true touches every row at \
                     each step; leave one of them out"
                )));
            }
            let found = if expiry.every == 0 { Some("every") } else { None };
            if let Some(key) = found {
                return Err(key_error(&format!("{place}.expiry.{key}"), "above 0", 0));
            }
            if expiry.max_age.is_none() && expiry.zero_after.is_none() {
                return Err(Error::Config(format!(
                    "training.{place}.expiry drops nothing; give `max_age` or `zero_after`"
                )));
            }
        }
        // The store knows the ranges of its own constants.
        let table = self.table("rows", 1);
        let probe = millstream_store::Store::new(vec![table]);
        probe.map(drop).map_err(|e| {
            let told = e.to_string();
            Error::Config(format!(
                "training.{place}: {}",
                told.strip_prefix("table `rows`: ").unwrap_or(&told)
            ))
        })
    }

    /// A table of rows of `dim` weights that learn so.
    pub fn table(&self, name: &str, dim: usize) -> TableConfig {
        let admission = self.admission.map(|a| match a.counters {
            None => Admission::Count { sightings: a.sightings },
            Some(counters) => Admission::CountMin { sightings: a.sightings, counters },
        });
        let expiry = self.expiry.map(|e| Expiry { max_age: e.max_age, zero_after: e.zero_after });
        let apart = matches!(self.optimizer, RowOptimizer::AdamW | RowOptimizer::Ftrl);
        TableConfig {
            optim: self.rule(),
            l2: if apart { 0.0 } else { self.l2 },
            dtype: self.dtype,
            default_row: self.default_row,
            admission,
            expiry,
            ..TableConfig::new(name, dim)
        }
    }

    fn rule(&self) -> RowOptim {
        let lr = self.learning_rate;
        let (beta1, beta2) = (self.beta1.unwrap_or(0.9), self.beta2.unwrap_or(0.999));
        let eps = |default: f32| self.eps.unwrap_or(default);
        let initial_accumulator = self.initial_accumulator.unwrap_or(0.0);
        let momentum = self.momentum.unwrap_or(0.9);
        match self.optimizer {
            RowOptimizer::AdaGrad => RowOptim::AdaGradRowWise { lr, eps: eps(1e-10), initial_accumulator },
            RowOptimizer::AdaGradElementwise => {
                RowOptim::AdaGrad { lr, eps: eps(1e-10), initial_accumulator }
            }
            RowOptimizer::Adam => RowOptim::LazyAdam { lr, beta1, beta2, eps: eps(1e-8) },
            RowOptimizer::AdamW => {
                RowOptim::LazyAdamW { lr, beta1, beta2, eps: eps(1e-8), decay: self.decoupled() }
            }
            RowOptimizer::RmsProp => {
                RowOptim::RmsProp { lr, alpha: self.alpha.unwrap_or(0.99), eps: eps(1e-8) }
            }
            RowOptimizer::Sgd => RowOptim::Sgd { lr },
            RowOptimizer::Momentum => RowOptim::Momentum { lr, momentum, nesterov: false },
            RowOptimizer::Nesterov => RowOptim::Momentum { lr, momentum, nesterov: true },
            RowOptimizer::Ftrl => RowOptim::Ftrl {
                alpha: lr,
                beta: self.beta.unwrap_or(1.0),
                l1: self.l1.unwrap_or(0.0),
                l2: self.l2,
            },
        }
    }
}
