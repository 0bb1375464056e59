//! The latent space: where categories and topics lie, and who tends to like which category.

use super::config::WorldConfig;
use super::rng::{self, Part, Rng};

/// Number of genders and age bands in the demographic prior.
pub(super) const GENDERS: usize = 3;
pub(super) const AGES: usize = 6;

/// Directions of the topics and demand for the categories.
pub(super) struct Space {
    /// Latent width D.
    pub(super) width: usize,
    topics_per_category: usize,
    /// Unit vectors, [categories * topics, D].
    topics: Vec<f32>,
    /// Demand for a category before demographics, [categories].
    pub(super) demand: Vec<f32>,
    /// Demand by group, [GENDERS * AGES, categories].
    group_demand: Vec<f32>,
}

impl Space {
    pub(super) fn new(config: &WorldConfig) -> Self {
        let rng = &mut rng::stream(config.seed, Part::Space);
        let (width, categories) = (config.latent as usize, config.categories as usize);
        let mut topics = Vec::with_capacity(categories * config.topics as usize * width);
        for _ in 0..categories {
            let centre = unit_noise(rng, width);
            for _ in 0..config.topics {
                topics.extend(near(rng, &centre, 0.6));
            }
        }
        let demand: Vec<f32> = (0..categories).map(|c| (1.0 + c as f32).powf(-0.4)).collect();
        let group_demand = (0..GENDERS * AGES)
            .flat_map(|_| demand.iter())
            .map(|d| d * (0.8 * rng::normal(rng)).exp())
            .collect();
        Self { width, topics_per_category: config.topics as usize, topics, demand, group_demand }
    }

    /// Unit vector of a topic, [D].
    pub(super) fn topic(&self, category: usize, topic: usize) -> &[f32] {
        let row = category * self.topics_per_category + topic;
        &self.topics[row * self.width..][..self.width]
    }

    /// Demand of a demographic group for each category.
    pub(super) fn demand_of(&self, gender: u8, age: u8) -> &[f32] {
        let categories = self.demand.len();
        let row = gender as usize * AGES + age as usize;
        &self.group_demand[row * categories..][..categories]
    }
}

/// A random unit vector.
pub(super) fn unit_noise(rng: &mut Rng, width: usize) -> Vec<f32> {
    let mut v: Vec<f32> = (0..width).map(|_| rng::normal(rng)).collect();
    normalise(&mut v);
    v
}

/// A unit vector near `centre`: the centre plus noise of length `spread`, normalised.
pub(super) fn near(rng: &mut Rng, centre: &[f32], spread: f32) -> Vec<f32> {
    let mut v = unit_noise(rng, centre.len());
    for (v, c) in v.iter_mut().zip(centre) {
        *v = *v * spread + c;
    }
    normalise(&mut v);
    v
}

/// Scales to length 1; a vector of zeros stays.
pub(super) fn normalise(v: &mut [f32]) {
    let norm = v.iter().map(|x| x * x).sum::<f32>().sqrt();
    if norm > 0.0 {
        v.iter_mut().for_each(|x| *x /= norm);
    }
}
