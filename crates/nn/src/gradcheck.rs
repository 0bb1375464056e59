//! Gradients against central finite differences: for the tests of models and operations.

use crate::params::{ParamId, Params};
use crate::pass::{Mode, Pass};
use crate::tensor::Tensor;

/// Largest step a check takes.
const STEP: f32 = 1e-2;

/// Compares the gradient of `loss` with respect to every trained weight with central differences, in training mode
/// with one seed (so that dropout repeats). Slow: two passes per value; for small models only.
///
/// # Errors
/// A sentence naming the first weight, place and both slopes that differ by more than `tolerance` · (1 + |slope|).
pub fn check(params: &mut Params, tolerance: f32, loss: impl Fn(&Pass) -> Tensor) -> Result<(), String> {
    let gradients = {
        let pass = Pass::new(params, Mode::Train, 11);
        let value = loss(&pass);
        pass.backward(&value)
    };
    let ids: Vec<ParamId> = params.ids().filter(|id| params.is_trained(*id)).collect();
    for id in ids {
        let found = gradients.dense(id).map(<[f32]>::to_vec);
        for i in 0..params.values(id).len() {
            let slope = found.as_ref().map_or(0.0, |g| g[i]);
            let coarse = slope_of(params, (id, i), STEP, &loss);
            if close(slope, coarse, tolerance) {
                continue;
            }
            // Where the loss bends, the error of a central difference is as its step squared: two of them cancel it.
            let fine = slope_of(params, (id, i), STEP / 2.0, &loss);
            let wanted = (4.0 * fine - coarse) / 3.0;
            if !close(slope, wanted, tolerance) {
                return Err(format!(
                    "`{}`[{i}]: gradient {slope}, finite difference {wanted}",
                    params.name(id)
                ));
            }
        }
    }
    Ok(())
}

/// Whether two slopes agree.
pub fn close(a: f32, b: f32, tolerance: f32) -> bool {
    (a - b).abs() <= tolerance * (1.0 + b.abs())
}

fn slope_of(
    params: &mut Params,
    (id, i): (ParamId, usize),
    step: f32,
    loss: &impl Fn(&Pass) -> Tensor,
) -> f32 {
    let at = params.values(id)[i];
    let mut value = |x: f32| {
        params.values_mut(id)[i] = x;
        f64::from(loss(&Pass::new(params, Mode::Train, 11)).item())
    };
    let (up, down) = (value(at + step), value(at - step));
    params.values_mut(id)[i] = at;
    ((up - down) / f64::from(2.0 * step)) as f32
}
