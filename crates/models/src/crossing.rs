//! What the deep and cross networks share: which fields are crossed, and where the tower stands.

use millstream_nn::{CrossMixture, CrossNet, Inputs, Linear, Params, Pass, Tensor, VectorCross};
use serde::Deserialize;

use crate::neural::{Fields, Neural, Tower, places_among};
use crate::ranker::Shape;
use crate::{Error, ModelConfig};

/// Where the tower stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Structure {
    /// On top of the cross network, and of the fields that are not crossed.
    Stacked,
    /// Beside the cross network; the two are joined before the head.
    Parallel,
}

/// A cross network.
pub(crate) trait Crosses: Send + Sync {
    /// `[N, W]` → `[N, W]`.
    fn forward(&self, pass: &Pass, x0: &Tensor) -> Tensor;

    /// As `forward` followed by `[N, W]` · `[T, W]`ᵀ → `[N, T]`, where that is cheaper.
    fn forward_by_head(&self, _pass: &Pass, _x0: &Tensor, _head: &Tensor) -> Option<Tensor> {
        None
    }
}

impl Crosses for CrossNet {
    fn forward(&self, pass: &Pass, x0: &Tensor) -> Tensor {
        self.forward(pass, x0)
    }

    fn forward_by_head(&self, pass: &Pass, x0: &Tensor, head: &Tensor) -> Option<Tensor> {
        self.forward_by_head(pass, x0, head)
    }
}

impl Crosses for CrossMixture {
    fn forward(&self, pass: &Pass, x0: &Tensor) -> Tensor {
        self.forward(pass, x0)
    }
}

impl Crosses for VectorCross {
    fn forward(&self, pass: &Pass, x0: &Tensor) -> Tensor {
        self.forward(pass, x0)
    }
}

/// All of a deep and cross network but the crossing itself.
pub(crate) struct Crossing {
    fields: Fields,
    /// Places of the fields that are crossed, and of the others; `None` for all.
    crossed: Option<(Vec<usize>, Vec<usize>)>,
    /// Columns that are crossed.
    width: usize,
    structure: Structure,
    tower: Tower,
    head: Linear,
}

impl Crossing {
    /// With the weights of the embedding, `tower` and `head`; `cross_fields` are the fields that are crossed, all if empty.
    ///
    /// # Errors
    /// A field to cross that the model does not see, or as [`Neural::tower`].
    pub fn new(
        neural: &Neural,
        (cfg, shape): (&ModelConfig, &Shape<'_>),
        params: &mut Params,
        structure: Structure,
        cross_fields: &[String],
    ) -> Result<Self, Error> {
        let fields = neural.fields(cfg, shape, params)?;
        let (all, mut width, mut crossed) = (fields.width(), fields.width(), None);
        if !cross_fields.is_empty() {
            let places = places_among(cfg, cross_fields, shape, &fields.chosen)?;
            let rest = (0..fields.count()).filter(|f| !places.contains(f)).collect();
            width = places.len() * neural.embedding;
            crossed = Some((places, rest));
        }
        let tower = neural.tower((cfg, shape), params, "tower", all)?;
        let joined = match structure {
            Structure::Stacked => tower.outputs(),
            Structure::Parallel => width + tower.outputs(),
        };
        let head = Linear::new(params, "head", joined, shape.tasks)?;
        Ok(Self { fields, crossed, width, structure, tower, head })
    }

    /// W: columns that are crossed.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Logits `[N, T]`.
    pub fn forward(&self, pass: &Pass, x: &Inputs, cross: &dyn Crosses) -> Tensor {
        let v = self.fields.forward(pass, x); // [N, F, D]
        let all = v.flatten(); // [N, F·D]
        let x0 = self.crossed.as_ref().map_or_else(|| all.clone(), |(c, _)| v.pick_middle(c).flatten());
        let h = match self.structure {
            Structure::Parallel => {
                let tower = self.tower.forward(pass, x, &all); // [N, H]
                if let Some(share) = self.by_head(pass, &x0, cross) {
                    return self.head.forward_columns(pass, &tower, self.width).add(&share); // [N, T]
                }
                Tensor::concat(&[&cross.forward(pass, &x0), &tower]) // [N, W + H]
            }
            Structure::Stacked => {
                self.tower.forward(pass, x, &self.with_rest(&v, cross.forward(pass, &x0))) // [N, H]
            }
        };
        self.head.forward(pass, &h) // [N, T]
    }

    /// What the head makes of a cross network beside the tower `[N, T]`, without bias; in inference, where that is cheaper.
    fn by_head(&self, pass: &Pass, x0: &Tensor, cross: &dyn Crosses) -> Option<Tensor> {
        if pass.is_training() {
            return None;
        }
        cross.forward_by_head(pass, x0, &self.head.columns(pass, 0, self.width))
    }

    /// `[N, F·D]`: the crossed columns, then those of the fields that were not crossed.
    fn with_rest(&self, v: &Tensor, crossed: Tensor) -> Tensor {
        match &self.crossed {
            Some((_, rest)) if !rest.is_empty() => {
                Tensor::concat(&[&crossed, &v.pick_middle(rest).flatten()])
            }
            _ => crossed,
        }
    }
}
