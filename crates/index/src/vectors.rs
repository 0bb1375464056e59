use crate::error::Result;
use crate::file::{Payload, Writer};
use crate::index::Metric;
use crate::rows::check_dim;
use millstream_schema::ItemRow;

/// Vectors of items row after row, as files hold them.
#[derive(Debug)]
pub(crate) struct Vectors {
    pub(crate) dim: usize,
    pub(crate) metric: Metric,
    /// `[rows, D]`.
    pub(crate) floats: Vec<f32>,
    pub(crate) items: Vec<ItemRow>,
}

impl Vectors {
    pub(crate) fn write(&self, out: &mut Writer) {
        out.u32(self.dim as u32);
        out.u32(self.metric.code());
        out.u32s(&self.items);
        out.f32s(&self.floats);
    }

    pub(crate) fn read(from: &mut Payload<'_>) -> Result<Self> {
        let dim = from.u32()? as usize;
        let metric = Metric::from_code(from.u32()?).ok_or_else(|| from.flaw("unknown metric"))?;
        check_dim(dim).map_err(|e| from.flaw(&e.to_string()))?;
        let vectors = Self { dim, metric, items: from.u32s()?, floats: from.f32s()? };
        if vectors.items.len().checked_mul(dim) != Some(vectors.floats.len()) {
            return Err(from.flaw("the vectors do not match the items"));
        }
        if vectors.floats.iter().any(|x| !x.is_finite()) {
            return Err(from.flaw("a vector is not finite"));
        }
        Ok(vectors)
    }
}
