//! Optimisers of the dense weights: a rule per parameter group, each in one pass over memory.

mod adagrad;
mod adam;
mod ftrl;
mod look_ahead;
mod rms_prop;
mod rule;
mod sgd;

pub use adagrad::AdaGrad;
pub use adam::{Adam, AdamW, RAdam};
pub use ftrl::Ftrl;
pub use look_ahead::LookAhead;
pub use rms_prop::RmsProp;
pub use rule::DenseOptim;
pub use sgd::Sgd;

use crate::error::{Error, Result};
use crate::params::{ParamId, Params};
use crate::pass::Gradients;
use millstream_schema::suggest;

/// What an optimiser remembers about one weight.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Moments {
    /// Name of the weight.
    pub name: String,
    /// Steps in which the weight had a gradient.
    pub steps: u64,
    /// Mean of gradients, velocity, sum or mean of squares, or FTRL's z; empty if not used.
    pub first: Vec<f32>,
    /// Mean of squares, velocity, or FTRL's n; empty if not used.
    pub second: Vec<f32>,
}

/// An optimiser's memory: what a checkpoint keeps. Slow weights of [`LookAhead`] follow the rules' memory.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct OptimState(pub Vec<Moments>);

/// Applies gradients to the dense weights.
#[derive(Debug, Clone)]
pub struct Optimiser {
    rule: DenseOptim,
    groups: Vec<(String, DenseOptim)>,
    look_ahead: Option<LookAhead>,
    factor: f32,
    moments: Vec<Moments>,
    slow: Vec<Moments>,
}

impl Optimiser {
    /// An optimiser that has seen nothing.
    pub fn new(rule: DenseOptim) -> Self {
        let (moments, slow) = (Vec::new(), Vec::new());
        Self { rule, groups: Vec::new(), look_ahead: None, factor: 1.0, moments, slow }
    }

    /// A rule for each parameter group named ([`Params::grouped`]), all applied in one step; `default` for the rest.
    ///
    /// ```
    /// use millstream_nn::{DenseOptim, Ftrl, Linear, Optimiser, Params};
    /// let mut params = Params::new(1);
    /// params.grouped("wide", |p| Linear::new(p, "wide", 8, 1))?;
    /// let ftrl = DenseOptim::Ftrl(Ftrl { l1: 1e-3, ..Ftrl::default() });
    /// let rules = |group: &str| vec![(group.to_owned(), ftrl)];
    /// assert!(Optimiser::with_groups(DenseOptim::adam(1e-3), rules("wide"), &params).is_ok());
    /// let error = Optimiser::with_groups(DenseOptim::adam(1e-3), rules("wid"), &params).unwrap_err();
    /// assert_eq!(error.to_string(), "unknown parameter group `wid`; did you mean `wide`?");
    /// # Ok::<(), millstream_nn::Error>(())
    /// ```
    ///
    /// # Errors
    /// A group that the model does not have, or one named twice.
    pub fn with_groups(
        default: DenseOptim,
        groups: Vec<(String, DenseOptim)>,
        params: &Params,
    ) -> Result<Self> {
        let known = params.groups();
        for (i, (name, _)) in groups.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                return Err(Error::Model(match known.is_empty() {
                    true => format!("unknown parameter group `{name}`; this model has none"),
                    false => suggest::unknown("parameter group", name, known.iter().copied()),
                }));
            }
            if groups[..i].iter().any(|(n, _)| n == name) {
                return Err(Error::Model(format!("parameter group `{name}` has two optimisers")));
            }
        }
        Ok(Self { groups, ..Self::new(default) })
    }

    /// The same, with slow weights that follow.
    pub fn with_look_ahead(self, look_ahead: LookAhead) -> Self {
        Self { look_ahead: Some(look_ahead), ..self }
    }

    /// The rule of the default group.
    pub fn rule(&self) -> &DenseOptim {
        &self.rule
    }

    /// The rule of a parameter group.
    pub fn rule_of(&self, group: &str) -> &DenseOptim {
        self.groups.iter().find(|(name, _)| name == group).map_or(&self.rule, |(_, rule)| rule)
    }

    /// Multiplies the learning rate of each group's rule by `factor` (not by all factors so far) from the next step
    /// on: what a [`crate::Schedule`] gives. [`Ftrl`] keeps its own.
    pub fn set_factor(&mut self, factor: f32) {
        self.factor = factor;
    }

    /// One step: changes each trained weight that has a gradient, and puts new running statistics in place.
    pub fn step(&mut self, params: &mut Params, gradients: &Gradients) {
        self.prepare(params);
        for id in params.ids() {
            let Some(gradient) = gradients.dense(id) else { continue };
            if params.is_trained(id) {
                let rule = *self.rule_of(params.group(id));
                let moments = &mut self.moments[id.0];
                moments.steps += 1;
                rule.rule().update(params.values_mut(id), gradient, moments, self.factor);
            }
        }
        if let Some(look_ahead) = self.look_ahead {
            look_ahead.follow(&mut self.slow, params);
        }
        for (id, values) in &gradients.statistics {
            params.values_mut(*id).copy_from_slice(values);
        }
    }

    /// One step of one weight alone, as [`Optimiser::step`] would make it with a gradient for that weight only, but without
    /// look-ahead: for kernels that learn a row at a time.
    pub fn step_one(&mut self, params: &mut Params, id: ParamId, gradient: &[f32]) {
        self.prepare(params);
        let rule = *self.rule_of(params.group(id));
        let moments = &mut self.moments[id.0];
        moments.steps += 1;
        rule.rule().update(params.values_mut(id), gradient, moments, self.factor);
    }

    fn prepare(&mut self, params: &Params) {
        for id in params.ids().skip(self.moments.len()) {
            let values = if params.is_trained(id) { params.values(id) } else { &[] };
            let rule = self.rule_of(params.group(id)).rule();
            let part = |wanted: usize| vec![0.0; if rule.memory() >= wanted { values.len() } else { 0 }];
            let (mut first, mut second) = (part(1), part(2));
            rule.start(values, &mut first, &mut second);
            self.moments.push(Moments { name: params.name(id).to_owned(), steps: 0, first, second });
        }
        if let Some(look_ahead) = self.look_ahead {
            look_ahead.prepare(&mut self.slow, params);
        }
    }

    /// A copy of its memory, to save.
    pub fn state(&self) -> OptimState {
        OptimState(self.moments.iter().chain(&self.slow).cloned().collect())
    }

    /// Takes up saved memory.
    ///
    /// # Errors
    /// Memory of other weights or another rule; nothing is changed then.
    pub fn restore(&mut self, params: &Params, state: OptimState) -> Result<()> {
        if state.0.is_empty() {
            self.moments.clear();
            self.slow.clear();
            return Ok(());
        }
        let mut fresh = Self { moments: Vec::new(), slow: Vec::new(), ..self.clone() };
        fresh.prepare(params);
        let (moments, slow) = look_ahead::split(state.0);
        if fresh.slow.is_empty() != slow.is_empty() {
            let now = if slow.is_empty() { "now it is" } else { "now it is not" };
            return Err(Error::OptimState(format!("look-ahead differs from when it was saved: {now} used")));
        }
        fits(&fresh.moments, &moments)?;
        fits(&fresh.slow, &slow)?;
        (self.moments, self.slow) = (moments, slow);
        Ok(())
    }

    /// What it remembers about one weight.
    pub fn moments(&self, id: ParamId) -> Option<&Moments> {
        self.moments.get(id.0)
    }
}

/// Whether saved memory has the names and sizes of fresh memory.
fn fits(fresh: &[Moments], saved: &[Moments]) -> Result<()> {
    if fresh.len() != saved.len() {
        let text = format!("it has {} weights, the model has {}", saved.len(), fresh.len());
        return Err(Error::OptimState(text));
    }
    for (mine, saved) in fresh.iter().zip(saved) {
        let fits = mine.first.len() == saved.first.len() && mine.second.len() == saved.second.len();
        if mine.name != saved.name || !fits {
            let text = format!(
                "saved for `{}`, the model has `{}` there (or the rule differs)",
                saved.name, mine.name
            );
            return Err(Error::OptimState(text));
        }
    }
    Ok(())
}
