//! FinalMLP (Mao et al., AAAI 2023): two MLPs, each over its own gating of the embeddings, and a bilinear fusion of the two.
//!
//! eₛ = e ⊙ 2σ(MLP(contextₛ)), logit = b + ⟨u, MLP₁(e₁)⟩ + ⟨v, MLP₂(e₂)⟩ + Σ_h MLP₁(e₁)_hᵀ W_h MLP₂(e₂)_h. A stream's context is
//! the embedding, in tables of its own, of the fields named (`first_context = ["user"]`, `second_context = ["item"]`), or
//! one learned vector. `hidden` and `dropout` are those of the first stream.

use millstream_nn::{
    BilinearFusion, Embed, EmbedSpec, Init, Inputs, Lhuc, MlpConfig, ParamId, Params, Pass, RowInit, Tensor,
};

use crate::neural::{Fields, Neural, Tower, options};
use crate::ranker::{Ranker, RankerDef, Shape};
use crate::{Error, ModelConfig};

/// Entry of the list of rankers.
pub const DEF: RankerDef = RankerDef::new("final_mlp", |cfg| cfg.options::<Config>().map(drop), build);

options!(Neural::default();
    /// Layers of the second stream; those of the first when absent.
    second_hidden: Option<Vec<usize>> = None,
    /// Dropout of the second stream; that of the first when absent.
    second_dropout: Option<f32> = None,
    /// Parts into which the fusion cuts both streams' outputs.
    heads: usize = 1,
    /// Whether each stream gates the embeddings.
    gated: bool = true,
    first_context: Vec<String> = Vec::new(),
    second_context: Vec<String> = Vec::new(),
    /// Layers of the gates.
    gate_hidden: Vec<usize> = vec![400],
);

/// What a gate decides by.
enum Context {
    Fields(Embed),
    /// `[1, D]`.
    Learned(ParamId),
}

struct Stream {
    gate: Option<(Context, Lhuc)>,
    tower: Tower,
}

struct FinalMlp {
    fields: Fields,
    first: Stream,
    second: Stream,
    fusion: BilinearFusion,
}

fn build(cfg: &ModelConfig, shape: &Shape<'_>, params: &mut Params) -> Result<Box<dyn Ranker>, Error> {
    let c: Config = cfg.options()?;
    let neural = c.neural();
    let fields = neural.fields(cfg, shape, params)?;
    let mlp = MlpConfig {
        hidden: c.second_hidden.clone().unwrap_or_else(|| c.hidden.clone()),
        dropout: c.second_dropout.unwrap_or(c.dropout),
        ..neural.mlp.clone()
    };
    let other = Neural { mlp, ..neural.clone() };
    let mut stream = |name: &str, neural: &Neural, context: &[String]| {
        let gate =
            c.gated.then(|| gate(&c, (cfg, shape), params, (name, context), fields.width())).transpose()?;
        Ok::<_, Error>(Stream { gate, tower: neural.tower((cfg, shape), params, name, fields.width())? })
    };
    let first = stream("first", &neural, &c.first_context)?;
    let second = stream("second", &other, &c.second_context)?;
    let widths = (first.tower.outputs(), second.tower.outputs());
    let fusion = BilinearFusion::new(params, "fusion", widths, c.heads, shape.tasks)?;
    Ok(Box::new(FinalMlp { fields, first, second, fusion }))
}

/// The gate of one stream over `width` columns.
fn gate(
    c: &Config,
    (cfg, shape): (&ModelConfig, &Shape<'_>),
    params: &mut Params,
    (stream, context): (&str, &[String]),
    width: usize,
) -> Result<(Context, Lhuc), Error> {
    let (context, inputs) = if context.is_empty() {
        let learned = params.dense(&format!("{stream}.context"), &[1, c.embedding], Init::Zeros)?;
        (Context::Learned(learned), c.embedding)
    } else {
        let suffix = format!("{stream}.d{}", c.embedding);
        let spec = EmbedSpec { dim: c.embedding, suffix, init: RowInit::Normal(c.init_std) };
        let embed = Embed::new(params, shape.fields, &cfg.places(context, shape.fields)?, &spec)?;
        let inputs = embed.fields() * c.embedding;
        (Context::Fields(embed), inputs)
    };
    Ok((context, Lhuc::new(params, &format!("{stream}.gate"), inputs, &c.gate_hidden, &[width])?))
}

impl Stream {
    /// `[N, F·D]` → `[N, H]`.
    fn forward(&self, pass: &Pass, x: &Inputs, e: &Tensor) -> Tensor {
        let open = |(context, gate): &(Context, Lhuc)| match context {
            Context::Fields(embed) => {
                let open = gate.forward(pass, &embed.forward(pass, x).flatten()); // [N, F·D]
                open.iter().fold(e.clone(), |e, open| e.mul(open))
            }
            Context::Learned(context) => {
                let open = gate.forward(pass, &pass.param(*context)); // [1, F·D]
                open.iter().fold(e.clone(), |e, open| e.mul_row(open))
            }
        };
        let e = self.gate.as_ref().map_or_else(|| e.clone(), open);
        self.tower.forward(pass, x, &e)
    }
}

impl Ranker for FinalMlp {
    fn forward(&self, pass: &Pass, x: &Inputs) -> Tensor {
        let e = self.fields.forward(pass, x).flatten(); // [N, F·D]
        let (first, second) = (self.first.forward(pass, x, &e), self.second.forward(pass, x, &e)); // [N, H]
        self.fusion.forward(pass, &first, &second) // [N, T]
    }
}
