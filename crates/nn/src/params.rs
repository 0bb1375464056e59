//! Everything a model learns densely, by name, and the embedding tables it asks for.

use crate::error::{Error, Result};
use crate::init::{Init, RowInit};
use crate::kept::Kept;
use crate::tensor::Shape;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Most numbers of one weight: 4 GiB.
const LARGEST: usize = 1 << 30;

/// A dense weight (or running statistic) of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ParamId(pub(crate) usize);

/// An embedding table of a model: an index into [`Params::tables`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableId(pub(crate) usize);

impl TableId {
    /// Place in [`Params::tables`], [`crate::Inputs`]' rows and the gradients' rows.
    pub fn index(self) -> usize {
        self.0
    }
}

/// An embedding table that a model asked for. Its rows live outside this crate.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct TableSpec {
    /// Unique name, `space/suffix`.
    pub name: String,
    /// Key space of the fields that look rows up here.
    pub space: String,
    /// Width of a row.
    pub dim: usize,
    /// How a row starts.
    pub init: RowInit,
    /// Parameter group, see [`Params::grouped`]; empty for the default group.
    #[serde(default)]
    pub group: String,
}

/// One dense weight with its name.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Weight {
    /// Unique name.
    pub name: String,
    /// One to three sizes.
    pub shape: Vec<usize>,
    /// Row-major values.
    pub values: Vec<f32>,
}

/// Dense weights in the order the model asked for them: what a checkpoint keeps.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Weights(pub Vec<Weight>);

impl Weights {
    /// The weight of this name.
    pub fn get(&self, name: &str) -> Option<&Weight> {
        self.0.iter().find(|w| w.name == name)
    }
}

/// What numbers an inference pass multiplies by weight matrices in. Training knows [`Precision::F32`] only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// As in training.
    #[default]
    F32,
    /// Whole numbers of 16 bits with a scale per row of activations and per row of the weight, summed in 32 bits: faster, and less
    /// exact. A factor in a sum of k products keeps ⌊log₂ √(2³¹ / k)⌋ bits and a sign, so that no sum can overflow: 10 bits for k = 624,
    /// relative to the largest of its row. Weights of fewer than 16 rows or columns stay f32.
    I16,
}

#[derive(Debug, Clone)]
pub(crate) struct Slot {
    pub(crate) name: String,
    pub(crate) shape: Shape,
    pub(crate) values: Arc<Kept>,
    /// Whether an optimiser may change it (running statistics are not trained).
    pub(crate) trained: bool,
    /// Empty for the default group.
    group: String,
}

/// Dense weights and the list of embedding tables.
///
/// A model's constructor asks for each by name: loaded if a saved model was given, created otherwise. The same
/// name asked for twice is one shared weight. A weight's first values depend on the seed and its name only.
///
/// ```
/// use millstream_nn::{Init, Params};
/// let mut params = Params::new(1);
/// let w = params.dense("w", &[2, 3], Init::XavierUniform)?;
/// assert_eq!(params.values(w).len(), 6);
/// # Ok::<(), millstream_nn::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Params {
    seed: u64,
    slots: Vec<Slot>,
    by_name: HashMap<String, ParamId>,
    tables: Arc<Vec<TableSpec>>,
    loaded: Option<HashMap<String, Weight>>,
    created: Vec<String>,
    /// The group of what is asked for now.
    group: String,
    /// Stands before the names of what is asked for now.
    prefix: String,
    precision: Precision,
}

impl Params {
    /// No weights yet.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            slots: Vec::new(),
            by_name: HashMap::new(),
            tables: Arc::default(),
            loaded: None,
            created: Vec::new(),
            group: String::new(),
            prefix: String::new(),
            precision: Precision::F32,
        }
    }

    /// Weights will be taken from `weights` where their names are there.
    ///
    /// # Errors
    /// A weight whose values do not fill its shape.
    pub fn with_weights(seed: u64, weights: Weights) -> Result<Self> {
        for w in &weights.0 {
            let needed = w.shape.iter().product();
            let (name, shape, found) = (w.name.clone(), w.shape.clone(), w.values.len());
            if shape.is_empty() || shape.len() > 3 || found != needed {
                return Err(Error::Corrupt { name, shape, needed, found });
            }
        }
        let loaded = weights.0.into_iter().map(|w| (w.name.clone(), w)).collect();
        Ok(Self { loaded: Some(loaded), ..Self::new(seed) })
    }

    /// What `ask` asks for belongs to parameter group `group`, which may have its own optimiser (Wide & Deep: FTRL for
    /// the wide part, Adam for the deep one). Inside a group, a group of its own goes first; "" is the default group.
    ///
    /// A weight or table that is asked for both inside and outside of a group belongs to the group, whatever the
    /// order; asked for in two different groups it is an error.
    ///
    /// ```
    /// use millstream_nn::{Linear, Params};
    /// let mut params = Params::new(1);
    /// let wide = params.grouped("wide", |p| Linear::new(p, "wide", 8, 1))?;
    /// let deep = Linear::new(&mut params, "deep", 8, 1)?;
    /// let group = |name| params.find(name).map(|id| params.group(id));
    /// assert_eq!((group("wide.weight"), group("deep.weight")), (Some("wide"), Some("")));
    /// # Ok::<(), millstream_nn::Error>(())
    /// ```
    pub fn grouped<T>(&mut self, group: &str, ask: impl FnOnce(&mut Self) -> T) -> T {
        let outer = std::mem::replace(&mut self.group, group.into());
        let found = ask(self);
        self.group = outer;
        found
    }

    /// What `ask` asks for has names that begin with `part` and a dot: several models of one kind in one set of weights.
    /// Tables keep their key spaces.
    ///
    /// ```
    /// use millstream_nn::{Linear, Params};
    /// let mut params = Params::new(1);
    /// for part in ["first", "second"] {
    ///     params.within(part, |p| Linear::new(p, "head", 8, 1))?;
    /// }
    /// assert!(params.find("second.head.weight").is_some());
    /// # Ok::<(), millstream_nn::Error>(())
    /// ```
    pub fn within<T>(&mut self, part: &str, ask: impl FnOnce(&mut Self) -> T) -> T {
        let inner = format!("{}{part}.", self.prefix);
        let outer = std::mem::replace(&mut self.prefix, inner);
        let found = ask(self);
        self.prefix = outer;
        found
    }

    /// The parameter group of a weight; empty for the default group.
    pub fn group(&self, id: ParamId) -> &str {
        &self.slots[id.0].group
    }

    /// Names of the groups that weights or tables belong to, sorted, without the default group.
    pub fn groups(&self) -> Vec<&str> {
        let weights = self.slots.iter().filter(|s| s.trained).map(|s| s.group.as_str());
        let names: BTreeSet<&str> = weights.chain(self.tables.iter().map(|t| t.group.as_str())).collect();
        names.into_iter().filter(|name| !name.is_empty()).collect()
    }

    /// A trained weight of one to three axes; a matrix is `[out, in]`.
    ///
    /// # Errors
    /// The name is taken by, or was saved with, another shape.
    pub fn dense(&mut self, name: &str, shape: &[usize], init: Init) -> Result<ParamId> {
        self.ask(name, shape, init, true)
    }

    /// A running statistic: saved and loaded like a weight, but not trained.
    ///
    /// # Errors
    /// As [`Params::dense`].
    pub fn statistic(&mut self, name: &str, shape: &[usize], init: Init) -> Result<ParamId> {
        self.ask(name, shape, init, false)
    }

    fn ask(&mut self, name: &str, axes: &[usize], init: Init, trained: bool) -> Result<ParamId> {
        let name = &format!("{}{name}", self.prefix);
        if axes.is_empty() || axes.len() > 3 || axes.contains(&0) {
            return Err(Error::Model(format!("weight `{name}` cannot have shape {axes:?}")));
        }
        let count = axes.iter().try_fold(1usize, |n, axis| n.checked_mul(*axis));
        if count.is_none_or(|n| n > LARGEST) {
            return Err(Error::Model(format!(
                "weight `{name}` would have shape {axes:?}, which is more than the {LARGEST} numbers that a weight may have; \
                 make what it joins narrower, or fewer"
            )));
        }
        let wrong =
            |found: &[usize]| Error::Shape { name: name.into(), wanted: axes.into(), found: found.into() };
        if let Some(&id) = self.by_name.get(name.as_str()) {
            let there = &mut self.slots[id.0];
            if there.shape.axes() != axes {
                return Err(wrong(there.shape.axes()));
            }
            join(&mut there.group, &self.group, name)?;
            return Ok(id);
        }
        let values = match self.loaded.as_mut().and_then(|l| l.remove(name)) {
            Some(saved) if saved.shape == axes => saved.values,
            Some(saved) => return Err(wrong(&saved.shape)),
            None => {
                self.created.push(name.into());
                init.values(axes, self.seed, name)
            }
        };
        let id = ParamId(self.slots.len());
        self.by_name.insert(name.into(), id);
        self.slots.push(Slot {
            name: name.into(),
            shape: Shape::new(axes),
            values: Arc::new(values.into()),
            trained,
            group: self.group.clone(),
        });
        Ok(id)
    }

    /// An embedding table of the key space `space`; the same name asked for twice is one table.
    ///
    /// # Errors
    /// The name is taken by a table of another space or width, or `dim` is 0.
    pub fn table(&mut self, name: &str, space: &str, dim: usize, init: RowInit) -> Result<TableId> {
        let name = &format!("{}{name}", self.prefix);
        if dim == 0 {
            return Err(Error::Model(format!("embedding table `{name}` cannot have width 0")));
        }
        if let Some(at) = self.tables.iter().position(|t| t.name == *name) {
            let t = &mut Arc::make_mut(&mut self.tables)[at];
            if t.space == space && t.dim == dim {
                join(&mut t.group, &self.group, name)?;
                return Ok(TableId(at));
            }
            return Err(Error::Model(format!(
                "embedding table `{name}` is asked for with space `{space}` and width {dim}, but it has space `{}` and width {}",
                t.space, t.dim
            )));
        }
        let (name, space, group) = (name.into(), space.into(), self.group.clone());
        Arc::make_mut(&mut self.tables).push(TableSpec { name, space, dim, init, group });
        Ok(TableId(self.tables.len() - 1))
    }

    /// Tables in the order they were asked for; [`TableId`] is an index into them.
    pub fn tables(&self) -> &[TableSpec] {
        &self.tables
    }

    /// All tables, in the order of [`Params::tables`].
    pub fn table_ids(&self) -> impl Iterator<Item = TableId> + use<> {
        (0..self.tables.len()).map(TableId)
    }

    /// Chooses what inference passes multiply in; [`Precision::F32`] unless chosen otherwise.
    pub fn set_precision(&mut self, precision: Precision) {
        self.precision = precision;
    }

    /// What inference passes multiply in.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The seed weights are made from.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Names that were made anew although saved weights were given; empty for a complete snapshot.
    pub fn missing_from_saved(&self) -> &[String] {
        if self.loaded.is_some() { &self.created } else { &[] }
    }

    /// Whether saved weights were given.
    pub fn is_loaded(&self) -> bool {
        self.loaded.is_some()
    }

    /// Names that were saved but that no model has asked for, sorted.
    pub fn unused_saved(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.loaded.iter().flat_map(|l| l.keys().map(String::as_str)).collect();
        names.sort_unstable();
        names
    }

    /// Name, shape and values of each weight and statistic, in the order they were asked for.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[usize], &[f32])> {
        self.slots.iter().map(|s| (s.name.as_str(), s.shape.axes(), &s.values[..]))
    }

    /// A copy of all weights and statistics, to save.
    pub fn weights(&self) -> Weights {
        let copy = |(name, shape, values): (&str, &[usize], &[f32])| Weight {
            name: name.into(),
            shape: shape.into(),
            values: values.into(),
        };
        Weights(self.iter().map(copy).collect())
    }

    /// Puts saved values into the weights that are there: all of them, and no others.
    ///
    /// # Errors
    /// A name that is missing or unknown, or another shape; nothing is changed then.
    pub fn restore(&mut self, weights: &Weights) -> Result<()> {
        for slot in &self.slots {
            let saved = weights
                .get(&slot.name)
                .ok_or_else(|| Error::Model(format!("weight `{}` is not among the saved ones", slot.name)))?;
            if saved.shape != slot.shape.axes() || saved.values.len() != slot.shape.len() {
                let (name, wanted) = (slot.name.clone(), slot.shape.axes().to_vec());
                return Err(Error::Shape { name, wanted, found: saved.shape.clone() });
            }
        }
        if let Some(w) = weights.0.iter().find(|w| !self.by_name.contains_key(&w.name)) {
            return Err(Error::Model(format!("saved weight `{}` is unknown to this model", w.name)));
        }
        for w in &weights.0 {
            let id = self.by_name[&w.name];
            self.values_mut(id).copy_from_slice(&w.values);
        }
        Ok(())
    }

    /// The weight of this name.
    pub fn find(&self, name: &str) -> Option<ParamId> {
        self.by_name.get(name).copied()
    }

    /// A weight's name.
    pub fn name(&self, id: ParamId) -> &str {
        &self.slots[id.0].name
    }

    /// A weight's shape.
    pub fn shape(&self, id: ParamId) -> &[usize] {
        self.slots[id.0].shape.axes()
    }

    /// A weight's values.
    pub fn values(&self, id: ParamId) -> &[f32] {
        &self.slots[id.0].values
    }

    /// A weight's values, to change. A pass that is still alive keeps seeing the old ones.
    pub fn values_mut(&mut self, id: ParamId) -> &mut [f32] {
        Arc::make_mut(&mut self.slots[id.0].values).values_mut()
    }

    /// A number that changes whenever the weight's values may have: what was made of them is theirs as long as it stays.
    /// No two weights of a process share one.
    pub fn stamp(&self, id: ParamId) -> u64 {
        self.slots[id.0].values.stamp()
    }

    /// All weights and statistics.
    pub fn ids(&self) -> impl Iterator<Item = ParamId> + use<> {
        (0..self.slots.len()).map(ParamId)
    }

    /// Whether optimisers change this one (statistics are not trained).
    pub fn is_trained(&self, id: ParamId) -> bool {
        self.slots[id.0].trained
    }

    /// Takes the weights called `name`, or whose name begins with `name` and a dot, from the optimisers; says how many
    /// weights have such names. Running statistics go on following the data.
    pub fn freeze(&mut self, name: &str) -> usize {
        let below =
            |full: &str| full.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        let named = self.slots.iter_mut().filter(|s| below(&s.name));
        named.map(|slot| slot.trained = false).count()
    }

    /// Number of trained values.
    pub fn count(&self) -> usize {
        self.slots.iter().filter(|s| s.trained).map(|s| s.shape.len()).sum()
    }

    /// Name and place of the first value that is NaN or infinite.
    pub fn first_non_finite(&self) -> Option<(&str, usize)> {
        self.slots.iter().find_map(|s| Some((s.name.as_str(), s.values.iter().position(|v| !v.is_finite())?)))
    }

    pub(crate) fn shared_tables(&self) -> Arc<Vec<TableSpec>> {
        self.tables.clone()
    }

    pub(crate) fn slots(&self) -> &[Slot] {
        &self.slots
    }
}

/// Puts what is asked for again, now in group `asked`, into one group.
fn join(group: &mut String, asked: &str, name: &str) -> Result<()> {
    if group.is_empty() {
        *group = asked.into();
    }
    if asked.is_empty() || group == asked {
        return Ok(());
    }
    Err(Error::Model(format!("`{name}` is asked for in parameter group `{asked}`, but belongs to `{group}`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn saved_weights_are_loaded_and_others_created() {
        let mut a = Params::new(1);
        a.dense("x", &[2], Init::Normal(1.0)).unwrap();
        let mut b = Params::with_weights(2, a.weights()).unwrap();
        let x = b.dense("x", &[2], Init::Zeros).unwrap();
        b.dense("y", &[1], Init::Zeros).unwrap();
        assert_eq!(b.values(x), a.values(ParamId(0)));
        assert_eq!(b.missing_from_saved(), ["y"]);
        assert!(b.unused_saved().is_empty());
    }

    #[test]
    fn another_shape_is_an_error_that_names_the_weight() {
        let mut a = Params::new(1);
        a.dense("tower.0", &[2, 3], Init::Zeros).unwrap();
        let err = a.dense("tower.0", &[3, 2], Init::Zeros).unwrap_err().to_string();
        assert!(err.contains("tower.0") && err.contains("[2, 3]") && err.contains("[3, 2]"));
        let mut b = Params::with_weights(1, a.weights()).unwrap();
        assert!(matches!(b.dense("tower.0", &[6], Init::Zeros), Err(Error::Shape { .. })));
    }

    #[test]
    fn values_that_do_not_fill_their_shape_are_corrupt() {
        let w = Weight { name: "w".into(), shape: vec![2, 2], values: vec![1.0; 3] };
        assert!(matches!(Params::with_weights(1, Weights(vec![w])), Err(Error::Corrupt { .. })));
    }

    #[test]
    fn the_same_table_is_asked_for_once() {
        let mut p = Params::new(1);
        let a = p.table("item/d8", "item", 8, RowInit::Zero).unwrap();
        assert_eq!(a, p.table("item/d8", "item", 8, RowInit::Zero).unwrap());
        assert!(p.table("item/d8", "item", 4, RowInit::Zero).is_err());
        assert_eq!(p.tables().len(), 1);
    }

    #[test]
    fn what_is_asked_for_inside_a_group_belongs_to_it() {
        let mut p = Params::new(1);
        let [a, b, c] = p.grouped("wide", |p| {
            p.table("user/wide", "user", 1, RowInit::Zero).unwrap();
            let a = p.dense("a", &[1], Init::Zeros).unwrap();
            let b = p.grouped("bias", |p| p.dense("b", &[1], Init::Zeros).unwrap());
            [a, b, p.dense("c", &[1], Init::Zeros).unwrap()]
        });
        let d = p.dense("d", &[1], Init::Zeros).unwrap();
        assert_eq!([a, b, c, d].map(|id| p.group(id)), ["wide", "bias", "wide", ""]);
        assert_eq!(p.tables()[0].group, "wide");
        assert_eq!(p.groups(), ["bias", "wide"]);
    }

    #[test]
    fn a_shared_weight_belongs_to_the_only_group_that_asks_for_it() {
        let mut p = Params::new(1);
        let w = p.dense("w", &[1], Init::Zeros).unwrap();
        p.grouped("wide", |p| p.dense("w", &[1], Init::Zeros)).unwrap();
        p.dense("w", &[1], Init::Zeros).unwrap();
        assert_eq!(p.group(w), "wide");
        let error = p.grouped("deep", |p| p.dense("w", &[1], Init::Zeros)).unwrap_err().to_string();
        assert!(error.contains("`w`") && error.contains("`deep`") && error.contains("`wide`"), "{error}");
        p.table("t", "s", 2, RowInit::Zero).unwrap();
        p.grouped("wide", |p| p.table("t", "s", 2, RowInit::Zero)).unwrap();
        assert_eq!(p.tables()[0].group, "wide");
        assert!(p.grouped("deep", |p| p.table("t", "s", 2, RowInit::Zero)).is_err());
    }

    #[test]
    fn frozen_weights_are_those_at_and_below_a_name() {
        let mut p = Params::new(1);
        let ids =
            ["tower.0.weight", "tower.1", "towers", "head"].map(|n| p.dense(n, &[1], Init::Zeros).unwrap());
        assert_eq!(p.freeze("tower"), 2);
        assert_eq!(ids.map(|id| p.is_trained(id)), [false, false, true, true]);
        assert_eq!((p.freeze("head"), p.freeze("tow")), (1, 0));
    }

    #[test]
    fn restore_changes_all_or_nothing() {
        let mut p = Params::new(1);
        let w = p.dense("w", &[2], Init::Ones).unwrap();
        let mut saved = p.weights();
        saved.0[0].values = vec![5.0, 6.0];
        p.restore(&saved).unwrap();
        assert_eq!(p.values(w), [5.0, 6.0]);
        saved.0.push(Weight { name: "z".into(), shape: vec![1], values: vec![0.0] });
        saved.0[0].values = vec![7.0, 8.0];
        assert!(p.restore(&saved).is_err());
        assert_eq!(p.values(w), [5.0, 6.0]);
    }

    #[test]
    fn the_first_bad_value_is_named() {
        let mut p = Params::new(1);
        p.dense("a", &[2], Init::Ones).unwrap();
        let b = p.dense("b", &[2], Init::Ones).unwrap();
        assert_eq!(p.first_non_finite(), None);
        p.values_mut(b)[1] = f32::NAN;
        assert_eq!(p.first_non_finite(), Some(("b", 1)));
    }
}
