//! What recommenders of users with a history share: the items' table, the histories, and what else is known of a user.

use millstream_nn::{
    Bags, Embed, EmbedSpec, FieldInput, Inputs, Params, Pass, Ragged, RowInit, TableId, Tensor,
};
use millstream_schema::{Rows, Shape as Kind, Side};

use super::sequence::item_sequence;
use crate::ranker::Shape;
use crate::{Error, ModelConfig};

/// The fields that such a model reads.
#[derive(Debug, Clone)]
pub(crate) struct Profile {
    /// Place of the candidates' item key.
    pub(crate) item: usize,
    /// Place of the sequence of item keys.
    pub(crate) history: usize,
    /// Key space of both.
    space: String,
    /// Places of the other request fields, but those of sequences.
    pub(crate) others: Vec<usize>,
    dim: usize,
    init_std: f32,
}

/// Whether a field is the key of an item.
pub(crate) fn is_item(shape: &Shape<'_>, f: usize) -> bool {
    let field = &shape.fields[f];
    let plain = field.shape == Kind::Key && field.rows == Rows::Candidate && field.space.is_some();
    plain && shape.sides[f] == Side::Item
}

impl Profile {
    /// Finds the sequence that shares its keys with an item feature, of several the one that is `named`.
    ///
    /// # Errors
    /// As [`item_sequence`]; a width or a deviation that is not above 0.
    pub(crate) fn new(
        (cfg, shape): (&ModelConfig, &Shape<'_>),
        named: Option<&str>,
        (dim, init_std): (usize, f32),
    ) -> Result<Self, Error> {
        let fail = |text: String| Err(Error::Config(format!("model `{}`: {text}", cfg.name)));
        if dim == 0 || !(init_std.is_finite() && init_std > 0.0) {
            return fail("`embedding` and `init_std` must be above 0".into());
        }
        let (history, item) = item_sequence((cfg, shape), named)?;
        let chosen = cfg.chosen(shape.fields)?;
        let other = |&f: &usize| shape.fields[f].rows == Rows::Request && !shape.fields[f].name.contains('.');
        let others = chosen.iter().copied().filter(other).collect();
        let space = shape.fields[item].space.clone().unwrap_or_default();
        Ok(Self { item, history, space, others, dim, init_std })
    }

    /// The table of item vectors `[·, D]`, under a name of its own where there is to be more than one.
    ///
    /// # Errors
    /// As [`Params::table`].
    pub(crate) fn table(&self, params: &mut Params, suffix: &str) -> Result<TableId, Error> {
        let (space, dim) = (&self.space, self.dim);
        let init = RowInit::Normal(self.init_std);
        Ok(params.table(&format!("{space}/{suffix}d{dim}"), space, dim, init)?)
    }

    /// A number for each item, 0 at first.
    pub(crate) fn column(&self, params: &mut Params, suffix: &str) -> Result<TableId, Error> {
        Ok(params.table(&format!("{}/{suffix}d1", self.space), &self.space, 1, RowInit::Zero)?)
    }

    /// What embeds the other fields of a request, if there are any.
    ///
    /// # Errors
    /// As [`Embed::new`].
    pub(crate) fn embed_others(
        &self,
        shape: &Shape<'_>,
        params: &mut Params,
    ) -> Result<Option<Embed>, Error> {
        if self.others.is_empty() {
            return Ok(None);
        }
        let (dim, init) = (self.dim, RowInit::Normal(self.init_std));
        let spec = EmbedSpec { dim, suffix: format!("d{dim}"), init };
        Ok(Some(Embed::new(params, shape.fields, &self.others, &spec)?))
    }

    /// The rows that each request's history names, oldest first.
    pub(crate) fn bags<'a>(&self, x: &'a Inputs) -> &'a Bags {
        let FieldInput::Keys(bags) = x.field(self.history) else {
            unreachable!("the field was a sequence when the model was built");
        };
        bags
    }

    /// The vectors of each request's history, oldest first.
    pub(crate) fn history(&self, x: &Inputs, table: TableId) -> Ragged {
        Ragged::of_bags(self.bags(x), x.rows(table))
    }

    /// Candidates' vectors `[N, D]`.
    pub(crate) fn items(&self, x: &Inputs, table: TableId) -> Tensor {
        let FieldInput::Key(places) = x.field(self.item) else {
            unreachable!("the field was a key when the model was built");
        };
        x.rows(table).gather(places)
    }
}

/// What is known of requests besides their history `[R, F·D]`.
pub(crate) fn others(embed: Option<&Embed>, pass: &Pass, x: &Inputs) -> Option<Tensor> {
    embed.map(|embed| embed.forward_requests(pass, x).flatten())
}

/// Rows of vectors made comparable: of unit length, or as they are.
pub(crate) fn sized(vectors: Tensor, unit: bool) -> Tensor {
    if unit { vectors.l2_normalise() } else { vectors }
}

/// # Errors
/// A temperature that is not above 0.
pub(crate) fn check_temperature(model: &str, temperature: f32) -> Result<(), Error> {
    match temperature.is_finite() && temperature > 0.0 {
        true => Ok(()),
        false => {
            Err(Error::Config(format!("model `{model}`: temperature must be above 0, not {temperature}")))
        }
    }
}
