//! Wide & Deep (Cheng et al., DLRS 2016): a linear model and an MLP over embeddings, trained together with one loss.
//!
//! logit = b + Σᵢ wᵢ xᵢ + MLP(v₁ ‖ … ‖ v_F). The wide part (`linear.bias`, tables `space/linear`, for numbers `field/linear`)
//! is the parameter group "wide": `[training.groups.wide]` may give it FTRL while the deep part has Adam. Declare cross
//! features in the schema; `deep_fields` keeps them out of the deep part, `wide_fields` restricts the wide one (to
//! position and device, say). Several tasks share the wide part; the MLP has an output each.

use millstream_nn::{Inputs, Linear, LinearTerms, Params, Pass, Tensor};

use crate::neural::{Fields, Neural, Tower, options};
use crate::ranker::{Ranker, RankerDef, Shape};
use crate::{Error, ModelConfig};

/// Entry of the list of rankers.
pub const DEF: RankerDef = RankerDef::new("wide_deep", |cfg| cfg.options::<Config>().map(drop), build);

/// The parameter group of the wide part.
const WIDE: &str = "wide";

options!(Neural::default();
    /// Fields of the wide part; all that the model sees when empty.
    wide_fields: Vec<String> = Vec::new(),
    /// Fields of the deep part; all that the model sees when empty.
    deep_fields: Vec<String> = Vec::new(),
);

struct WideDeep {
    wide: LinearTerms,
    fields: Fields,
    tower: Tower,
    head: Linear,
}

fn build(cfg: &ModelConfig, shape: &Shape<'_>, params: &mut Params) -> Result<Box<dyn Ranker>, Error> {
    let config: Config = cfg.options()?;
    let neural = config.neural();
    let part = |names: &[String]| ModelConfig {
        fields: if names.is_empty() { cfg.fields.clone() } else { Some(names.to_vec()) },
        ..cfg.clone()
    };
    let (wide, deep) = (part(&config.wide_fields), part(&config.deep_fields));
    let chosen = wide.chosen(shape.fields)?;
    let wide = params.grouped(WIDE, |p| LinearTerms::new(p, shape.fields, &chosen, "linear"))?;
    let fields = neural.fields(&deep, shape, params)?;
    let tower = neural.tower((&deep, shape), params, "tower", fields.width())?;
    let head = Linear::new(params, "head", tower.outputs(), shape.tasks)?;
    Ok(Box::new(WideDeep { wide, fields, tower, head }))
}

impl Ranker for WideDeep {
    fn forward(&self, pass: &Pass, x: &Inputs) -> Tensor {
        let v = self.fields.forward(pass, x); // [N, F, D]
        let h = self.tower.forward(pass, x, &v.flatten()); // [N, H]
        self.head.forward(pass, &h).add_column(&self.wide.forward(pass, x)) // [N, T]
    }
}
