//! Batches for retrievers: beside the positives of the stream, items drawn from the whole catalogue, and hard negatives.

use millstream_schema::{Columns, Encoder, Error, Examples};
use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;
use std::sync::Arc;

use crate::Sampling;

/// Adds drawn items to batches of positives.
#[derive(Debug, Clone)]
pub struct Negatives {
    /// What is drawn from.
    pub sampling: Arc<Sampling>,
    /// Seeds the draws together with the number of the batch, so that a resumed run draws what an unbroken
    /// one would.
    pub seed: u64,
    /// Exposure fields of one drawn item.
    exposure: Columns,
    extra: usize,
}

impl Negatives {
    /// Will draw `extra` items per batch.
    ///
    /// # Errors
    /// The encoder has no defaults for its exposure fields.
    pub fn new(encoder: &Encoder, sampling: Arc<Sampling>, extra: usize, seed: u64) -> Result<Self, Error> {
        Ok(Self { sampling, seed, exposure: encoder.exposure_defaults(1)?, extra })
    }

    /// Appends drawn items to the candidates of the last request, then each request's hard negatives; the R positives stay the
    /// first R.
    ///
    /// # Errors
    /// A request has not exactly one candidate.
    pub fn add(&self, x: &mut Examples, batch: u64) -> Result<(), Error> {
        let requests = x.requests();
        if requests == 0 || x.candidates() != requests {
            return Err(Error::Corrupt("a retriever's examples must have one positive per request".into()));
        }
        let mut rng = Pcg64Mcg::seed_from_u64(self.seed ^ batch.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        x.candidate_item.extend((0..self.extra).map(|_| self.sampling.negatives.draw(&mut rng)));
        if let Some((log, each)) = &self.sampling.hard {
            for r in 0..requests {
                let asked = (x.request_user[r], x.request_time_ms[r], x.candidate_item[r]);
                log.draw(asked, *each, &mut rng, &mut x.candidate_item);
            }
        }
        let all = x.candidate_item.len();
        x.candidate_request.resize(all, requests as u32 - 1);
        x.labels.resize(all * x.tasks, 0.0);
        if !x.weights.is_empty() {
            x.weights.resize(all, 1.0);
        }
        if !x.exposure.fields.is_empty() {
            x.exposure.append(&self.exposure.gather(&vec![0; all - requests]))?;
        }
        Ok(())
    }
}
