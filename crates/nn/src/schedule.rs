//! Learning rates over time.

use crate::error::{Error, Result};
use std::f64::consts::PI;

/// What each learning rate is multiplied by at a step: a warm-up from near zero to 1, then a decay.
///
/// ```
/// use millstream_nn::{Schedule, Decay};
/// let schedule = Schedule { warmup_steps: 4, decay: Decay::InverseSqrt };
/// let factors: Vec<f32> = [0, 1, 3, 4, 15].map(|step| schedule.factor(step)).into();
/// assert_eq!(factors, [0.25, 0.5, 1.0, (4.0f32 / 5.0).sqrt(), 0.5]);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(from = "Flat", into = "Flat")]
pub struct Schedule {
    /// Step s < w of these w has the factor (s + 1) / w; 0 for none.
    pub warmup_steps: u64,
    /// What follows.
    pub decay: Decay,
}

/// How a schedule goes on after its warm-up; below, w is the number of its steps and p = (s − w) / (total − w), at
/// most 1, the share of the rest that is over.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum Decay {
    /// 1.
    #[default]
    Constant,
    /// floor + (1 − floor) ½ (1 + cos π p) (Loshchilov & Hutter 2017).
    Cosine {
        /// Steps of the whole run; `None` until [`Schedule::or_total`] says.
        total_steps: Option<u64>,
        /// Last factor, in [0, 1].
        floor: f32,
    },
    /// 1 − (1 − floor) p.
    Linear {
        /// Steps of the whole run; `None` until [`Schedule::or_total`] says.
        total_steps: Option<u64>,
        /// Last factor, in [0, 1].
        floor: f32,
    },
    /// √(w / (s + 1)), with w at least 1 (Vaswani et al. 2017, eq. 3, over its peak).
    InverseSqrt,
    /// gammaⁿ after n whole times `every` steps.
    Step {
        /// Steps between two falls, at least 1.
        every: u64,
        /// Factor of each fall, above 0.
        gamma: f32,
    },
}

impl Schedule {
    /// The factor at a step; the first is step 0. A pure function: a resumed run goes on where it was.
    pub fn factor(&self, step: u64) -> f32 {
        if step < self.warmup_steps {
            return ((step + 1) as f64 / self.warmup_steps as f64) as f32;
        }
        let since = step - self.warmup_steps;
        let over = |total: Option<u64>| match total {
            Some(total) => (since as f64 / total.saturating_sub(self.warmup_steps).max(1) as f64).min(1.0),
            None => 0.0,
        };
        let factor = match self.decay {
            Decay::Constant => 1.0,
            Decay::Cosine { total_steps, floor } => {
                let floor = f64::from(floor);
                floor + (1.0 - floor) * 0.5 * (1.0 + (PI * over(total_steps)).cos())
            }
            Decay::Linear { total_steps, floor } => 1.0 - (1.0 - f64::from(floor)) * over(total_steps),
            Decay::InverseSqrt => (self.warmup_steps.max(1) as f64 / (step + 1) as f64).sqrt(),
            Decay::Step { every, gamma } => f64::from(gamma).powf((since / every.max(1)) as f64),
        };
        factor as f32
    }

    /// The same, with the number of steps of the whole run where the configuration does not say.
    pub fn or_total(mut self, steps: u64) -> Self {
        if let Decay::Cosine { total_steps, .. } | Decay::Linear { total_steps, .. } = &mut self.decay {
            *total_steps = Some(total_steps.unwrap_or(steps));
        }
        self
    }

    /// Whether the shape needs a number of steps that nobody has given yet (without one it stays at 1).
    pub fn needs_total(&self) -> bool {
        matches!(
            self.decay,
            Decay::Cosine { total_steps: None, .. } | Decay::Linear { total_steps: None, .. }
        )
    }

    /// Whether all numbers are in their ranges.
    ///
    /// # Errors
    /// The first that is not, with its range.
    pub fn check(&self) -> Result<()> {
        let wrong = match self.decay {
            Decay::Cosine { total_steps, floor } | Decay::Linear { total_steps, floor } => {
                match total_steps {
                    _ if !(0.0..=1.0).contains(&floor) => {
                        Some(format!("`floor` is {floor}, expected 0 to 1"))
                    }
                    Some(total) if total <= self.warmup_steps => Some(format!(
                        "`total_steps` is {total}, expected above `warmup_steps`, which is {}",
                        self.warmup_steps
                    )),
                    _ => None,
                }
            }
            Decay::Step { every: 0, .. } => Some("`every` is 0, expected 1 or above".into()),
            Decay::Step { gamma, .. } if !(gamma > 0.0 && gamma.is_finite()) => {
                Some(format!("`gamma` is {gamma}, expected above 0"))
            }
            _ => None,
        };
        wrong.map_or(Ok(()), |text| Err(Error::Model(format!("schedule: {text}"))))
    }
}

/// A schedule as a configuration writes it: `{ kind = "cosine", warmup_steps = 100, floor = 0.1 }`.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
enum Flat {
    Constant {
        #[serde(default)]
        warmup_steps: u64,
    },
    Cosine {
        #[serde(default)]
        warmup_steps: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        total_steps: Option<u64>,
        #[serde(default)]
        floor: f32,
    },
    Linear {
        #[serde(default)]
        warmup_steps: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        total_steps: Option<u64>,
        #[serde(default)]
        floor: f32,
    },
    InverseSqrt {
        #[serde(default)]
        warmup_steps: u64,
    },
    Step {
        #[serde(default)]
        warmup_steps: u64,
        every: u64,
        gamma: f32,
    },
}

impl From<Flat> for Schedule {
    fn from(flat: Flat) -> Self {
        let (warmup_steps, decay) = match flat {
            Flat::Constant { warmup_steps } => (warmup_steps, Decay::Constant),
            Flat::Cosine { warmup_steps, total_steps, floor } => {
                (warmup_steps, Decay::Cosine { total_steps, floor })
            }
            Flat::Linear { warmup_steps, total_steps, floor } => {
                (warmup_steps, Decay::Linear { total_steps, floor })
            }
            Flat::InverseSqrt { warmup_steps } => (warmup_steps, Decay::InverseSqrt),
            Flat::Step { warmup_steps, every, gamma } => (warmup_steps, Decay::Step { every, gamma }),
        };
        Self { warmup_steps, decay }
    }
}

impl From<Schedule> for Flat {
    fn from(Schedule { warmup_steps, decay }: Schedule) -> Self {
        match decay {
            Decay::Constant => Self::Constant { warmup_steps },
            Decay::Cosine { total_steps, floor } => Self::Cosine { warmup_steps, total_steps, floor },
            Decay::Linear { total_steps, floor } => Self::Linear { warmup_steps, total_steps, floor },
            Decay::InverseSqrt => Self::InverseSqrt { warmup_steps },
            Decay::Step { every, gamma } => Self::Step { warmup_steps, every, gamma },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn factors(warmup_steps: u64, decay: Decay) -> Vec<f32> {
        let schedule = Schedule { warmup_steps, decay };
        schedule.check().unwrap();
        (0..12).map(|step| schedule.factor(step)).collect()
    }

    fn near(a: &[f32], b: &[f32]) {
        assert_eq!(a.len(), b.len());
        assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 2e-7), "{a:?}, expected {b:?}");
    }

    // PyTorch 2.13:
    //
    // import math, torch
    // def lr_lambda(warmup, after):
    //     return lambda s: (s + 1) / warmup if s < warmup else after(s)
    // def run(f, steps=12):
    //     optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    //     schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, f)
    //     out = []
    //     for _ in range(steps):
    //         out.append(round(optimiser.param_groups[0]["lr"], 7))
    //         optimiser.step(); schedule.step()
    //     return out
    // w, total, floor = 3, 11, 0.1
    // p = lambda s: min((s - w) / (total - w), 1)
    // print("cosine", run(lr_lambda(w, lambda s: floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * p(s))))))
    // print("linear", run(lr_lambda(w, lambda s: 1 - (1 - floor) * p(s))))
    // print("inverse_sqrt", run(lr_lambda(w, lambda s: math.sqrt(w / (s + 1)))))
    // print("step", run(lr_lambda(w, lambda s: 0.5 ** ((s - w) // 4))))
    // # PyTorch's own, without warm-up
    // def own(make, steps=12):
    //     optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    //     schedule, out = make(optimiser), []
    //     for _ in range(steps):
    //         out.append(round(optimiser.param_groups[0]["lr"], 7)); optimiser.step(); schedule.step()
    //     return out
    // L = torch.optim.lr_scheduler
    // print("CosineAnnealingLR", own(lambda o: L.CosineAnnealingLR(o, 12, eta_min=0.1)))
    // print("LinearLR", own(lambda o: L.LinearLR(o, 1.0, 0.1, total_iters=8)))
    // print("StepLR", own(lambda o: L.StepLR(o, 4, 0.5)))
    #[test]
    #[rustfmt::skip]
    fn factors_agree_with_pytorch() {
        let (total_steps, floor) = (Some(11), 0.1);
        near(&factors(3, Decay::Cosine { total_steps, floor }), &[0.3333333, 0.6666667, 1.0, 1.0, 0.9657458, 0.8681981, 0.7222075, 0.55, 0.3777925, 0.2318019, 0.1342542, 0.1]);
        near(&factors(3, Decay::Linear { total_steps, floor }), &[0.3333333, 0.6666667, 1.0, 1.0, 0.8875, 0.775, 0.6625, 0.55, 0.4375, 0.325, 0.2125, 0.1]);
        near(&factors(3, Decay::InverseSqrt), &[0.3333333, 0.6666667, 1.0, 0.8660254, 0.7745967, 0.5f32.sqrt(), 0.6546537, 0.6123724, 0.5773503, 0.5477226, 0.522233, 0.5]);
        near(&factors(3, Decay::Step { every: 4, gamma: 0.5 }), &[0.3333333, 0.6666667, 1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.25]);
        near(&factors(0, Decay::Cosine { total_steps: Some(12), floor }), &[1.0, 0.9846666, 0.9397114, 0.8681981, 0.775, 0.6664686, 0.55, 0.4335314, 0.325, 0.2318019, 0.1602886, 0.1153334]);
        near(&factors(0, Decay::Linear { total_steps: Some(8), floor }), &[1.0, 0.8875, 0.775, 0.6625, 0.55, 0.4375, 0.325, 0.2125, 0.1, 0.1, 0.1, 0.1]);
        near(&factors(0, Decay::Step { every: 4, gamma: 0.5 }), &[1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25]);
        near(&factors(4, Decay::Constant), &[0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]);
    }

    #[test]
    fn every_kind_is_read_and_written() {
        for (text, decay) in [
            (r#"{"kind":"constant","warmup_steps":5}"#, Decay::Constant),
            (r#"{"kind":"inverse_sqrt","warmup_steps":5}"#, Decay::InverseSqrt),
            (
                r#"{"kind":"cosine","warmup_steps":5,"floor":0.5}"#,
                Decay::Cosine { total_steps: None, floor: 0.5 },
            ),
            (
                r#"{"kind":"linear","warmup_steps":5,"total_steps":9,"floor":0.0}"#,
                Decay::Linear { total_steps: Some(9), floor: 0.0 },
            ),
            (
                r#"{"kind":"step","warmup_steps":5,"every":7,"gamma":0.5}"#,
                Decay::Step { every: 7, gamma: 0.5 },
            ),
        ] {
            let schedule: Schedule = serde_json::from_str(text).unwrap();
            assert_eq!(schedule, Schedule { warmup_steps: 5, decay });
            assert_eq!(serde_json::to_string(&schedule).unwrap(), text);
        }
        let error = serde_json::from_str::<Schedule>(r#"{"kind":"constant","floor":0.5}"#).unwrap_err();
        assert!(error.to_string().contains("unknown field `floor`"), "{error}");
    }

    #[test]
    fn the_number_of_steps_is_filled_in_where_the_configuration_is_silent() {
        let open = Schedule { warmup_steps: 0, decay: Decay::Cosine { total_steps: None, floor: 0.0 } };
        assert!(open.needs_total() && open.factor(1_000_000) == 1.0);
        let closed = open.or_total(10);
        assert!(!closed.needs_total() && closed.factor(5) == 0.5);
        assert_eq!(closed.or_total(99), closed);
    }

    #[test]
    fn numbers_out_of_range_are_named() {
        let said = |warmup_steps, decay| Schedule { warmup_steps, decay }.check().unwrap_err().to_string();
        assert_eq!(
            said(20, Decay::Linear { total_steps: Some(20), floor: 0.0 }),
            "schedule: `total_steps` is 20, expected above `warmup_steps`, which is 20"
        );
        assert_eq!(
            said(0, Decay::Cosine { total_steps: None, floor: 2.0 }),
            "schedule: `floor` is 2, expected 0 to 1"
        );
        assert_eq!(
            said(0, Decay::Step { every: 0, gamma: 0.5 }),
            "schedule: `every` is 0, expected 1 or above"
        );
        assert_eq!(said(0, Decay::Step { every: 2, gamma: 0.0 }), "schedule: `gamma` is 0, expected above 0");
    }
}
