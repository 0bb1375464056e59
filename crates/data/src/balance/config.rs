//! `[[balance]]` as written.

use serde::{Deserialize, Serialize};

use crate::Error;

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BalanceMethod {
    /// Keeps each negative with probability `keep`; probabilities are calibrated afterwards.
    NegativeSampling,
    /// Makes rows between rows of the rarer class and their neighbours (Chawla et al., JAIR 2002).
    Smote,
    /// The same from rows near the border alone (Han et al., ICIC 2005, borderline-1).
    BorderlineSmote,
    /// Removes rows of two classes that are each other's nearest (Tomek 1976).
    TomekLinks,
    /// Leaves out rows of the more frequent class, evenly over its clusters.
    ClusterUndersampling,
}

/// Which end of a Tomek link goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TomekRemoves {
    /// The row of the more frequent class.
    #[default]
    Majority,
    /// Both.
    Both,
}

impl BalanceMethod {
    /// The name in a configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NegativeSampling => "negative_sampling",
            Self::Smote => "smote",
            Self::BorderlineSmote => "borderline_smote",
            Self::TomekLinks => "tomek_links",
            Self::ClusterUndersampling => "cluster_undersampling",
        }
    }

    /// The keys that mean something to it, beside `method`.
    fn keys(self) -> &'static [&'static str] {
        match self {
            Self::NegativeSampling => &["keep", "seed"],
            Self::Smote => &["ratio", "neighbours", "seed"],
            Self::BorderlineSmote => &["ratio", "neighbours", "border", "seed"],
            Self::TomekLinks => &["remove"],
            Self::ClusterUndersampling => &["ratio", "clusters", "seed"],
        }
    }
}

/// One `[[balance]]` step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BalanceStep {
    /// What it does.
    pub method: BalanceMethod,
    /// Share of the negatives to keep, above 0 and below 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<f64>,
    /// Rows of the rarer class per row of the other afterwards, above 0 and at most 1; 1 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// Nearest rows of the rarer class to make rows between; 5 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub neighbours: Option<usize>,
    /// Nearest rows that tell whether a row is near the border; 10 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub border: Option<usize>,
    /// Clusters of the more frequent class; 10 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clusters: Option<usize>,
    /// Which end of a link goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remove: Option<TomekRemoves>,
    /// Seeds what is drawn; 1 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

impl BalanceStep {
    /// A step with nothing but defaults.
    pub fn new(method: BalanceMethod) -> Self {
        Self {
            method,
            keep: None,
            ratio: None,
            neighbours: None,
            border: None,
            clusters: None,
            remove: None,
            seed: None,
        }
    }

    /// Checks ranges, and that every key means something to the method.
    ///
    /// # Errors
    /// Names the key and what it must be.
    pub fn check(&self) -> Result<(), Error> {
        let (name, keys) = (self.method.as_str(), self.method.keys());
        let fail = |what: String| Err(Error::config(format!("[[balance]] {name}: {what}")));
        let given = [
            ("keep", self.keep.is_some()),
            ("ratio", self.ratio.is_some()),
            ("neighbours", self.neighbours.is_some()),
            ("border", self.border.is_some()),
            ("clusters", self.clusters.is_some()),
            ("remove", self.remove.is_some()),
            ("seed", self.seed.is_some()),
        ];
        if let Some((key, _)) = given.iter().find(|(key, there)| *there && !keys.contains(key)) {
            return fail(format!("key `{key}` means nothing to it; it has {}", keys.join(", ")));
        }
        if self.method == BalanceMethod::NegativeSampling && !self.keep.is_some_and(|k| k > 0.0 && k < 1.0) {
            return fail("`keep` must be a share above 0 and below 1".into());
        }
        if self.ratio.is_some_and(|r| !(r > 0.0 && r <= 1.0)) {
            return fail("`ratio` must be above 0 and at most 1".into());
        }
        for (key, n) in
            [("neighbours", self.neighbours), ("border", self.border), ("clusters", self.clusters)]
        {
            if n == Some(0) {
                return fail(format!("`{key}` must be above 0"));
            }
        }
        Ok(())
    }

    /// Checks several steps together.
    ///
    /// # Errors
    /// As [`Self::check`], or negatives are sampled after another step.
    pub fn check_all(steps: &[Self], table: bool) -> Result<(), Error> {
        steps.iter().try_for_each(Self::check)?;
        if steps.iter().skip(1).any(|s| s.method == BalanceMethod::NegativeSampling) {
            return Err(Error::config("[[balance]]: negative_sampling comes first, before other steps"));
        }
        let geometric = steps.iter().find(|s| s.method != BalanceMethod::NegativeSampling);
        match geometric.filter(|_| !table) {
            Some(step) => Err(Error::config(format!(
                "[[balance]] {}: needs kind = \"table\", whose rows stand by themselves; for others there is \
                 negative_sampling",
                step.method.as_str()
            ))),
            None => Ok(()),
        }
    }

    /// Share of negatives kept.
    pub(super) fn kept(&self) -> f64 {
        self.keep.unwrap_or(1.0)
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed.unwrap_or(1)
    }

    pub(super) fn ratio(&self) -> f64 {
        self.ratio.unwrap_or(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_mean_nothing_and_values_out_of_range_are_named() {
        let said = |text: &str| {
            let step: BalanceStep = millstream_schema::config::parse(text, "a.toml").unwrap();
            step.check().unwrap_err().to_string()
        };
        assert!(said("method = \"negative_sampling\"").contains("`keep` must be a share"));
        assert!(said("method = \"negative_sampling\"\nkeep = 1.0").contains("`keep` must be a share"));
        assert!(said("method = \"smote\"\nkeep = 0.5").contains("key `keep` means nothing"));
        assert!(said("method = \"smote\"\nratio = 1.5").contains("`ratio` must be"));
        assert!(
            said("method = \"cluster_undersampling\"\nclusters = 0").contains("`clusters` must be above 0")
        );
        BalanceStep::new(BalanceMethod::TomekLinks).check().unwrap();
    }

    #[test]
    fn steps_have_an_order_and_some_need_a_table() {
        let sampling = BalanceStep { keep: Some(0.5), ..BalanceStep::new(BalanceMethod::NegativeSampling) };
        let smote = BalanceStep::new(BalanceMethod::Smote);
        BalanceStep::check_all(&[sampling.clone(), smote.clone()], true).unwrap();
        let late = BalanceStep::check_all(&[smote.clone(), sampling.clone()], true).unwrap_err();
        assert!(late.to_string().contains("comes first"));
        assert!(
            BalanceStep::check_all(&[smote], false)
                .unwrap_err()
                .to_string()
                .contains("needs kind = \"table\"")
        );
        BalanceStep::check_all(&[sampling], false).unwrap();
    }
}
