//! Deep ensemble (Lakshminarayanan et al., NeurIPS 2017): several models of one kind, each with weights and tables of its own.
//! Each learns for itself (the loss is the sum of theirs); what is served is the mean of their logits. Their
//! differences are those of their first weights and dropout, since all see the same batches.

use millstream_nn::{Inputs, Params, Pass, Tensor};
use millstream_schema::suggest;
use serde::Deserialize;

use crate::ranker::{RANKERS, Ranker, RankerDef, Shape};
use crate::{Error, ModelConfig};

/// Entry of the list of rankers.
pub const DEF: RankerDef = RankerDef::new("ensemble", |cfg| member_of(cfg).map(drop), build);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    /// How many.
    members: usize,
    /// What each is; it sees the ensemble's fields unless it names its own.
    member: ModelConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self { members: 4, member: ModelConfig::named("deepfm") }
    }
}

struct Ensemble(Vec<Box<dyn Ranker>>);

/// The checked options, and what a member is.
fn member_of(cfg: &ModelConfig) -> Result<(Config, &'static RankerDef), Error> {
    cfg.without("sequence", "is for the members; say it in [model.member.sequence]")?;
    let mut c: Config = cfg.options()?;
    if c.members == 0 {
        return Err(Error::Config("model `ensemble`: members must be above 0, not 0".into()));
    }
    let can = |def: &&RankerDef| def.fit.is_none() && def.name != DEF.name;
    let def = RANKERS.iter().filter(can).find(|def| def.name == c.member.name).ok_or_else(|| {
        let names: Vec<&str> = RANKERS.iter().filter(can).map(|def| def.name).collect();
        let unknown = suggest::unknown("member", &c.member.name, names.iter().copied());
        Error::Config(format!("model `ensemble`: {unknown}"))
    })?;
    c.member.fields = c.member.fields.or_else(|| cfg.fields.clone());
    (def.check)(&c.member)?;
    Ok((c, def))
}

fn build(cfg: &ModelConfig, shape: &Shape<'_>, params: &mut Params) -> Result<Box<dyn Ranker>, Error> {
    let (c, def) = member_of(cfg)?;
    let one = |m| params.within(&format!("member{m}"), |params| (def.build)(&c.member, shape, params));
    Ok(Box::new(Ensemble((0..c.members).map(one).collect::<Result<_, _>>()?)))
}

impl Ranker for Ensemble {
    fn forward(&self, pass: &Pass, x: &Inputs) -> Tensor {
        let logits = self.0.iter().map(|member| member.forward(pass, x));
        let sum = logits.reduce(|sum, z| sum.add(&z)); // [N, T]
        // There is a member: the configuration was checked.
        let sum = sum.unwrap_or_else(|| unreachable!("an ensemble of nobody"));
        sum.scale(1.0 / self.0.len() as f32)
    }

    fn members(&self) -> &[Box<dyn Ranker>] {
        &self.0
    }
}
